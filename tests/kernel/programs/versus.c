// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The same job on our camera and on v4l2loopback: a 1080p frame that lies in the producer's memory is handed over, and
 * each of 1, 2 and 4 readers dequeues it and queues its buffer again. Ours is one SUBMIT; v4l2loopback's is DQBUF, a
 * memcpy into the buffer and QBUF (write() does the same and takes longer). Since v4l2loopback has one reader per
 * device, the others have devices of their own there.
 *
 * Usage: versus ROUNDS DEVICE...  (four of them, empty v4l2loopback devices)
 * One JSON object: "1", "2", "4" -> {"ours": [us...], "loopback": [us...], "memcpy": [us...]}, round by round in turns;
 * "second_reader": what v4l2loopback answers a second reader's STREAMON or REQBUFS with, an errno or 0.
 */
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define READERS 4
#define BUFFERS 4
#define MAX_ROUNDS 1000

/* A v4l2loopback device as its producer sees it. */
struct loopback {
	int fd;
	void *data[BUFFERS];
	unsigned int handed; /* frames so far */
	struct reader reader;
};

static struct v4l2_buffer output_buffer(unsigned int index)
{
	return (struct v4l2_buffer){
		.index = index, .type = V4L2_BUF_TYPE_VIDEO_OUTPUT, .memory = V4L2_MEMORY_MMAP};
}

static void loopback_open(struct loopback *l, const char *path, uint32_t size)
{
	struct v4l2_format f = {.type = V4L2_BUF_TYPE_VIDEO_OUTPUT};
	struct v4l2_requestbuffers req = {
		.count = BUFFERS, .type = V4L2_BUF_TYPE_VIDEO_OUTPUT, .memory = V4L2_MEMORY_MMAP};
	int type = V4L2_BUF_TYPE_VIDEO_OUTPUT;

	l->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (l->fd < 0)
		die("%s", path);
	f.fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
	f.fmt.pix.width = 1920;
	f.fmt.pix.height = 1080;
	if (xioctl(l->fd, VIDIOC_S_FMT, &f) || f.fmt.pix.sizeimage != size ||
	    xioctl(l->fd, VIDIOC_REQBUFS, &req) || req.count != BUFFERS)
		die("%s: format and buffers", path);
	for (unsigned int i = 0; i < BUFFERS; i++) {
		struct v4l2_buffer buf = output_buffer(i);

		if (xioctl(l->fd, VIDIOC_QUERYBUF, &buf))
			die("%s: QUERYBUF", path);
		l->data[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, buf.m.offset);
		if (l->data[i] == MAP_FAILED)
			die("%s: mmap", path);
	}
	if (xioctl(l->fd, VIDIOC_STREAMON, &type))
		die("%s: STREAMON", path);
}

static void loopback_reader(struct reader *r, const char *path)
{
	*r = (struct reader){.fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)};
	if (r->fd < 0)
		die("%s, to read", path);
}

static void take(struct reader *r, const char *whose)
{
	struct v4l2_buffer buf;

	if (reader_take(r, 0, &buf) || reader_queue(r, buf.index))
		die("%s reader got no frame", whose);
}

static double ours_us(struct backend *b, struct reader *readers, int n, uint32_t size)
{
	uint64_t begin = now_ns();
	struct maglens_submit s;

	if (backend_submit(b, size, &s) || s.delivered != (uint32_t)n)
		die("SUBMIT reached %u of %d readers", s.delivered, n);
	for (int i = 0; i < n; i++)
		take(&readers[i], "our");
	return (now_ns() - begin) / 1000.0;
}

static double loopback_us(struct loopback *devices, int n, const void *frame, uint32_t size)
{
	uint64_t begin = now_ns();

	for (struct loopback *l = devices; l < devices + n; l++) {
		/* The first frames go into buffers that nobody has had yet. */
		struct v4l2_buffer buf = output_buffer(l->handed);

		if (l->handed++ >= BUFFERS && xioctl(l->fd, VIDIOC_DQBUF, &buf))
			die("v4l2loopback has no free buffer");
		memcpy(l->data[buf.index], frame, size);
		buf.bytesused = size;
		buf.field = V4L2_FIELD_NONE;
		if (xioctl(l->fd, VIDIOC_QBUF, &buf))
			die("queueing to v4l2loopback");
		take(&l->reader, "v4l2loopback's");
	}
	return (now_ns() - begin) / 1000.0;
}

static double memcpy_us(void *to, const void *from, uint32_t size)
{
	uint64_t begin = now_ns();

	memcpy(to, from, size);
	__asm__ volatile("" ::"r"(to) : "memory");
	return (now_ns() - begin) / 1000.0;
}

static void print_list(const char *name, const double *us, unsigned int n, const char *end)
{
	printf("\"%s\": [", name);
	for (unsigned int i = 0; i < n; i++)
		printf("%s%.1f", i ? ", " : "", us[i]);
	printf("]%s", end);
}

int main(int argc, char **argv)
{
	static double ours[MAX_ROUNDS], theirs[MAX_ROUNDS], copy[MAX_ROUNDS];
	uint32_t size = test_formats()[YUYV_1080].sizeimage;
	unsigned int rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
	struct loopback devices[READERS] = {0};
	struct reader readers[READERS], second;
	struct backend b;
	int refused;

	if (argc != 2 + READERS || !rounds || rounds > MAX_ROUNDS) {
		fprintf(stderr, "usage: versus ROUNDS DEVICE DEVICE DEVICE DEVICE\n");
		return 2;
	}
	camera_open(&b, 0);
	for (int i = 0; i < READERS; i++) {
		reader_open(&readers[i], &b);
		if (reader_format(&readers[i], V4L2_PIX_FMT_YUYV, 1920, 1080) || reader_calm(&readers[i]))
			die("our format");
		loopback_open(&devices[i], argv[2 + i], size);
		loopback_reader(&devices[i].reader, argv[2 + i]);
		if (reader_start(&devices[i].reader, BUFFERS))
			die("%s: streaming", argv[2 + i]);
	}
	loopback_reader(&second, argv[2]);
	refused = -reader_start(&second, BUFFERS);
	reader_close(&second);
	backend_sync(&b);
	for (unsigned int i = 0; i < b.info.n_slots; i++)
		memset(b.ring + (size_t)i * b.info.slot_size, i, size);

	printf("{\"second_reader\": %d", refused);
	for (int n = 1; n <= READERS; n *= 2) {
		for (int i = n / 2; i < n; i++)
			if (reader_start(&readers[i], BUFFERS))
				die("our reader %d", i);
		for (unsigned int i = 0; i < rounds; i++) {
			const void *frame = b.ring + (size_t)b.slot * b.info.slot_size;

			copy[i] = memcpy_us(readers[0].data[(i + 1) % readers[0].n],
					    b.ring + (size_t)((b.slot + 2) % b.info.n_slots) * b.info.slot_size, size);
			/* Whoever comes second finds the frame in the cache. */
			if (i & 1)
				theirs[i] = loopback_us(devices, n, frame, size);
			ours[i] = ours_us(&b, readers, n, size);
			if (!(i & 1))
				theirs[i] = loopback_us(devices, n, frame, size);
		}
		printf(", \"%d\": {", n);
		print_list("ours", ours, rounds, ", ");
		print_list("loopback", theirs, rounds, ", ");
		print_list("memcpy", copy, rounds, "}");
	}
	printf("}\n");
	return 0;
}
