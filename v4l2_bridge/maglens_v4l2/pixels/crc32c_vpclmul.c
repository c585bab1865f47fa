/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC-32C by folding with carry-less multiplies on 512-bit registers: 256 bytes a step, four independent chains.
 *
 * A 128-bit lane holding (low, high) is moved forward over D bits by low * x^(D+63) + high * x^(D-1) (reflected
 * operands lose one power in the product). The final 16 bytes go through the CRC instruction, which reduces them.
 */
#include "crc32c.h"

#include "cpu.h"

#ifdef ML_X86

#include <immintrin.h>

#define VP_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,vpclmulqdq,pclmul,sse4.2")))
#define STEP 256
#define LANE_BITS 128

/* Pairs of constants that move a lane over 256, 192, 128 and 64 bytes, and over 48, 32 and 16. */
static uint64_t by256[2], by192[2], by128[2], by64[2], by48[2], by32[2], by16[2];

static void constants(uint64_t k[2], uint64_t bits)
{
	/* 32-bit reflected remainders sit in the upper half of the 64-bit reflected operand. */
	k[0] = (uint64_t)ml_crc32c_xpow(bits + 63) << 32;
	k[1] = (uint64_t)ml_crc32c_xpow(bits - 1) << 32;
}

void ml_crc32c_vpclmul_init(void)
{
	constants(by256, 2048);
	constants(by192, 1536);
	constants(by128, 1024);
	constants(by64, 512);
	constants(by48, 384);
	constants(by32, 256);
	constants(by16, LANE_BITS);
}

VP_TARGET static inline __m512i spread(const uint64_t k[2])
{
	return _mm512_broadcast_i32x4(_mm_set_epi64x((int64_t)k[1], (int64_t)k[0]));
}

VP_TARGET static inline __m512i fold(__m512i x, __m512i k, __m512i onto)
{
	return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, k, 0x00),
					 _mm512_clmulepi64_epi128(x, k, 0x11), onto, 0x96);
}

VP_TARGET static inline __m128i fold_lane(__m512i x, int lane, const uint64_t k[2])
{
	__m128i v, c = _mm_set_epi64x((int64_t)k[1], (int64_t)k[0]);

	switch (lane) {
	case 0:
		v = _mm512_extracti32x4_epi32(x, 0);
		break;
	case 1:
		v = _mm512_extracti32x4_epi32(x, 1);
		break;
	default:
		v = _mm512_extracti32x4_epi32(x, 2);
		break;
	}
	return _mm_xor_si128(_mm_clmulepi64_si128(v, c, 0x00), _mm_clmulepi64_si128(v, c, 0x11));
}

VP_TARGET uint32_t ml_crc32c_raw_vpclmul(uint32_t crc, const uint8_t *p, size_t n)
{
	__m512i a, b, c, d, k;
	__m128i last;
	uint64_t folded;

	if (n < 2 * STEP)
		return ml_crc32c_raw_hardware(crc, p, n);
	a = _mm512_loadu_si512(p);
	b = _mm512_loadu_si512(p + 64);
	c = _mm512_loadu_si512(p + 128);
	d = _mm512_loadu_si512(p + 192);
	a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
	k = spread(by256);
	for (p += STEP, n -= STEP; n >= STEP; p += STEP, n -= STEP) {
		a = fold(a, k, _mm512_loadu_si512(p));
		b = fold(b, k, _mm512_loadu_si512(p + 64));
		c = fold(c, k, _mm512_loadu_si512(p + 128));
		d = fold(d, k, _mm512_loadu_si512(p + 192));
	}
	d = fold(a, spread(by192), d);
	d = fold(b, spread(by128), d);
	d = fold(c, spread(by64), d);
	last = _mm512_extracti32x4_epi32(d, 3);
	last = _mm_xor_si128(last, fold_lane(d, 0, by48));
	last = _mm_xor_si128(last, fold_lane(d, 1, by32));
	last = _mm_xor_si128(last, fold_lane(d, 2, by16));
	folded = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(last));
	folded = _mm_crc32_u64(folded, (uint64_t)_mm_extract_epi64(last, 1));
	return ml_crc32c_raw_hardware((uint32_t)folded, p, n);
}

#else

void ml_crc32c_vpclmul_init(void)
{
}

uint32_t ml_crc32c_raw_vpclmul(uint32_t crc, const uint8_t *p, size_t n)
{
	return ml_crc32c_raw_portable(crc, p, n);
}

#endif
