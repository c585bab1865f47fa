/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which input samples make an output sample, and with which weights, along one axis; exact integers. */
#ifndef ML_AXIS_H
#define ML_AXIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ML_V_ONE 256   /* sum of weights for rows of bytes */
#define ML_H_ONE 16384 /* sum of weights for pixels, and for rows of linear light */

enum ml_filter {
	ML_TRIANGLE, /* two samples of the coarser grid wide: bilinear when enlarging */
	ML_BAYER,    /* of every other sample: bilinear between them, then averaged over what the output covers */
};

enum ml_order {
	ML_ROWS,   /* weight[i][k] */
	ML_PIXELS, /* weight[k / 2][i][k % 2]: pairs of taps for neighbouring outputs side by side */
	ML_HALVES, /* as PIXELS, but the outputs 0, 2, 4 ... come before 1, 3, 5 ... */
};

/* Output i is the sum of weight[...] * input[start[i] + k], k below @taps. */
struct ml_axis {
	int32_t n, taps; /* taps even */
	int32_t *start;
	int16_t *weight;
};

struct ml_axis_plan {
	int32_t src, dst; /* BAYER: src counts quads */
	enum ml_filter filter;
	enum ml_order order;
	int32_t one; /* each output's weights add up to it exactly */
	bool flip;
	int32_t parity; /* BAYER: 0 for the quads' first sample, 1 for the second */
	int32_t centre; /* BAYER: how much a sample counts in its own place, where it counts 1 in its neighbours' */
};

/* 0, or -1 for lack of memory (what there is of it is then to be freed all the same). */
int ml_axis_init(struct ml_axis *a, const struct ml_axis_plan *plan);
void ml_axis_free(struct ml_axis *a);

#endif
