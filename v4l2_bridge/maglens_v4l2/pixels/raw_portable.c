/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The raw kernels in plain C: the reference that every other level equals bit for bit. */
#include "raw.h"

#define TARGET
#define LANES 8
#define OP static inline
#define INLINE static inline /* inlining it all would cost the compiler half a gigabyte, and sanitizers more */

typedef struct {
	int16_t l[LANES];
} v;
typedef uint64_t vacc;

#define EACH(expression)                                   \
	v out;                                             \
	for (int k = 0; k < LANES; k++)                    \
		out.l[k] = (int16_t)(expression);          \
	return out

OP int32_t limit(int32_t a, int32_t low, int32_t high) { return a < low ? low : a > high ? high : a; }

OP v v_load(const int16_t *p) { EACH(p[k]); }
OP void v_store(int16_t *p, v a)
{
	for (int k = 0; k < LANES; k++) {
		const uint16_t lane = (uint16_t)a.l[k];
		uint8_t *to = (uint8_t *)(p + k); /* the picture's bytes have no alignment */

		to[0] = (uint8_t)lane;
		to[1] = (uint8_t)(lane >> 8);
	}
}
OP v v_set1(int16_t a) { EACH(a); }
OP v v_add(v a, v b) { EACH((uint16_t)a.l[k] + (uint16_t)b.l[k]); }
OP v v_sub(v a, v b) { EACH((uint16_t)a.l[k] - (uint16_t)b.l[k]); }
OP v v_adds(v a, v b) { EACH(limit(a.l[k] + b.l[k], INT16_MIN, INT16_MAX)); }
OP v v_addsu(v a, v b) { EACH(limit((uint16_t)a.l[k] + (uint16_t)b.l[k], 0, UINT16_MAX)); }
OP v v_subsu(v a, v b) { EACH(limit((uint16_t)a.l[k] - (uint16_t)b.l[k], 0, UINT16_MAX)); }
OP v v_mulhu(v a, v b) { EACH((uint32_t)(uint16_t)a.l[k] * (uint16_t)b.l[k] >> 16); }
OP v v_mulhrs(v a, v b) { EACH((a.l[k] * b.l[k] + (1 << 14)) >> 15); }
OP v v_max(v a, v b) { EACH(a.l[k] > b.l[k] ? a.l[k] : b.l[k]); }
OP v v_min(v a, v b) { EACH(a.l[k] < b.l[k] ? a.l[k] : b.l[k]); }
OP v v_minu(v a, v b) { EACH((uint16_t)a.l[k] < (uint16_t)b.l[k] ? a.l[k] : b.l[k]); }
OP v v_shl(v a, int n) { EACH((uint32_t)(uint16_t)a.l[k] << n); }
OP v v_sar(v a, int n) { EACH(a.l[k] >> n); }
OP v v_shr(v a, int n) { EACH((uint16_t)a.l[k] >> n); }
OP v v_or(v a, v b) { EACH(a.l[k] | b.l[k]); }
OP v v_gt(v a, v b) { EACH(a.l[k] > b.l[k] ? -1 : 0); }
OP v v_andnot(v mask, v a) { EACH(~mask.l[k] & a.l[k]); }

OP v v_bytes(v a, v b) { EACH((uint16_t)a.l[k] >> 6 | (uint16_t)b.l[k] >> 6 << 8); }

typedef const struct ml_tone *vtone;
OP vtone v_tone_take(const struct ml_tone *tone) { return tone; }
OP v v_tone(const vtone *tone, v x) { EACH((*tone)->table[x.l[k]]); }

/* Sample @i of a packed row, scaled to 16 bits. */
OP uint16_t sample10(const uint8_t *p, int i)
{
	p += i / 4 * 5;
	return (uint16_t)(p[i % 4] << 8 | (p[4] << (6 - 2 * (i % 4)) & 0xc0));
}

OP uint16_t sample12(const uint8_t *p, int i)
{
	p += i / 2 * 3;
	return (uint16_t)(p[i % 2] << 8 | (i % 2 ? p[2] & 0xf0 : p[2] << 4 & 0xf0));
}

OP void v_unpack10(const uint8_t *p, v *even, v *odd)
{
	for (int k = 0; k < LANES; k++) {
		even->l[k] = (int16_t)sample10(p, 2 * k);
		odd->l[k] = (int16_t)sample10(p, 2 * k + 1);
	}
}

OP void v_unpack12(const uint8_t *p, v *even, v *odd)
{
	for (int k = 0; k < LANES; k++) {
		even->l[k] = (int16_t)sample12(p, 2 * k);
		odd->l[k] = (int16_t)sample12(p, 2 * k + 1);
	}
}

OP void v_store_zip(int16_t *to, v a, v b)
{
	v low, high;

	for (int k = 0; k < LANES / 2; k++) {
		low.l[2 * k] = a.l[k];
		low.l[2 * k + 1] = b.l[k];
		high.l[2 * k] = a.l[LANES / 2 + k];
		high.l[2 * k + 1] = b.l[LANES / 2 + k];
	}
	v_store(to, low);
	v_store(to + LANES, high);
}

OP vacc v_acc_zero(void) { return 0; }
OP vacc v_acc_add(vacc s, v a)
{
	for (int k = 0; k < LANES; k++)
		s += (uint32_t)a.l[k];
	return s;
}
OP vacc v_acc_square(vacc s, v a)
{
	for (int k = 0; k < LANES; k++)
		s += (uint32_t)(a.l[k] * a.l[k]);
	return s;
}
OP uint64_t v_acc_sum(vacc s) { return s; }

#include "raw_kernel.h"

const struct ml_raw_ops ml_raw_portable = RAW_OPS;

const struct ml_raw_ops *ml_raw_ops(enum ml_level level)
{
	switch (level) {
#ifdef ML_X86
	case ML_AVX2:
		return &ml_raw_avx2;
	case ML_AVX512:
		return &ml_raw_avx512;
#endif
#ifdef ML_ARM64
	case ML_NEON:
		return &ml_raw_neon;
#endif
	default:
		return &ml_raw_portable;
	}
}
