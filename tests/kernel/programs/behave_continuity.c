// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Continuity: what an application sees over all that may befall a backend. It runs, is stopped, goes on, is killed,
 * and another one adopts its camera; the application has one stream meanwhile.
 */
#include "behave.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WINDOW_US 2000000
#define NOMINAL 60 /* frames in a window */
#define MAX_FRAMES 1024
#define RUN_MS 1500
#define DEAD_MS 2500
#define EXPOSED_US 25000 /* how far back a frame's start of exposure lies */
#define TRIES 5

/* What was seen: the timestamps, and when each was there. */
struct film {
	uint64_t us[MAX_FRAMES];
	uint64_t seen[MAX_FRAMES];
	unsigned int n;
	uint32_t sequence; /* of the last */
	bool broken; /* an error, or a timestamp or sequence number that does not rise */
};

struct verdict {
	unsigned int fewest, most; /* frames in any window */
	uint64_t longest;	   /* between two frames */
};

static void watch(struct reader *r, struct film *film, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ull;
	struct v4l2_buffer buf;

	while (now_ns() < end && film->n < MAX_FRAMES && !film->broken) {
		uint64_t us;

		if (reader_take(r, 500, &buf)) {
			film->broken = true;
			break;
		}
		us = buf.timestamp.tv_sec * 1000000ull + buf.timestamp.tv_usec;
		film->broken = buf.flags & V4L2_BUF_FLAG_ERROR ||
			       (film->n && (us <= film->us[film->n - 1] || buf.sequence <= film->sequence));
		film->seen[film->n] = now_ns() / 1000;
		film->us[film->n++] = us;
		film->sequence = buf.sequence;
		reader_queue(r, buf.index);
	}
}

static struct verdict judge(const uint64_t *us, unsigned int frames)
{
	struct verdict v = {.fewest = MAX_FRAMES};

	for (unsigned int i = 1; i < frames; i++)
		if (us[i] - us[i - 1] > v.longest)
			v.longest = us[i] - us[i - 1];
	/* Any window that can hold a different number of frames begins just behind one. */
	for (unsigned int i = 0; i < frames && us[i] + WINDOW_US <= us[frames - 1]; i++) {
		unsigned int n = 0;

		for (unsigned int j = i + 1; us[j] <= us[i] + WINDOW_US && j < frames - 1; j++)
			n++;
		v.fewest = n < v.fewest ? n : v.fewest;
		v.most = n > v.most ? n : v.most;
	}
	return v;
}

static bool is_well(const struct verdict *v, uint64_t limit)
{
	return v->fewest * 10 >= NOMINAL * 9 && v->most * 10 <= NOMINAL * 11 && v->longest <= limit;
}

static void tell(const struct verdict *v, uint64_t limit, const char *what, int tries)
{
	check(is_well(v, limit), "continuity, %s: %u to %u frames in any 2 s, longest gap %u.%02u intervals, try %d", what,
	      v->fewest, v->most, (unsigned int)(v->longest / INTERVAL_US),
	      (unsigned int)(v->longest % INTERVAL_US * 100 / INTERVAL_US), tries);
}

/* A backend in a process of its own that adopts the camera and shows frames at the nominal rate. */
static pid_t backend_start(struct backend b)
{
	struct maglens_adopt adopt = {.abi_version = MAGLENS_ABI_VERSION};
	uint64_t next = now_ns();
	pid_t pid = fork();

	if (pid)
		return pid;
	if (xioctl(b.fd, MAGLENS_IOC_ADOPT, &adopt))
		_exit(1);
	for (;;) {
		struct maglens_submit s = {
			.slot = b.slot,
			.bytesused = test_formats()[b.format].sizeimage,
			.format_serial = b.serial,
			.generation = adopt.generation,
			.timestamp_ns = now_ns() - EXPOSED_US * 1000ull,
		};
		int64_t left;

		if (xioctl(b.fd, MAGLENS_IOC_SUBMIT, &s))
			_exit(2);
		b.slot = (b.slot + 1) % b.info.n_slots;
		next += INTERVAL_US * 1000ull;
		left = (int64_t)(next - now_ns());
		if (left > 0)
			usleep(left / 1000);
		else
			next = now_ns();
	}
}

static void backend_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

void test_continuity(void)
{
	struct film *film = malloc(sizeof(*film));
	struct verdict stamped, seen;
	struct backend b;
	struct reader r;
	int tries = 0;

	camera_open(&b, 0);
	reader_open(&r, &b);
	reader_start(&r, 4);
	/* A machine that is busy otherwise can only make it worse, so the best of a few tries counts. */
	do {
		pid_t pid = backend_start(b);

		film->n = 0;
		film->broken = false;
		watch(&r, film, RUN_MS);
		kill(pid, SIGSTOP);
		watch(&r, film, DEAD_MS);
		kill(pid, SIGCONT);
		watch(&r, film, RUN_MS);
		backend_end(pid);
		watch(&r, film, DEAD_MS);
		pid = backend_start(b);
		watch(&r, film, RUN_MS);
		backend_end(pid);
		stamped = judge(film->us, film->n);
		seen = judge(film->seen, film->n);
	} while (++tries < TRIES && (film->broken || !is_well(&stamped, LONGEST_STAMPED_US) ||
				     !is_well(&seen, LONGEST_SEEN_US)));
	check(!film->broken, "continuity: stopped, going on, killed, adopted: timestamps and sequence rise");
	tell(&stamped, LONGEST_STAMPED_US, "by timestamps", tries);
	tell(&seen, LONGEST_SEEN_US, "by arrival", tries);
	reader_close(&r);
	camera_close(&b);
	free(film);
}
