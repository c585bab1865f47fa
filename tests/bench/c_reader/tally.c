// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tally: see tally.h. A picture that begins like the one before is no new one, but what a node shows meanwhile: it is
 * counted by itself. A picture that says when it was taken (tests/tools/stamp.py) is believed, else V4L2's timestamp.
 */
#include "tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARM_UP 40 /* pictures: the first ones touch memory that was never used, and find the pace; */
#define WARM_UP_NS 4000000000u /* or so long, where they are slow */
#define PATIENCE_NS 20000000000u /* for a new picture */
#define MOST (1u << 17) /* new pictures in a window */

static const char magic[8] = "mlstamp\n";

struct tally {
	unsigned int windows, frames, again, stamped, warm;
	uint64_t window_ns, began, last;
	unsigned char mark[TALLY_MARK];
	uint64_t late[MOST];
};

struct tally *tally_new(unsigned int windows, double seconds)
{
	struct tally *t = calloc(1, sizeof(*t));

	if (t) {
		t->windows = windows;
		t->window_ns = (uint64_t)(seconds * 1e9);
	}
	return t;
}

static int later(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t taken(struct tally *t, const void *picture, uint64_t taken_ns)
{
	if (memcmp(picture, magic, sizeof(magic)))
		return taken_ns;
	t->stamped++;
	memcpy(&taken_ns, (const unsigned char *)picture + sizeof(magic), sizeof(taken_ns));
	return taken_ns;
}

static void begin(struct tally *t, uint64_t now_ns)
{
	t->frames = t->again = t->stamped = 0;
	t->began = now_ns;
	fflush(stdout);
}

static void report(struct tally *t, uint64_t now_ns)
{
	const double seconds = (double)(now_ns - t->began) / 1e9;

	qsort(t->late, t->frames, sizeof(*t->late), later);
	printf("{\"frames\": %u, \"again\": %u, \"stamped\": %u, \"seconds\": %.6f, \"frames_per_s\": %.3f, "
	       "\"late_ms\": %.3f, \"late_p99_ms\": %.3f}\n",
	       t->frames, t->again, t->stamped, seconds, t->frames / seconds, (double)t->late[t->frames / 2] / 1e6,
	       (double)t->late[t->frames - 1 - t->frames / 100] / 1e6);
}

int tally_add(struct tally *t, const void *picture, uint64_t taken_ns, uint64_t now_ns)
{
	if (t->last && !memcmp(t->mark, picture, TALLY_MARK)) {
		t->again++;
		return now_ns - t->last > PATIENCE_NS ? -1 : 0;
	}
	memcpy(t->mark, picture, TALLY_MARK);
	if (!t->last)
		t->began = now_ns;
	t->last = now_ns;
	if (t->frames == MOST)
		return -1;
	t->late[t->frames++] = now_ns - taken(t, picture, taken_ns);
	if (!t->warm) {
		if (t->frames < WARM_UP && now_ns - t->began < WARM_UP_NS)
			return 0;
		t->warm = t->frames;
		printf("{\"warm_up\": %u}\n", t->warm);
		begin(t, now_ns);
	} else if (now_ns - t->began >= t->window_ns) {
		report(t, now_ns);
		begin(t, now_ns);
		t->windows--;
	}
	return !t->windows;
}
