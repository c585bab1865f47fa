/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unpacks quad rows into a ring, demosaics or averages them, and has them written. */
#include "band.h"

#include <stdlib.h>
#include <string.h>

/*
 * Line buffers begin this many bytes apart modulo a page, so that the same column of all of them does not fall into
 * the same few sets of the first-level cache.
 */
#define SKEW 192
#define PAGE 4096
#define LINES (ML_RING * (ML_PHASES + ML_DERIVED) + 3 * ML_PHASES + 1)

static int32_t blocks_of(const struct ml_frame *f)
{
	return (f->quads + ML_BLOCK - 1) / ML_BLOCK;
}

static int32_t clamp_row(const struct ml_frame *f, int32_t row)
{
	return row < 0 ? 0 : row >= f->quad_rows ? f->quad_rows - 1 : row;
}

int ml_band_init(struct ml_band *b, const struct ml_frame *f)
{
	const size_t samples = (size_t)blocks_of(f) * ML_BLOCK + 2 * ML_PAD;
	const size_t apart = (2 * samples + PAGE - SKEW - 1) / PAGE * PAGE + SKEW;
	uint8_t *line;

	memset(b, 0, sizeof(*b));
	b->memory = calloc(LINES, apart);
	b->zones = calloc((size_t)(f->zones_x * f->zones_y), sizeof(*b->zones));
	if (!b->memory || !b->zones) {
		ml_band_free(b);
		return -1;
	}
	line = (uint8_t *)b->memory + 2 * ML_PAD;
#define NEXT(p)                          \
	do {                             \
		(p) = (void *)line;      \
		line += apart;           \
	} while (0)
	for (int r = 0; r < ML_RING; r++) {
		for (int k = 0; k < ML_PHASES; k++)
			NEXT(b->plane[r][k]);
		for (int k = 0; k < ML_DERIVED; k++)
			NEXT(b->derived[r][k]);
	}
	for (int k = 0; k < ML_PHASES; k++) {
		NEXT(b->sum[k]);
		NEXT(b->pixel[0][k]);
		NEXT(b->pixel[1][k]);
	}
	NEXT(b->falloff);
#undef NEXT
	return 0;
}

void ml_band_free(struct ml_band *b)
{
	free(b->memory);
	free(b->zones);
	memset(b, 0, sizeof(*b));
}

/* Beyond either end, a line goes on with its first or last value. */
static void repeat_ends(int16_t *line, int32_t n)
{
	line[-1] = line[0];
	line[n] = line[n - 1];
}

static void measure_row(struct ml_band *b, const struct ml_frame *f, int32_t row)
{
	int16_t *const *plane = b->plane[row % ML_RING];
	const int32_t blocks = blocks_of(f);
	struct ml_zone *zones = b->zones + (size_t)(row * f->zones_y / f->quad_rows) * (size_t)f->zones_x;

	for (int32_t z = 0; z < f->zones_x; z++) {
		const int32_t end = (z + 1) * blocks / f->zones_x * ML_BLOCK;
		struct ml_measure_job job = {
			.plane = { plane[0], plane[1], plane[2], plane[3] },
			.from = z * blocks / f->zones_x * ML_BLOCK,
			.to = end < f->quads ? end : f->quads,
			.swapped = f->src.swapped,
			.zone = &zones[z],
		};

		f->ops->measure(&job);
	}
	for (int32_t i = 0; i < f->quads; i += ML_STATS_STEP) {
		const uint32_t luma = (uint32_t)(plane[ML_P][i] + plane[ML_G0][i] + plane[ML_G1][i] + plane[ML_Q][i]) / 4;

		b->histogram[luma * ML_HISTOGRAM / (ML_LINEAR_WHITE + 1)]++;
	}
}

/* Quad row @row into the ring; it is measured where it belongs to this band. */
static void unpack_row(struct ml_band *b, const struct ml_frame *f, int32_t row, bool own)
{
	int16_t *const *plane = b->plane[row % ML_RING];
	const size_t stride = (size_t)f->src.stride;
	const size_t top = stride * (size_t)(f->crop.y + 2 * row) + (size_t)(f->crop.x * f->src.bits / 8);
	const size_t all = stride * (size_t)f->src.height;
	const uint16_t *gain = f->recipe.gain;
	const uint16_t first = gain[f->src.swapped ? 2 : 0], last = gain[f->src.swapped ? 0 : 2];

	ml_mesh_row(&f->mesh, row, b->falloff);
	for (int k = 0; k < 2; k++) {
		/* The row's colour stands in the odd column when P does and this is P's row, or neither. */
		const int colour = k ? ML_Q : ML_P, green = k ? ML_G1 : ML_G0, odd = f->src.odd ^ k;
		struct ml_unpack_job job = {
			.row = f->from + top + stride * (size_t)k,
			.bytes = all - (top + stride * (size_t)k),
			.bits = f->src.bits,
			.quads = f->quads,
			.black = f->recipe.black,
			.falloff = b->falloff,
		};

		job.gain[odd] = k ? last : first;
		job.gain[!odd] = gain[1];
		job.out[odd] = plane[colour];
		job.out[!odd] = plane[green];
		f->ops->unpack(&job);
	}
	for (int k = 0; k < ML_PHASES; k++)
		repeat_ends(plane[k], f->quads);
	if (own && f->measure && row % ML_STATS_STEP == 0)
		measure_row(b, f, row);
}

static void derive_row(struct ml_band *b, const struct ml_frame *f, int32_t row)
{
	struct ml_green_job job = { .odd = f->src.odd, .n = blocks_of(f) * ML_BLOCK };

	for (int k = 0; k < 3; k++) {
		int16_t *const *plane = b->plane[clamp_row(f, row - 1 + k) % ML_RING];

		job.p[k] = plane[ML_P];
		job.g0[k] = plane[ML_G0];
		job.g1[k] = plane[ML_G1];
		job.q[k] = plane[ML_Q];
	}
	for (int k = 0; k < ML_DERIVED; k++)
		job.out[k] = b->derived[row % ML_RING][k];
	f->ops->green(&job);
	repeat_ends(job.out[ML_DP], f->quads);
	repeat_ends(job.out[ML_DQ], f->quads);
}

static uint8_t *row_of(const struct ml_frame *f, int32_t y)
{
	return f->out + (size_t)f->to.stride * (size_t)(f->at.y + y) + ml_row_bytes(f->to.fourcc, f->at.x);
}

static uint8_t *chroma_of(const struct ml_frame *f, int32_t step)
{
	return f->out + (size_t)f->to.stride * (size_t)(f->to.height + f->at.y / 2 + step) + f->at.x;
}

static void write_row(struct ml_band *b, const struct ml_frame *f, int32_t row)
{
	int16_t *const *plane = b->plane[row % ML_RING], *const *derived = b->derived[row % ML_RING];
	struct ml_quad_job job = {
		.g0 = plane[ML_G0],
		.g1 = plane[ML_G1],
		.gp = derived[ML_GP],
		.gq = derived[ML_GQ],
		.dp = { derived[ML_DP], b->derived[clamp_row(f, row + 1) % ML_RING][ML_DP] },
		.dq = { b->derived[clamp_row(f, row - 1) % ML_RING][ML_DQ], derived[ML_DQ] },
		.odd = f->src.odd,
		.swapped = f->src.swapped,
		.quads = f->quads,
		.recipe = &f->recipe,
		.fourcc = f->to.fourcc,
		.row = { row_of(f, 2 * row), row_of(f, 2 * row + 1) },
		.chroma = f->to.fourcc == ML_NV12 ? chroma_of(f, row) : NULL,
	};

	f->ops->quads(&job);
}

static void demosaic(struct ml_band *b, const struct ml_frame *f, int32_t first, int32_t end)
{
	const int32_t last = f->quad_rows - 1;
	int32_t derived = first ? first - 1 : 0;
	int32_t unpacked = derived ? derived - 1 : 0;

	for (int32_t row = first; row < end; row++) {
		for (; derived <= row + 1 && derived <= last; derived++) {
			for (; unpacked <= derived + 1 && unpacked <= last; unpacked++)
				unpack_row(b, f, unpacked, unpacked >= first && unpacked < end);
			derive_row(b, f, derived);
		}
		write_row(b, f, row);
	}
}

static void write_pixels(struct ml_band *b, const struct ml_frame *f, int32_t step)
{
	struct ml_pixel_job job = {
		.quads = f->at.w / 2,
		.swapped = f->src.swapped,
		.recipe = &f->recipe,
		.fourcc = f->to.fourcc,
		.row = { row_of(f, 2 * step), row_of(f, 2 * step + 1) },
		.chroma = f->to.fourcc == ML_NV12 ? chroma_of(f, step) : NULL,
	};

	for (int row = 0; row < 2; row++)
		for (int k = 0; k < ML_PHASES; k++) {
			job.plane[row][0][k] = b->pixel[row][k];
			job.plane[row][1][k] = b->pixel[row][k] + job.quads;
		}
	f->ops->pixels(&job);
}

/* Weight of a plane's row @row for output row @y. */
static int16_t weight_of(const struct ml_axis *axis, int32_t y, int32_t row)
{
	const int32_t k = row - axis->start[y];

	return k < 0 || k >= axis->taps ? 0 : axis->weight[(size_t)y * (size_t)axis->taps + (size_t)k];
}

/* The first quad row that output row @y may need. */
static int32_t first_for(const struct ml_frame *f, int32_t y)
{
	int32_t first = f->quad_rows;

	for (int k = 0; k < ML_PHASES; k++)
		if (f->down[k].start[y] < first)
			first = f->down[k].start[y];
	return first;
}

/* Adds up what output row @y is made of; rows that are not in the ring yet are unpacked. */
static void gather_rows(struct ml_band *b, const struct ml_frame *f, int32_t y, int32_t *unpacked, int32_t own,
			int32_t others)
{
	bool first = true;

	for (int32_t row = first_for(f, y); row < f->quad_rows; row++) {
		struct ml_gather_job job = { .n = blocks_of(f) * ML_BLOCK, .first = first };
		bool counts = false;

		for (int k = 0; k < ML_PHASES; k++) {
			job.plane[k] = b->plane[row % ML_RING][k];
			job.sum[k] = b->sum[k];
			job.weight[k] = weight_of(&f->down[k], y, row);
			counts = counts || job.weight[k];
		}
		if (!counts && first)
			continue;
		if (!counts)
			break;
		for (; *unpacked <= row; ++*unpacked)
			unpack_row(b, f, *unpacked, *unpacked >= own && *unpacked < others);
		f->ops->gather(&job);
		first = false;
	}
}

static void reduce(struct ml_band *b, const struct ml_frame *f, int32_t first, int32_t end)
{
	const int32_t own = first ? first_for(f, 2 * first) : 0;
	const int32_t others = end < f->at.h / 2 ? first_for(f, 2 * end) : f->quad_rows;
	int32_t unpacked = own;

	for (int32_t y = 2 * first; y < 2 * end; y++) {
		gather_rows(b, f, y, &unpacked, own, others);
		for (int k = 0; k < ML_PHASES; k++)
			f->rows->horizontal_linear(b->sum[k], &f->across[k], b->pixel[y % 2][k]);
		if (y % 2)
			write_pixels(b, f, y / 2);
	}
	for (; unpacked < others; unpacked++) /* rows too light to count in the picture count in its statistics */
		unpack_row(b, f, unpacked, unpacked >= own);
}

int32_t ml_band_steps(const struct ml_frame *f)
{
	return f->reduce ? f->at.h / 2 : f->quad_rows;
}

void ml_band_run(struct ml_band *b, const struct ml_frame *f, int32_t first, int32_t end)
{
	if (f->measure) {
		memset(b->zones, 0, (size_t)(f->zones_x * f->zones_y) * sizeof(*b->zones));
		memset(b->histogram, 0, sizeof(b->histogram));
	}
	if (f->reduce)
		reduce(b, f, first, end);
	else
		demosaic(b, f, first, end);
}
