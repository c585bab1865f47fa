/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Row kernels of the scaler. Each body is written once and compiled for every level, where the compiler vectorises
 * it; only the gather of the horizontal filter is written by hand.
 */
#include "raw.h"
#include "scale.h"

#define BODY static inline __attribute__((always_inline))
#define BLOCK 64

BODY void vertical_body(const uint8_t *const *rows, const int16_t *weight, int32_t taps, int32_t n, int16_t *out)
{
	int32_t i = 0;

	for (; i + BLOCK <= n; i += BLOCK) {
		uint16_t sum[BLOCK] = { 0 };

		for (int32_t k = 0; k < taps; k++) {
			const uint8_t *row = rows[k] + i;
			const uint16_t w = (uint16_t)weight[k];

			for (int32_t j = 0; j < BLOCK; j++)
				sum[j] = (uint16_t)(sum[j] + row[j] * w);
		}
		for (int32_t j = 0; j < BLOCK; j++)
			out[i + j] = (int16_t)((uint16_t)(sum[j] + 1) >> 1);
	}
	for (; i < n; i++) {
		uint32_t sum = 0;

		for (int32_t k = 0; k < taps; k++)
			sum += (uint32_t)rows[k][i] * (uint32_t)weight[k];
		out[i] = (int16_t)((sum + 1) >> 1);
	}
}

BODY void horizontal_from(const int16_t *in, const struct ml_axis *axis, int32_t i, uint8_t *out)
{
	for (; i < axis->n; i++) {
		int32_t sum = 1 << 20;

		for (int32_t p = 0; p < axis->taps / 2; p++) {
			const int16_t *at = in + axis->start[i] + 2 * p;
			const int16_t *w = axis->weight + 2 * ((size_t)p * (size_t)axis->n + (size_t)i);

			sum += at[0] * w[0] + at[1] * w[1];
		}
		out[i] = (uint8_t)(sum >> 21);
	}
}

BODY void horizontal_linear_from(const int16_t *in, const struct ml_axis *axis, int32_t i, int16_t *out)
{
	for (; i < axis->n; i++) {
		int32_t sum = 1 << 14;

		for (int32_t p = 0; p < axis->taps / 2; p++) {
			const int16_t *at = in + axis->start[i] + 2 * p;
			const int16_t *w = axis->weight + 2 * ((size_t)p * (size_t)axis->n + (size_t)i);

			sum += at[0] * w[0] + at[1] * w[1];
		}
		sum >>= 15;
		out[i] = (int16_t)(sum < ML_LINEAR_WHITE ? sum : ML_LINEAR_WHITE);
	}
}

BODY void split_body(const int16_t *in, int32_t pairs, int16_t *a, int16_t *b)
{
	for (int32_t i = 0; i < pairs; i++) {
		a[i] = in[2 * i];
		b[i] = in[2 * i + 1];
	}
}

BODY void join_body(const uint8_t *a, const uint8_t *b, int32_t pairs, uint8_t *out)
{
	for (int32_t i = 0; i < pairs; i++) {
		out[2 * i] = a[i];
		out[2 * i + 1] = b[i];
	}
}

BODY void average_body(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t *out)
{
	for (int32_t i = 0; i < n; i++)
		out[i] = (uint8_t)((a[i] + b[i] + 1) >> 1);
}

BODY void yuyv_luma_body(const uint8_t *in, int32_t n, uint8_t *luma)
{
	for (int32_t i = 0; i < n; i++)
		luma[i] = in[2 * i];
}

BODY void yuyv_chroma_body(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t *pairs)
{
	for (int32_t i = 0; i < n; i++)
		pairs[i] = (uint8_t)((a[2 * i + 1] + b[2 * i + 1] + 1) >> 1);
}

/* One set of functions per level, so that each is compiled for that level's instructions. */
#define ROWS(name, attribute, horizontal_fn, linear_fn)                                                                      \
	attribute static void vertical_##name(const uint8_t *const *rows, const int16_t *weight, int32_t taps,    \
					      int32_t n, int16_t *out)                                            \
	{                                                                                                         \
		vertical_body(rows, weight, taps, n, out);                                                        \
	}                                                                                                         \
	attribute static void split_##name(const int16_t *in, int32_t pairs, int16_t *restrict a,                 \
					   int16_t *restrict b)                                                   \
	{                                                                                                         \
		split_body(in, pairs, a, b);                                                                      \
	}                                                                                                         \
	attribute static void join_##name(const uint8_t *a, const uint8_t *b, int32_t pairs, uint8_t *restrict o) \
	{                                                                                                         \
		join_body(a, b, pairs, o);                                                                        \
	}                                                                                                         \
	attribute static void average_##name(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t *restrict o)  \
	{                                                                                                         \
		average_body(a, b, n, o);                                                                         \
	}                                                                                                         \
	attribute static void yuyv_luma_##name(const uint8_t *in, int32_t n, uint8_t *restrict luma)              \
	{                                                                                                         \
		yuyv_luma_body(in, n, luma);                                                                      \
	}                                                                                                         \
	attribute static void yuyv_chroma_##name(const uint8_t *a, const uint8_t *b, int32_t n,                   \
						 uint8_t *restrict pairs)                                         \
	{                                                                                                         \
		yuyv_chroma_body(a, b, n, pairs);                                                                 \
	}                                                                                                         \
	static const struct ml_scale_rows rows_##name = {                                                         \
		vertical_##name, horizontal_fn,    linear_fn,          split_##name,          \
		join_##name,                                                                                      \
		average_##name,  yuyv_luma_##name, yuyv_chroma_##name,                                            \
	}

static void horizontal_plain(const int16_t *in, const struct ml_axis *axis, uint8_t *out)
{
	horizontal_from(in, axis, 0, out);
}

static void horizontal_linear_plain(const int16_t *in, const struct ml_axis *axis, int16_t *out)
{
	horizontal_linear_from(in, axis, 0, out);
}

ROWS(plain, , horizontal_plain, horizontal_linear_plain);

#ifdef ML_X86

#include "gather.h"

#define AVX2_TARGET __attribute__((target("avx2")))
#define AVX512_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))

/* Weighted sums of 8 outputs from @i on. */
AVX2_TARGET BODY __m256i sums_avx2(const int16_t *in, const struct ml_axis *axis, int32_t i, int32_t round)
{
	const __m256i start = _mm256_loadu_si256((const __m256i *)(axis->start + i));
	__m256i sum = _mm256_set1_epi32(round);

	for (int32_t p = 0; p < axis->taps / 2; p++) {
		const int16_t *w = axis->weight + 2 * ((size_t)p * (size_t)axis->n + (size_t)i);
		const __m256i pairs = ml_gather16(in + 2 * p, start);

		sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_loadu_si256((const __m256i *)w)));
	}
	return sum;
}

AVX2_TARGET static void horizontal_avx2(const int16_t *in, const struct ml_axis *axis, uint8_t *out)
{
	const __m256i low_bytes = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4,
						   8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
	int32_t i = 0;

	for (; i + 8 <= axis->n; i += 8) {
		__m256i sum = _mm256_srli_epi32(sums_avx2(in, axis, i, 1 << 20), 21);

		sum = _mm256_shuffle_epi8(sum, low_bytes);
		sum = _mm256_permutevar8x32_epi32(sum, _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
		_mm_storel_epi64((__m128i *)(out + i), _mm256_castsi256_si128(sum));
	}
	horizontal_from(in, axis, i, out);
}

AVX2_TARGET static void horizontal_linear_avx2(const int16_t *in, const struct ml_axis *axis, int16_t *out)
{
	int32_t i = 0;

	for (; i + 8 <= axis->n; i += 8) {
		__m256i sum = _mm256_srli_epi32(sums_avx2(in, axis, i, 1 << 14), 15);

		sum = _mm256_min_epi32(sum, _mm256_set1_epi32(ML_LINEAR_WHITE));
		sum = _mm256_permute4x64_epi64(_mm256_packs_epi32(sum, sum), 0x08);
		_mm_storeu_si128((__m128i *)(out + i), _mm256_castsi256_si128(sum));
	}
	horizontal_linear_from(in, axis, i, out);
}

AVX512_TARGET BODY __m512i sums_avx512(const int16_t *in, const struct ml_axis *axis, int32_t i, int32_t round)
{
	const __m512i start = _mm512_loadu_si512(axis->start + i);
	__m512i sum = _mm512_set1_epi32(round);

	for (int32_t p = 0; p < axis->taps / 2; p++) {
		const int16_t *w = axis->weight + 2 * ((size_t)p * (size_t)axis->n + (size_t)i);
		const __m512i pairs = _mm512_i32gather_epi32(start, in + 2 * p, 2);

		sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_loadu_si512(w)));
	}
	return sum;
}

AVX512_TARGET static void horizontal_avx512(const int16_t *in, const struct ml_axis *axis, uint8_t *out)
{
	int32_t i = 0;

	for (; i + 16 <= axis->n; i += 16) {
		const __m512i sum = _mm512_srli_epi32(sums_avx512(in, axis, i, 1 << 20), 21);

		_mm_storeu_si128((__m128i *)(out + i), _mm512_cvtepi32_epi8(sum));
	}
	horizontal_from(in, axis, i, out);
}

AVX512_TARGET static void horizontal_linear_avx512(const int16_t *in, const struct ml_axis *axis, int16_t *out)
{
	int32_t i = 0;

	for (; i + 16 <= axis->n; i += 16) {
		__m512i sum = _mm512_srli_epi32(sums_avx512(in, axis, i, 1 << 14), 15);

		sum = _mm512_min_epi32(sum, _mm512_set1_epi32(ML_LINEAR_WHITE));
		_mm256_storeu_si256((__m256i *)(out + i), _mm512_cvtepi32_epi16(sum));
	}
	horizontal_linear_from(in, axis, i, out);
}

ROWS(avx2, AVX2_TARGET, horizontal_avx2, horizontal_linear_avx2);
ROWS(avx512, AVX512_TARGET, horizontal_avx512, horizontal_linear_avx512);

#endif

const struct ml_scale_rows *ml_scale_rows(enum ml_level level)
{
#ifdef ML_X86
	if (level == ML_AVX2)
		return &rows_avx2;
	if (level == ML_AVX512)
		return &rows_avx512;
#endif
	(void)level; /* on aarch64 the plain bodies are NEON already */
	return &rows_plain;
}
