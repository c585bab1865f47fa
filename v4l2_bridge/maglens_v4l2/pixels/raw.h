/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From packed Bayer samples to NV12 or YUYV in one pass: unpack, black level, white balance and vignetting gain,
 * demosaic, colour matrix, tone curve, YCbCr; and statistics for exposure, white balance and focus.
 *
 * A Bayer quad (2x2 samples) is exactly an NV12 quad (four luma, one chroma pair), so rows of quads are the unit of
 * everything here. All arithmetic is on 16-bit integers and defined exactly (raw_kernel.h), so that every SIMD level
 * and every number of threads gives the same bits. Linear light has 13 bits (white 8191), tone-mapped values 14
 * (white 255 * 64).
 *
 * Red and blue change roles for the CFAs that start with them exchanged; what is left is whether the first colour
 * stands in the even column (RGGB) or in the odd one (GRBG).
 */
#ifndef ML_RAW_H
#define ML_RAW_H

#include <stdbool.h>

#include "cpu.h"
#include "image.h"

#define ML_LINEAR_WHITE 8191
#define ML_TONE_WHITE (255 * 64)

#define ML_BLOCK 32          /* quads that share one step of the vignetting mesh, and the unit of zones */
#define ML_PAD 64            /* samples kept free on either side of a line buffer */
#define ML_MAX_ZONES 32      /* each way */
#define ML_STATS_STEP 4      /* one quad row in four is measured */
#define ML_HISTOGRAM 128
#define ML_MAX_THREADS 64
#define ML_MAX_GAIN 3.99     /* of white balance, and of vignetting: 16 bits with 14 behind the point */
#define ML_CURVE_SAMPLES 8193 /* a tone curve as given: at k / 8192, 65535 is white */
#define ML_FALLOFF_MAX 1025  /* entries of a vignetting table */

/* The tone curve: 32 pieces of 16 below 512, pieces of 256 above. */
#define ML_TONE_SPLIT 512
#define ML_TONE_PIECES 32
struct ml_tone {
	uint16_t low_base[ML_TONE_PIECES], high_base[ML_TONE_PIECES];
	uint16_t low_slope[ML_TONE_PIECES], high_slope[ML_TONE_PIECES];
	uint16_t table[ML_LINEAR_WHITE + 3]; /* the same for each value; room to load 32 bits at the last */
};

/* What one frame is developed with; all integers by now. */
struct ml_recipe {
	uint16_t black;      /* of samples scaled to 16 bits */
	uint16_t gain[3];    /* R, G, B; 14 bits behind the point; white level included */
	int16_t matrix[3][2]; /* out = G + [0] (R - G) + [1] (B - G); 13 bits behind the point */
	struct ml_tone tone;
};

/* Planes of one quad row: first colour, green beside it, green of its other row, last colour. */
enum { ML_P, ML_G0, ML_G1, ML_Q, ML_PHASES };
/* What the demosaic adds: green where P and Q were sampled, and the differences P - green, Q - green. */
enum { ML_GP, ML_GQ, ML_DP, ML_DQ, ML_DERIVED };

/* One quad row's surroundings, as the kernels take them: rows before, at and after, edges repeated. */
struct ml_green_job {
	const int16_t *p[3], *g0[3], *g1[3], *q[3];
	int16_t *out[ML_DERIVED];
	int32_t odd; /* 1: P stands in the odd column */
	int32_t n;   /* quads, a multiple of ML_BLOCK */
};

struct ml_quad_job {
	const int16_t *g0, *g1, *gp, *gq;
	const int16_t *dp[2]; /* this row and the next */
	const int16_t *dq[2]; /* the row before and this */
	int32_t odd, swapped; /* swapped: P is blue */
	int32_t quads;
	const struct ml_recipe *recipe;
	uint32_t fourcc;
	uint8_t *row[2]; /* NV12 luma or YUYV */
	uint8_t *chroma; /* NV12 */
};

/* Two rows of finished linear pixels, even and odd columns apart. */
struct ml_pixel_job {
	const int16_t *plane[2][2][ML_PHASES]; /* [row][column parity][P, G0, G1, Q] */
	int32_t swapped;
	int32_t quads;
	const struct ml_recipe *recipe;
	uint32_t fourcc;
	uint8_t *row[2], *chroma;
};

struct ml_unpack_job {
	const uint8_t *row; /* at the first quad */
	size_t bytes;       /* that may be read from there */
	int32_t bits;       /* 10 or 12 */
	int32_t quads;
	uint16_t black, gain[2];  /* of the even and the odd column */
	const uint16_t *falloff;  /* vignetting gain at each block's edges: quads / ML_BLOCK + 2 values */
	int16_t *out[2];          /* even and odd columns; padded to whole blocks with zeros */
};

/* A packed row to one sample after the other: uint16_t, or the upper 8 bits. */
struct ml_widen_job {
	const uint8_t *row;
	size_t bytes; /* that may be read from there */
	int32_t bits, quads;
	bool bytewise;
	uint8_t *out;
};

/* Sums over one zone's part of a quad row (or over a zone, once added up). */
struct ml_zone {
	uint64_t quads;    /* measured */
	uint64_t clipped;  /* of these, with a colour at 98 % of white or above; left out of r, g, b */
	uint64_t r, g, b;  /* linear, after gains; g of the quad's two greens together */
	uint64_t luma;     /* (R + 2 G + B) / 4 of every quad */
	uint64_t contrast; /* of squared differences of neighbouring greens, each difference / 8 */
};
#define ML_ZONE_FIELDS 7
#define ML_CLIPPED 8027

struct ml_measure_job {
	const int16_t *plane[ML_PHASES];
	int32_t from, to; /* quads */
	int32_t swapped;
	struct ml_zone *zone;
};

/* One quad row's part in a smaller picture: its planes times weights, added up with one bit behind the point. */
struct ml_gather_job {
	const int16_t *plane[ML_PHASES];
	int32_t n;
	int16_t weight[ML_PHASES]; /* 14 bits behind the point */
	bool first;                /* = instead of += */
	int16_t *sum[ML_PHASES];
};

/* The kernels of one SIMD level. */
struct ml_raw_ops {
	void (*unpack)(const struct ml_unpack_job *job);
	void (*widen)(const struct ml_widen_job *job);
	void (*green)(const struct ml_green_job *job);
	void (*quads)(const struct ml_quad_job *job);
	void (*pixels)(const struct ml_pixel_job *job);
	void (*measure)(const struct ml_measure_job *job);
	void (*gather)(const struct ml_gather_job *job);
};

extern const struct ml_raw_ops ml_raw_portable;
#ifdef ML_X86
extern const struct ml_raw_ops ml_raw_avx2, ml_raw_avx512;
#endif
#ifdef ML_ARM64
extern const struct ml_raw_ops ml_raw_neon;
#endif
const struct ml_raw_ops *ml_raw_ops(enum ml_level level);

#endif
