/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Converts and scales between NV12 and YUYV of any even size.
 *
 * The filter is a triangle as wide as two pixels of the coarser grid: plain bilinear when enlarging, an
 * area-weighted one when reducing, so that nothing of the source is skipped. Weights are exact integers, the same
 * on every machine; each plane is filtered as an image of its own, centres aligned.
 */
#ifndef ML_SCALE_H
#define ML_SCALE_H

#include <stdbool.h>

#include "axis.h"
#include "cpu.h"
#include "image.h"

enum ml_fit { ML_FIT_LETTERBOX, ML_FIT_STRETCH };

struct ml_scale_config {
	struct ml_image src, dst;
	struct ml_rect rect; /* part of dst that the picture may use; the rest is black */
	enum ml_fit fit;
	bool flip_x, flip_y; /* both: turned by 180 degrees */
	enum ml_level level;
};

struct ml_scaler;

/* NULL when memory is short. The configuration has been checked. */
struct ml_scaler *ml_scaler_new(const struct ml_scale_config *config);
void ml_scaler_free(struct ml_scaler *s);
void ml_scaler_run(struct ml_scaler *s, const uint8_t *src, uint8_t *dst);

/* A part of it, without the black around: the picture's rows @from (even) to @to (even). */
void ml_scaler_run_rows(struct ml_scaler *s, const uint8_t *src, uint8_t *dst, int32_t from, int32_t to);

/* The largest even rectangle of the shape width:height inside @in, centred; all of @in when stretching. */
struct ml_rect ml_place(int32_t width, int32_t height, struct ml_rect in, enum ml_fit fit);

/* Where the picture lands. */
struct ml_rect ml_scaler_placed(const struct ml_scaler *s);

/* Row kernels (scale_rows.c): every level gives the same bits. */
struct ml_scale_rows {
	/* out[i] = (sum of weight[k] * rows[k][i] + 1) >> 1, 15 bits. */
	void (*vertical)(const uint8_t *const *rows, const int16_t *weight, int32_t taps, int32_t n, int16_t *out);
	/* out[i] = the weighted sum of @in around start[i], as a byte. */
	void (*horizontal)(const int16_t *in, const struct ml_axis *axis, uint8_t *out);
	/* The same of 14-bit values, to linear ones of 13 bits (raw.h). */
	void (*horizontal_linear)(const int16_t *in, const struct ml_axis *axis, int16_t *out);
	void (*split_pairs)(const int16_t *in, int32_t pairs, int16_t *a, int16_t *b);
	void (*join_pairs)(const uint8_t *a, const uint8_t *b, int32_t pairs, uint8_t *out);
	void (*average)(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t *out); /* rounds up */
	void (*yuyv_luma)(const uint8_t *in, int32_t n, uint8_t *luma);
	/* Chroma pairs of two YUYV rows, averaged. */
	void (*yuyv_chroma)(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t *pairs);
};

const struct ml_scale_rows *ml_scale_rows(enum ml_level level);

#endif
