/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel tests' programs share: a camera to test with, the two sides of it, TAP output.
 * A failure of the surroundings (no device, no memory) ends the program with die(); a failure of
 * what is tested is a check() that fails.
 */
#ifndef MAGLENS_TEST_LIB_H
#define MAGLENS_TEST_LIB_H

#include <linux/videodev2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maglens.h"

#define FOCUS V4L2_CID_FOCUS_ABSOLUTE
#define LAMP (V4L2_CID_USER_BASE | 0x1050) /* private, boolean */
#define GRID (V4L2_CID_USER_BASE | 0x1051) /* private, menu */
#define MASK (V4L2_CID_USER_BASE | 0x1052) /* private, two bits */
#define MAX_BUFFERS 8

/* The formats of camera_default(), in order. */
enum { YUYV_VGA, YUYV_720, YUYV_1080, NV12_VGA, NV12_1080, MJPG_VGA, TINY, N_FORMATS };

/* A backend: its camera, and the ring mapped. */
struct backend {
	int fd;
	struct maglens_create info;
	uint8_t *ring;
	uint32_t serial; /* format_serial of the frames to come */
	uint32_t format;
	uint32_t slot;
};

/* An application: an open video device, with or without buffers. */
struct reader {
	int fd;
	unsigned int n;
	void *data[MAX_BUFFERS];
	size_t length[MAX_BUFFERS];
};

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void);
void nap_ms(unsigned int ms);
int xioctl(int fd, unsigned long request, void *arg); /* 0 or -errno */

/* TAP. check() prints one numbered line and returns @ok. */
bool check(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
int tap_end(void); /* prints the plan; the exit status */

const struct maglens_format *test_formats(void);
void camera_fill(struct maglens_create *create, uint32_t flags);
int camera_create(struct backend *b, struct maglens_create *create); /* 0 or -errno; opens @b */
void camera_open(struct backend *b, uint32_t flags);		     /* dies on failure */
void camera_close(struct backend *b);
void camera_state(const struct backend *b, struct maglens_state *state);
void backend_sync(struct backend *b); /* takes format and serial from STATE */
int backend_submit(struct backend *b, uint32_t bytes, struct maglens_submit *out);
int backend_frame(struct backend *b); /* a whole frame of the current format */
bool backend_event(const struct backend *b, int timeout_ms, struct maglens_event *ev);

int video_open(const struct backend *b, int flags); /* waits for the node to appear */
void reader_open(struct reader *r, const struct backend *b);
int reader_format(struct reader *r, uint32_t fourcc, uint32_t width, uint32_t height);
int reader_calm(struct reader *r); /* a frame a second, so that the filler keeps out of what is measured */
int reader_buffers(struct reader *r, unsigned int n); /* REQBUFS and mmap; 0 or -errno */
int reader_queue(struct reader *r, unsigned int index);
int reader_start(struct reader *r, unsigned int n);
int reader_take(struct reader *r, int timeout_ms, struct v4l2_buffer *buf); /* DQBUF; -ETIME */
void reader_stop(struct reader *r);
void reader_close(struct reader *r);

#endif
