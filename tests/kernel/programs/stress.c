// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Everything at once, and over and over. TAP; the sanitizers of the kernel it runs on are the
 * other half of the verdict.
 *
 * Usage: stress SEED KILLS CYCLES
 *   SEED    of every random choice
 *   KILLS   how often the backend is killed and its camera adopted, while all stream
 *   CYCLES  of creating and destroying a camera
 *
 * Every frame carries the same mark at its head and at its tail: {generation, number}. A reader
 * that sees two different ones has been shown a torn picture, one that sees a generation go
 * down has been shown a stale one.
 */
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define READERS 4
#define STORMS 2
#define LIFE_MS 250	    /* of a backend before it is killed */
#define REMOVALS 20	    /* cameras removed with files open */
#define MAX_FAULTS 2000	    /* allocations that may fail in turn before CREATE must succeed */
#define READER_PATIENCE_MS 2000

struct mark {
	uint64_t generation;
	uint64_t number;
};

/* What the crowd is told, in memory that all of them share. */
struct word {
	int stop;  /* end */
	int pause; /* readers: let go of your buffers, so that the format can change */
};

static const unsigned char black[3] = {0x10, 0x80, 0};

/* A picture the kernel made up: no mark in it. */
static bool is_black(const uint8_t *data, uint32_t bytes)
{
	return data[0] == black[0] && (data[bytes - 1] == black[1] || data[bytes - 1] == black[0]);
}

static unsigned int any(unsigned int *state, unsigned int n)
{
	return rand_r(state) % n;
}

/* ---- the parts of the crowd: each a process, exit status 0 if all was well ---- */

/* Where a reader's complaint is printed: TAP output as a comment. */
static int complain(const char *what, long a, long b)
{
	printf("# pid %d: %s (%ld, %ld)\n", getpid(), what, a, b);
	fflush(stdout);
	return 1;
}

static int check_frame(const struct reader *r, const struct v4l2_buffer *buf, struct mark *last)
{
	const uint8_t *data = r->data[buf->index];
	struct mark head, tail;

	if (buf->flags & V4L2_BUF_FLAG_ERROR)
		return complain("a frame flagged as erroneous", buf->sequence, 0);
	if (is_black(data, buf->bytesused))
		return 0;
	memcpy(&head, data, sizeof(head));
	memcpy(&tail, data + buf->bytesused - sizeof(tail), sizeof(tail));
	if (memcmp(&head, &tail, sizeof(head)))
		return complain("a torn frame", head.number, tail.number);
	if (head.generation < last->generation)
		return complain("a frame of an earlier generation", head.generation, last->generation);
	*last = head;
	return 0;
}

static int stream_once(struct reader *r, unsigned int *seed, struct mark *last, const volatile struct word *word)
{
	unsigned int frames = any(seed, 30);
	uint64_t stamp = 0;
	uint32_t sequence = 0;
	int kept = -1;
	int ret = reader_start(r, 2 + any(seed, 5));

	if (ret)
		return complain("starting", ret, 0);
	for (unsigned int i = 0; i < frames && !word->pause; i++) {
		struct v4l2_buffer buf;
		uint64_t t;

		ret = reader_take(r, READER_PATIENCE_MS, &buf);
		if (ret)
			return complain("waiting for a frame", ret, i);
		t = buf.timestamp.tv_sec * 1000000ull + buf.timestamp.tv_usec;
		if (i && (t <= stamp || buf.sequence <= sequence))
			return complain("timestamp or sequence went back", t - stamp, buf.sequence);
		stamp = t;
		sequence = buf.sequence;
		if (check_frame(r, &buf, last))
			return 1;
		/* Now and then a buffer is kept for a frame, so that fewer are queued. */
		if (kept >= 0)
			reader_queue(r, kept);
		kept = any(seed, 4) ? -1 : (int)buf.index;
		if (kept < 0)
			reader_queue(r, buf.index);
	}
	if (any(seed, 3))
		reader_stop(r);
	return 0;
}

static int reader_process(const struct backend *b, unsigned int seed, const volatile struct word *word)
{
	struct mark last = {0};
	struct reader r = {.fd = -1};
	int ret = 0;

	while (!word->stop && !ret) {
		if (word->pause) {
			nap_ms(1);
			continue;
		}
		if (r.fd < 0)
			reader_open(&r, b);
		ret = stream_once(&r, &seed, &last, word);
		if (any(&seed, 3) == 0)
			reader_close(&r);
		else
			reader_stop(&r);
	}
	reader_close(&r);
	return ret;
}

static int storm_process(const struct backend *b, unsigned int seed, const volatile struct word *word)
{
	static const uint32_t ids[] = {FOCUS, V4L2_CID_GAIN, V4L2_CID_BRIGHTNESS, LAMP, GRID,
				       V4L2_CID_AUTO_FOCUS_START, V4L2_CID_EXPOSURE_AUTO};
	int fd = video_open(b, O_NONBLOCK);

	while (!word->stop) {
		struct v4l2_control c = {.id = ids[any(&seed, sizeof(ids) / sizeof(ids[0]))],
					 .value = any(&seed, 1024)};
		struct v4l2_event_subscription sub = {.type = V4L2_EVENT_CTRL, .id = c.id};
		struct v4l2_event ev;

		xioctl(fd, VIDIOC_S_CTRL, &c);
		if (any(&seed, 8) == 0)
			xioctl(fd, any(&seed, 2) ? VIDIOC_SUBSCRIBE_EVENT : VIDIOC_UNSUBSCRIBE_EVENT, &sub);
		while (!xioctl(fd, VIDIOC_DQEVENT, &ev))
			;
	}
	close(fd);
	return 0;
}

/* Changes format, interval and input; of every few times one when nobody holds buffers, so that it is truly changed. */
static int chooser_process(const struct backend *b, unsigned int seed, volatile struct word *word)
{
	struct maglens_state state;
	struct reader r;

	reader_open(&r, b);
	while (!word->stop) {
		const struct maglens_format *f = &test_formats()[any(&seed, NV12_VGA + 1)];
		struct v4l2_streamparm parm = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
		int input = any(&seed, 3);
		int ret;

		word->pause = !any(&seed, 20);
		for (;;) {
			camera_state(b, &state);
			if (!word->pause || !state.holders || word->stop)
				break;
			nap_ms(1);
		}
		ret = reader_format(&r, f->fourcc, f->width, f->height);

		if (ret)
			return complain("S_FMT", ret, 0);
		parm.parm.capture.timeperframe = (struct v4l2_fract){1, any(&seed, 2) ? 30 : 15};
		xioctl(r.fd, VIDIOC_S_PARM, &parm);
		ret = xioctl(r.fd, VIDIOC_S_INPUT, &input);
		if (ret && ret != -EBUSY)
			return complain("S_INPUT", ret, 0);
		word->pause = 0;
		nap_ms(any(&seed, 20));
	}
	reader_close(&r);
	return 0;
}

/* The format may change under any of them. */
static bool is_overtaken(int ret)
{
	return ret == -EREMCHG || ret == -EMSGSIZE;
}

/* What a backend does besides: a black placeholder, so that the filler's picture needs no mark; an input's status. */
static void tell(const struct backend *b, uint8_t *picture, uint32_t bytes, unsigned int *seed)
{
	struct maglens_placeholder p = {.generation = b->info.generation, .format_serial = b->serial,
					.address = (uintptr_t)picture, .bytesused = any(seed, 4) ? bytes : 0};
	struct maglens_input_push in = {.generation = b->info.generation, .index = any(seed, 3),
					.what = MAGLENS_INPUT_STATUS,
					.input.status = any(seed, 2) ? V4L2_IN_ST_NO_SIGNAL : 0};
	int ret;

	if (!any(seed, 8)) {
		memset(picture, black[0], bytes);
		ret = xioctl(b->fd, MAGLENS_IOC_PLACEHOLDER, &p);
		if (ret && !is_overtaken(ret))
			_exit(complain("PLACEHOLDER", ret, bytes));
	}
	ret = xioctl(b->fd, MAGLENS_IOC_INPUT, &in);
	if (ret)
		_exit(complain("INPUT", ret, in.index));
}

/* From the ring, or every fourth by address. */
static int show(struct backend *b, uint8_t *picture, uint32_t bytes, const struct mark *mark)
{
	struct maglens_submit s = {.flags = MAGLENS_SUBMIT_ADDRESS, .address = (uintptr_t)picture, .bytesused = bytes,
				   .format_serial = b->serial, .generation = b->info.generation};
	bool by_address = mark->number % 4 == 3;
	uint8_t *to = by_address ? picture : b->ring + (size_t)b->slot * b->info.slot_size;

	memcpy(to, mark, sizeof(*mark));
	memcpy(to + bytes - sizeof(*mark), mark, sizeof(*mark));
	return by_address ? xioctl(b->fd, MAGLENS_IOC_SUBMIT, &s) : backend_submit(b, bytes, NULL);
}

/* Adopts the camera behind @fd and shows marked frames; never returns. */
static _Noreturn void backend_process(struct backend b, unsigned int seed)
{
	struct maglens_adopt adopt = {.abi_version = MAGLENS_ABI_VERSION};
	uint8_t *picture = malloc(b.info.slot_size);
	uint64_t number = 0;

	if (!picture)
		_exit(complain("memory", errno, 0));
	if (xioctl(b.fd, MAGLENS_IOC_ADOPT, &adopt))
		_exit(complain("ADOPT", errno, 0));
	b.info.generation = adopt.generation;
	for (;;) {
		struct maglens_push push = {.generation = adopt.generation, .id = FOCUS,
					    .what = MAGLENS_PUSH_VALUE, .value = any(&seed, 1024)};
		struct maglens_state state;
		struct maglens_event ev;
		struct mark mark = {adopt.generation, number++};
		uint32_t bytes;
		int ret;

		while (backend_event(&b, 0, &ev))
			;
		camera_state(&b, &state);
		b.format = state.format_index;
		b.serial = state.format_serial;
		while (b.slot == state.held_slot)
			b.slot = any(&seed, b.info.n_slots);
		bytes = test_formats()[b.format].sizeimage;
		tell(&b, picture, bytes, &seed);
		ret = show(&b, picture, bytes, &mark);
		if (ret && ret != -EREMCHG)
			_exit(complain("SUBMIT", ret, 0));
		xioctl(b.fd, MAGLENS_IOC_PUSH, &push);
		push.what = MAGLENS_PUSH_ACTIVE;
		push.active = any(&seed, 2);
		xioctl(b.fd, MAGLENS_IOC_PUSH, &push);
		nap_ms(any(&seed, 40));
	}
}

/* ---- the tests ---- */

static void test_crowd(unsigned int seed, int kills)
{
	volatile struct word *word = mmap(NULL, sizeof(*word), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[READERS + STORMS + 1], backend;
	int n = 0, failed = 0, status;
	struct maglens_state state;
	struct backend b;

	camera_open(&b, 0);
	fflush(stdout);
	for (; n < READERS + STORMS + 1; n++) {
		pids[n] = fork();
		if (pids[n])
			continue;
		if (n < READERS)
			_exit(reader_process(&b, seed + n, word));
		if (n < READERS + STORMS)
			_exit(storm_process(&b, seed + n, word));
		_exit(chooser_process(&b, seed + n, word));
	}
	for (int i = 0; i < kills; i++) {
		backend = fork();
		if (!backend)
			backend_process(b, seed + 100 + i);
		nap_ms(LIFE_MS);
		kill(backend, SIGKILL);
		waitpid(backend, &status, 0);
		failed += !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	check(!failed, "crowd: %d backends lived until they were killed", kills);
	check(syscall(SYS_delete_module, "maglens", O_NONBLOCK) < 0 && (errno == EAGAIN || errno == EBUSY),
	      "crowd: the module cannot be removed while in use");
	word->stop = 1;
	failed = 0;
	for (int i = 0; i < n; i++) {
		waitpid(pids[i], &status, 0);
		failed += !(WIFEXITED(status) && !WEXITSTATUS(status));
	}
	check(!failed, "crowd: no reader, storm or chooser met an error (%d did)", failed);
	camera_state(&b, &state);
	check(!state.openers && !state.holders && !state.streamers, "crowd: all counts are back to none");
	check(state.format_serial > (uint32_t)kills / 5 + 1, "crowd: the format changed %u times", state.format_serial - 1);
	printf("# submitted %llu delivered %llu dropped %llu filled %llu stale %llu mismatched %llu\n",
	       (unsigned long long)state.counters.submitted, (unsigned long long)state.counters.delivered,
	       (unsigned long long)state.counters.dropped, (unsigned long long)state.counters.filled,
	       (unsigned long long)state.counters.stale, (unsigned long long)state.counters.mismatched);
	camera_close(&b);
	munmap((void *)word, sizeof(*word));
}

/* The camera goes while readers stream: they must end by themselves, with the right error. */
static void test_removed_while_open(unsigned int seed)
{
	int failed = 0;

	for (int round = 0; round < REMOVALS; round++) {
		pid_t pids[READERS];
		struct backend b;

		camera_open(&b, 0);
		fflush(stdout);
		for (int i = 0; i < READERS; i++) {
			pids[i] = fork();
			if (!pids[i]) {
				struct v4l2_buffer buf;
				struct reader r;
				int ret;

				reader_open(&r, &b);
				camera_close(&b);
				ret = reader_start(&r, 3);
				while (!ret) {
					ret = reader_take(&r, READER_PATIENCE_MS, &buf);
					if (!ret)
						reader_queue(&r, buf.index);
				}
				if (i & 1)
					reader_close(&r);
				_exit(ret == -ENODEV || ret == -EIO ? 0 : complain("removal", ret, i));
			}
		}
		nap_ms(rand_r(&seed) % 60);
		camera_close(&b);
		for (int i = 0; i < READERS; i++) {
			int status;

			waitpid(pids[i], &status, 0);
			/* One that opened too late dies of it, with status 2: no node any more. */
			failed += !WIFEXITED(status) || WEXITSTATUS(status) == 1;
		}
	}
	check(!failed, "removal: %d cameras removed under %d readers each", REMOVALS, READERS);
}

/* Lets faults into allocations that may sleep, and keeps the kernel from telling of each. */
static void tune_faults(void)
{
	static const char *const kinds[] = {"failslab", "fail_page_alloc"};
	static const char *const knobs[][2] = {
		{"ignore-gfp-wait", "N"}, {"ignore-gfp-highmem", "N"}, {"min-order", "0"}, {"verbose", "0"}};

	for (int kind = 0; kind < 2; kind++) {
		for (int knob = 0; knob < 4; knob++) {
			char path[128];
			int fd;

			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", kinds[kind], knobs[knob][0]);
			fd = open(path, O_WRONLY | O_CLOEXEC);
			if (fd < 0) /* each kind has only some of them */
				continue;
			if (write(fd, knobs[knob][1], 1) != 1)
				die("%s", path);
			close(fd);
		}
	}
}

/* Each allocation on CREATE's way fails once. A count that is left over says that there was none to fail any more. */
static void test_failing_allocations(void)
{
	char path[] = "/proc/thread-self/fail-nth";
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct maglens_create create;
	int n, harmless = 0, left = 0, ret = 0;

	if (fd < 0) {
		check(true, "failing allocations # SKIP this kernel cannot inject faults");
		return;
	}
	tune_faults();
	for (n = 1; n < MAX_FAULTS && !left; n++) {
		int backend = open("/dev/maglens", O_RDWR | O_CLOEXEC);
		char text[16] = "";

		camera_fill(&create, 0);
		snprintf(text, sizeof(text), "%d", n);
		if (pwrite(fd, text, strlen(text), 0) < 0)
			die("%s", path);
		ret = xioctl(backend, MAGLENS_IOC_CREATE, &create);
		if (pread(fd, text, sizeof(text) - 1, 0) < 0 || pwrite(fd, "0", 1, 0) < 0)
			die("%s", path);
		left = atoi(text);
		close(backend);
		harmless += !ret && !left;
		if (ret && ret != -ENOMEM && ret != -EFAULT && ret != -EINVAL)
			printf("# CREATE with failing allocation %d: %s\n", n, strerror(-ret));
	}
	close(fd);
	check(left && !ret, "failing allocations: CREATE bore the failure of each of %d, %d of them without harm", n - 2,
	      harmless);
}

static void test_cycles(int cycles)
{
	int done = 0;

	for (; done < cycles; done++) {
		struct maglens_create create;
		int fd = open("/dev/maglens", O_RDWR | O_CLOEXEC);

		camera_fill(&create, 0);
		create.n_formats = 1;
		if (fd < 0 || xioctl(fd, MAGLENS_IOC_CREATE, &create))
			break;
		close(fd);
	}
	check(done == cycles, "cycles: created and destroyed %d of %d cameras", done, cycles);
}

int main(int argc, char **argv)
{
	unsigned int seed;

	if (argc != 4) {
		fprintf(stderr, "usage: stress SEED KILLS CYCLES\n");
		return 2;
	}
	seed = strtoul(argv[1], NULL, 0);
	printf("# seed %u\n", seed);
	test_crowd(seed, atoi(argv[2]));
	test_removed_while_open(seed);
	test_failing_allocations();
	test_cycles(atoi(argv[3]));
	return tap_end();
}
