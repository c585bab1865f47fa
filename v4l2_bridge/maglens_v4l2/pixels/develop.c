/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole way of a raw frame. Where a pixel covers a quad or more, each colour is interpolated bilinearly and
 * averaged over the area that the pixel covers, in linear light, by weights worked out beforehand. Else the frame is demosaiced, and goes through the scaler where the wanted
 * size is not its own.
 */
#include "develop.h"

#include <stdlib.h>
#include <string.h>

#include "band.h"
#include "pool.h"

struct ml_develop {
	struct ml_develop_config c;
	struct ml_frame frame;
	struct ml_mesh spare; /* what the next tuning fills */
	struct ml_rect placed;
	struct ml_pool *pool;
	struct ml_band *bands;
	struct ml_scaler **scalers; /* one a thread; NULL when the bands write to the destination */
	uint8_t *middle;            /* what the scalers read */
	uint8_t *to;
};

bool ml_bayer_format(uint32_t fourcc, struct ml_bayer *src)
{
	/* V4L2's packed formats: p, the order by a letter, and AA for 10 or CC for 12 bits. */
	static const struct {
		char letter;
		bool odd, swapped;
	} orders[] = { { 'R', false, false }, { 'g', true, false }, { 'G', true, true }, { 'B', false, true } };
	const uint32_t tail = fourcc & 0xffff00ffu;

	if (tail == (ML_FOURCC('p', 0, 'A', 'A')))
		src->bits = 10;
	else if (tail == (ML_FOURCC('p', 0, 'C', 'C')))
		src->bits = 12;
	else
		return false;
	for (int k = 0; k < 4; k++) {
		if ((fourcc >> 8 & 0xff) != (uint8_t)orders[k].letter)
			continue;
		src->odd = orders[k].odd;
		src->swapped = orders[k].swapped;
		return true;
	}
	return false;
}

const char *ml_bayer_check(const struct ml_bayer *src)
{
	if (src->width < 4 || src->height < 2)
		return "a raw picture has at least 4x2 samples";
	if (src->width > ML_MAX_SIDE || src->height > ML_MAX_SIDE)
		return "width and height must be at most 32768";
	if (src->width % 4 || src->height % 2)
		return "width must be a multiple of 4, height of 2";
	if (src->stride < src->width * src->bits / 8)
		return "stride is shorter than a row";
	if (src->stride > ML_MAX_STRIDE)
		return "stride must be at most 131072";
	return NULL;
}

size_t ml_bayer_bytes(const struct ml_bayer *src)
{
	return (size_t)src->stride * (size_t)src->height;
}

struct ml_rect ml_develop_placed(const struct ml_develop *d)
{
	return d->placed;
}

bool ml_develop_reduces(const struct ml_develop *d)
{
	return d->frame.reduce;
}

/* Scalers from the crop's size to the placed rectangle. */
static int scalers_init(struct ml_develop *d)
{
	const int32_t width = d->c.crop.w, height = d->c.crop.h;
	struct ml_scale_config c = {
		.src = { d->c.dst.fourcc, width, height, ml_row_bytes(d->c.dst.fourcc, width) },
		.dst = d->c.dst,
		.rect = d->placed,
		.fit = ML_FIT_STRETCH,
		.level = d->c.level,
	};

	d->middle = malloc(ml_image_bytes(&c.src));
	d->scalers = calloc((size_t)d->c.threads, sizeof(struct ml_scaler *));
	if (!d->middle || !d->scalers)
		return -1;
	for (int k = 0; k < d->c.threads; k++) {
		d->scalers[k] = ml_scaler_new(&c);
		if (!d->scalers[k])
			return -1;
	}
	d->frame.to = c.src;
	d->frame.at = (struct ml_rect){ 0, 0, width, height };
	d->frame.out = d->middle;
	return 0;
}

static int axes_init(struct ml_develop *d)
{
	struct ml_frame *f = &d->frame;

	/*
	 * Bilinear interpolation has P and Q count half in the places beside their own, in both directions alike. Green
	 * counts a quarter in four places around its own: along one direction, 1 part each side and 6 in the middle.
	 */
	for (int k = 0; k < ML_PHASES; k++) {
		const bool green = k == ML_G0 || k == ML_G1;
		const int32_t centre = green ? 6 : 2;
		const int32_t column = f->src.odd ^ (k == ML_G0 || k == ML_Q), row = k == ML_G1 || k == ML_Q;
		const struct ml_axis_plan across = { f->quads, d->placed.w, ML_BAYER, ML_HALVES, ML_H_ONE, false, column,
						     centre };
		const struct ml_axis_plan down = { f->quad_rows, d->placed.h, ML_BAYER, ML_ROWS, ML_H_ONE, false, row,
						   centre };

		if (ml_axis_init(&f->across[k], &across) || ml_axis_init(&f->down[k], &down))
			return -1;
	}
	return 0;
}

static int parts_init(struct ml_develop *d)
{
	struct ml_frame *f = &d->frame;

	f->to = d->c.dst;
	f->at = d->placed;
	if (f->reduce ? axes_init(d) :
			(d->c.crop.w != d->placed.w || d->c.crop.h != d->placed.h) && scalers_init(d))
		return -1;
	f->mesh.across = (f->quads + ML_BLOCK - 1) / ML_BLOCK + 1;
	f->mesh.down = f->quad_rows / ML_BLOCK + 2;
	d->spare = f->mesh;
	f->mesh.node = calloc((size_t)f->mesh.across * (size_t)f->mesh.down, sizeof(*f->mesh.node));
	d->spare.node = calloc((size_t)f->mesh.across * (size_t)f->mesh.down, sizeof(*f->mesh.node));
	d->bands = calloc((size_t)d->c.threads, sizeof(*d->bands));
	d->pool = ml_pool_new(d->c.threads);
	if (!f->mesh.node || !d->spare.node || !d->bands || !d->pool)
		return -1;
	for (int k = 0; k < d->c.threads; k++)
		if (ml_band_init(&d->bands[k], f))
			return -1;
	return 0;
}

struct ml_develop *ml_develop_new(const struct ml_develop_config *config, const char **wrong)
{
	struct ml_develop *d = calloc(1, sizeof(*d));
	const int32_t quads = config->crop.w / 2;

	*wrong = NULL;
	if (!d)
		return NULL;
	d->c = *config;
	d->placed = ml_place(config->crop.w, config->crop.h, config->rect, config->fit);
	d->frame = (struct ml_frame){
		.ops = ml_raw_ops(config->level),
		.rows = ml_scale_rows(config->level),
		.src = config->src,
		.crop = config->crop,
		.quads = quads,
		.quad_rows = config->crop.h / 2,
		.reduce = quads >= d->placed.w && config->crop.h / 2 >= d->placed.h,
		.zones_x = config->zones_x,
		.zones_y = config->zones_y,
	};
	if (config->zones_x > (quads + ML_BLOCK - 1) / ML_BLOCK ||
	    config->zones_y > (config->crop.h / 2 + ML_STATS_STEP - 1) / ML_STATS_STEP) {
		*wrong = "too many zones: one needs 64 samples across and 8 down";
		free(d);
		return NULL;
	}
	if (parts_init(d)) {
		ml_develop_free(d);
		return NULL;
	}
	return d;
}

void ml_develop_free(struct ml_develop *d)
{
	if (!d)
		return;
	ml_pool_free(d->pool);
	for (int k = 0; k < d->c.threads; k++) {
		if (d->bands)
			ml_band_free(&d->bands[k]);
		if (d->scalers)
			ml_scaler_free(d->scalers[k]);
	}
	free(d->bands);
	free(d->scalers);
	free(d->middle);
	for (int k = 0; k < ML_PHASES; k++) {
		ml_axis_free(&d->frame.across[k]);
		ml_axis_free(&d->frame.down[k]);
	}
	free(d->frame.mesh.node);
	free(d->spare.node);
	free(d);
}

const char *ml_develop_tune(struct ml_develop *d, const struct ml_tuning *tuning)
{
	struct ml_frame *f = &d->frame;
	struct ml_mesh filled = d->spare;
	struct ml_recipe recipe;
	const char *wrong = ml_recipe_init(&recipe, d->c.src.bits, tuning);

	if (!wrong)
		wrong = ml_mesh_fill(&filled, &d->c.src, &d->c.crop, tuning);
	if (wrong)
		return wrong;
	d->spare = f->mesh;
	f->mesh = filled;
	f->recipe = recipe;
	return NULL;
}

/* Thread @k's part of @n rows. */
static int32_t part(const struct ml_develop *d, int32_t n, int k)
{
	return (int32_t)((int64_t)n * k / d->c.threads);
}

static void develop_part(void *context, int k)
{
	struct ml_develop *d = context;
	const int32_t steps = ml_band_steps(&d->frame);

	ml_band_run(&d->bands[k], &d->frame, part(d, steps, k), part(d, steps, k + 1));
}

static void scale_part(void *context, int k)
{
	struct ml_develop *d = context;
	const int32_t pairs = d->placed.h / 2;

	ml_scaler_run_rows(d->scalers[k], d->middle, d->to, 2 * part(d, pairs, k), 2 * part(d, pairs, k + 1));
}

static void add_up(const struct ml_develop *d, struct ml_zone *zones, uint64_t *histogram)
{
	const int32_t n = d->c.zones_x * d->c.zones_y;

	if (zones)
		memset(zones, 0, (size_t)n * sizeof(*zones));
	if (histogram)
		memset(histogram, 0, ML_HISTOGRAM * sizeof(*histogram));
	for (int k = 0; k < d->c.threads; k++) {
		for (int32_t z = 0; zones && z < n; z++) {
			const struct ml_zone *from = &d->bands[k].zones[z];

			zones[z].quads += from->quads;
			zones[z].clipped += from->clipped;
			zones[z].r += from->r;
			zones[z].g += from->g;
			zones[z].b += from->b;
			zones[z].luma += from->luma;
			zones[z].contrast += from->contrast;
		}
		for (int i = 0; histogram && i < ML_HISTOGRAM; i++)
			histogram[i] += d->bands[k].histogram[i];
	}
}

void ml_develop_run(struct ml_develop *d, const uint8_t *src, uint8_t *dst, struct ml_zone *zones,
		    uint64_t *histogram)
{
	d->frame.from = src;
	d->frame.measure = zones || histogram;
	d->to = dst;
	if (!d->scalers)
		d->frame.out = dst;
	ml_fill_around(&d->c.dst, dst, &d->placed);
	ml_pool_run(d->pool, develop_part, d);
	if (d->scalers)
		ml_pool_run(d->pool, scale_part, d);
	if (d->frame.measure)
		add_up(d, zones, histogram);
}
