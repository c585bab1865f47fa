/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tally: counts pictures and how late they are, in windows of time. */
#ifndef TALLY_H
#define TALLY_H

#include <stdint.h>

#define TALLY_MARK 640 /* bytes of a picture that are looked at: a row of the smallest */

struct tally;

/* NULL without memory. The first window begins once the pace is found. */
struct tally *tally_new(unsigned int windows, double seconds);

/*
 * A picture that was dequeued at `now_ns`, of which V4L2 says `taken_ns`. Prints a line of JSON when the first window
 * begins and at the end of each. 0: go on; 1: all windows are over; -1: no new picture came for too long, or too many.
 */
int tally_add(struct tally *tally, const void *picture, uint64_t taken_ns, uint64_t now_ns);

#endif
