/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libjpeg-turbo decodes into planes of our own; range and layout change on the way from there to the buffer. */
#include "jpeg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#define TEXT_BYTES 200 /* as libjpeg's own messages */
#define MCU 32          /* planes are padded to the largest coding unit */
#define MOST_SCANS 4    /* one for every component that a picture can have */

struct ml_jpeg {
	struct ml_image dst;
	tjhandle handle;
	unsigned char *plane[3]; /* wide enough for 4:4:4 */
	int stride;
	uint8_t *pairs; /* one row of U,V */
	char text[TEXT_BYTES];
};

struct ml_jpeg *ml_jpeg_new(const struct ml_image *dst)
{
	struct ml_jpeg *j = calloc(1, sizeof(*j));
	const size_t rows = (size_t)(dst->height + MCU - 1) / MCU * MCU;

	if (!j)
		return NULL;
	j->dst = *dst;
	j->stride = (dst->width + MCU - 1) / MCU * MCU;
	j->handle = tjInitDecompress();
	j->pairs = malloc((size_t)j->stride);
	for (int k = 0; k < 3; k++)
		j->plane[k] = malloc((size_t)j->stride * rows);
	if (j->handle && j->pairs && j->plane[0] && j->plane[1] && j->plane[2])
		return j;
	ml_jpeg_free(j);
	return NULL;
}

void ml_jpeg_free(struct ml_jpeg *j)
{
	if (!j)
		return;
	if (j->handle)
		tjDestroy(j->handle);
	free(j->pairs);
	for (int k = 0; k < 3; k++)
		free(j->plane[k]);
	free(j);
}

const char *ml_jpeg_text(const struct ml_jpeg *j)
{
	return j->text;
}

/* The high half of a 16-bit product, which vectorises; exact for all 256 values (a test compares them). */
static inline uint8_t limited_luma(uint32_t full)
{
	return (uint8_t)(16 + ((((uint32_t)(uint16_t)(full << 8) * 56284u >> 16) + 128) >> 8));
}

static inline uint8_t limited_chroma(uint32_t full)
{
	return (uint8_t)((((uint32_t)(uint16_t)(full << 8) * 57569u >> 16) + 4111) >> 8);
}

/* How a chroma sample of 4:2:2 or 4:2:0 is made from the decoded planes. */
struct chroma {
	int across, down; /* decoded samples per output sample, 1 or 2 each way */
	int repeat;       /* 1: each decoded row serves two output rows */
	int grey;
};

static void pairs_of(const struct ml_jpeg *j, const struct chroma *how, int32_t row, uint8_t *restrict out)
{
	const size_t at = (size_t)j->stride * (size_t)(how->repeat ? row / 2 : row * how->down);
	const size_t next = how->down == 2 ? (size_t)j->stride : 0;
	const int32_t n = j->dst.width / 2;

	if (how->grey) {
		memset(out, ML_NEUTRAL_C, (size_t)j->dst.width);
		return;
	}
	for (int k = 0; k < 2; k++) {
		const uint8_t *restrict a = j->plane[k + 1] + at;
		const uint8_t *restrict b = a + next;

		if (how->across == 2)
			for (int32_t i = 0; i < n; i++)
				out[2 * i + k] = limited_chroma(
					(uint32_t)(a[2 * i] + a[2 * i + 1] + b[2 * i] + b[2 * i + 1] + 2) >> 2);
		else
			for (int32_t i = 0; i < n; i++)
				out[2 * i + k] = limited_chroma((uint32_t)(a[i] + b[i] + 1) >> 1);
	}
}

static void write_nv12(const struct ml_jpeg *j, const struct chroma *how, uint8_t *dst)
{
	const size_t stride = (size_t)j->dst.stride;

	for (int32_t y = 0; y < j->dst.height; y++) {
		const uint8_t *restrict in = j->plane[0] + (size_t)j->stride * (size_t)y;
		uint8_t *restrict out = dst + stride * (size_t)y;

		for (int32_t x = 0; x < j->dst.width; x++)
			out[x] = limited_luma(in[x]);
	}
	dst += stride * (size_t)j->dst.height;
	for (int32_t y = 0; y < j->dst.height / 2; y++)
		pairs_of(j, how, y, dst + stride * (size_t)y);
}

static void write_yuyv(const struct ml_jpeg *j, const struct chroma *how, uint8_t *dst)
{
	for (int32_t y = 0; y < j->dst.height; y++) {
		const uint8_t *restrict in = j->plane[0] + (size_t)j->stride * (size_t)y;
		uint8_t *restrict out = dst + (size_t)j->dst.stride * (size_t)y;

		pairs_of(j, how, y, j->pairs);
		for (int32_t x = 0; x < j->dst.width; x++) {
			out[2 * x] = limited_luma(in[x]);
			out[2 * x + 1] = j->pairs[x];
		}
	}
}

static int plan(struct chroma *how, int sampling, uint32_t fourcc)
{
	const int halve = fourcc == ML_NV12;

	switch (sampling) {
	case TJSAMP_420:
		*how = (struct chroma){ .across = 1, .down = 1, .repeat = !halve };
		return 0;
	case TJSAMP_422:
		*how = (struct chroma){ .across = 1, .down = 1 + halve };
		return 0;
	case TJSAMP_444:
		*how = (struct chroma){ .across = 2, .down = 1 + halve };
		return 0;
	case TJSAMP_GRAY:
		*how = (struct chroma){ .grey = 1 };
		return 0;
	default:
		return -1;
	}
}

static enum ml_jpeg_result refused(struct ml_jpeg *j, const char *text)
{
	snprintf(j->text, sizeof(j->text), "%s", text);
	/* A header without a picture leaves the decoder in a state that fails the next, good frame: take a new one. */
	tjDestroy(j->handle);
	j->handle = tjInitDecompress();
	return ML_JPEG_ERROR;
}

/*
 * NULL, or why the file is not worth decoding: a progressive file, or one of many scans, has the decoder go over the
 * whole picture once for every few bytes. Goes from marker to marker as libjpeg does, ITU-T T.81 B.1: a length behind
 * those from SOF0 on, but for RSTn and SOI; what lies between is data. Cut data are left for libjpeg to find.
 */
static const char *scans_refused(const uint8_t *src, size_t n)
{
	const uint8_t *p = src, *const end = src + n;
	int scans = 0;

	while ((p = memchr(p, 0xff, (size_t)(end - p)))) {
		uint8_t code;

		while (p < end && *p == 0xff)
			p++;
		if (p == end)
			break;
		code = *p++;
		if (code == 0xd9)
			break;
		if (code < 0xc0 || (code >= 0xd0 && code <= 0xd8))
			continue;
		if (code >= 0xc2 && code <= 0xcf && code != 0xc4 && code != 0xc8 && code != 0xcc)
			return "only sequential JPEG is decoded";
		if (code == 0xda && ++scans > MOST_SCANS)
			return "the frame has more scans than components";
		if (end - p < 2 || end - p < (p[0] << 8 | p[1]))
			break;
		p += (p[0] << 8 | p[1]) < 2 ? 2 : p[0] << 8 | p[1];
	}
	return NULL;
}

enum ml_jpeg_result ml_jpeg_run(struct ml_jpeg *j, const uint8_t *src, size_t n, uint8_t *dst)
{
	enum ml_jpeg_result result = ML_JPEG_OK;
	int strides[3] = { j->stride, j->stride, j->stride };
	int w = 0, h = 0, sampling = -1, space = -1;
	const char *why = scans_refused(src, n);
	struct chroma how;

	j->text[0] = 0;
	if (!j->handle && !(j->handle = tjInitDecompress()))
		return ML_JPEG_ERROR;
	if (why) {
		snprintf(j->text, sizeof(j->text), "%s", why);
		return ML_JPEG_ERROR;
	}
	if (tjDecompressHeader3(j->handle, src, n, &w, &h, &sampling, &space) && w <= 0)
		return refused(j, tjGetErrorStr2(j->handle));
	if (w <= 0)
		return refused(j, "the frame has no picture in it");
	if (w != j->dst.width || h != j->dst.height) {
		snprintf(j->text, sizeof(j->text), "the frame is %dx%d, not %dx%d", w, h, j->dst.width,
			 j->dst.height);
		return ML_JPEG_ERROR;
	}
	if ((space != TJCS_YCbCr && space != TJCS_GRAY) || plan(&how, sampling, j->dst.fourcc))
		return refused(j, "only YCbCr 4:2:0, 4:2:2, 4:4:4 and grey are decoded");
	if (tjDecompressToYUVPlanes(j->handle, src, n, j->plane, w, strides, h, 0)) {
		if (tjGetErrorCode(j->handle) == TJERR_FATAL)
			return refused(j, tjGetErrorStr2(j->handle));
		snprintf(j->text, sizeof(j->text), "%s", tjGetErrorStr2(j->handle));
		result = ML_JPEG_WARNING;
	}
	if (j->dst.fourcc == ML_NV12)
		write_nv12(j, &how, dst);
	else
		write_yuyv(j, &how, dst);
	return result;
}
