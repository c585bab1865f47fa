/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each body is written once and compiled for every level, where the compiler vectorises it. */
#include "recolour.h"

#define BODY static inline __attribute__((always_inline))
#define HALF (1 << (ML_RECOLOUR_BITS - 1))
#define PAIRS 64 /* of chroma, at a time */

BODY uint8_t clamped(int32_t sum, int32_t middle)
{
	const int32_t value = (sum >> ML_RECOLOUR_BITS) + middle;

	return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

BODY uint8_t luma(const struct ml_recolour *by, uint8_t y, int32_t lift)
{
	return clamped(by->y_y * (int16_t)(y - by->black) + lift, ML_BLACK_Y);
}

BODY void yuyv_body(const struct ml_recolour *by, const uint8_t *restrict in, int32_t pairs, uint8_t *restrict out)
{
	for (int32_t i = 0; i < pairs; i++) {
		const int16_t u = (int16_t)(in[4 * i + 1] - ML_NEUTRAL_C), v = (int16_t)(in[4 * i + 3] - ML_NEUTRAL_C);
		const int32_t lift = by->y_u * u + by->y_v * v + HALF;

		out[4 * i] = luma(by, in[4 * i], lift);
		out[4 * i + 1] = clamped(by->u_u * u + by->u_v * v + HALF, ML_NEUTRAL_C);
		out[4 * i + 2] = luma(by, in[4 * i + 2], lift);
		out[4 * i + 3] = clamped(by->v_u * u + by->v_v * v + HALF, ML_NEUTRAL_C);
	}
}

/* A row of chroma, and what it adds to luma. */
BODY void pairs_body(const struct ml_recolour *by, const uint8_t *restrict in, int32_t pairs, uint8_t *restrict out,
		     int32_t *restrict lift)
{
	for (int32_t i = 0; i < pairs; i++) {
		const int16_t u = (int16_t)(in[2 * i] - ML_NEUTRAL_C), v = (int16_t)(in[2 * i + 1] - ML_NEUTRAL_C);

		lift[i] = by->y_u * u + by->y_v * v + HALF;
		out[2 * i] = clamped(by->u_u * u + by->u_v * v + HALF, ML_NEUTRAL_C);
		out[2 * i + 1] = clamped(by->v_u * u + by->v_v * v + HALF, ML_NEUTRAL_C);
	}
}

BODY void luma_body(const struct ml_recolour *by, const uint8_t *restrict in, int32_t pairs, uint8_t *restrict out,
		    const int32_t *restrict lift)
{
	for (int32_t i = 0; i < pairs; i++) {
		out[2 * i] = luma(by, in[2 * i], lift[i]);
		out[2 * i + 1] = luma(by, in[2 * i + 1], lift[i]);
	}
}

struct rows {
	const uint8_t *in[2], *in_pairs; /* NV12: two of luma and their chroma; YUYV: the first only */
	uint8_t *out[2], *out_pairs;
};

BODY void nv12_body(const struct ml_recolour *by, const struct rows *r, int32_t pairs)
{
	int32_t lift[PAIRS];

	for (int32_t i = 0; i < pairs; i += PAIRS) {
		const int32_t n = pairs - i < PAIRS ? pairs - i : PAIRS;

		pairs_body(by, r->in_pairs + 2 * i, n, r->out_pairs + 2 * i, lift);
		for (int k = 0; k < 2; k++)
			luma_body(by, r->in[k] + 2 * i, n, r->out[k] + 2 * i, lift);
	}
}

struct kernels {
	void (*nv12)(const struct ml_recolour *by, const struct rows *r, int32_t pairs);
	void (*yuyv)(const struct ml_recolour *by, const struct rows *r, int32_t pairs);
};

#define KERNELS(name, attribute)                                                                                       \
	attribute static void nv12_##name(const struct ml_recolour *by, const struct rows *r, int32_t pairs)           \
	{                                                                                                              \
		nv12_body(by, r, pairs);                                                                               \
	}                                                                                                              \
	attribute static void yuyv_##name(const struct ml_recolour *by, const struct rows *r, int32_t pairs)           \
	{                                                                                                              \
		yuyv_body(by, r->in[0], pairs, r->out[0]);                                                             \
	}                                                                                                              \
	static const struct kernels kernels_##name = { nv12_##name, yuyv_##name }

KERNELS(plain, );
#ifdef ML_X86
KERNELS(avx2, __attribute__((target("avx2"))));
KERNELS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))));
#endif

static const struct kernels *kernels_of(enum ml_level level)
{
#ifdef ML_X86
	if (level == ML_AVX2)
		return &kernels_avx2;
	if (level == ML_AVX512)
		return &kernels_avx512;
#endif
	(void)level; /* on aarch64 the plain bodies are NEON already */
	return &kernels_plain;
}

void ml_recolour(const struct ml_recolour *by, enum ml_level level, const struct ml_image *from, const uint8_t *src,
		 const struct ml_image *to, uint8_t *dst)
{
	const struct kernels *kernels = kernels_of(level);
	const size_t in = (size_t)from->stride, out = (size_t)to->stride;

	if (from->fourcc == ML_YUYV) {
		for (int32_t y = 0; y < from->height; y++) {
			const struct rows r = { .in = { src + in * (size_t)y }, .out = { dst + out * (size_t)y } };

			kernels->yuyv(by, &r, from->width / 2);
		}
		return;
	}
	for (int32_t y = 0; y < from->height; y += 2) {
		const uint8_t *row = src + in * (size_t)y;
		uint8_t *to_row = dst + out * (size_t)y;
		const struct rows r = {
			.in = { row, row + in },
			.in_pairs = src + in * (size_t)(from->height + y / 2),
			.out = { to_row, to_row + out },
			.out_pairs = dst + out * (size_t)(to->height + y / 2),
		};

		kernels->nv12(by, &r, from->width / 2);
	}
}
