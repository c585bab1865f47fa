/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moves the pixels of an NV12 picture by a table made beforehand, and makes them brighter by one.
 *
 * Each pixel of the result says where in the source it comes from, in 256ths of a pixel, and by how much it is
 * brighter, in 4096ths; it is put together of its four neighbours there. Luma and chroma have a table each.
 */
#ifndef ML_REMAP_H
#define ML_REMAP_H

#include <stddef.h>
#include <stdint.h>

#define ML_REMAP_ONE 256   /* a pixel */
#define ML_REMAP_GAIN 4096 /* as bright as before */

/* Where one pixel comes from: byte offset in its plane (negative: nowhere, black), fractions, gain. */
struct ml_remap_entry {
	int32_t at;
	uint8_t fx, fy;
	uint16_t gain;
};

struct ml_remap {
	int32_t width, height;         /* of the picture, both even and at least 4 */
	int32_t src_stride, dst_stride; /* bytes */
	struct ml_remap_entry *luma;   /* width x height */
	struct ml_remap_entry *chroma; /* half of each */
};

/*
 * Fills @table (@w x @h entries) from positions @x and @y in 256ths of a pixel, negative for nowhere, and @gain. Positions
 * beyond the last pixel are taken for the last ones that have four neighbours. @step: bytes from one pixel to the next.
 */
void ml_remap_fill(struct ml_remap_entry *table, int32_t w, int32_t h, int32_t stride, int32_t step,
		   const int32_t *x, const int32_t *y, const uint16_t *gain);

void ml_remap_run(const struct ml_remap *m, const uint8_t *src, uint8_t *dst);

#endif
