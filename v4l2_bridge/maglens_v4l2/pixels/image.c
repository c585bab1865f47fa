/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, checks and one-colour fills of pictures. */
#include "image.h"

#include <string.h>

int32_t ml_row_bytes(uint32_t fourcc, int32_t width)
{
	return fourcc == ML_YUYV ? 2 * width : width;
}

size_t ml_image_bytes(const struct ml_image *im)
{
	size_t luma = (size_t)im->stride * (size_t)im->height;

	return im->fourcc == ML_NV12 ? luma + luma / 2 : luma;
}

const char *ml_image_check(const struct ml_image *im)
{
	if (im->fourcc != ML_NV12 && im->fourcc != ML_YUYV)
		return "fourcc must be NV12 or YUYV";
	if (im->width < 2 || im->height < 2)
		return "width and height must be at least 2";
	if (im->width > ML_MAX_SIDE || im->height > ML_MAX_SIDE)
		return "width and height must be at most 32768";
	if (im->width % 2 || im->height % 2)
		return "width and height must be even";
	if (im->stride < ml_row_bytes(im->fourcc, im->width))
		return "stride is shorter than a row";
	if (im->stride > ML_MAX_STRIDE)
		return "stride must be at most 131072";
	return NULL;
}

static void fill_pairs(uint8_t *dst, int32_t pairs, uint8_t a, uint8_t b)
{
	for (int32_t i = 0; i < pairs; i++) {
		dst[2 * i] = a;
		dst[2 * i + 1] = b;
	}
}

static void fill_yuyv(uint8_t *dst, int32_t pairs, uint8_t y, uint8_t u, uint8_t v)
{
	for (int32_t i = 0; i < pairs; i++) {
		dst[4 * i] = y;
		dst[4 * i + 1] = u;
		dst[4 * i + 2] = y;
		dst[4 * i + 3] = v;
	}
}

void ml_fill_rect(const struct ml_image *im, uint8_t *dst, const struct ml_rect *r,
		  uint8_t y, uint8_t u, uint8_t v)
{
	const size_t stride = (size_t)im->stride;

	if (r->w <= 0 || r->h <= 0)
		return;
	if (im->fourcc == ML_YUYV) {
		for (int32_t i = 0; i < r->h; i++)
			fill_yuyv(dst + stride * (size_t)(r->y + i) + 2 * r->x, r->w / 2, y, u, v);
		return;
	}
	for (int32_t i = 0; i < r->h; i++)
		memset(dst + stride * (size_t)(r->y + i) + r->x, y, (size_t)r->w);
	dst += stride * (size_t)im->height;
	for (int32_t i = 0; i < r->h / 2; i++)
		fill_pairs(dst + stride * (size_t)(r->y / 2 + i) + r->x, r->w / 2, u, v);
}

void ml_fill_around(const struct ml_image *im, uint8_t *dst, const struct ml_rect *r)
{
	const struct ml_rect around[4] = {
		{ 0, 0, im->width, r->y },
		{ 0, r->y + r->h, im->width, im->height - r->y - r->h },
		{ 0, r->y, r->x, r->h },
		{ r->x + r->w, r->y, im->width - r->x - r->w, r->h },
	};

	for (int k = 0; k < 4; k++)
		ml_fill_rect(im, dst, &around[k], ML_BLACK_Y, ML_NEUTRAL_C, ML_NEUTRAL_C);
}
