/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The raw kernels on AVX2: 16 lanes; the tone curve is gathered from its table. */
#include "raw.h"

#ifdef ML_X86

#include "gather.h"

#define TARGET __attribute__((target("avx2")))
#define LANES 16
#define OP TARGET static inline __attribute__((always_inline))

typedef __m256i v;
typedef __m256i vacc;

OP v v_load(const int16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
OP void v_store(int16_t *p, v a) { _mm256_storeu_si256((__m256i *)p, a); }
OP v v_set1(int16_t a) { return _mm256_set1_epi16(a); }
OP v v_add(v a, v b) { return _mm256_add_epi16(a, b); }
OP v v_sub(v a, v b) { return _mm256_sub_epi16(a, b); }
OP v v_adds(v a, v b) { return _mm256_adds_epi16(a, b); }
OP v v_addsu(v a, v b) { return _mm256_adds_epu16(a, b); }
OP v v_subsu(v a, v b) { return _mm256_subs_epu16(a, b); }
OP v v_mulhu(v a, v b) { return _mm256_mulhi_epu16(a, b); }
OP v v_mulhrs(v a, v b) { return _mm256_mulhrs_epi16(a, b); }
OP v v_max(v a, v b) { return _mm256_max_epi16(a, b); }
OP v v_min(v a, v b) { return _mm256_min_epi16(a, b); }
OP v v_minu(v a, v b) { return _mm256_min_epu16(a, b); }
OP v v_shl(v a, int n) { return _mm256_slli_epi16(a, n); }
OP v v_sar(v a, int n) { return _mm256_srai_epi16(a, n); }
OP v v_shr(v a, int n) { return _mm256_srli_epi16(a, n); }
OP v v_or(v a, v b) { return _mm256_or_si256(a, b); }
OP v v_gt(v a, v b) { return _mm256_cmpgt_epi16(a, b); }
OP v v_andnot(v mask, v a) { return _mm256_andnot_si256(mask, a); }

OP v v_bytes(v a, v b)
{
	return _mm256_blendv_epi8(_mm256_srli_epi16(a, 6), _mm256_slli_epi16(b, 2), _mm256_set1_epi16((int16_t)0xff00));
}

typedef const struct ml_tone *vtone;
OP vtone v_tone_take(const struct ml_tone *tone) { return tone; }

OP v v_tone(const vtone *tone, v x)
{
	/* Even and odd lanes apart: each gather takes 32 bits at a 16-bit entry. */
	const v even = _mm256_and_si256(x, _mm256_set1_epi32(0xffff)), odd = _mm256_srli_epi32(x, 16);
	const v at_even = ml_gather16((*tone)->table, even);
	const v at_odd = ml_gather16((*tone)->table, odd);

	return _mm256_blend_epi16(at_even, _mm256_slli_epi32(at_odd, 16), 0xaa);
}

OP __m128i half(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Of each 128-bit half, 8 samples: lanes 0 to 3 the even ones, 4 to 7 the odd ones. */
OP v samples(v bytes, v coarse, v fine, v lift, v mask)
{
	const v low = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, fine), lift);

	return _mm256_or_si256(_mm256_shuffle_epi8(bytes, coarse), _mm256_and_si256(low, mask));
}

#define TWICE(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define TWICE16(...) _mm256_broadcastsi128_si256(_mm_setr_epi16(__VA_ARGS__))

/* @stride: bytes of 8 samples. */
OP void v_unpack(const uint8_t *p, int stride, v coarse, v fine, v lift, v mask, v *even, v *odd)
{
	const v a = _mm256_inserti128_si256(_mm256_castsi128_si256(half(p)), half(p + 2 * stride), 1);
	const v b = _mm256_inserti128_si256(_mm256_castsi128_si256(half(p + stride)), half(p + 3 * stride), 1);
	const v first = samples(a, coarse, fine, lift, mask), second = samples(b, coarse, fine, lift, mask);

	*even = _mm256_unpacklo_epi64(first, second);
	*odd = _mm256_unpackhi_epi64(first, second);
}

OP void v_unpack10(const uint8_t *p, v *even, v *odd)
{
	v_unpack(p, 10, TWICE(-1, 0, -1, 2, -1, 5, -1, 7, -1, 1, -1, 3, -1, 6, -1, 8),
		 TWICE(4, -1, 4, -1, 9, -1, 9, -1, 4, -1, 4, -1, 9, -1, 9, -1), TWICE16(64, 4, 64, 4, 16, 1, 16, 1),
		 v_set1(0xc0), even, odd);
}

OP void v_unpack12(const uint8_t *p, v *even, v *odd)
{
	v_unpack(p, 12, TWICE(-1, 0, -1, 3, -1, 6, -1, 9, -1, 1, -1, 4, -1, 7, -1, 10),
		 TWICE(2, -1, 5, -1, 8, -1, 11, -1, 2, -1, 5, -1, 8, -1, 11, -1), TWICE16(16, 16, 16, 16, 1, 1, 1, 1),
		 v_set1(0xf0), even, odd);
}

OP void v_store_zip(int16_t *to, v a, v b)
{
	const v low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);

	v_store(to, _mm256_permute2x128_si256(low, high, 0x20));
	v_store(to + LANES, _mm256_permute2x128_si256(low, high, 0x31));
}

OP vacc v_acc_zero(void) { return _mm256_setzero_si256(); }
OP vacc v_acc_add(vacc s, v a) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, v_set1(1))); }
OP vacc v_acc_square(vacc s, v a) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, a)); }
OP uint64_t v_acc_sum(vacc s)
{
	const __m256i wide = _mm256_add_epi64(_mm256_and_si256(s, _mm256_set1_epi64x(0xffffffff)),
					      _mm256_srli_epi64(s, 32));
	const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));

	return (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
}

#include "raw_kernel.h"

const struct ml_raw_ops ml_raw_avx2 = RAW_OPS;

#endif
