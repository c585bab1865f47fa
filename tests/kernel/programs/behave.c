// SPDX-License-Identifier: GPL-2.0-or-later
/* What the camera promises to its backend and to applications. TAP. */
#include "behave.h"

#include <stdio.h>
#include <string.h>

int set_control(int fd, uint32_t id, int32_t value)
{
	struct v4l2_control c = {.id = id, .value = value};

	return xioctl(fd, VIDIOC_S_CTRL, &c);
}

int32_t get_control(int fd, uint32_t id)
{
	struct v4l2_control c = {.id = id};

	return xioctl(fd, VIDIOC_G_CTRL, &c) ? INT32_MIN : c.value;
}

void subscribe(int fd, uint32_t type, uint32_t id)
{
	struct v4l2_event_subscription sub = {.type = type, .id = id};

	if (xioctl(fd, VIDIOC_SUBSCRIBE_EVENT, &sub))
		die("subscribing to event %u", type);
}

bool next_event(int fd, struct v4l2_event *ev)
{
	memset(ev, 0, sizeof(*ev));
	return !xioctl(fd, VIDIOC_DQEVENT, ev);
}

void drain(const struct backend *b)
{
	struct maglens_event ev;

	while (backend_event(b, 0, &ev))
		;
}

struct maglens_push push_of(const struct backend *b, uint32_t id, uint32_t what)
{
	return (struct maglens_push){.generation = b->info.generation, .id = id, .what = what};
}

int push_value(const struct backend *b, uint32_t id, int64_t value)
{
	struct maglens_push p = push_of(b, id, MAGLENS_PUSH_VALUE);

	p.value = value;
	return xioctl(b->fd, MAGLENS_IOC_PUSH, &p);
}

static void test_shared(void)
{
	test_sharing(false);
}

static void test_exclusive(void)
{
	test_sharing(true);
}

static const struct {
	const char *name;
	void (*test)(void);
} tests[] = {
	{"before_create", test_before_create},
	{"create_refuses", test_create_refuses},
	{"unknown_format", test_unknown_format},
	{"ring", test_ring},
	{"buffers", test_buffers},
	{"events", test_events},
	{"submit", test_submit},
	{"filler", test_filler},
	{"continuity", test_continuity},
	{"adopt", test_adopt},
	{"controls", test_controls},
	{"shared", test_shared},
	{"exclusive", test_exclusive},
	{"removal", test_removal},
};

/* Usage: behave [NAME]: all of them, or one. */
int main(int argc, char **argv)
{
	bool ran = false;

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		tests[i].test();
		ran = true;
	}
	if (!ran) {
		printf("Bail out! no test is named %s\n", argv[1]);
		return 2;
	}
	return tap_end();
}
