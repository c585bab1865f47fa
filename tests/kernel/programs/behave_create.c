// SPDX-License-Identifier: GPL-2.0-or-later
/* Creation: what is refused; the ring, and readers' buffers. */
#include "behave.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void try_create(const char *what, int want, const struct maglens_create *create)
{
	struct maglens_create c = *create;
	struct backend b;
	int ret = camera_create(&b, &c);

	check(ret == want, "create: %s gives %s", what, want ? strerror(-want) : "a camera");
	if (!ret)
		camera_close(&b);
}

void test_create_refuses(void)
{
	struct maglens_create good, c;
	struct maglens_format f;
	struct maglens_control ctrl[2];
	struct maglens_input in = {.name = "Only"};

#define REFUSED(what, error, change)           \
	do {                                   \
		c = good;                      \
		change;                        \
		try_create(what, -(error), &c); \
	} while (0)

	camera_fill(&good, 0);
	try_create("the test camera", 0, &good);
	REFUSED("another ABI version", EPROTONOSUPPORT, c.abi_version++);
	REFUSED("an unknown flag", EINVAL, c.flags = 1u << 31);
	REFUSED("a reserved field", EINVAL, c.reserved[3] = 1);
	REFUSED("no name", EINVAL, c.card[0] = 0);
	REFUSED("an unterminated name", EINVAL, memset(c.card, 'x', sizeof(c.card)));
	REFUSED("an unterminated bus_info", EINVAL, memset(c.bus_info, 'x', sizeof(c.bus_info)));
	REFUSED("bytes behind the name", EINVAL, c.card[sizeof(c.card) - 1] = 'x');
	REFUSED("bytes behind an empty bus_info", EINVAL, c.bus_info[1] = 'x');
	REFUSED("a slash in the id", EINVAL, strcpy(c.camera_id, "../evil"));
	REFUSED("no id", EINVAL, c.camera_id[0] = 0);
	REFUSED("one slot", EINVAL, c.n_slots = MAGLENS_MIN_SLOTS - 1);
	REFUSED("too many slots", EINVAL, c.n_slots = MAGLENS_MAX_SLOTS + 1);
	REFUSED("too much slack", EINVAL, c.slot_slack = MAGLENS_MAX_SLACK + 1);
	REFUSED("no formats", EINVAL, c.n_formats = 0);
	REFUSED("too many formats", EINVAL, c.n_formats = MAGLENS_MAX_FORMATS + 1);
	REFUSED("too many controls", EINVAL, c.n_controls = MAGLENS_MAX_CONTROLS + 1);
	REFUSED("no inputs", EINVAL, c.n_inputs = 0);
	REFUSED("too many inputs", EINVAL, c.n_inputs = MAGLENS_MAX_INPUTS + 1);
	REFUSED("a bad address", EFAULT, c.formats = 16);
	REFUSED("a bad address of controls", EFAULT, c.controls = 16);
	REFUSED("a bad address of inputs", EFAULT, c.inputs = 16);
	REFUSED("an absurd video_nr", EINVAL, c.video_nr = MAGLENS_MAX_VIDEO_NR + 1);

#define FORMAT_REFUSED(what, change)               \
	do {                                       \
		f = test_formats()[0];             \
		c = good;                          \
		change;                            \
		c.formats = (uintptr_t)&f;         \
		c.n_formats = 1;                   \
		try_create(what, -EINVAL, &c);     \
	} while (0)

	FORMAT_REFUSED("fourcc 0", f.fourcc = 0);
	FORMAT_REFUSED("width 0", f.width = 0);
	FORMAT_REFUSED("a width over the ceiling", f.width = MAGLENS_MAX_DIMENSION + 1);
	FORMAT_REFUSED("sizeimage 0", f.sizeimage = 0);
	FORMAT_REFUSED("a sizeimage over the ceiling", f.sizeimage = MAGLENS_MAX_SIZEIMAGE + 1);
	FORMAT_REFUSED("lines longer than the picture", f.bytesperline = f.sizeimage);
	FORMAT_REFUSED("no interval", f.n_intervals = 0);
	FORMAT_REFUSED("too many intervals", f.n_intervals = MAGLENS_MAX_INTERVALS + 1);
	FORMAT_REFUSED("a zero denominator", f.intervals[1].denominator = 0);
	FORMAT_REFUSED("a million frames per second", f.intervals[0].denominator = 1000000);
	FORMAT_REFUSED("an hour per frame", f.intervals[0].numerator = 3600 * 30);
	FORMAT_REFUSED("a ring over the ceiling", (f.sizeimage = 255u << 20, c.n_slots = 8));
	{
		struct maglens_format twice[2] = {test_formats()[0], test_formats()[0]};

		REFUSED("one format twice", EINVAL, (c.formats = (uintptr_t)twice, c.n_formats = 2));
	}

#define CONTROL_REFUSED(what, n, ...)                                                          \
	do {                                                                                   \
		memset(ctrl, 0, sizeof(ctrl));                                                 \
		ctrl[0] = (struct maglens_control){__VA_ARGS__};                               \
		ctrl[1] = ctrl[0];                                                             \
		c = good;                                                                      \
		c.controls = (uintptr_t)ctrl;                                                  \
		c.n_controls = n;                                                              \
		try_create("control: " what, -EINVAL, &c);                                     \
	} while (0)

	CONTROL_REFUSED("the same id twice", 2, .id = FOCUS, .maximum = 9, .step = 1);
	CONTROL_REFUSED("a class", 1, .id = V4L2_CID_CAMERA_CLASS);
	CONTROL_REFUSED("an unknown id that is not private", 1, .id = V4L2_CID_USER_BASE + 900,
			.type = 1, .maximum = 9, .step = 1, .name = "X");
	CONTROL_REFUSED("a private id without a name", 1, .id = LAMP, .type = 2, .maximum = 1, .step = 1);
	CONTROL_REFUSED("a string", 1, .id = LAMP, .type = V4L2_CTRL_TYPE_STRING, .maximum = 9, .step = 1,
			.name = "X");
	CONTROL_REFUSED("a wrong type for a standard id", 1, .id = FOCUS, .type = V4L2_CTRL_TYPE_BOOLEAN,
			.maximum = 1, .step = 1);
	CONTROL_REFUSED("no step", 1, .id = FOCUS, .maximum = 9);
	CONTROL_REFUSED("minimum over maximum", 1, .id = FOCUS, .minimum = 10, .maximum = 9, .step = 1);
	CONTROL_REFUSED("a default out of range", 1, .id = FOCUS, .maximum = 9, .step = 1,
			.default_value = 10);
	CONTROL_REFUSED("more than 32 bits", 1, .id = FOCUS, .maximum = 1ll << 40, .step = 1);
	CONTROL_REFUSED("a menu beyond V4L2's", 1, .id = V4L2_CID_EXPOSURE_AUTO, .maximum = 4);
	CONTROL_REFUSED("an integer menu without items", 1, .id = V4L2_CID_ISO_SENSITIVITY, .maximum = 2);
	CONTROL_REFUSED("a menu over the ceiling", 1, .id = V4L2_CID_ISO_SENSITIVITY, .maximum = 2,
			.n_menu = MAGLENS_MAX_MENU + 1);
	CONTROL_REFUSED("a default that the menu skips", 1, .id = V4L2_CID_EXPOSURE_AUTO, .maximum = 3,
			.default_value = 1, .menu_skip_mask = 2);
	CONTROL_REFUSED("a volatile one", 1, .id = FOCUS, .maximum = 9, .step = 1,
			.flags = V4L2_CTRL_FLAG_VOLATILE);
	c = good;
	c.inputs = (uintptr_t)&in;
	c.n_inputs = 1;
	in.reserved[2] = 1;
	try_create("an input with a reserved field", -EINVAL, &c);
	in = (struct maglens_input){.name = "Only", .status = 0x80};
	try_create("an input with a status V4L2 does not know", -EINVAL, &c);
	in = (struct maglens_input){.name = "Only\0x"};
	try_create("an input with bytes behind its name", -EINVAL, &c);
}

static long tainted(void)
{
	char text[32] = "";
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		die("/proc/sys/kernel/tainted");
	close(fd);
	return atol(text);
}

/* A fourcc that V4L2 has no name for: it would warn at each ENUM_FMT, had the camera none either. */
void test_unknown_format(void)
{
	struct maglens_format f[2] = {test_formats()[YUYV_VGA], test_formats()[MJPG_VGA]};
	long before = tainted();
	struct maglens_create c;
	struct backend b;
	int fd;

	f[0].fourcc = v4l2_fourcc('m', 'a', 'g', '0');
	f[1].fourcc = v4l2_fourcc('m', 'a', 'g', '1');
	camera_fill(&c, 0);
	c.formats = (uintptr_t)f;
	c.n_formats = 2;
	if (camera_create(&b, &c))
		die("CREATE with unknown formats");
	fd = video_open(&b, O_NONBLOCK);
	for (int i = 0; i < 2; i++) {
		struct v4l2_fmtdesc desc = {.index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
		bool compressed;

		check(!xioctl(fd, VIDIOC_ENUM_FMT, &desc) && desc.pixelformat == f[i].fourcc &&
		      !strncmp((char *)desc.description, (char *)&f[i].fourcc, 4),
		      "formats: one that V4L2 does not know is called %.31s", desc.description);
		compressed = desc.flags & V4L2_FMT_FLAG_COMPRESSED;
		check(compressed == !f[i].bytesperline, "formats: and is told to be %s",
		      compressed ? "compressed" : "raw");
	}
	check(tainted() == before, "formats: the kernel does not warn of it");
	close(fd);
	camera_close(&b);
}

void test_ring(void)
{
	struct maglens_create c;
	struct backend b;
	long page = sysconf(_SC_PAGESIZE);
	uint32_t largest = test_formats()[YUYV_1080].sizeimage;
	void *p;

	camera_fill(&c, 0);
	camera_create(&b, &c);
	check(c.slot_size % page == 0 && c.slot_size >= largest + page,
	      "ring: a slot has at least a page behind the largest picture");
	check(c.ring_size == (uint64_t)c.slot_size * c.n_slots, "ring: its size is that of its slots");
	b.ring[c.ring_size - 1] = 7;
	check(b.ring[c.ring_size - 1] == 7, "ring: its last byte is ours to write");
	p = mmap(NULL, c.ring_size + page, PROT_READ, MAP_SHARED, b.fd, 0);
	check(p == MAP_FAILED, "ring: a mapping longer than it is refused");
	p = mmap(NULL, page, PROT_READ, MAP_SHARED, b.fd, c.ring_size);
	check(p == MAP_FAILED, "ring: a mapping behind it is refused");
	p = mmap(NULL, page, PROT_READ, MAP_PRIVATE, b.fd, 0);
	check(p == MAP_FAILED, "ring: a private mapping is refused");
	check(xioctl(b.fd, MAGLENS_IOC_CREATE, &c) == -EEXIST, "create: one camera per file");
	camera_close(&b);
}

/* CREATE_BUFS for one buffer of so many bytes: 0 or -errno. */
static int create_buffer(const struct reader *r, uint32_t bytes)
{
	struct v4l2_create_buffers create = {
		.count = 1,
		.memory = V4L2_MEMORY_MMAP,
		.format = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .fmt.pix.sizeimage = bytes},
	};

	return xioctl(r->fd, VIDIOC_CREATE_BUFS, &create);
}

#define ROUNDS 5
#define MANY 32

/* What one process does, for another to see. */
struct making {
	int round;
	uint64_t took[ROUNDS]; /* ns to make MANY buffers */
};

static int make_often(const struct reader *r, volatile struct making *making)
{
	struct v4l2_requestbuffers req = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start = now_ns();

		req.count = MANY;
		making->round = i;
		if (xioctl(r->fd, VIDIOC_REQBUFS, &req) || req.count != MANY)
			return 1;
		making->took[i] = now_ns() - start;
		req.count = 0;
		if (xioctl(r->fd, VIDIOC_REQBUFS, &req))
			return 1;
	}
	return 0;
}

/* While one process makes buffers, another's STATE does not wait for all of them. */
static void test_buffers_in_the_making(void)
{
	volatile struct making *making = mmap(NULL, sizeof(*making), PROT_READ | PROT_WRITE,
					      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t longest[ROUNDS] = {0};
	struct maglens_state st;
	int quick = 0, status;
	struct backend b;
	struct reader r;
	pid_t pid;

	camera_open(&b, 0);
	reader_open(&r, &b);
	reader_format(&r, V4L2_PIX_FMT_YUYV, 1920, 1080);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(make_often(&r, making));
	while (!waitpid(pid, &status, WNOHANG)) {
		int round = making->round;
		uint64_t took = now_ns();

		camera_state(&b, &st);
		took = now_ns() - took;
		longest[round] = took > longest[round] ? took : longest[round];
	}
	check(WIFEXITED(status) && !WEXITSTATUS(status), "buffers: %d of them, %d times", MANY, ROUNDS);
	for (int i = 0; i < ROUNDS; i++)
		quick += longest[i] * 2 < making->took[i];
	/* A machine that is busy otherwise may hold up one or two. */
	check(quick * 2 > ROUNDS, "buffers: STATE does not wait for them, %d of %d times (%u of %u ms)", quick, ROUNDS,
	      (unsigned int)(longest[0] / 1000000), (unsigned int)(making->took[0] / 1000000));
	camera_state(&b, &st);
	check(!st.holders, "buffers: and none are left that lock the format");
	reader_close(&r);
	camera_close(&b);
	munmap((void *)making, sizeof(*making));
}

void test_buffers(void)
{
	struct v4l2_buffer buf = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
	uint32_t most = 2 * test_formats()[YUYV_1080].sizeimage; /* twice the largest format */
	uint32_t least = test_formats()[NV12_VGA].sizeimage;
	struct maglens_state st;
	struct backend b;
	struct reader r;

	camera_open(&b, 0);
	reader_open(&r, &b);
	reader_format(&r, V4L2_PIX_FMT_NV12, 640, 480);
	check(create_buffer(&r, least - 1) == -EINVAL, "buffers: none that its format does not fit");
	check(create_buffer(&r, most + 1) == -EINVAL, "buffers: none over twice the largest format");
	check(create_buffer(&r, MAGLENS_MAX_SIZEIMAGE) == -EINVAL,
	      "buffers: not even as large as another camera's picture may be");
	camera_state(&b, &st);
	check(st.holders == 0, "buffers: one that was refused locks no format");
	check(!create_buffer(&r, most), "buffers: twice the largest format is given");
	check(!create_buffer(&r, least), "buffers: and one that just fits");
	check(!xioctl(r.fd, VIDIOC_QUERYBUF, &buf) && buf.length >= most,
	      "buffers: the first is as long as was asked");
	camera_state(&b, &st);
	check(st.holders == 1, "buffers: its reader is a holder now");
	reader_close(&r);
	camera_close(&b);
	test_buffers_in_the_making();
}

void test_before_create(void)
{
	int fd = open("/dev/maglens", O_RDWR | O_NONBLOCK);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct maglens_state state = {0};
	struct maglens_event ev;

	check(xioctl(fd, MAGLENS_IOC_STATE, &state) == -ENODEV, "before CREATE: STATE gives ENODEV");
	check(read(fd, &ev, sizeof(ev)) < 0 && errno == ENODEV, "before CREATE: read gives ENODEV");
	check(poll(&p, 1, 0) == 1 && p.revents & POLLERR, "before CREATE: poll says POLLERR");
	check(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED, "before CREATE: no mmap");
	check(xioctl(fd, _IO('m', 0xff), NULL) == -ENOTTY, "an unknown ioctl gives ENOTTY");
	close(fd);
}
