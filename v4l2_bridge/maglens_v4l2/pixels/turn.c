/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "turn.h"

#include <stddef.h>
#include <string.h>

/* Cells on a side of the tiles that are turned one after the other: their source rows stay in the cache. */
#define TILE 32

/* Where the destination's first cell comes from, in cells, and what one step right and one step down add to that. */
struct walk {
	ptrdiff_t start, right, down;
};

static struct walk walk_of(int32_t w, int32_t h, ptrdiff_t stride, int quarters, bool mirror)
{
	const struct walk by_quarters[4] = {
		{ 0, 1, stride },
		{ (h - 1) * stride, -stride, 1 },
		{ (h - 1) * stride + w - 1, -1, -stride },
		{ w - 1, stride, -1 },
	};
	struct walk walk = by_quarters[quarters];

	if (mirror) {
		walk.start += ((quarters % 2 ? h : w) - 1) * walk.right;
		walk.right = -walk.right;
	}
	return walk;
}

static int32_t least(int32_t a, int32_t b)
{
	return a < b ? a : b;
}

/* One plane of cells of @type, @w x @h of them in the destination. Strides are in cells. */
#define DEFINE_TURN(name, type)                                                                                        \
	static void name(const type *src, const struct walk *walk, type *dst, int32_t w, int32_t h, ptrdiff_t stride)  \
	{                                                                                                              \
		for (int32_t ty = 0; ty < h; ty += TILE) {                                                             \
			const int32_t bottom = least(ty + TILE, h);                                                    \
                                                                                                                       \
			for (int32_t tx = 0; tx < w; tx += TILE) {                                                     \
				const int32_t edge = least(tx + TILE, w);                                              \
                                                                                                                       \
				for (int32_t y = ty; y < bottom; y++) {                                                \
					const type *from = src + walk->start + y * walk->down + tx * walk->right;      \
					type *out = dst + y * stride;                                                  \
                                                                                                                       \
					for (int32_t x = tx; x < edge; x++, from += walk->right)                       \
						out[x] = *from;                                                        \
				}                                                                                      \
			}                                                                                              \
		}                                                                                                      \
	}

DEFINE_TURN(turn_luma, uint8_t)
DEFINE_TURN(turn_pairs, uint16_t)

void ml_turn(const struct ml_image *im, const uint8_t *src, const struct ml_image *to, uint8_t *dst, int quarters,
	     bool mirror)
{
	const ptrdiff_t from = im->stride, out = to->stride;
	const struct walk luma = walk_of(im->width, im->height, from, quarters, mirror);
	const struct walk pairs = walk_of(im->width / 2, im->height / 2, from / 2, quarters, mirror);

	turn_luma(src, &luma, dst, to->width, to->height, out);
	turn_pairs((const uint16_t *)(const void *)(src + from * im->height), &pairs,
		   (uint16_t *)(void *)(dst + out * to->height), to->width / 2, to->height / 2, out / 2);
}
