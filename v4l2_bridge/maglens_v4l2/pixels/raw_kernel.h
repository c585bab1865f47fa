/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The raw kernels, written once over vectors of 16-bit lanes. Each level (raw_portable.c, raw_avx2.c ...) defines the
 * vector type `v`, LANES (a divisor of ML_BLOCK), TARGET and the operations named v_*, then includes this file.
 *
 * The operations, all on 16-bit lanes: v_load, v_store, v_set1, v_add, v_sub (wrapping), v_adds, v_addsu, v_subsu
 * (saturating, signed or unsigned), v_mulhu(a, b) = a * b >> 16 unsigned, v_mulhrs(a, b) = (a * b + 2^14) >> 15 signed,
 * v_max, v_min (signed), v_minu, v_shl, v_sar, v_shr (by constants), v_or, v_gt (-1 or 0), v_andnot(mask, a),
 * v_bytes(a, b) = a >> 6 | (b >> 6) << 8 of values below 2^14; vtone, v_tone_take(recipe's tone) and v_tone(it, x);
 * v_unpack10, v_unpack12 (2 LANES packed samples as even and odd ones, scaled to 16 bits),
 * v_store_zip(to, a, b) (lanes of a and b in turn); and sums, wide enough for a row of ML_MAX_SIDE samples: vacc,
 * v_acc_zero, v_acc_add, v_acc_square (of magnitudes up to 1024), v_acc_sum.
 */

#include <string.h>

#define KERNEL TARGET static
#ifndef INLINE
#define INLINE TARGET static inline __attribute__((always_inline))
#endif

/* The bytes a load may reach past a block: the widest vector. */
#define SLACK 64
#define BLOCK_BYTES_MAX (ML_BLOCK * 3)

static const int16_t lane_of_block[ML_BLOCK] = {
	0,	1 << 10,  2 << 10,  3 << 10,  4 << 10,	5 << 10,  6 << 10,  7 << 10,  8 << 10,	9 << 10,  10 << 10,
	11 << 10, 12 << 10, 13 << 10, 14 << 10, 15 << 10, 16 << 10, 17 << 10, 18 << 10, 19 << 10, 20 << 10, 21 << 10,
	22 << 10, 23 << 10, 24 << 10, 25 << 10, 26 << 10, 27 << 10, 28 << 10, 29 << 10, 30 << 10, 31 << 10,
};

/* black level, then the product of both gains (13 bits behind the point, saturated), to 13 bits. */
INLINE v level(v sample, v black, v falloff, v gain)
{
	v both = v_mulhu(falloff, gain);

	both = v_addsu(both, both);
	return v_minu(v_mulhu(v_subsu(sample, black), both), v_set1(ML_LINEAR_WHITE));
}

INLINE void unpack_block(const struct ml_unpack_job *job, const uint8_t *from, int32_t block, int bits)
{
	const v base = v_set1((int16_t)job->falloff[block]);
	const v rise = v_set1((int16_t)(job->falloff[block + 1] - job->falloff[block]));
	const v black = v_set1((int16_t)job->black);
	const v gain0 = v_set1((int16_t)job->gain[0]), gain1 = v_set1((int16_t)job->gain[1]);
	const int32_t at = block * ML_BLOCK;

	for (int32_t i = 0; i < ML_BLOCK; i += LANES) {
		const v falloff = v_add(base, v_mulhrs(rise, v_load(lane_of_block + i)));
		v even, odd;

		if (bits == 10)
			v_unpack10(from + i * 5 / 2, &even, &odd);
		else
			v_unpack12(from + i * 3, &even, &odd);
		v_store(job->out[0] + at + i, level(even, black, falloff, gain0));
		v_store(job->out[1] + at + i, level(odd, black, falloff, gain1));
	}
}

INLINE size_t block_bytes(int bits)
{
	return bits == 10 ? ML_BLOCK * 5 / 2 : ML_BLOCK * 3;
}

/*
 * Where to read block @block of a row from: the row itself, or, too near its end to load whole vectors there, a copy in
 * @last, zeros behind it.
 */
INLINE const uint8_t *block_at(const uint8_t *row, size_t bytes, int32_t quads, int bits, int32_t block, uint8_t *last)
{
	const size_t size = block_bytes(bits), at = (size_t)block * size;
	const size_t row_bytes = (size_t)quads * (size_t)(bits == 10 ? 5 : 6) / 2;

	if (at + size <= row_bytes && at + size + SLACK <= bytes)
		return row + at;
	memset(last, 0, BLOCK_BYTES_MAX + SLACK);
	memcpy(last, row + at, row_bytes - at < size ? row_bytes - at : size);
	return last;
}

INLINE void unpack_all(const struct ml_unpack_job *job, int bits)
{
	const int32_t blocks = (job->quads + ML_BLOCK - 1) / ML_BLOCK;
	uint8_t last[BLOCK_BYTES_MAX + SLACK];

	for (int32_t block = 0; block < blocks; block++)
		unpack_block(job, block_at(job->row, job->bytes, job->quads, bits, block, last), block, bits);
}

KERNEL void unpack(const struct ml_unpack_job *job)
{
	if (job->bits == 10)
		unpack_all(job, 10);
	else
		unpack_all(job, 12);
}

INLINE void widen_block(const uint8_t *from, int bits, bool bytewise, uint8_t *out)
{
	for (int32_t i = 0; i < ML_BLOCK; i += LANES) {
		v even, odd;

		if (bits == 10)
			v_unpack10(from + i * 5 / 2, &even, &odd);
		else
			v_unpack12(from + i * 3, &even, &odd);
		if (bytewise)
			v_store((int16_t *)(out + 2 * i), v_or(v_shr(even, 8), v_shl(v_shr(odd, 8), 8)));
		else
			v_store_zip((int16_t *)(out + 4 * i), v_shr(even, 16 - bits), v_shr(odd, 16 - bits));
	}
}

INLINE void widen_all(const struct ml_widen_job *job, int bits, bool bytewise)
{
	const int32_t whole = job->quads / ML_BLOCK, rest = job->quads % ML_BLOCK, each = bytewise ? 2 : 4;
	uint8_t last[BLOCK_BYTES_MAX + SLACK], end[4 * ML_BLOCK];

	for (int32_t block = 0; block < whole; block++)
		widen_block(block_at(job->row, job->bytes, job->quads, bits, block, last), bits, bytewise,
			    job->out + block * ML_BLOCK * each);
	if (!rest)
		return;
	widen_block(block_at(job->row, job->bytes, job->quads, bits, whole, last), bits, bytewise, end);
	memcpy(job->out + whole * ML_BLOCK * each, end, (size_t)(rest * each));
}

KERNEL void widen(const struct ml_widen_job *job)
{
	if (job->bits == 10 && job->bytewise)
		widen_all(job, 10, true);
	else if (job->bits == 10)
		widen_all(job, 10, false);
	else
		widen_all(job, 12, job->bytewise);
}

/*
 * Green where another colour was sampled: the mean of four neighbours plus an eighth of how much that colour exceeds
 * its own four neighbours' mean, times four (Malvar, He and Cutler 2004).
 */
INLINE v green_at(v own, v own_sum, v green_sum)
{
	const v detail = v_sar(v_sub(v_shl(own, 2), own_sum), 3);
	const v mean = v_sar(v_add(green_sum, v_set1(2)), 2);

	return v_max(v_min(v_add(mean, detail), v_set1(ML_LINEAR_WHITE)), v_set1(0));
}

INLINE v twice(v a)
{
	return v_add(a, a);
}

INLINE v sum4(v a, v b, v c, v d)
{
	return v_add(v_add(a, b), v_add(c, d));
}

KERNEL void green(const struct ml_green_job *job)
{
	const int32_t odd = job->odd;

	for (int32_t i = 0; i < job->n; i += LANES) {
		const int16_t *p = job->p[1] + i, *q = job->q[1] + i, *g0 = job->g0[1] + i, *g1 = job->g1[1] + i;
		const v own_p = v_load(p), own_q = v_load(q);
		const v around_p = sum4(v_load(p - 1), v_load(p + 1), v_load(job->p[0] + i), v_load(job->p[2] + i));
		const v around_q = sum4(v_load(q - 1), v_load(q + 1), v_load(job->q[0] + i), v_load(job->q[2] + i));
		const v at_p = green_at(own_p, around_p,
					sum4(v_load(g0 - 1 + odd), v_load(g0 + odd), v_load(job->g1[0] + i), v_load(g1)));
		const v at_q = green_at(own_q, around_q,
					sum4(v_load(g1 - odd), v_load(g1 + 1 - odd), v_load(g0), v_load(job->g0[2] + i)));

		v_store(job->out[ML_GP] + i, at_p);
		v_store(job->out[ML_GQ] + i, at_q);
		v_store(job->out[ML_DP] + i, v_sub(own_p, at_p));
		v_store(job->out[ML_DQ] + i, v_sub(own_q, at_q));
	}
}

/* Tone-mapped R, G, B of one position of a quad. */
struct rgb {
	v c[3];
};

/* YCbCr of BT.601, limited range, in 15 bits behind the point; results have 6. */
#define Y_R 8414
#define Y_G 16519
#define Y_B 3208
#define U_R (-4857)
#define U_G (-9535)
#define V_G (-12052)
#define V_B (-2340)
#define C_MAX 14392
#define Y_BIAS (ML_BLACK_Y * 64 + 32)
#define C_BIAS (ML_NEUTRAL_C * 64 + 32)

/* A recipe in registers, or as near to them as the compiler has it. */
struct look {
	v matrix[3][2];
	vtone tone;
};

INLINE struct look take(const struct ml_recipe *recipe)
{
	struct look look;

	for (int k = 0; k < 3; k++)
		for (int j = 0; j < 2; j++)
			look.matrix[k][j] = v_set1(recipe->matrix[k][j]);
	look.tone = v_tone_take(&recipe->tone);
	return look;
}

/* What is added to linear values so that signed saturation cuts them off at white. */
#define LIFT (INT16_MAX - ML_LINEAR_WHITE)

/*
 * @dr, @db: four times R - G and B - G. The matrix entries' limit (recipe.c) keeps their effect above -LIFT, so that
 * nothing wraps before the two saturating operations bring the sum to 0 ... white.
 */
INLINE struct rgb coloured(const struct look *look, v g, v dr, v db)
{
	const v lifted = v_add(g, v_set1(LIFT));
	struct rgb out;

	for (int k = 0; k < 3; k++) {
		const v shift = v_add(v_mulhrs(dr, look->matrix[k][0]), v_mulhrs(db, look->matrix[k][1]));

		out.c[k] = v_tone(&look->tone, v_subsu(v_adds(lifted, shift), v_set1(LIFT)));
	}
	return out;
}

/* Luma, Cb and Cr with 6 bits behind the point. */
INLINE v luma_of(const struct rgb *t)
{
	return v_add(v_add(v_mulhrs(t->c[0], v_set1(Y_R)), v_mulhrs(t->c[1], v_set1(Y_G))),
		     v_add(v_mulhrs(t->c[2], v_set1(Y_B)), v_set1(Y_BIAS)));
}

INLINE v blue_of(const struct rgb *t)
{
	return v_add(v_add(v_mulhrs(t->c[0], v_set1(U_R)), v_mulhrs(t->c[1], v_set1(U_G))),
		     v_add(v_mulhrs(t->c[2], v_set1(C_MAX)), v_set1(C_BIAS)));
}

INLINE v red_of(const struct rgb *t)
{
	return v_add(v_add(v_mulhrs(t->c[0], v_set1(C_MAX)), v_mulhrs(t->c[1], v_set1(V_G))),
		     v_add(v_mulhrs(t->c[2], v_set1(V_B)), v_set1(C_BIAS)));
}

INLINE struct rgb mean_of_two(const struct rgb *a, const struct rgb *b)
{
	struct rgb out;

	for (int k = 0; k < 3; k++)
		out.c[k] = v_shr(v_add(v_add(a->c[k], b->c[k]), v_set1(1)), 1);
	return out;
}

INLINE struct rgb mean_of_four(const struct rgb t[4])
{
	struct rgb out;

	for (int k = 0; k < 3; k++)
		out.c[k] = v_shr(v_add(sum4(t[0].c[k], t[1].c[k], t[2].c[k], t[3].c[k]), v_set1(2)), 2);
	return out;
}

/* Where a vector of quads is written: the picture, or, at the end of a row, a buffer from which the rest is cut. */
struct target {
	uint8_t *row[2], *chroma;
};

/* Four positions (upper left, upper right, lower left, lower right) of LANES quads, written. */
INLINE void write_quads(const struct rgb t[4], uint32_t fourcc, const struct target *to)
{
	if (fourcc == ML_NV12) {
		const struct rgb mean = mean_of_four(t);

		for (int k = 0; k < 2; k++)
			v_store((int16_t *)to->row[k], v_bytes(luma_of(&t[2 * k]), luma_of(&t[2 * k + 1])));
		v_store((int16_t *)to->chroma, v_bytes(blue_of(&mean), red_of(&mean)));
		return;
	}
	for (int k = 0; k < 2; k++) {
		const struct rgb mean = mean_of_two(&t[2 * k], &t[2 * k + 1]);

		v_store_zip((int16_t *)to->row[k], v_bytes(luma_of(&t[2 * k]), blue_of(&mean)),
			    v_bytes(luma_of(&t[2 * k + 1]), red_of(&mean)));
	}
}

INLINE void quad_vector(const struct ml_quad_job *job, const struct look *look, int32_t i, int odd, int swapped,
			uint32_t fourcc, const struct target *to)
{
	const int16_t *dp = job->dp[0] + i, *dp_next = job->dp[1] + i;
	const int16_t *dq = job->dq[1] + i, *dq_before = job->dq[0] + i;
	/* Four times the colour differences at P, G0, G1, Q. */
	const v p_here = v_load(dp), q_here = v_load(dq);
	const v p_pair = v_add(v_load(dp - odd), v_load(dp + 1 - odd));
	const v p_pair_next = v_add(v_load(dp_next - odd), v_load(dp_next + 1 - odd));
	const v q_pair = v_add(v_load(dq - 1 + odd), v_load(dq + odd));
	const v q_pair_before = v_add(v_load(dq_before - 1 + odd), v_load(dq_before + odd));
	const v p[4] = { twice(twice(p_here)), twice(p_pair), twice(v_add(p_here, v_load(dp_next))),
			 v_add(p_pair, p_pair_next) };
	const v q[4] = { v_add(q_pair, q_pair_before), twice(v_add(q_here, v_load(dq_before))), twice(q_pair),
			 twice(twice(q_here)) };
	const v g[4] = { v_load(job->gp + i), v_load(job->g0 + i), v_load(job->g1 + i), v_load(job->gq + i) };
	struct rgb t[4];

	for (int k = 0; k < 4; k++)
		t[odd ? k ^ 1 : k] = swapped ? coloured(look, g[k], q[k], p[k]) :
					       coloured(look, g[k], p[k], q[k]);
	write_quads(t, fourcc, to);
}

/* Bytes of LANES quads in a row: NV12 has two a quad, YUYV four. */
#define STEP_BYTES(fourcc) ((fourcc) == ML_NV12 ? 2 * LANES : 4 * LANES)

/*
 * Calls @vector for each LANES quads of the job; the last, partial ones go through a buffer, so that nothing beyond
 * the row's end is written.
 */
#define EACH_VECTOR(job, fourcc, call)                                                              \
	do {                                                                                        \
		const int32_t whole = (job)->quads / LANES * LANES, rest = (job)->quads - whole;    \
		const int32_t each = STEP_BYTES(fourcc) / LANES;                                    \
		struct target to = { { (job)->row[0], (job)->row[1] }, (job)->chroma };             \
		_Alignas(64) uint8_t cut[3][4 * LANES];                                             \
		int32_t i = 0;                                                                      \
                                                                                                    \
		for (; i < whole; i += LANES) {                                                     \
			call;                                                                       \
			to.row[0] += STEP_BYTES(fourcc);                                            \
			to.row[1] += STEP_BYTES(fourcc);                                            \
			if ((fourcc) == ML_NV12)                                                    \
				to.chroma += STEP_BYTES(fourcc);                                    \
		}                                                                                   \
		if (rest) {                                                                         \
			const struct target end = to;                                               \
                                                                                                    \
			to = (struct target){ { cut[0], cut[1] }, cut[2] };                         \
			call;                                                                       \
			memcpy(end.row[0], cut[0], (size_t)(rest * each));                          \
			memcpy(end.row[1], cut[1], (size_t)(rest * each));                          \
			if ((fourcc) == ML_NV12)                                                    \
				memcpy(end.chroma, cut[2], (size_t)(rest * each));                  \
		}                                                                                   \
	} while (0)

INLINE void quads_of(const struct ml_quad_job *job, int odd, int swapped, uint32_t fourcc)
{
	const struct look look = take(job->recipe);

	EACH_VECTOR(job, fourcc, quad_vector(job, &look, i, odd, swapped, fourcc, &to));
}

INLINE void quads_format(const struct ml_quad_job *job, int odd, int swapped)
{
	if (job->fourcc == ML_NV12)
		quads_of(job, odd, swapped, ML_NV12);
	else
		quads_of(job, odd, swapped, ML_YUYV);
}

KERNEL void quads(const struct ml_quad_job *job)
{
	if (job->odd && job->swapped)
		quads_format(job, 1, 1);
	else if (job->odd)
		quads_format(job, 1, 0);
	else if (job->swapped)
		quads_format(job, 0, 1);
	else
		quads_format(job, 0, 0);
}

INLINE void pixel_vector(const struct ml_pixel_job *job, const struct look *look, int32_t i, uint32_t fourcc,
			 const struct target *to)
{
	struct rgb t[4];

	for (int k = 0; k < 4; k++) {
		const int16_t *const *plane = job->plane[k / 2][k % 2];
		const v greens = v_add(v_load(plane[ML_G0] + i), v_load(plane[ML_G1] + i));
		const v g = v_shr(v_add(greens, v_set1(1)), 1);

		t[k] = coloured(look, g, v_shl(v_sub(v_load(plane[job->swapped ? ML_Q : ML_P] + i), g), 2),
				v_shl(v_sub(v_load(plane[job->swapped ? ML_P : ML_Q] + i), g), 2));
	}
	write_quads(t, fourcc, to);
}

KERNEL void pixels(const struct ml_pixel_job *job)
{
	const struct look look = take(job->recipe);

	if (job->fourcc == ML_NV12)
		EACH_VECTOR(job, ML_NV12, pixel_vector(job, &look, i, ML_NV12, &to));
	else
		EACH_VECTOR(job, ML_YUYV, pixel_vector(job, &look, i, ML_YUYV, &to));
}

/* What lies beyond the last whole vector, and the definition of the sums. */
static inline void measure_one(const struct ml_measure_job *job, int32_t i)
{
	const int32_t p = job->plane[ML_P][i], q = job->plane[ML_Q][i];
	const int32_t g0 = job->plane[ML_G0][i], g1 = job->plane[ML_G1][i];
	const int32_t slope = (job->plane[ML_G0][i + 1] - g0) >> 3;

	job->zone->luma += (uint32_t)(p + g0 + g1 + q) >> 2;
	job->zone->contrast += (uint32_t)(slope * slope);
	if (p >= ML_CLIPPED || q >= ML_CLIPPED || g0 >= ML_CLIPPED || g1 >= ML_CLIPPED) {
		job->zone->clipped++;
		return;
	}
	job->zone->r += (uint32_t)(job->swapped ? q : p);
	job->zone->b += (uint32_t)(job->swapped ? p : q);
	job->zone->g += (uint32_t)(g0 + g1);
}

KERNEL void measure(const struct ml_measure_job *job)
{
	vacc sum_p = v_acc_zero(), sum_q = v_acc_zero(), sum_g = v_acc_zero(), luma = v_acc_zero();
	vacc clipped = v_acc_zero(), contrast = v_acc_zero();
	int32_t i = job->from;

	job->zone->quads += (uint64_t)(job->to - job->from);
	for (; i + LANES <= job->to; i += LANES) {
		const v p = v_load(job->plane[ML_P] + i), q = v_load(job->plane[ML_Q] + i);
		const v g0 = v_load(job->plane[ML_G0] + i), g1 = v_load(job->plane[ML_G1] + i);
		const v high = v_gt(v_max(v_max(p, q), v_max(g0, g1)), v_set1(ML_CLIPPED - 1));
		const v greens = v_add(g0, g1);

		luma = v_acc_add(luma, v_shr(v_add(v_add(p, q), greens), 2));
		clipped = v_acc_add(clipped, v_sub(v_set1(0), high));
		sum_p = v_acc_add(sum_p, v_andnot(high, p));
		sum_q = v_acc_add(sum_q, v_andnot(high, q));
		sum_g = v_acc_add(sum_g, v_andnot(high, greens));
		contrast = v_acc_square(contrast, v_sar(v_sub(v_load(job->plane[ML_G0] + i + 1), g0), 3));
	}
	job->zone->luma += v_acc_sum(luma);
	job->zone->clipped += v_acc_sum(clipped);
	job->zone->contrast += v_acc_sum(contrast);
	job->zone->g += v_acc_sum(sum_g);
	job->zone->r += v_acc_sum(job->swapped ? sum_q : sum_p);
	job->zone->b += v_acc_sum(job->swapped ? sum_p : sum_q);
	for (; i < job->to; i++)
		measure_one(job, i);
}

KERNEL void gather(const struct ml_gather_job *job)
{
	for (int k = 0; k < ML_PHASES; k++) {
		const v weight = v_set1(job->weight[k]);
		const int16_t *from = job->plane[k];
		int16_t *sum = job->sum[k];

		for (int32_t i = 0; i < job->n; i += LANES) {
			const v part = v_mulhrs(v_shl(v_load(from + i), 2), weight);

			v_store(sum + i, job->first ? part : v_add(v_load(sum + i), part));
		}
	}
}

#define RAW_OPS { unpack, widen, green, quads, pixels, measure, gather }
