/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a picture in memory looks like: the two layouts that the node declares to V4L2.
 *
 * NV12: @height rows of @stride bytes of luma, then @height / 2 rows of @stride bytes of U,V pairs.
 * YUYV: @height rows of @stride bytes, each Y0 U Y1 V for two pixels.
 */
#ifndef ML_IMAGE_H
#define ML_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define ML_FOURCC(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define ML_NV12 ML_FOURCC('N', 'V', '1', '2')
#define ML_YUYV ML_FOURCC('Y', 'U', 'Y', 'V')

/* Sides: twice the widest sensor on the market. Strides: YUYV of that, plus any driver's alignment. */
#define ML_MAX_SIDE 32768
#define ML_MAX_STRIDE 131072

/* Limited range (BT.601), as the node declares it: black is 16, no colour is 128. */
#define ML_BLACK_Y 16
#define ML_NEUTRAL_C 128

struct ml_image {
	uint32_t fourcc;
	int32_t width, height; /* pixels, both even */
	int32_t stride;        /* bytes */
};

struct ml_rect {
	int32_t x, y, w, h; /* pixels, all even */
};

/* Bytes of one row's payload, without padding. */
int32_t ml_row_bytes(uint32_t fourcc, int32_t width);

/* Bytes that a buffer holding @im must have, padding of the last row included. */
size_t ml_image_bytes(const struct ml_image *im);

/* NULL when @im is usable, else what is wrong with it. */
const char *ml_image_check(const struct ml_image *im);

/* Writes one colour into the rectangle @r of @im, which lies inside it. */
void ml_fill_rect(const struct ml_image *im, uint8_t *dst, const struct ml_rect *r,
		  uint8_t y, uint8_t u, uint8_t v);

/* Makes everything of @im outside @r black. */
void ml_fill_around(const struct ml_image *im, uint8_t *dst, const struct ml_rect *r);

#endif
