/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables once per configuration, then row after row: vertical filter, split, horizontal filter, join. */
#include "scale.h"

#include <stdlib.h>
#include <string.h>

/* Slack behind each planar row, so that vector loads of a pixel pair stay inside. */
#define TAIL 16

enum way { COPY, CONVERT, FILTER };

struct ml_scaler {
	struct ml_scale_config c;
	struct ml_rect placed;
	enum way way;
	const struct ml_scale_rows *rows;
	struct ml_axis luma_x, luma_y, chroma_x, chroma_y;
	const uint8_t **row_at; /* as many as the tallest vertical filter has taps */
	int16_t *row_weight;
	int16_t *mixed;         /* a vertically filtered row in the source's byte order */
	int16_t *pairs;         /* chroma of a YUYV row, U and V in turn */
	int16_t *plane[3];      /* the same, split into Y, U, V */
	uint8_t *out[3];        /* horizontally filtered Y, U, V */
};

static int32_t smaller(int32_t a, int32_t b)
{
	return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
	return a > b ? a : b;
}

struct ml_rect ml_place(int32_t width, int32_t height, struct ml_rect in, enum ml_fit fit)
{
	struct ml_rect r = in;

	if (fit == ML_FIT_STRETCH)
		return r;
	if ((int64_t)in.w * height > (int64_t)in.h * width)
		r.w = (int32_t)(((int64_t)in.h * width + height) / (2 * (int64_t)height)) * 2;
	else
		r.h = (int32_t)(((int64_t)in.w * height + width) / (2 * (int64_t)width)) * 2;
	r.w = smaller(larger(r.w, 2), in.w);
	r.h = smaller(larger(r.h, 2), in.h);
	r.x += (in.w - r.w) / 2 & ~1;
	r.y += (in.h - r.h) / 2 & ~1;
	return r;
}

static int tables(struct ml_scaler *s)
{
	const struct ml_image *src = &s->c.src;
	const struct ml_rect *to = &s->placed;
	const int32_t chroma_rows = src->fourcc == ML_NV12 ? src->height / 2 : src->height;
	const int32_t chroma_out = s->c.dst.fourcc == ML_NV12 ? to->h / 2 : to->h;
	const size_t wide = (size_t)larger(src->width, to->w) + TAIL;
	const struct ml_axis_plan plans[4] = {
		{ src->width, to->w, ML_TRIANGLE, ML_PIXELS, ML_H_ONE, s->c.flip_x, 0, 0 },
		{ src->width / 2, to->w / 2, ML_TRIANGLE, ML_PIXELS, ML_H_ONE, s->c.flip_x, 0, 0 },
		{ src->height, to->h, ML_TRIANGLE, ML_ROWS, ML_V_ONE, s->c.flip_y, 0, 0 },
		{ chroma_rows, chroma_out, ML_TRIANGLE, ML_ROWS, ML_V_ONE, s->c.flip_y, 0, 0 },
	};
	int32_t taps;

	if (ml_axis_init(&s->luma_x, &plans[0]) || ml_axis_init(&s->chroma_x, &plans[1]) ||
	    ml_axis_init(&s->luma_y, &plans[2]) || ml_axis_init(&s->chroma_y, &plans[3]))
		return -1;
	taps = larger(s->luma_y.taps, s->chroma_y.taps);
	s->row_at = calloc((size_t)taps, sizeof(*s->row_at));
	s->row_weight = calloc((size_t)taps, sizeof(*s->row_weight));
	s->mixed = calloc(2 * wide, sizeof(*s->mixed));
	s->pairs = calloc(wide, sizeof(*s->pairs));
	if (!s->row_at || !s->row_weight || !s->mixed || !s->pairs)
		return -1;
	for (int k = 0; k < 3; k++) {
		s->plane[k] = calloc(wide, sizeof(*s->plane[k]));
		s->out[k] = calloc(wide, 1);
		if (!s->plane[k] || !s->out[k])
			return -1;
	}
	return 0;
}

struct ml_scaler *ml_scaler_new(const struct ml_scale_config *config)
{
	struct ml_scaler *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->c = *config;
	s->rows = ml_scale_rows(config->level);
	s->placed = ml_place(config->src.width, config->src.height, config->rect, config->fit);
	s->way = FILTER;
	if (s->placed.w == config->src.width && s->placed.h == config->src.height && !config->flip_x &&
	    !config->flip_y)
		s->way = config->src.fourcc == config->dst.fourcc ? COPY : CONVERT;
	if (s->way == FILTER && tables(s)) {
		ml_scaler_free(s);
		return NULL;
	}
	return s;
}

void ml_scaler_free(struct ml_scaler *s)
{
	if (!s)
		return;
	ml_axis_free(&s->luma_x);
	ml_axis_free(&s->luma_y);
	ml_axis_free(&s->chroma_x);
	ml_axis_free(&s->chroma_y);
	free(s->row_at);
	free(s->row_weight);
	free(s->mixed);
	free(s->pairs);
	for (int k = 0; k < 3; k++) {
		free(s->plane[k]);
		free(s->out[k]);
	}
	free(s);
}

struct ml_rect ml_scaler_placed(const struct ml_scaler *s)
{
	return s->placed;
}

static uint8_t *luma_row(const struct ml_scaler *s, uint8_t *dst, int32_t y)
{
	const struct ml_rect *p = &s->placed;

	return dst + (size_t)s->c.dst.stride * (size_t)(p->y + y) + ml_row_bytes(s->c.dst.fourcc, p->x);
}

static uint8_t *chroma_row(const struct ml_scaler *s, uint8_t *dst, int32_t y)
{
	const struct ml_image *im = &s->c.dst;
	const struct ml_rect *p = &s->placed;

	return dst + (size_t)im->stride * (size_t)(im->height + p->y / 2 + y) + p->x;
}

static void copy(const struct ml_scaler *s, const uint8_t *src, uint8_t *dst, int32_t first, int32_t end)
{
	const struct ml_image *from = &s->c.src;
	const size_t n = (size_t)ml_row_bytes(from->fourcc, from->width), stride = (size_t)from->stride;

	for (int32_t y = first; y < end; y++)
		memcpy(luma_row(s, dst, y), src + stride * (size_t)y, n);
	if (from->fourcc != ML_NV12)
		return;
	src += stride * (size_t)from->height;
	for (int32_t y = first / 2; y < end / 2; y++)
		memcpy(chroma_row(s, dst, y), src + stride * (size_t)y, n);
}

/* Same size, other format: chroma rows are averaged in pairs, or each is used twice (so that back again is exact). */
static void convert(const struct ml_scaler *s, const uint8_t *src, uint8_t *dst, int32_t first, int32_t end)
{
	const struct ml_image *from = &s->c.src;
	const size_t stride = (size_t)from->stride;

	for (int32_t y = first; y < end; y++) {
		const uint8_t *row = src + stride * (size_t)y;

		if (from->fourcc == ML_NV12)
			s->rows->join_pairs(row, src + stride * (size_t)(from->height + y / 2), from->width,
					    luma_row(s, dst, y));
		else
			s->rows->yuyv_luma(row, from->width, luma_row(s, dst, y));
		if (from->fourcc == ML_YUYV && y % 2)
			s->rows->yuyv_chroma(row - stride, row, from->width, chroma_row(s, dst, y / 2));
	}
}

/* Filters source rows vertically: @n bytes of each, beginning at @base, for output row @y. */
static void filter_rows(struct ml_scaler *s, const struct ml_axis *a, int32_t y, const uint8_t *base, int32_t n,
			int16_t *out)
{
	const int16_t *weight = a->weight + (size_t)y * (size_t)a->taps;
	const uint8_t *first = base + (size_t)s->c.src.stride * (size_t)a->start[y];
	int32_t taps = 0;

	for (int32_t k = 0; k < a->taps; k++) {
		if (!weight[k])
			continue;
		s->row_at[taps] = first + (size_t)s->c.src.stride * (size_t)k;
		s->row_weight[taps++] = weight[k];
	}
	s->rows->vertical(s->row_at, s->row_weight, taps, n, out);
}

/* Output row @y of the chroma, from a YUYV source, into out[1] and out[2]. */
static void chroma_from_yuyv(struct ml_scaler *s, const uint8_t *src, int32_t y)
{
	const struct ml_image *from = &s->c.src;

	filter_rows(s, &s->chroma_y, y, src, 2 * from->width, s->mixed);
	s->rows->split_pairs(s->mixed, from->width, s->plane[0], s->pairs);
	s->rows->split_pairs(s->pairs, from->width / 2, s->plane[1], s->plane[2]);
}

static void chroma_from_nv12(struct ml_scaler *s, const uint8_t *src, int32_t y)
{
	const struct ml_image *from = &s->c.src;

	filter_rows(s, &s->chroma_y, y, src + (size_t)from->stride * (size_t)from->height, from->width, s->mixed);
	s->rows->split_pairs(s->mixed, from->width / 2, s->plane[1], s->plane[2]);
}

static void chroma_out(struct ml_scaler *s, const uint8_t *src, int32_t y)
{
	if (s->c.src.fourcc == ML_YUYV)
		chroma_from_yuyv(s, src, y);
	else
		chroma_from_nv12(s, src, y);
	s->rows->horizontal(s->plane[1], &s->chroma_x, s->out[1]);
	s->rows->horizontal(s->plane[2], &s->chroma_x, s->out[2]);
}

static void luma_in(struct ml_scaler *s, const uint8_t *src, int32_t y)
{
	const struct ml_image *from = &s->c.src;

	if (from->fourcc == ML_NV12) {
		filter_rows(s, &s->luma_y, y, src, from->width, s->plane[0]);
		return;
	}
	filter_rows(s, &s->luma_y, y, src, 2 * from->width, s->mixed);
	s->rows->split_pairs(s->mixed, from->width, s->plane[0], s->pairs);
}

static void filter(struct ml_scaler *s, const uint8_t *src, uint8_t *dst, int32_t from, int32_t to)
{
	const int32_t w = s->placed.w;

	for (int32_t y = from; y < to; y++) {
		if (s->c.dst.fourcc == ML_NV12) {
			luma_in(s, src, y);
			s->rows->horizontal(s->plane[0], &s->luma_x, luma_row(s, dst, y));
			if (y % 2)
				continue;
			chroma_out(s, src, y / 2);
			s->rows->join_pairs(s->out[1], s->out[2], w / 2, chroma_row(s, dst, y / 2));
			continue;
		}
		chroma_out(s, src, y);
		if (s->c.src.fourcc == ML_NV12) /* else split off with the chroma, filtered alike */
			luma_in(s, src, y);
		s->rows->horizontal(s->plane[0], &s->luma_x, s->out[0]);
		/* U and V joined, then luma with the pairs: plane[1] is free by now and wide enough for bytes. */
		s->rows->join_pairs(s->out[1], s->out[2], w / 2, (uint8_t *)s->plane[1]);
		s->rows->join_pairs(s->out[0], (const uint8_t *)s->plane[1], w, luma_row(s, dst, y));
	}
}

void ml_scaler_run_rows(struct ml_scaler *s, const uint8_t *src, uint8_t *dst, int32_t from, int32_t to)
{
	if (s->way == COPY)
		copy(s, src, dst, from, to);
	else if (s->way == CONVERT)
		convert(s, src, dst, from, to);
	else
		filter(s, src, dst, from, to);
}

void ml_scaler_run(struct ml_scaler *s, const uint8_t *src, uint8_t *dst)
{
	ml_fill_around(&s->c.dst, dst, &s->placed);
	ml_scaler_run_rows(s, src, dst, 0, s->placed.h);
}
