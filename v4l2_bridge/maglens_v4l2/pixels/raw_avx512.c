/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The raw kernels on AVX-512 (F, BW, VL, DQ, VBMI): 32 lanes, tone curve and unpacking by permutes across a register. */
#include "raw.h"

#ifdef ML_X86

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")))
#define LANES 32
#define OP TARGET static inline __attribute__((always_inline))

typedef __m512i v;
typedef __m512i vacc;

OP v v_load(const int16_t *p) { return _mm512_loadu_si512(p); }
OP void v_store(int16_t *p, v a) { _mm512_storeu_si512(p, a); }
OP v v_set1(int16_t a) { return _mm512_set1_epi16(a); }
OP v v_add(v a, v b) { return _mm512_add_epi16(a, b); }
OP v v_sub(v a, v b) { return _mm512_sub_epi16(a, b); }
OP v v_adds(v a, v b) { return _mm512_adds_epi16(a, b); }
OP v v_addsu(v a, v b) { return _mm512_adds_epu16(a, b); }
OP v v_subsu(v a, v b) { return _mm512_subs_epu16(a, b); }
OP v v_mulhu(v a, v b) { return _mm512_mulhi_epu16(a, b); }
OP v v_mulhrs(v a, v b) { return _mm512_mulhrs_epi16(a, b); }
OP v v_max(v a, v b) { return _mm512_max_epi16(a, b); }
OP v v_min(v a, v b) { return _mm512_min_epi16(a, b); }
OP v v_minu(v a, v b) { return _mm512_min_epu16(a, b); }
OP v v_shl(v a, int n) { return _mm512_slli_epi16(a, (unsigned int)n); }
OP v v_sar(v a, int n) { return _mm512_srai_epi16(a, (unsigned int)n); }
OP v v_shr(v a, int n) { return _mm512_srli_epi16(a, (unsigned int)n); }
OP v v_or(v a, v b) { return _mm512_or_si512(a, b); }
OP v v_gt(v a, v b) { return _mm512_movm_epi16(_mm512_cmpgt_epi16_mask(a, b)); }
OP v v_andnot(v mask, v a) { return _mm512_andnot_si512(mask, a); }

OP v v_bytes(v a, v b)
{
	/* (b << 2 & 0xff00) | a >> 6 */
	return _mm512_ternarylogic_epi64(v_shl(b, 2), v_set1((int16_t)0xff00), v_shr(a, 6), 0xea);
}

typedef struct {
	v low_base, high_base, low_slope, high_slope;
} vtone;

OP vtone v_tone_take(const struct ml_tone *tone)
{
	return (vtone){ _mm512_loadu_si512(tone->low_base), _mm512_loadu_si512(tone->high_base),
			_mm512_loadu_si512(tone->low_slope), _mm512_loadu_si512(tone->high_slope) };
}

/* Shifts that differ by lane are done as multiplications, which two ports take where shifts have one. */
OP v v_tone(const vtone *tone, v x)
{
	const __mmask32 low = _mm512_cmplt_epi16_mask(x, v_set1(ML_TONE_SPLIT));
	const v piece = v_mulhu(x, _mm512_mask_blend_epi16(low, v_set1(1 << 8), v_set1(1 << 12)));
	const v at = _mm512_mullo_epi16(x, _mm512_mask_blend_epi16(low, v_set1(1 << 3), v_set1(1 << 7)));
	v base = _mm512_permutexvar_epi16(piece, tone->high_base);
	v slope = _mm512_permutexvar_epi16(piece, tone->high_slope);

	base = _mm512_mask_permutexvar_epi16(base, low, piece, tone->low_base);
	slope = _mm512_mask_permutexvar_epi16(slope, low, piece, tone->low_slope);
	return v_add(base, v_mulhu(at, slope));
}

/* Of 16 quads: lanes 0 to 15 are the even samples, 16 to 31 the odd ones. @fine: place of each lane's low bits. */
OP v samples(v bytes, v coarse, v fine, v lift, v mask)
{
	const v high = _mm512_maskz_permutexvar_epi8(0xaaaaaaaaaaaaaaaaull, coarse, bytes);
	const v low = _mm512_maskz_permutexvar_epi8(0x5555555555555555ull, fine, bytes);

	return _mm512_ternarylogic_epi64(_mm512_mullo_epi16(low, lift), mask, high, 0xea); /* (a & b) | c */
}

/* Byte indices of each lane: its own high byte in the upper half, the byte with its low bits in the lower. */
#define HI(a) ((a) << 8)
#define LANE16(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
#define E10(i) HI((2 * (i)) / 4 * 5 + 2 * (i) % 4)
#define O10(i) HI((2 * (i) + 1) / 4 * 5 + (2 * (i) + 1) % 4)
#define F10(i) ((2 * (i)) / 4 * 5 + 4)
#define E12(i) HI(3 * (i))
#define O12(i) HI(3 * (i) + 1)
#define F12(i) (3 * (i) + 2)

static const uint16_t coarse10[32] = { LANE16(E10), LANE16(O10) }, fine10[32] = { LANE16(F10), LANE16(F10) };
static const uint16_t coarse12[32] = { LANE16(E12), LANE16(O12) }, fine12[32] = { LANE16(F12), LANE16(F12) };
#define LE10(i) ((i) % 2 ? 4 : 64)
#define LO10(i) ((i) % 2 ? 1 : 16)
#define LE12(i) 16
#define LO12(i) 1
static const uint16_t lift10[32] = { LANE16(LE10), LANE16(LO10) }, lift12[32] = { LANE16(LE12), LANE16(LO12) };

OP void v_unpack(const uint8_t *a_at, const uint8_t *b_at, const uint16_t *coarse, const uint16_t *fine,
		 const uint16_t *lift, int16_t mask, v *even, v *odd)
{
	const v c = _mm512_loadu_si512(coarse), f = _mm512_loadu_si512(fine), l = _mm512_loadu_si512(lift);
	const v a = samples(_mm512_loadu_si512(a_at), c, f, l, v_set1(mask));
	const v b = samples(_mm512_loadu_si512(b_at), c, f, l, v_set1(mask));

	*even = _mm512_inserti64x4(a, _mm512_castsi512_si256(b), 1);
	*odd = _mm512_shuffle_i64x2(a, b, 0xee);
}

OP void v_unpack10(const uint8_t *p, v *even, v *odd)
{
	v_unpack(p, p + 40, coarse10, fine10, lift10, 0xc0, even, odd);
}

OP void v_unpack12(const uint8_t *p, v *even, v *odd)
{
	v_unpack(p, p + 48, coarse12, fine12, lift12, 0xf0, even, odd);
}

OP void v_store_zip(int16_t *to, v a, v b)
{
	const v low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
	const v first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);

	_mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, first, high));
	_mm512_storeu_si512(to + LANES, _mm512_permutex2var_epi64(low, last, high));
}

OP vacc v_acc_zero(void) { return _mm512_setzero_si512(); }
OP vacc v_acc_add(vacc s, v a) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, v_set1(1))); }
OP vacc v_acc_square(vacc s, v a) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, a)); }
OP uint64_t v_acc_sum(vacc s)
{
	return (uint64_t)_mm512_reduce_add_epi64(
		_mm512_add_epi64(_mm512_maskz_mov_epi32(0x5555, s), _mm512_srli_epi64(s, 32)));
}

#include "raw_kernel.h"

const struct ml_raw_ops ml_raw_avx512 = RAW_OPS;

#endif
