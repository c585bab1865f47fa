/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of weights. */
#include "axis.h"

#include <stdlib.h>

static int32_t smaller(int32_t a, int32_t b)
{
	return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
	return a > b ? a : b;
}

static int64_t above_zero(int64_t a)
{
	return a > 0 ? a : 0;
}

/* How much of pixel @m lies in output @i, in units of 1 / dst of a pixel; there are 2 src pixels. */
static int64_t cover(const struct ml_axis_plan *p, int64_t i, int64_t m)
{
	const int64_t from = 2 * i * p->src > m * p->dst ? 2 * i * p->src : m * p->dst;
	const int64_t to = 2 * (i + 1) * p->src < (m + 1) * p->dst ? 2 * (i + 1) * p->src : (m + 1) * p->dst;

	return above_zero(to - from);
}

/*
 * How much input @j counts for output @i.
 * TRIANGLE, in units of 1 / (2 dst) of a sample: the output looks at (2 i + 1) src - dst, the input lies at 2 dst j, and
 * the half width is 2 max(src, dst).
 * BAYER: by how much of the input's own pixel and of its neighbours lies in the output.
 */
static int64_t share(const struct ml_axis_plan *p, int64_t i, int64_t j)
{
	const int64_t m = 2 * j + p->parity;

	if (p->filter == ML_TRIANGLE)
		return above_zero(2 * (int64_t)larger(p->src, p->dst) -
				  llabs(2 * (int64_t)p->dst * j - ((2 * i + 1) * p->src - p->dst)));
	return cover(p, i, m - 1) + p->centre * cover(p, i, m) + cover(p, i, m + 1);
}

/* The first input that counts for output @i, or one before it. */
static int32_t first_for(const struct ml_axis_plan *p, int64_t i)
{
	const int64_t dst = p->dst;
	const int64_t low = p->filter == ML_TRIANGLE ? (2 * i + 1) * p->src - dst - 2 * (int64_t)larger(p->src, p->dst) :
						       2 * i * p->src - (2 + p->parity) * dst;

	return low < 0 ? 0 : (int32_t)(low / (2 * dst)) + 1;
}

static int32_t taps_for(const struct ml_axis_plan *p)
{
	const int32_t reach = p->filter == ML_BAYER ?
				      (p->src + p->dst - 1) / p->dst + 3 :
				      (int32_t)((2 * (int64_t)larger(p->src, p->dst) + p->dst - 1) / p->dst);

	return (smaller(reach, p->src) + 1) & ~1;
}

static size_t slot(const struct ml_axis *a, const struct ml_axis_plan *p, int32_t to, int32_t k)
{
	if (p->order == ML_ROWS)
		return (size_t)to * (size_t)a->taps + (size_t)k;
	return 2 * ((size_t)(k / 2) * (size_t)a->n + (size_t)to) + (size_t)(k % 2);
}

int ml_axis_init(struct ml_axis *a, const struct ml_axis_plan *p)
{
	a->n = p->dst;
	a->taps = taps_for(p);
	a->start = calloc((size_t)p->dst, sizeof(*a->start));
	a->weight = calloc((size_t)p->dst * (size_t)a->taps, sizeof(*a->weight));
	if (!a->start || !a->weight)
		return -1;
	for (int32_t i = 0; i < p->dst; i++) {
		const int32_t first = larger(0, smaller(first_for(p, i), p->src - a->taps));
		const int32_t end = smaller(first + a->taps, p->src);
		int32_t to = p->flip ? p->dst - 1 - i : i;
		int64_t total = 0, before = 0;

		if (p->order == ML_HALVES)
			to = to % 2 * (p->dst / 2) + to / 2;
		for (int32_t j = first; j < end; j++)
			total += share(p, i, j);
		a->start[to] = first;
		for (int32_t j = first; j < end; j++) {
			/* Rounded cumulatively, so that the sum is right. */
			const int64_t after = before + share(p, i, j);

			a->weight[slot(a, p, to, j - first)] = (int16_t)((after * p->one + total / 2) / total -
									 (before * p->one + total / 2) / total);
			before = after;
		}
	}
	return 0;
}

void ml_axis_free(struct ml_axis *a)
{
	free(a->start);
	free(a->weight);
	*a = (struct ml_axis){ 0 };
}
