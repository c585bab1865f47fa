/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The raw kernels on NEON (aarch64): 8 lanes; the tone curve's pieces are looked up in register tables. */
#include "raw.h"

#ifdef ML_ARM64

#include <arm_neon.h>

#define TARGET
#define LANES 8
#define OP static inline __attribute__((always_inline))

typedef int16x8_t v;
typedef uint64x2_t vacc; /* 32 bits are one too few for the squares of the widest row */

#define U(a) vreinterpretq_u16_s16(a)
#define S(a) vreinterpretq_s16_u16(a)

/* By bytes: neither line buffers at odd offsets nor the picture's rows are aligned to lanes. */
OP v v_load(const int16_t *p) { return vreinterpretq_s16_u8(vld1q_u8((const uint8_t *)p)); }
OP void v_store(int16_t *p, v a) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_s16(a)); }
OP v v_set1(int16_t a) { return vdupq_n_s16(a); }
OP v v_add(v a, v b) { return vaddq_s16(a, b); }
OP v v_sub(v a, v b) { return vsubq_s16(a, b); }
OP v v_adds(v a, v b) { return vqaddq_s16(a, b); }
OP v v_addsu(v a, v b) { return S(vqaddq_u16(U(a), U(b))); }
OP v v_subsu(v a, v b) { return S(vqsubq_u16(U(a), U(b))); }
OP v v_mulhu(v a, v b)
{
	const uint32x4_t low = vmull_u16(vget_low_u16(U(a)), vget_low_u16(U(b)));
	const uint32x4_t high = vmull_high_u16(U(a), U(b));

	return S(vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high)));
}
/* sqrdmulh computes (2 a b + 2^15) >> 16, which is the same; it differs only for -2^15 squared, which never meets. */
OP v v_mulhrs(v a, v b) { return vqrdmulhq_s16(a, b); }
OP v v_max(v a, v b) { return vmaxq_s16(a, b); }
OP v v_min(v a, v b) { return vminq_s16(a, b); }
OP v v_minu(v a, v b) { return S(vminq_u16(U(a), U(b))); }
OP v v_shl(v a, int n) { return vshlq_s16(a, vdupq_n_s16((int16_t)n)); }
OP v v_sar(v a, int n) { return vshlq_s16(a, vdupq_n_s16((int16_t)-n)); }
OP v v_shr(v a, int n) { return S(vshlq_u16(U(a), vdupq_n_s16((int16_t)-n))); }
OP v v_or(v a, v b) { return vorrq_s16(a, b); }
OP v v_gt(v a, v b) { return S(vcgtq_s16(a, b)); }
OP v v_andnot(v mask, v a) { return vbicq_s16(a, mask); }

OP v v_bytes(v a, v b) { return S(vsliq_n_u16(vshrq_n_u16(U(a), 6), vshrq_n_u16(U(b), 6), 8)); }

typedef struct {
	uint8x16x4_t low_base, high_base, low_slope, high_slope; /* 32 entries of 16 bits each */
} vtone;

OP vtone v_tone_take(const struct ml_tone *tone)
{
	return (vtone){ vld1q_u8_x4((const uint8_t *)tone->low_base), vld1q_u8_x4((const uint8_t *)tone->high_base),
			vld1q_u8_x4((const uint8_t *)tone->low_slope), vld1q_u8_x4((const uint8_t *)tone->high_slope) };
}

OP v v_tone(const vtone *tone, v x)
{
	const uint16x8_t low = vcltq_s16(x, vdupq_n_s16(ML_TONE_SPLIT));
	const uint16x8_t piece = vbslq_u16(low, vshrq_n_u16(U(x), 4), vshrq_n_u16(U(x), 8));
	const uint16x8_t at = vbslq_u16(low, vshlq_n_u16(U(x), 7), vshlq_n_u16(U(x), 3));
	/* Places of the entry's two bytes: 2 piece in the lower half of the lane, 2 piece + 1 in the upper. */
	const uint8x16_t index = vreinterpretq_u8_u16(vmlaq_n_u16(vdupq_n_u16(0x0100), piece, 0x0202));
	const uint8x16_t choose = vreinterpretq_u8_u16(low);
	const uint8x16_t base = vbslq_u8(choose, vqtbl4q_u8(tone->low_base, index), vqtbl4q_u8(tone->high_base, index));
	const uint8x16_t slope =
		vbslq_u8(choose, vqtbl4q_u8(tone->low_slope, index), vqtbl4q_u8(tone->high_slope, index));

	return v_add(vreinterpretq_s16_u8(base), v_mulhu(S(at), vreinterpretq_s16_u8(slope)));
}

/* Of 8 samples, lanes 0 to 3 the even ones, 4 to 7 the odd ones. */
OP v samples(uint8x16_t bytes, const uint8_t *coarse, const uint8_t *fine, const uint16_t *lift, uint16_t mask)
{
	const uint16x8_t high = vreinterpretq_u16_u8(vqtbl1q_u8(bytes, vld1q_u8(coarse)));
	const uint16x8_t low = vreinterpretq_u16_u8(vqtbl1q_u8(bytes, vld1q_u8(fine)));

	return S(vorrq_u16(high, vandq_u16(vmulq_u16(low, vld1q_u16(lift)), vdupq_n_u16(mask))));
}

static const uint8_t coarse10[16] = { 255, 0, 255, 2, 255, 5, 255, 7, 255, 1, 255, 3, 255, 6, 255, 8 };
static const uint8_t fine10[16] = { 4, 255, 4, 255, 9, 255, 9, 255, 4, 255, 4, 255, 9, 255, 9, 255 };
static const uint16_t lift10[8] = { 64, 4, 64, 4, 16, 1, 16, 1 };
static const uint8_t coarse12[16] = { 255, 0, 255, 3, 255, 6, 255, 9, 255, 1, 255, 4, 255, 7, 255, 10 };
static const uint8_t fine12[16] = { 2, 255, 5, 255, 8, 255, 11, 255, 2, 255, 5, 255, 8, 255, 11, 255 };
static const uint16_t lift12[8] = { 16, 16, 16, 16, 1, 1, 1, 1 };

OP void halves(v a, v b, v *even, v *odd)
{
	*even = vcombine_s16(vget_low_s16(a), vget_low_s16(b));
	*odd = vcombine_s16(vget_high_s16(a), vget_high_s16(b));
}

OP void v_unpack10(const uint8_t *p, v *even, v *odd)
{
	halves(samples(vld1q_u8(p), coarse10, fine10, lift10, 0xc0),
	       samples(vld1q_u8(p + 10), coarse10, fine10, lift10, 0xc0), even, odd);
}

OP void v_unpack12(const uint8_t *p, v *even, v *odd)
{
	halves(samples(vld1q_u8(p), coarse12, fine12, lift12, 0xf0),
	       samples(vld1q_u8(p + 12), coarse12, fine12, lift12, 0xf0), even, odd);
}

OP void v_store_zip(int16_t *to, v a, v b)
{
	v_store(to, vzip1q_s16(a, b));
	v_store(to + LANES, vzip2q_s16(a, b));
}

OP vacc v_acc_zero(void) { return vdupq_n_u64(0); }
OP vacc v_acc_add(vacc s, v a) { return vpadalq_u32(s, vpaddlq_u16(U(a))); }
OP vacc v_acc_square(vacc s, v a)
{
	const int32x4_t sum = vmlal_high_s16(vmull_s16(vget_low_s16(a), vget_low_s16(a)), a, a);

	return vpadalq_u32(s, vreinterpretq_u32_s32(sum));
}
OP uint64_t v_acc_sum(vacc s) { return vaddvq_u64(s); }

#include "raw_kernel.h"

const struct ml_raw_ops ml_raw_neon = RAW_OPS;

#endif
