/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turning a picture by quarters, and mirroring it: for cameras that were mounted so. NV12 only. */
#ifndef ML_TURN_H
#define ML_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"

/*
 * Writes @src, turned @quarters times by 90 degrees clockwise (0 to 3) and then, with @mirror, left to right, as @dst:
 * as wide as @src is high where @quarters is odd. Every pixel is one of @src's.
 */
void ml_turn(const struct ml_image *im, const uint8_t *src, const struct ml_image *to, uint8_t *dst, int quarters,
	     bool mirror);

#endif
