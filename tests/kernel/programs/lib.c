// SPDX-License-Identifier: GPL-2.0-or-later
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define NODE_WAIT_MS 5000
#define SLOTS 4
#define INTERVALS {{1, 30}, {1, 15}, {1, 1}}

static int tests, failures;

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("Bail out! ");
	vprintf(format, args);
	printf(" (%s)\n", strerror(errno));
	va_end(args);
	exit(2);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void nap_ms(unsigned int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000l};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

int xioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(fd, request, arg);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

bool check(bool ok, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("%s %d - ", ok ? "ok" : "not ok", ++tests);
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
	failures += !ok;
	return ok;
}

int tap_end(void)
{
	printf("1..%d\n", tests);
	fflush(stdout);
	return failures > 0;
}

#define RAW(code, w, h, line, size)                                                                  \
	{.fourcc = V4L2_PIX_FMT_##code, .width = w, .height = h, .bytesperline = line,               \
	 .sizeimage = size, .colorspace = V4L2_COLORSPACE_SRGB, .n_intervals = 3, .intervals = INTERVALS}

static const struct maglens_format formats[N_FORMATS] = {
	[YUYV_VGA] = RAW(YUYV, 640, 480, 1280, 640 * 480 * 2),
	[YUYV_720] = RAW(YUYV, 1280, 720, 2560, 1280 * 720 * 2),
	[YUYV_1080] = RAW(YUYV, 1920, 1080, 3840, 1920 * 1080 * 2),
	[NV12_VGA] = RAW(NV12, 640, 480, 640, 640 * 480 * 3 / 2),
	[NV12_1080] = RAW(NV12, 1920, 1080, 1920, 1920 * 1080 * 3 / 2),
	[MJPG_VGA] = {.fourcc = V4L2_PIX_FMT_MJPEG, .width = 640, .height = 480,
		      .sizeimage = 640 * 480 * 2, .colorspace = V4L2_COLORSPACE_JPEG,
		      .n_intervals = 3, .intervals = INTERVALS},
	[TINY] = RAW(YUYV, 8, 4, 16, 64), /* 64 bytes: what a SUBMIT costs besides the copy */
};

static const struct maglens_menu_item grid_menu[] = {{.name = "Off"}, {.name = "Thirds"}, {.name = "Golden"}};
static const struct maglens_menu_item iso_menu[] = {{.value = 100}, {.value = 200}, {.value = 400}};

static struct maglens_control controls[] = {
	{.id = V4L2_CID_BRIGHTNESS, .minimum = 0, .maximum = 255, .step = 1, .default_value = 128},
	{.id = V4L2_CID_GAIN, .minimum = 0, .maximum = 100, .step = 1},
	{.id = V4L2_CID_AUTO_WHITE_BALANCE, .maximum = 1, .step = 1, .default_value = 1},
	{.id = V4L2_CID_WHITE_BALANCE_TEMPERATURE, .minimum = 2800, .maximum = 6500, .step = 10,
	 .default_value = 4600},
	{.id = V4L2_CID_EXPOSURE_AUTO, .maximum = 3, .default_value = 3, .menu_skip_mask = 0},
	{.id = V4L2_CID_EXPOSURE_ABSOLUTE, .minimum = 1, .maximum = 2047, .step = 1, .default_value = 166},
	{.id = FOCUS, .minimum = 0, .maximum = 1023, .step = 1},
	{.id = V4L2_CID_FOCUS_AUTO, .maximum = 1, .step = 1, .default_value = 1},
	{.id = V4L2_CID_AUTO_FOCUS_START},
	{.id = V4L2_CID_AUTO_FOCUS_STATUS, .maximum = 7},
	{.id = V4L2_CID_ISO_SENSITIVITY, .n_menu = 3, .maximum = 2},
	{.id = LAMP, .type = V4L2_CTRL_TYPE_BOOLEAN, .maximum = 1, .step = 1, .name = "Module Lamp"},
	{.id = GRID, .type = V4L2_CTRL_TYPE_MENU, .n_menu = 3, .maximum = 2, .name = "Module Grid"},
	{.id = MASK, .type = V4L2_CTRL_TYPE_BITMASK, .maximum = 5, .name = "Module Mask"},
};

static const struct maglens_input inputs[] = {
	{.name = "Automatic"},
	{.name = "35 mm", .status = V4L2_IN_ST_NO_SIGNAL},
	{.name = "73 mm"},
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

const struct maglens_format *test_formats(void)
{
	return formats;
}

void camera_fill(struct maglens_create *create, uint32_t flags)
{
	for (size_t i = 0; i < COUNT(controls); i++) {
		if (controls[i].id == V4L2_CID_ISO_SENSITIVITY)
			controls[i].menu = (uintptr_t)iso_menu;
		if (controls[i].id == GRID)
			controls[i].menu = (uintptr_t)grid_menu;
	}
	*create = (struct maglens_create){
		.abi_version = MAGLENS_ABI_VERSION,
		.flags = flags,
		.card = "Kernel Test Camera",
		.camera_id = "kernel-test_1.0",
		.n_slots = SLOTS,
		.n_formats = COUNT(formats),
		.n_controls = COUNT(controls),
		.n_inputs = COUNT(inputs),
		.hold_ms = 500,
		.video_nr = -1,
		.formats = (uintptr_t)formats,
		.controls = (uintptr_t)controls,
		.inputs = (uintptr_t)inputs,
	};
}

int camera_create(struct backend *b, struct maglens_create *create)
{
	int ret;

	*b = (struct backend){.fd = open("/dev/maglens", O_RDWR | O_NONBLOCK | O_CLOEXEC)};
	if (b->fd < 0)
		die("/dev/maglens");
	ret = xioctl(b->fd, MAGLENS_IOC_CREATE, create);
	if (ret) {
		close(b->fd);
		b->fd = -1;
		return ret;
	}
	b->info = *create;
	b->ring = mmap(NULL, create->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	if (b->ring == MAP_FAILED)
		die("mapping the ring");
	backend_sync(b);
	return 0;
}

void camera_open(struct backend *b, uint32_t flags)
{
	struct maglens_create create;
	int ret;

	camera_fill(&create, flags);
	ret = camera_create(b, &create);
	if (ret) {
		errno = -ret;
		die("CREATE");
	}
}

void camera_close(struct backend *b)
{
	if (b->ring)
		munmap(b->ring, b->info.ring_size);
	if (b->fd >= 0)
		close(b->fd);
	b->ring = NULL;
	b->fd = -1;
}

void camera_state(const struct backend *b, struct maglens_state *state)
{
	memset(state, 0, sizeof(*state));
	if (xioctl(b->fd, MAGLENS_IOC_STATE, state))
		die("STATE");
}

void backend_sync(struct backend *b)
{
	struct maglens_state state;

	camera_state(b, &state);
	b->format = state.format_index;
	b->serial = state.format_serial;
}

int backend_submit(struct backend *b, uint32_t bytes, struct maglens_submit *out)
{
	struct maglens_submit s = {
		.slot = b->slot,
		.bytesused = bytes,
		.format_serial = b->serial,
		.generation = b->info.generation,
	};
	int ret = xioctl(b->fd, MAGLENS_IOC_SUBMIT, &s);

	if (out)
		*out = s;
	if (!ret)
		b->slot = (b->slot + 1) % b->info.n_slots;
	return ret;
}

int backend_frame(struct backend *b)
{
	return backend_submit(b, formats[b->format].sizeimage, NULL);
}

bool backend_event(const struct backend *b, int timeout_ms, struct maglens_event *ev)
{
	struct pollfd p = {.fd = b->fd, .events = POLLIN};

	if (poll(&p, 1, timeout_ms) != 1)
		return false;
	return read(b->fd, ev, sizeof(*ev)) == sizeof(*ev);
}

int video_open(const struct backend *b, int flags)
{
	uint64_t deadline = now_ns() + NODE_WAIT_MS * 1000000ull;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/video%d", b->info.video_nr);
	/* devtmpfs makes the node from a thread of its own. */
	while ((fd = open(path, O_RDWR | O_CLOEXEC | flags)) < 0 && now_ns() < deadline)
		nap_ms(1);
	if (fd < 0)
		die("%s", path);
	return fd;
}

void reader_open(struct reader *r, const struct backend *b)
{
	*r = (struct reader){.fd = video_open(b, O_NONBLOCK)};
}

int reader_format(struct reader *r, uint32_t fourcc, uint32_t width, uint32_t height)
{
	struct v4l2_format f = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};

	f.fmt.pix.pixelformat = fourcc;
	f.fmt.pix.width = width;
	f.fmt.pix.height = height;
	return xioctl(r->fd, VIDIOC_S_FMT, &f);
}

int reader_calm(struct reader *r)
{
	struct v4l2_streamparm parm = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};

	parm.parm.capture.timeperframe = (struct v4l2_fract){1, 1};
	return xioctl(r->fd, VIDIOC_S_PARM, &parm);
}

int reader_buffers(struct reader *r, unsigned int n)
{
	struct v4l2_requestbuffers req = {
		.count = n, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
	int ret;

	for (unsigned int i = 0; i < r->n; i++)
		munmap(r->data[i], r->length[i]);
	r->n = 0;
	ret = xioctl(r->fd, VIDIOC_REQBUFS, &req);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < req.count && i < MAX_BUFFERS; i++) {
		struct v4l2_buffer buf = {
			.index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};

		ret = xioctl(r->fd, VIDIOC_QUERYBUF, &buf);
		if (ret)
			return ret;
		r->length[i] = buf.length;
		r->data[i] = mmap(NULL, buf.length, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
				  buf.m.offset);
		if (r->data[i] == MAP_FAILED)
			return -errno;
		r->n++;
	}
	return 0;
}

int reader_queue(struct reader *r, unsigned int index)
{
	struct v4l2_buffer buf = {
		.index = index, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};

	return xioctl(r->fd, VIDIOC_QBUF, &buf);
}

int reader_start(struct reader *r, unsigned int n)
{
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	int ret = reader_buffers(r, n);

	for (unsigned int i = 0; i < r->n && !ret; i++)
		ret = reader_queue(r, i);
	return ret ? ret : xioctl(r->fd, VIDIOC_STREAMON, &type);
}

int reader_take(struct reader *r, int timeout_ms, struct v4l2_buffer *buf)
{
	struct pollfd p = {.fd = r->fd, .events = POLLIN};

	if (timeout_ms && poll(&p, 1, timeout_ms) != 1)
		return -ETIME;
	*buf = (struct v4l2_buffer){.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
	return xioctl(r->fd, VIDIOC_DQBUF, buf);
}

void reader_stop(struct reader *r)
{
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

	xioctl(r->fd, VIDIOC_STREAMOFF, &type);
	reader_buffers(r, 0);
}

void reader_close(struct reader *r)
{
	for (unsigned int i = 0; i < r->n; i++)
		munmap(r->data[i], r->length[i]);
	if (r->fd >= 0)
		close(r->fd);
	*r = (struct reader){.fd = -1};
}
