// SPDX-License-Identifier: GPL-2.0-or-later
/* Frames: their way to the readers, and the filler. */
#include "behave.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define INTERVAL_NS (1000000000ull / 30)
#define NOMINAL 60 /* frames in two seconds */
#define TRIES 5
#define SECOND_NS 1000000000ull

void test_submit(void)
{
	struct maglens_submit s;
	struct maglens_state st;
	struct v4l2_buffer buf;
	struct backend b;
	struct reader r;
	uint32_t size = test_formats()[0].sizeimage;
	uint64_t stamp, moved;

	camera_open(&b, 0);
	check(!backend_submit(&b, size, &s) && s.delivered == 0, "submit: without readers it is dropped");
	reader_open(&r, &b);
	check(!reader_calm(&r), "submit: one frame per second is agreed");
	check(!reader_start(&r, 4), "submit: a reader starts");
	camera_state(&b, &st);
	check(st.openers == 1 && st.holders == 1 && st.streamers == 1, "state: counts the reader");

	memset(b.ring + (size_t)b.slot * b.info.slot_size, 0x5a, size);
	check(!backend_submit(&b, size, &s) && s.delivered == 1 && !s.dropped, "submit: it reaches the reader");
	check(!reader_take(&r, 1000, &buf) && buf.bytesused == size && buf.sequence == 0,
	      "submit: the reader gets all of it as its frame 0");
	check(((uint8_t *)r.data[buf.index])[size - 1] == 0x5a, "submit: with the right contents");
	check((buf.flags & V4L2_BUF_FLAG_TSTAMP_SRC_MASK) == V4L2_BUF_FLAG_TSTAMP_SRC_SOE &&
	      buf.flags & V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC, "submit: stamped with the start of exposure");
	reader_queue(&r, buf.index);

	s = (struct maglens_submit){.slot = 1, .bytesused = size, .format_serial = b.serial,
				    .generation = b.info.generation};
	/* Let real time pass the first frame's stamp. */
	nap_ms(10);
	s.timestamp_ns = stamp = now_ns() - 1000000;
	xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s);
	reader_take(&r, 1000, &buf);
	check((uint64_t)buf.timestamp.tv_sec * 1000000 + buf.timestamp.tv_usec == stamp / 1000,
	      "submit: its own timestamp is kept");
	reader_queue(&r, buf.index);
	s.timestamp_ns = stamp - SECOND_NS;
	xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s);
	reader_take(&r, 1000, &buf);
	moved = (uint64_t)buf.timestamp.tv_sec * 1000000 + buf.timestamp.tv_usec;
	check(moved > stamp / 1000 && moved <= now_ns() / 1000,
	      "submit: a timestamp from before the last frame's is moved up, not into the future");
	reader_queue(&r, buf.index);
	s.timestamp_ns = now_ns() + 3600 * SECOND_NS;
	xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s);
	reader_take(&r, 1000, &buf);
	check((uint64_t)buf.timestamp.tv_sec * SECOND_NS < now_ns(), "submit: one of the future becomes now");
	reader_queue(&r, buf.index);

	camera_state(&b, &st);
	check(st.held_slot == 1, "state: names the slot the kernel may still show");
	s.generation++;
	check(xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) == -ESTALE, "submit: another generation is stale");
	s.generation--;
	s.format_serial++;
	check(xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) == -EREMCHG, "submit: another format serial is refused");
	s.format_serial--;
	s.bytesused = size - 1;
	check(xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) == -EMSGSIZE, "submit: a short raw picture is refused");
	s.bytesused = size + 1;
	check(xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) == -EMSGSIZE, "submit: a long picture is refused");
	s.bytesused = size;
	s.slot = b.info.n_slots;
	check(xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) == -EINVAL, "submit: a slot beyond the ring is refused");
	s.slot = 0;
	s.flags = MAGLENS_SUBMIT_ADDRESS;
	s.address = 16;
	check(xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) == -EFAULT, "submit: a bad address is refused");
	{
		uint8_t *own = malloc(size);

		memset(own, 0xa5, size);
		s.address = (uintptr_t)own;
		s.timestamp_ns = 0;
		check(!xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s) && s.delivered == 1, "submit: by address");
		check(!reader_take(&r, 1000, &buf) && ((uint8_t *)r.data[buf.index])[size - 1] == 0xa5,
		      "submit: by address, the contents arrive");
		free(own);
	}
	camera_state(&b, &st);
	check(st.counters.stale == 1 && st.counters.mismatched == 3 && st.counters.unwatched == 1,
	      "state: counts what was refused and unwatched");
	check(st.held_slot == MAGLENS_NO_SLOT, "state: no slot is held for a picture by address");
	reader_close(&r);
	camera_close(&b);
}

struct run {
	unsigned int frames, marked;
	uint64_t longest; /* us between two frames' timestamps */
	uint64_t longest_seen; /* us between their arrivals */
	bool rising;	  /* timestamps and sequence */
	bool broken;
	int last_byte;
};

/* Reads for @ms; frames whose first byte is @mark are counted apart. */
static struct run read_for(struct reader *r, unsigned int ms, int mark)
{
	struct run run = {.rising = true};
	uint64_t end = now_ns() + ms * 1000000ull, stamp = 0, seen = 0;
	uint32_t sequence = 0;
	struct v4l2_buffer buf;

	while (now_ns() < end) {
		uint64_t t, now;

		if (reader_take(r, 500, &buf)) {
			run.broken = true;
			break;
		}
		t = buf.timestamp.tv_sec * 1000000ull + buf.timestamp.tv_usec;
		if (run.frames && (t <= stamp || buf.sequence <= sequence))
			run.rising = false;
		if (run.frames && t - stamp > run.longest)
			run.longest = t - stamp;
		now = now_ns() / 1000;
		if (run.frames && now - seen > run.longest_seen)
			run.longest_seen = now - seen;
		stamp = t;
		seen = now;
		sequence = buf.sequence;
		run.last_byte = *(uint8_t *)r->data[buf.index];
		run.marked += run.last_byte == mark;
		run.frames++;
		if (buf.flags & V4L2_BUF_FLAG_ERROR)
			run.broken = true;
		reader_queue(r, buf.index);
	}
	return run;
}

static bool is_steady(const struct run *run)
{
	return run->frames * 10 >= NOMINAL * 9 && run->frames * 10 <= NOMINAL * 11 &&
	       run->longest <= LONGEST_STAMPED_US && run->longest_seen <= LONGEST_SEEN_US;
}

/*
 * Two seconds, begun by @begin, at the nominal rate. A machine that is busy otherwise can only
 * make gaps longer, so the best of a few tries counts.
 */
static struct run steady_run(struct reader *r, struct backend *b, void (*begin)(struct backend *),
			     int mark, const char *what)
{
	struct run run;
	int tries = 0;

	do {
		if (begin)
			begin(b);
		run = read_for(r, 2000, mark);
	} while (++tries < TRIES && !is_steady(&run));
	check(!run.broken && run.rising, "filler, %s: timestamps and sequence rise", what);
	check(is_steady(&run), "filler, %s: %u frames in 2 s, longest gap %u.%02u intervals, %u.%02u by arrival, try %d",
	      what, run.frames, (unsigned int)(run.longest / INTERVAL_US),
	      (unsigned int)(run.longest % INTERVAL_US * 100 / INTERVAL_US),
	      (unsigned int)(run.longest_seen / INTERVAL_US),
	      (unsigned int)(run.longest_seen % INTERVAL_US * 100 / INTERVAL_US), tries);
	return run;
}

static void one_frame(struct backend *b)
{
	memset(b->ring + (size_t)b->slot * b->info.slot_size, 0x33, test_formats()[b->format].sizeimage);
	backend_frame(b);
}

int placeholder(const struct backend *b, int fill, uint32_t bytes)
{
	struct maglens_placeholder p = {.generation = b->info.generation, .bytesused = bytes,
					.format_serial = b->serial};
	void *image = malloc(bytes ? bytes : 1);
	int ret;

	memset(image, fill, bytes);
	p.address = (uintptr_t)image;
	ret = xioctl(b->fd, MAGLENS_IOC_PLACEHOLDER, &p);
	free(image);
	return ret;
}

/* From a frame a second to thirty while streaming: the filler does not sleep the old interval out. */
static void test_faster(void)
{
	struct v4l2_streamparm parm = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
	struct v4l2_buffer buf;
	struct backend b;
	struct reader r;
	uint64_t start;
	int ret;

	camera_open(&b, 0);
	reader_open(&r, &b);
	reader_calm(&r);
	reader_start(&r, 4);
	parm.parm.capture.timeperframe = (struct v4l2_fract){1, 30};
	check(!xioctl(r.fd, VIDIOC_S_PARM, &parm), "filler: a rate is chosen while it waits");
	start = now_ns();
	ret = reader_take(&r, 1000, &buf);
	check(!ret, "filler: it keeps to it at once (%u ms)", (unsigned int)((now_ns() - start) / 1000000));
	reader_close(&r);
	camera_close(&b);
}

void test_filler(void)
{
	uint32_t size = test_formats()[0].sizeimage;
	struct maglens_state st;
	struct backend b;
	struct reader r;
	struct run run;
	uint64_t counted;
	pid_t pid;

	test_faster();
	camera_open(&b, 0);
	reader_open(&r, &b);
	reader_start(&r, 4);
	run = steady_run(&r, &b, NULL, 0x10, "nothing ever submitted");
	check(run.marked == run.frames, "filler, nothing ever submitted: black");

	check(!placeholder(&b, 0x77, size), "placeholder: accepted");
	run = steady_run(&r, &b, one_frame, 0x33, "placeholder set");
	check(run.marked >= 14 && run.marked <= 17,
	      "filler: the last frame for half a second, then the placeholder (%u frames)", run.marked);
	check(run.last_byte == 0x77, "filler: ends on the placeholder");
	check(!placeholder(&b, 0, 0), "placeholder: taken away");
	run = read_for(&r, 300, 0x33);
	check(run.last_byte == 0x33, "filler: without a placeholder the last frame goes on");
	check(placeholder(&b, 0, size - 2) == -EMSGSIZE, "placeholder: a wrong length is refused");
	camera_state(&b, &st);
	check(placeholder(&b, 0, 2 * test_formats()[YUYV_1080].sizeimage) == -EMSGSIZE,
	      "placeholder: one longer than any picture as well");
	counted = st.counters.mismatched + 1;
	camera_state(&b, &st);
	check(st.counters.mismatched == counted, "state: counts that one, too");

	/* A backend of its own process, stopped in mid-stream. */
	pid = fork();
	if (!pid) {
		for (;;) {
			uint64_t t = now_ns();

			backend_frame(&b);
			t = now_ns() - t;
			if (t < INTERVAL_NS)
				usleep((INTERVAL_NS - t) / 1000);
		}
	}
	run = read_for(&r, 500, 0);
	kill(pid, SIGSTOP);
	steady_run(&r, &b, NULL, 0, "backend stopped");
	kill(pid, SIGCONT);
	run = read_for(&r, 1000, 0);
	check(!run.broken && run.rising, "filler: the backend goes on, in order");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	steady_run(&r, &b, NULL, 0, "backend killed, its file kept elsewhere");
	camera_state(&b, &st);
	check(st.counters.filled > 0, "state: counts filled frames (%llu)",
	      (unsigned long long)st.counters.filled);

	reader_stop(&r);
	camera_state(&b, &st);
	check(st.held_slot == MAGLENS_NO_SLOT, "filler: the last frame is forgotten when nobody watches");
	reader_close(&r);
	camera_close(&b);
}
