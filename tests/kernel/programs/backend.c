// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A backend that shows frames at the nominal rate until its standard input ends. For running
 * other people's programs (v4l2-compliance) against the camera.
 *
 * Usage: backend [--exclusive]. Prints the path of the video device when it is there.
 */
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static uint64_t interval_ns(struct maglens_fract f)
{
	return f.numerator * 1000000000ull / f.denominator;
}

int main(int argc, char **argv)
{
	uint32_t flags = argc > 1 && !strcmp(argv[1], "--exclusive") ? MAGLENS_FLAG_EXCLUSIVE : 0;
	uint64_t interval, next = now_ns();
	struct maglens_format_push calm = {.generation = 1, .interval = test_formats()[0].intervals[1]};
	struct maglens_event ev;
	struct backend b;
	bool watched = false;

	camera_open(&b, flags);
	/* Half the rate: the kernels with sanitizers are slow, and a reader that misses a frame is warned. */
	if (xioctl(b.fd, MAGLENS_IOC_FORMAT, &calm))
		die("FORMAT");
	close(video_open(&b, O_NONBLOCK));
	printf("/dev/video%d\n", b.info.video_nr);
	fflush(stdout);
	interval = interval_ns(calm.interval);
	for (;;) {
		struct pollfd p[2] = {{.fd = b.fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
		int64_t left = (int64_t)(next - now_ns()) / 1000000;

		if (poll(p, 2, watched ? (left > 0 ? left : 0) : -1) < 0)
			die("poll");
		if (p[1].revents)
			break;
		while (backend_event(&b, 0, &ev)) {
			if (ev.streamers && !watched)
				next = now_ns();
			watched = ev.streamers;
			b.format = ev.format_index;
			b.serial = ev.format_serial;
			interval = interval_ns(ev.interval);
		}
		if (!watched || now_ns() < next)
			continue;
		next += interval;
		if (next < now_ns())
			next = now_ns();
		memset(b.ring + (size_t)b.slot * b.info.slot_size, (int)(next >> 24), 64);
		backend_frame(&b); /* a refusal means that the format has just changed: an event follows */
	}
	camera_close(&b);
	return 0;
}
