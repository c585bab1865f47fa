// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * app: the plainest program that watches a camera. Prints one line of JSON: how often new pictures came, and how long
 * after their timestamps (start of exposure) they were dequeued. A picture that begins like the one before is no new
 * one, but what a node shows meanwhile: it is counted by itself.
 *
 *   app /dev/videoN FRAMES [FOURCC WIDTH HEIGHT]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 4
#define WARM_UP 40 /* the first ones touch memory that was never used, and find the pace */
#define MARK 640 /* bytes, within which pictures differ: a row of the smallest */
#define PATIENCE_MS 20000

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void need(int fine, const char *what)
{
	if (fine)
		return;
	fprintf(stderr, "app: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int later(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	const unsigned int frames = argc > 2 ? (unsigned int)atoi(argv[2]) : 0;
	struct v4l2_requestbuffers request = { .count = BUFFERS, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP };
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE, fd;
	uint64_t *late = calloc(frames + 1, sizeof(*late)), first = 0, last = 0, bytes = 0;
	const void *pictures[BUFFERS];
	unsigned char mark[MARK] = { 0 };
	unsigned int seen = 0, again = 0;

	need(argc > 2 && frames > 0 && late, "usage");
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	need(fd >= 0, argv[1]);
	if (argc > 5) {
		struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };

		format.fmt.pix.pixelformat = v4l2_fourcc(argv[3][0], argv[3][1], argv[3][2], argv[3][3]);
		format.fmt.pix.width = (uint32_t)atoi(argv[4]);
		format.fmt.pix.height = (uint32_t)atoi(argv[5]);
		need(!ioctl(fd, VIDIOC_S_FMT, &format), "format");
	}
	need(!ioctl(fd, VIDIOC_REQBUFS, &request) && request.count <= BUFFERS, "buffers");
	for (unsigned int k = 0; k < request.count; k++) {
		struct v4l2_buffer b = { .index = k, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP };

		need(!ioctl(fd, VIDIOC_QUERYBUF, &b), "buffer");
		pictures[k] = mmap(NULL, b.length, PROT_READ, MAP_SHARED, fd, b.m.offset);
		need(pictures[k] != MAP_FAILED, "map");
		need(!ioctl(fd, VIDIOC_QBUF, &b), "queue");
	}
	need(!ioctl(fd, VIDIOC_STREAMON, &type), "start");
	while (seen < frames + WARM_UP) {
		struct v4l2_buffer b = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP };
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		uint64_t now, taken;

		need(poll(&ready, 1, PATIENCE_MS) > 0, "no picture came");
		need(!ioctl(fd, VIDIOC_DQBUF, &b), "take");
		now = now_ns();
		taken = (uint64_t)b.timestamp.tv_sec * 1000000000u + (uint64_t)b.timestamp.tv_usec * 1000u;
		if (seen && !memcmp(mark, pictures[b.index], MARK)) {
			again += seen > WARM_UP;
		} else {
			memcpy(mark, pictures[b.index], MARK);
			if (seen < WARM_UP)
				first = now;
			else
				late[seen - WARM_UP] = now - taken;
			last = now;
			seen++;
			bytes += b.bytesused;
		}
		need(!ioctl(fd, VIDIOC_QBUF, &b), "queue");
	}
	qsort(late, frames, sizeof(*late), later);
	printf("{\"frames\": %u, \"again\": %u, \"frames_per_s\": %.3f, \"late_ms\": %.3f, \"late_p99_ms\": %.3f, \"bytes\": %llu, \"cpu_s\": %.3f}\n",
	       frames, again, frames / ((double)(last - first) / 1e9), (double)late[frames / 2] / 1e6,
	       (double)late[frames - 1 - frames / 100] / 1e6, (unsigned long long)bytes, cpu_s());
	return 0;
}
