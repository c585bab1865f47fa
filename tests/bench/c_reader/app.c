// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * app: the plainest program that watches a camera. Prints a line of JSON once it has found its pace, and another at the
 * end of each window of time: how often new pictures came, and how long after the start of their exposure they were
 * dequeued (see tally.c).
 *
 *   app /dev/videoN WINDOWS SECONDS [FOURCC WIDTH HEIGHT]
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
#include <time.h>
#include <unistd.h>

#include "tally.h"

#define BUFFERS 4
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

int main(int argc, char **argv)
{
	struct v4l2_requestbuffers request = { .count = BUFFERS, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP };
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE, fd, over = 0;
	const void *pictures[BUFFERS];
	struct tally *tally;

	need(argc > 3 && atoi(argv[2]) > 0, "usage");
	tally = tally_new((unsigned int)atoi(argv[2]), atof(argv[3]));
	need(tally != NULL, "memory");
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	need(fd >= 0, argv[1]);
	if (argc > 6) {
		struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };

		format.fmt.pix.pixelformat = v4l2_fourcc(argv[4][0], argv[4][1], argv[4][2], argv[4][3]);
		format.fmt.pix.width = (uint32_t)atoi(argv[5]);
		format.fmt.pix.height = (uint32_t)atoi(argv[6]);
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
	while (!over) {
		struct v4l2_buffer b = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP };
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		uint64_t now;

		need(poll(&ready, 1, PATIENCE_MS) > 0, "no picture came");
		need(!ioctl(fd, VIDIOC_DQBUF, &b), "take");
		now = now_ns();
		over = tally_add(tally, pictures[b.index],
				 (uint64_t)b.timestamp.tv_sec * 1000000000u + (uint64_t)b.timestamp.tv_usec * 1000u, now);
		need(over >= 0, "no new picture came, or too many");
		need(!ioctl(fd, VIDIOC_QBUF, &b), "queue");
	}
	return 0;
}
