/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Y'CbCr of any matrix and range to what the node declares: for cameras that send another.
 *
 * Luma is scaled about its black and gets its part of the chroma beside it; chroma is turned by 2 x 2. No filter: a
 * chroma sample counts for the pixels that share it. Integers throughout, so every level gives the same bits.
 */
#ifndef ML_RECOLOUR_H
#define ML_RECOLOUR_H

#include "cpu.h"
#include "image.h"

/* Weights have 14 bits behind the point. */
#define ML_RECOLOUR_BITS 14

struct ml_recolour {
	int16_t y_y, y_u, y_v; /* what luma, U and V add to luma */
	int16_t u_u, u_v;      /* to U */
	int16_t v_u, v_v;      /* to V */
	uint8_t black;         /* the source's luma without light */
};

/* From @src to @dst, which have one format and size, and share no byte. */
void ml_recolour(const struct ml_recolour *by, enum ml_level level, const struct ml_image *from, const uint8_t *src,
		 const struct ml_image *to, uint8_t *dst);

#endif
