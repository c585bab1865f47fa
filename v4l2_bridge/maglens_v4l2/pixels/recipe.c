/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From people's numbers to the integers that the kernels work with. */
#include <math.h>
#include <stdlib.h>

#include "develop.h"

#define POINT14 16384.0
#define POINT13 8192.0
#define MATRIX_MAX 2.99 /* of the two entries that count: raw_kernel.h, coloured() */
#define ROW_SUM_TOLERANCE 0.001
#define STEEP 1.99 /* most that vignetting's gain may change by within a block */

/* The piece of the curve between linear @x0 and @x1; @shift brings an x within it to 16 bits. */
static const char *piece(const uint16_t *curve, int32_t x0, int32_t x1, int shift, uint16_t *base, uint16_t *slope)
{
	const double t0 = curve[x0] * (double)ML_TONE_WHITE / 65535, t1 = curve[x1] * (double)ML_TONE_WHITE / 65535;
	const double rise = (t1 - t0) / (x1 - x0) * 65536 / (1 << shift);

	if (curve[x1] < curve[x0])
		return "the tone curve must not fall";
	if (rise > UINT16_MAX)
		return "the tone curve rises too steeply: at most 64 times below 1/16 of white, 4 times above";
	*slope = (uint16_t)lround(rise);
	/* Half a unit up, since the kernels cut the product off. */
	*base = (uint16_t)(int32_t)floor(t0 + 0.5 - (double)(x0 << shift) * *slope / 65536 + 0.5);
	return NULL;
}

static uint16_t tone_at(const struct ml_tone *tone, int32_t x)
{
	const int low = x < ML_TONE_SPLIT;
	const uint32_t slope = low ? tone->low_slope[x >> 4] : tone->high_slope[x >> 8];
	const uint32_t base = low ? tone->low_base[x >> 4] : tone->high_base[x >> 8];

	return (uint16_t)(base + ((uint32_t)x << (low ? 7 : 3)) * slope / 65536);
}

/* Pieces meet only within rounding: brings the ends of the range back into it. */
static const char *tone_init(struct ml_tone *tone, const uint16_t *curve)
{
	const char *wrong = NULL;

	for (int32_t k = 0; k < ML_TONE_PIECES && !wrong; k++)
		wrong = piece(curve, k * 16, k * 16 + 16, 7, &tone->low_base[k], &tone->low_slope[k]);
	for (int32_t k = 0; k < ML_TONE_PIECES && !wrong; k++) {
		const int32_t x = k * 256;

		if (x < ML_TONE_SPLIT) {
			tone->high_base[k] = tone->high_slope[k] = 0; /* the low pieces serve there */
			continue;
		}
		wrong = piece(curve, x, x + 256, 3, &tone->high_base[k], &tone->high_slope[k]);
	}
	for (int32_t x = 0; x < (int32_t)(sizeof(tone->table) / sizeof(tone->table[0])) && !wrong; x++)
		tone->table[x] = tone_at(tone, x <= ML_LINEAR_WHITE ? x : ML_LINEAR_WHITE);
	for (int32_t x = 0; x <= ML_LINEAR_WHITE && !wrong; x++)
		if (tone->table[x] > ML_TONE_WHITE + 1)
			wrong = "the tone curve leaves its range";
	return wrong;
}

const char *ml_recipe_init(struct ml_recipe *recipe, int32_t bits, const struct ml_tuning *t)
{
	const double top = (1 << bits) - 1, scale = 65536.0 / (1 << bits);

	if (!(t->black >= 0 && t->black < t->white && t->white <= top))
		return "black and white must be sample values, black below white";
	recipe->black = (uint16_t)lround(t->black * scale);
	for (int k = 0; k < 3; k++) {
		/* White is to become a little more than ML_LINEAR_WHITE, which then clips it. */
		const double gain = t->gain[k] * 65536 / ((t->white - t->black) * scale);

		if (!(t->gain[k] > 0 && gain <= ML_MAX_GAIN))
			return "gains, times full scale over (white - black), must be above 0 and at most 3.99";
		recipe->gain[k] = (uint16_t)lround(gain * POINT14);
	}
	for (int k = 0; k < 3; k++) {
		const double *row = t->matrix + 3 * k;

		if (!(fabs(row[0] + row[1] + row[2] - 1) <= ROW_SUM_TOLERANCE))
			return "each row of the matrix must add up to 1: put the rest into the gains";
		if (!(fabs(row[0]) + fabs(row[2]) <= MATRIX_MAX))
			return "the first and last entry of a matrix row may add up to 2.99, without their signs";
		recipe->matrix[k][0] = (int16_t)lround(row[0] * POINT13);
		recipe->matrix[k][1] = (int16_t)lround(row[2] * POINT13);
	}
	return tone_init(&recipe->tone, t->curve);
}

/* The table's value at @num / @den of the squared distance to the corner. */
static double falloff_at(const struct ml_tuning *t, int64_t num, int64_t den)
{
	const double at = (double)num / (double)den * (t->falloff_entries - 1);
	const int32_t k = at >= t->falloff_entries - 1 ? t->falloff_entries - 2 : (int32_t)at;
	const double f = fmin(at - k, 1);

	return t->falloff[k] * (1 - f) + t->falloff[k + 1] * f;
}

/* The gain at @x, @y, in quads from the corner of what is used. */
static double gain_at(const struct ml_tuning *t, const struct ml_bayer *src, const struct ml_rect *crop, int32_t x,
		      int32_t y)
{
	const int64_t w = src->width / 2, h = src->height / 2;
	const int64_t dx = 2 * ((int64_t)x + crop->x / 2) - w, dy = 2 * ((int64_t)y + crop->y / 2) - h;

	return t->falloff_entries ? falloff_at(t, dx * dx + dy * dy, w * w + h * h) : 1;
}

/* What a line from @before at @from has to lead to a block later, to be @there at the edge @end between. */
static double beyond(double before, double there, int32_t from, int32_t end)
{
	return end > from ? before + (there - before) * ML_BLOCK / (end - from) : there;
}

/*
 * The gain at node @x of a line of nodes at @y, in quads. The last node may lie behind the edge: then as far off as it
 * takes for the way there to be right at the edge.
 */
static double along(const struct ml_tuning *t, const struct ml_bayer *src, const struct ml_rect *crop, int32_t x,
		    int32_t y)
{
	const int32_t end = crop->w / 2, at = x * ML_BLOCK, before = at - ML_BLOCK;

	if (at <= end)
		return gain_at(t, src, crop, at, y);
	return beyond(gain_at(t, src, crop, before, y), gain_at(t, src, crop, end, y), before, end);
}

const char *ml_mesh_fill(struct ml_mesh *mesh, const struct ml_bayer *src, const struct ml_rect *crop,
			 const struct ml_tuning *t)
{
	const int32_t right = crop->w / 2, bottom = crop->h / 2;

	if (t->falloff_entries == 1 || t->falloff_entries > ML_FALLOFF_MAX)
		return "vignetting has no entry, or 2 to 1025";
	for (int32_t k = 0; k < t->falloff_entries; k++)
		if (!(t->falloff[k] >= 0.25 && t->falloff[k] <= ML_MAX_GAIN))
			return "vignetting gains must be 0.25 to 3.99";
	for (int32_t y = 0; y < mesh->down; y++) {
		const int32_t at = y * ML_BLOCK, before = at - ML_BLOCK;

		for (int32_t x = 0; x < mesh->across; x++) {
			uint16_t *node = mesh->node + (size_t)y * (size_t)mesh->across + x;
			double gain = along(t, src, crop, x, at < bottom ? at : bottom);

			if (at > bottom)
				gain = beyond(along(t, src, crop, x, before), gain, before, bottom);
			gain = fmin(fmax(gain, 0.25), ML_MAX_GAIN);
			if (x && (at > bottom || x * ML_BLOCK > right)) /* made up: no reason to refuse a table */
				gain = fmin(fmax(gain, node[-1] / POINT14 - STEEP), node[-1] / POINT14 + STEEP);
			*node = (uint16_t)lround(gain * POINT14);
			if (x && abs(*node - node[-1]) > INT16_MAX)
				return "vignetting changes too fast";
		}
	}
	return NULL;
}

void ml_mesh_row(const struct ml_mesh *mesh, int32_t row, uint16_t *out)
{
	const uint16_t *top = mesh->node + (size_t)(row / ML_BLOCK) * (size_t)mesh->across;
	const uint16_t *bottom = top + mesh->across;
	const uint32_t f = (uint32_t)(row % ML_BLOCK);

	for (int32_t x = 0; x < mesh->across; x++)
		out[x] = (uint16_t)((top[x] * (ML_BLOCK - f) + bottom[x] * f + ML_BLOCK / 2) / ML_BLOCK);
}
