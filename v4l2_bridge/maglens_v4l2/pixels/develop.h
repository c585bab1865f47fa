/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One raw format to one picture format, as an object: what is done in which order, on which thread. */
#ifndef ML_DEVELOP_H
#define ML_DEVELOP_H

#include <stdbool.h>

#include "raw.h"
#include "scale.h"

/* A packed Bayer picture. */
struct ml_bayer {
	int32_t width, height, stride;
	int32_t bits;    /* 10 or 12 */
	bool odd;        /* the first colour stands in the odd column */
	bool swapped;    /* the first colour is blue */
};

struct ml_develop_config {
	struct ml_bayer src;
	struct ml_image dst;
	struct ml_rect crop; /* of the source: x, w multiples of 4, y, h even */
	struct ml_rect rect; /* of dst, even */
	enum ml_fit fit;
	enum ml_level level;
	int threads;
	int32_t zones_x, zones_y;
};

/* What changes from frame to frame, in the units of people. */
struct ml_tuning {
	double black, white;     /* sample values */
	double gain[3];          /* R, G, B */
	double matrix[9];        /* rows add up to 1: white stays white */
	const uint16_t *curve;   /* ML_CURVE_SAMPLES values, rising */
	const double *falloff;   /* gain against vignetting at even steps of the squared distance, centre to corner */
	int32_t falloff_entries; /* 0: none */
};

struct ml_develop;

/* Sets @src's bits, odd and swapped from V4L2's fourcc; false for all but the packed 10 and 12 bit Bayer formats. */
bool ml_bayer_format(uint32_t fourcc, struct ml_bayer *src);

/* NULL when the source is usable, else what is wrong with it. */
const char *ml_bayer_check(const struct ml_bayer *src);
size_t ml_bayer_bytes(const struct ml_bayer *src);

/* NULL, with @wrong set when it was not for lack of memory or threads. */
struct ml_develop *ml_develop_new(const struct ml_develop_config *config, const char **wrong);
void ml_develop_free(struct ml_develop *d);

/* NULL when the tuning was taken, else what is wrong with it; the old one stays then. */
const char *ml_develop_tune(struct ml_develop *d, const struct ml_tuning *tuning);

/* @zones: zones_x * zones_y, by rows; @histogram: ML_HISTOGRAM counts of luma; either may be NULL, to go without. */
void ml_develop_run(struct ml_develop *d, const uint8_t *src, uint8_t *dst, struct ml_zone *zones,
		    uint64_t *histogram);

struct ml_rect ml_develop_placed(const struct ml_develop *d);
bool ml_develop_reduces(const struct ml_develop *d); /* pixels are averages of quads */

/* recipe.c */
const char *ml_recipe_init(struct ml_recipe *recipe, int32_t bits, const struct ml_tuning *tuning);

/*
 * Vignetting gains, 14 bits behind the point, at the corners of blocks of ML_BLOCK quads both ways, of the part of the
 * picture that is used: mesh[y * across + x]. Free with free().
 */
struct ml_mesh {
	int32_t across, down;
	uint16_t *node;
};
const char *ml_mesh_fill(struct ml_mesh *mesh, const struct ml_bayer *src, const struct ml_rect *crop,
			 const struct ml_tuning *tuning);
/* The gains along quad row @row: @across values. */
void ml_mesh_row(const struct ml_mesh *mesh, int32_t row, uint16_t *out);

#endif
