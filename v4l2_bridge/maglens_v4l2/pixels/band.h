/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One thread's share of a raw frame: line buffers, and the order in which rows pass through them. */
#ifndef ML_BAND_H
#define ML_BAND_H

#include "develop.h"

#define ML_RING 4 /* quad rows alive at a time: a row, its two neighbours, and theirs as they come */

/* What all bands of one frame share. */
struct ml_frame {
	const struct ml_raw_ops *ops;
	const struct ml_scale_rows *rows;
	struct ml_bayer src;
	struct ml_rect crop;
	const uint8_t *from;
	struct ml_recipe recipe;
	struct ml_mesh mesh;
	int32_t quads, quad_rows; /* of the crop */
	bool reduce;              /* pixels are averages of quads, by the two axes; else demosaic */
	struct ml_axis across[ML_PHASES], down[ML_PHASES];
	struct ml_image to;       /* the picture written */
	struct ml_rect at;        /* where in it */
	uint8_t *out;
	int32_t zones_x, zones_y;
	bool measure;
};

struct ml_band {
	int16_t *plane[ML_RING][ML_PHASES];
	int16_t *derived[ML_RING][ML_DERIVED];
	int16_t *sum[ML_PHASES];      /* reducing: planes added up over rows */
	int16_t *pixel[2][ML_PHASES]; /* reducing: [row][plane], even columns, then odd ones */
	uint16_t *falloff;
	void *memory;
	struct ml_zone *zones;
	uint64_t histogram[ML_HISTOGRAM];
};

/* 0, or -1 for lack of memory. */
int ml_band_init(struct ml_band *b, const struct ml_frame *f);
void ml_band_free(struct ml_band *b);

/* Rows of the result come in pairs (a row of quads, or two of pixels): how many there are. */
int32_t ml_band_steps(const struct ml_frame *f);
void ml_band_run(struct ml_band *b, const struct ml_frame *f, int32_t first, int32_t end);

#endif
