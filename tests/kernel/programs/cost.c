// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a SUBMIT costs: of a 1080p frame to 1, 2 and 4 readers, of a 64-byte frame, and a memcpy of the
 * same frame in user space, from the slot it is submitted from to a buffer of the reader's, so that
 * the caches are as cold for both. In turns, so that a busy machine hits all alike. Median and tenth
 * percentile of each, in microseconds, as one JSON object; the ratio is of medians, and another of tenth
 * percentiles, which a busy machine disturbs less.
 */
#include "lib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 300
#define READERS 4

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

struct figure {
	double median_us, tenth_us;
};

static struct figure figure_of(uint64_t *ns)
{
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	return (struct figure){ ns[ROUNDS / 2] / 1000.0, ns[ROUNDS / 10] / 1000.0 };
}

static void print(const char *name, struct figure f)
{
	printf("\"%s\": {\"median\": %.1f, \"tenth\": %.1f}, ", name, f.median_us, f.tenth_us);
}

static void attach(struct reader *r, struct backend *b, uint32_t width, uint32_t height)
{
	int ret;

	reader_open(r, b);
	ret = reader_format(r, V4L2_PIX_FMT_YUYV, width, height);
	if (!ret)
		ret = reader_calm(r);
	if (!ret)
		ret = reader_start(r, 4);
	if (ret) {
		errno = -ret;
		die("starting a reader");
	}
	backend_sync(b);
}

static void recycle(struct reader *r)
{
	struct v4l2_buffer buf;

	while (!reader_take(r, 0, &buf))
		reader_queue(r, buf.index);
}

static uint64_t timed_submit(struct backend *b, struct reader *r, int readers, uint32_t bytes)
{
	uint64_t begin, end;
	struct maglens_submit s;
	int ret;

	for (int i = 0; i < readers; i++)
		recycle(&r[i]);
	begin = now_ns();
	ret = backend_submit(b, bytes, &s);
	end = now_ns();
	if (ret || s.delivered != (uint32_t)readers) {
		errno = -ret;
		die("SUBMIT reached %u of %d readers", s.delivered, readers);
	}
	return end - begin;
}

int main(void)
{
	static uint64_t small[ROUNDS], large[ROUNDS], copy[ROUNDS];
	uint32_t size = test_formats()[YUYV_1080].sizeimage;
	struct backend tiny, full;
	struct reader small_reader, r[READERS];
	struct figure of_small = {0}, of_large[READERS + 1] = {0}, of_copy = {0};

	camera_open(&tiny, 0);
	camera_open(&full, 0);
	attach(&small_reader, &tiny, 8, 4);
	for (int n = 1; n <= READERS; n++) {
		attach(&r[n - 1], &full, 1920, 1080);
		if (n == 3)
			continue;
		for (unsigned int i = 0; i < full.info.n_slots; i++)
			memset(full.ring + (size_t)i * full.info.slot_size, i, size);
		for (int i = 0; i < ROUNDS; i++) {
			/* The slot and the buffer that have rested longest, as SUBMIT's. */
			const uint8_t *from = full.ring + (size_t)((full.slot + 1) % full.info.n_slots) *
							  full.info.slot_size;
			uint8_t *to = r[0].data[(i + 1) % r[0].n];
			uint64_t begin = now_ns();

			memcpy(to, from, size);
			copy[i] = now_ns() - begin;
			__asm__ volatile("" ::"r"(to) : "memory");
			small[i] = timed_submit(&tiny, &small_reader, 1, test_formats()[TINY].sizeimage);
			large[i] = timed_submit(&full, r, n, size);
		}
		of_large[n] = figure_of(large);
		if (n == 1) {
			of_small = figure_of(small);
			of_copy = figure_of(copy);
		}
	}
	printf("{");
	print("memcpy_us", of_copy);
	print("submit_64_bytes_us", of_small);
	print("submit_1080p_us", of_large[1]);
	print("submit_1080p_2_readers_us", of_large[2]);
	print("submit_1080p_4_readers_us", of_large[4]);
	printf("\"ratio\": %.3f, \"ratio_of_tenths\": %.3f}\n",
	       (of_large[1].median_us - of_small.median_us) / of_copy.median_us,
	       (of_large[1].tenth_us - of_small.tenth_us) / of_copy.tenth_us);
	return 0;
}
