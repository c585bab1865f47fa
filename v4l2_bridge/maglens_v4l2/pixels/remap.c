/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of remap.h, and its use. */
#include "remap.h"

#include "image.h"

#define SHIFT 16 /* of two fractions of 8 bits */
#define HALF (1 << (SHIFT - 1))
#define GAIN_SHIFT 12

/* The position of a pixel that has a neighbour on its right (below), and the fraction of the way there. */
static int32_t split(int32_t at, int32_t pixels, uint8_t *fraction)
{
	const int32_t most = (pixels - 1) * ML_REMAP_ONE - 1;

	if (at > most)
		at = most;
	*fraction = (uint8_t)(at % ML_REMAP_ONE);
	return at / ML_REMAP_ONE;
}

void ml_remap_fill(struct ml_remap_entry *table, int32_t w, int32_t h, int32_t stride, int32_t step,
		   const int32_t *x, const int32_t *y, const uint16_t *gain)
{
	for (size_t i = 0, n = (size_t)w * (size_t)h; i < n; i++) {
		struct ml_remap_entry *e = &table[i];

		e->gain = gain[i];
		e->at = -1;
		e->fx = e->fy = 0;
		if (x[i] < 0 || y[i] < 0)
			continue;
		e->at = split(x[i], w, &e->fx) * step;
		e->at += split(y[i], h, &e->fy) * stride;
	}
}

static inline int32_t sample(const uint8_t *p, int32_t stride, int32_t step, const struct ml_remap_entry *e)
{
	const int32_t above = p[0] * (ML_REMAP_ONE - e->fx) + p[step] * e->fx;
	const int32_t below = p[stride] * (ML_REMAP_ONE - e->fx) + p[stride + step] * e->fx;

	return (above * (ML_REMAP_ONE - e->fy) + below * e->fy + HALF) >> SHIFT;
}

/* Farther from @zero by the gain; the shift of a negative number rounds down, as everywhere here. */
static inline uint8_t brighter(int32_t value, int32_t zero, int32_t gain)
{
	const int32_t v = (((value - zero) * gain + (1 << (GAIN_SHIFT - 1))) >> GAIN_SHIFT) + zero;

	return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

static void luma_row(const struct ml_remap *m, const struct ml_remap_entry *e, const uint8_t *src, uint8_t *out)
{
	for (int32_t i = 0; i < m->width; i++) {
		if (e[i].at < 0)
			out[i] = ML_BLACK_Y;
		else
			out[i] = brighter(sample(src + e[i].at, m->src_stride, 1, &e[i]), ML_BLACK_Y, e[i].gain);
	}
}

static void chroma_row(const struct ml_remap *m, const struct ml_remap_entry *e, const uint8_t *src, uint8_t *out)
{
	for (int32_t i = 0; i < m->width / 2; i++) {
		const uint8_t *p = src + e[i].at;

		if (e[i].at < 0) {
			out[2 * i] = out[2 * i + 1] = ML_NEUTRAL_C;
			continue;
		}
		out[2 * i] = brighter(sample(p, m->src_stride, 2, &e[i]), ML_NEUTRAL_C, e[i].gain);
		out[2 * i + 1] = brighter(sample(p + 1, m->src_stride, 2, &e[i]), ML_NEUTRAL_C, e[i].gain);
	}
}

void ml_remap_run(const struct ml_remap *m, const uint8_t *src, uint8_t *dst)
{
	const uint8_t *pairs = src + (size_t)m->src_stride * (size_t)m->height;
	uint8_t *out = dst + (size_t)m->dst_stride * (size_t)m->height;

	for (int32_t y = 0; y < m->height; y++)
		luma_row(m, m->luma + (size_t)y * (size_t)m->width, src, dst + (size_t)y * (size_t)m->dst_stride);
	for (int32_t y = 0; y < m->height / 2; y++)
		chroma_row(m, m->chroma + (size_t)y * (size_t)(m->width / 2), pairs,
			   out + (size_t)y * (size_t)m->dst_stride);
}
