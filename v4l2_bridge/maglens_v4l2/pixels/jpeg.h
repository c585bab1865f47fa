/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MJPEG frames to NV12 or YUYV. JPEG is full-range BT.601 (JFIF); the node declares limited range of the same
 * matrix, so only the range changes: Y' = 16 + 219/255 Y, C' = 128 + 224/255 (C - 128), rounded to nearest.
 */
#ifndef ML_JPEG_H
#define ML_JPEG_H

#include "image.h"

/* Longest compressed frame looked at: 4:4:4 at 64 megapixels and 2 bits a sample. */
#define ML_JPEG_MAX_BYTES (48u << 20)

enum ml_jpeg_result {
	ML_JPEG_OK,
	ML_JPEG_WARNING, /* the picture is there, the data were damaged: text in ml_jpeg_text() */
	ML_JPEG_ERROR,   /* no picture */
};

struct ml_jpeg;

/* NULL when memory is short. @dst has been checked. */
struct ml_jpeg *ml_jpeg_new(const struct ml_image *dst);
void ml_jpeg_free(struct ml_jpeg *j);

/* Decodes a frame of exactly the size of @dst; on an error dst is left as it was. */
enum ml_jpeg_result ml_jpeg_run(struct ml_jpeg *j, const uint8_t *src, size_t n, uint8_t *dst);
const char *ml_jpeg_text(const struct ml_jpeg *j);

#endif
