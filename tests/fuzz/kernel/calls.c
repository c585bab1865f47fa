// SPDX-License-Identifier: GPL-2.0-or-later
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "run.h"

#define COVER_WORDS (64 << 10)
#define MAP_BITS 18

static uint64_t *cover;
static int kcov = -1;
static uint8_t reached[1 << MAP_BITS];
static unsigned int n_reached;

struct run run;
uint8_t *scratch;

static void reach(uint32_t point)
{
	uint32_t i = (point * 2654435761u) >> (32 - MAP_BITS);

	if (!reached[i]) {
		reached[i] = 1;
		n_reached++;
		run.fresh = true;
	}
}

/* ---- values ---- */

uint8_t byte(void)
{
	return run.at < run.end ? *run.at++ : 0;
}

uint32_t word(void)
{
	uint32_t v = byte();

	return v | byte() << 8 | byte() << 16 | (uint32_t)byte() << 24;
}

uint64_t near(uint64_t n)
{
	static const uint64_t odd[] = {0,	   1,	       2,	   0x7fffffff, 0x80000000,
				       0xffffffff, 0xfffffffe, 1ull << 32, ~0ull,      1ull << 63,
				       4095,	   4096,       65536,	   16384,      16385};
	uint8_t b = byte();

	switch (b & 15) {
	case 0 ... 7:
		return n;
	case 8 ... 9:
		return n + 1;
	case 10:
		return n - 1;
	case 11:
		return n + (int8_t)byte();
	case 12:
		return word();
	default:
		return odd[byte() % (sizeof(odd) / sizeof(odd[0]))];
	}
}

uint64_t address(const void *p)
{
	switch (byte() & 15) {
	case 0:
		return 0;
	case 1:
		return (uintptr_t)scratch + SCRATCH - byte(); /* runs into the faulting page */
	case 2:
		return (uint64_t)word() << 12;
	case 3:
		return run.n_mapped ? (uintptr_t)run.mapping[byte() % run.n_mapped] : 0;
	default:
		return (uintptr_t)p;
	}
}

int one_of(const int *fds, unsigned int n)
{
	return fds[byte() % n];
}

void disturb(void *p, size_t size)
{
	unsigned int n = byte();

	for (n = n < DISTURBED ? 0 : n & 3; n; n--) {
		size_t at = (byte() | byte() << 8) % (size / 4) * 4;
		uint32_t v;

		memcpy(&v, (char *)p + at, 4);
		v = near(v);
		memcpy((char *)p + at, &v, 4);
	}
}

int call(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	/* Without coverage: this call, after that one, with this result. */
	if (kcov < 0)
		reach((uint32_t)request << 8 ^ run.last << 4 ^ (ret < 0 ? errno : 0));
	run.last = _IOC_NR(request) ^ (ret < 0 ? errno << 8 : 0);
	return ret;
}

/* ---- the backend's side ---- */

#define FORMAT(code, w, h, size)                                                              \
	{.fourcc = code, .width = w, .height = h, .bytesperline = size / h, .sizeimage = size, \
	 .colorspace = V4L2_COLORSPACE_SRGB, .n_intervals = 2, .intervals = {{1, 60}, {1, 30}}}

const struct maglens_format formats[N_FORMATS] = {
	FORMAT(V4L2_PIX_FMT_YUYV, 8, 4, 64),
	FORMAT(V4L2_PIX_FMT_NV12, 64, 64, 6144),
	FORMAT(V4L2_PIX_FMT_UYVY, 64, 32, 4096),
	{.fourcc = V4L2_PIX_FMT_MJPEG, .width = 64, .height = 64, .sizeimage = 8192,
	 .colorspace = V4L2_COLORSPACE_JPEG, .n_intervals = 1, .intervals = {{1, 60}}},
};

const struct maglens_menu_item menu[N_MENU] = {{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};

const struct maglens_control controls[N_CONTROLS] = {
	{.id = V4L2_CID_FOCUS_ABSOLUTE, .maximum = 1000, .step = 1},
	{.id = V4L2_CID_FOCUS_AUTO, .maximum = 1, .step = 1},
	{.id = V4L2_CID_AUTO_FOCUS_START},
	{.id = V4L2_CID_AUTO_FOCUS_STATUS, .maximum = 7},
	{.id = V4L2_CID_EXPOSURE_AUTO, .maximum = 3},
	{.id = V4L2_CID_ISO_SENSITIVITY, .n_menu = 4, .maximum = 3, .menu = 1},
	{.id = V4L2_CID_USER_BASE | 0x1050, .type = V4L2_CTRL_TYPE_MENU, .n_menu = 4, .maximum = 3, .menu = 1,
	 .name = "Menu"},
	{.id = V4L2_CID_USER_BASE | 0x1051, .type = V4L2_CTRL_TYPE_BITMASK, .maximum = 0xffffffff,
	 .name = "Mask"},
};

static void do_create(void)
{
	unsigned int i = byte() % CAMERAS;
	struct maglens_format f[COUNT(formats)];
	struct maglens_control c[COUNT(controls)];
	struct maglens_menu_item m[COUNT(menu)];
	struct maglens_input in[2] = {{.name = "0"}, {.name = "1"}};
	struct maglens_create create = {
		.abi_version = near(MAGLENS_ABI_VERSION), .flags = byte() & 1, .card = "Fuzz",
		.camera_id = "fuzz", .n_slots = near(2), .slot_slack = byte() < 200 ? 0 : near(4096),
		.n_formats = near(COUNT(f)), .n_controls = near(COUNT(c)), .n_inputs = near(COUNT(in)),
		.hold_ms = byte(), .video_nr = byte() < 240 ? -1 : (int)near(0)};

	memcpy(f, formats, sizeof(f));
	memcpy(c, controls, sizeof(c));
	memcpy(m, menu, sizeof(m));
	for (size_t j = 0; j < COUNT(c); j++)
		if (c[j].menu)
			c[j].menu = address(m);
	create.formats = address(f);
	create.controls = address(c);
	create.inputs = address(in);
	disturb(&create, sizeof(create));
	disturb(f, sizeof(f));
	disturb(c, sizeof(c));
	disturb(m, sizeof(m));
	disturb(in, sizeof(in));
	if (create.hold_ms >= STRANGE)
		f[byte() % COUNT(f)].fourcc = word();
	if (run.camera[i] < 0)
		run.camera[i] = open("/dev/maglens", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	/* A ring of hundreds of MiB is legal and slow: leave it to the tests. */
	for (size_t j = 0; j < COUNT(f); j++)
		if (f[j].sizeimage <= MAGLENS_MAX_SIZEIMAGE)
			f[j].sizeimage &= 0xfffff;
	if (create.slot_slack <= MAGLENS_MAX_SLACK)
		create.slot_slack &= 0xffff;
	call(run.camera[i], MAGLENS_IOC_CREATE, &create);
}

/* The camera's state as far as the input has asked for it, so that most values fit. */
static unsigned int camera(void)
{
	unsigned int i = byte() < OTHER_CAMERA ? 0 : 1;

	if (byte() & 3) {
		memset(&run.state[i], 0, sizeof(run.state[i]));
		call(run.camera[i], MAGLENS_IOC_STATE, &run.state[i]);
	}
	return i;
}

uint32_t picture(const struct maglens_state *s)
{
	return s->format_index < COUNT(formats) ? formats[s->format_index].sizeimage : 64;
}

static void do_submit(void)
{
	unsigned int i = camera();
	struct maglens_state *s = &run.state[i];
	struct maglens_submit submit = {.flags = byte() & 1, .bytesused = near(picture(s)),
					.format_serial = near(s->format_serial),
					.generation = near(s->generation), .timestamp_ns = near(0)};

	if (submit.flags)
		submit.address = address(scratch);
	else
		submit.slot = near(byte() & 1 ? s->n_slots - 1 : 0);
	disturb(&submit, sizeof(submit));
	call(run.camera[i], MAGLENS_IOC_SUBMIT, &submit);
}

static void do_placeholder(void)
{
	unsigned int i = camera();
	struct maglens_state *s = &run.state[i];
	struct maglens_placeholder p = {.generation = near(s->generation), .bytesused = near(picture(s)),
					.format_serial = near(s->format_serial)};

	p.address = address(scratch);
	disturb(&p, sizeof(p));
	call(run.camera[i], MAGLENS_IOC_PLACEHOLDER, &p);
}

static void do_state(void)
{
	unsigned int i = byte() % CAMERAS;
	struct maglens_state s = {.n_formats = near(4), .n_controls = near(8), .n_inputs = near(2)};

	s.formats = address(scratch);
	s.controls = address(scratch);
	s.inputs = address(scratch);
	disturb(&s, sizeof(s));
	if (!call(run.camera[i], MAGLENS_IOC_STATE, &s))
		run.state[i] = s;
}

static void do_adopt(void)
{
	struct maglens_adopt a = {.abi_version = near(MAGLENS_ABI_VERSION)};

	disturb(&a, sizeof(a));
	call(one_of(run.camera, CAMERAS), MAGLENS_IOC_ADOPT, &a);
}

static void do_push(void)
{
	unsigned int i = camera();
	const struct maglens_control *c = &controls[byte() % COUNT(controls)];
	struct maglens_push p = {.generation = near(run.state[i].generation), .id = c->id, .what = byte() & 15,
				 .minimum = near(c->minimum), .maximum = near(c->maximum),
				 .step = near(c->step), .default_value = near(c->default_value),
				 .value = near(c->maximum), .active = byte() & 1};

	disturb(&p, sizeof(p));
	call(run.camera[i], MAGLENS_IOC_PUSH, &p);
}

static void do_input(void)
{
	unsigned int i = camera();
	struct maglens_input_push p = {.generation = near(run.state[i].generation), .index = near(1),
				       .what = byte() & 3, .input = {.name = "x", .status = near(byte() & 0x33)}};

	disturb(&p, sizeof(p));
	call(run.camera[i], MAGLENS_IOC_INPUT, &p);
}

static void do_format(void)
{
	unsigned int i = camera();
	struct maglens_format_push p = {.generation = near(run.state[i].generation),
					.format_index = near(byte() % COUNT(formats))};

	if (byte() & 1)
		p.interval = (struct maglens_fract){1, near(30)};
	disturb(&p, sizeof(p));
	call(run.camera[i], MAGLENS_IOC_FORMAT, &p);
}

static void do_read(void)
{
	int fd = byte() & 3 ? one_of(run.camera, CAMERAS) : one_of(run.video, VIDEOS);
	size_t room = near(sizeof(struct maglens_event)) & 0xffff;
	ssize_t n = byte() & 15 ? read(fd, (void *)(uintptr_t)address(scratch), room) : write(fd, scratch, room);

	run.last = n < 0 ? errno : n;
}

static void do_poll(void)
{
	struct pollfd p[CAMERAS + VIDEOS];

	for (int i = 0; i < CAMERAS + VIDEOS; i++)
		p[i] = (struct pollfd){.fd = i < CAMERAS ? run.camera[i] : run.video[i - CAMERAS],
				       .events = POLLIN | POLLPRI | POLLOUT};
	poll(p, CAMERAS + VIDEOS, 0);
}

static void do_map(void)
{
	bool ring = byte() & 1;
	unsigned int i = camera();
	int fd = ring ? run.camera[i] : one_of(run.video, VIDEOS);
	size_t size = near(ring ? run.state[i].ring_size : picture(&run.state[i])) & 0xfffffff;
	off_t offset = near((uint64_t)byte() << 12) & 0xffffffff;
	void *p;

	if (run.n_mapped == MAPPINGS)
		return;
	p = mmap(NULL, size, byte() & 1 ? PROT_READ | PROT_WRITE : PROT_READ,
		 byte() < 240 ? MAP_SHARED : MAP_PRIVATE, fd, offset);
	if (p == MAP_FAILED)
		return;
	run.mapping[run.n_mapped] = p;
	run.mapped[run.n_mapped++] = size;
}

static void do_unmap(void)
{
	if (!run.n_mapped)
		return;
	run.n_mapped--;
	munmap(run.mapping[run.n_mapped], run.mapped[run.n_mapped]);
}

static void do_raw(void)
{
	int fd = byte() & 1 ? one_of(run.camera, CAMERAS) : one_of(run.video, VIDEOS);
	unsigned long request = _IOC(byte() & 3, byte() & 1 ? 'm' : 'V', byte(), near(64) & 0x3fff);

	for (int i = 0; i < 256; i++)
		scratch[i] = byte();
	call(fd, request, (void *)(uintptr_t)address(scratch));
}

static void do_close(void)
{
	unsigned int i = byte() % (CAMERAS + VIDEOS);
	int *fd = i < CAMERAS ? &run.camera[i] : &run.video[i - CAMERAS];

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Rarely, since it costs as much as hundreds of calls. */
static void do_nap(void)
{
	if (byte() < NAP_CHANCE && run.naps++ < MAX_NAPS)
		usleep(NAP_US);
}

/* ---- a run ---- */

static void (*const calls[])(void) = {
	do_poll,   do_submit, do_submit, do_core,   do_placeholder, do_state, do_adopt,	  do_push,
	do_push,   do_input,  do_format, do_read,   do_create,	    do_map,   do_unmap,	  do_raw,
	do_close,  do_nap,    do_open,	 do_open,   do_fmt,	    do_enum,  do_parm,	  do_buffers,
	do_buffer, do_buffer, do_buffer, do_stream, do_export,	    do_event, do_control, do_control,
};

void calls_init(void)
{
	scratch = mmap(NULL, SCRATCH + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (scratch == MAP_FAILED || mprotect(scratch + SCRATCH, 4096, PROT_NONE)) {
		perror("scratch memory");
		exit(2);
	}
	kcov = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (kcov < 0)
		return;
	if (ioctl(kcov, KCOV_INIT_TRACE, COVER_WORDS)) {
		perror("KCOV_INIT_TRACE");
		exit(2);
	}
	cover = mmap(NULL, COVER_WORDS * sizeof(*cover), PROT_READ | PROT_WRITE, MAP_SHARED, kcov, 0);
	if (cover == MAP_FAILED || ioctl(kcov, KCOV_ENABLE, KCOV_TRACE_PC)) {
		perror("KCOV_ENABLE");
		exit(2);
	}
}

const char *calls_guide(void)
{
	return kcov < 0 ? "errors" : "coverage";
}

unsigned int calls_reached(void)
{
	return n_reached;
}

/* Most programs want a camera, an application and its buffers; the input says how far it starts. */
static void prologue(void)
{
	static const uint8_t plain[64];
	const uint8_t *at = run.at, *end = run.end;
	unsigned int depth = byte() & 7;
	struct maglens_format f[COUNT(formats)];

	at = run.at;
	run.at = plain;
	run.end = plain + sizeof(plain);
	if (depth) {
		struct maglens_input in[2] = {{.name = "0"}, {.name = "1"}};
		struct maglens_control c[COUNT(controls)];
		struct maglens_create create = {
			.abi_version = MAGLENS_ABI_VERSION, .card = "Fuzz", .camera_id = "fuzz", .n_slots = 2,
			.n_formats = COUNT(formats), .n_controls = COUNT(c), .n_inputs = 2, .video_nr = -1,
			.formats = (uintptr_t)f, .controls = (uintptr_t)c, .inputs = (uintptr_t)in};

		memcpy(f, formats, sizeof(f));
		if (depth == STRANGE_DEPTH)
			f[COUNT(f) - 2].fourcc = v4l2_fourcc('f', 'u', 'z', 'z');
		memcpy(c, controls, sizeof(c));
		for (size_t i = 0; i < COUNT(c); i++)
			if (c[i].menu)
				c[i].menu = (uintptr_t)menu;
		run.camera[0] = open("/dev/maglens", O_RDWR | O_NONBLOCK | O_CLOEXEC);
		call(run.camera[0], MAGLENS_IOC_CREATE, &create);
		call(run.camera[0], MAGLENS_IOC_STATE, &run.state[0]);
	}
	if (depth > 1) {
		char path[32];

		snprintf(path, sizeof(path), "/dev/video%d", run.state[0].video_nr);
		run.video[0] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		/* As every application begins. */
		for (uint32_t i = 0; i < COUNT(formats); i++)
			call(run.video[0], VIDIOC_ENUM_FMT,
			     &(struct v4l2_fmtdesc){.index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE});
	}
	if (depth > 2) {
		struct v4l2_requestbuffers req = {.count = 3, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
						  .memory = V4L2_MEMORY_MMAP};
		int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

		call(run.video[0], VIDIOC_REQBUFS, &req);
		for (unsigned int i = 0; i < 3; i++)
			call(run.video[0], VIDIOC_QBUF,
			     &(struct v4l2_buffer){.index = i, .type = type, .memory = V4L2_MEMORY_MMAP});
		call(run.video[0], VIDIOC_STREAMON, &type);
	}
	run.at = at;
	run.end = end;
}

bool calls_run(const uint8_t *bytes, size_t length)
{
	memset(&run, 0, sizeof(run));
	run.at = bytes;
	run.end = bytes + length;
	run.shared = -1;
	for (int i = 0; i < CAMERAS; i++)
		run.camera[i] = -1;
	for (int i = 0; i < VIDEOS; i++)
		run.video[i] = -1;
	if (kcov >= 0)
		__atomic_store_n(&cover[0], 0, __ATOMIC_RELAXED);

	prologue();
	for (int n = 0; run.at < run.end && n < MAX_CALLS; n++)
		calls[byte() % COUNT(calls)]();

	while (run.n_mapped)
		do_unmap();
	if (run.shared >= 0)
		close(run.shared);
	for (int i = 0; i < CAMERAS; i++)
		if (run.camera[i] >= 0)
			close(run.camera[i]);
	for (int i = 0; i < VIDEOS; i++)
		if (run.video[i] >= 0)
			close(run.video[i]);

	if (kcov >= 0) {
		uint64_t n = __atomic_load_n(&cover[0], __ATOMIC_RELAXED);
		uint32_t previous = 0;

		for (uint64_t i = 0; i < n && i + 1 < COVER_WORDS; i++) {
			reach((uint32_t)cover[i + 1] ^ previous);
			previous = (uint32_t)cover[i + 1] >> 1;
		}
	}
	return run.fresh;
}
