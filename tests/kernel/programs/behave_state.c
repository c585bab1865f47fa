// SPDX-License-Identifier: GPL-2.0-or-later
/* State, adoption, controls, events. */
#include "behave.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

void test_adopt(void)
{
	struct maglens_adopt a = {.abi_version = MAGLENS_ABI_VERSION};
	uint64_t old;
	struct maglens_state st = {0};
	struct maglens_format *formats = calloc(N_FORMATS + 1, sizeof(*formats));
	struct maglens_control controls[MAGLENS_MAX_CONTROLS];
	struct maglens_input inputs[MAGLENS_MAX_INPUTS];
	struct backend b;
	struct reader r;

	camera_open(&b, MAGLENS_FLAG_EXCLUSIVE);
	old = b.info.generation;
	reader_open(&r, &b);
	reader_format(&r, V4L2_PIX_FMT_NV12, 1920, 1080);
	set_control(r.fd, FOCUS, 321);
	check(!xioctl(b.fd, MAGLENS_IOC_ADOPT, &a) && a.generation == old + 1, "adopt: raises the generation");
	check(backend_submit(&b, test_formats()[NV12_1080].sizeimage, NULL) == -ESTALE,
	      "adopt: a frame of the old one is stale");
	check(push_value(&b, FOCUS, 1) == -ESTALE, "adopt: a push of the old one is stale");
	check(placeholder(&b, 0, 64) == -ESTALE, "adopt: a placeholder of the old one is stale");
	check(placeholder(&b, 0, 0) == -ESTALE, "adopt: as is taking one away");
	camera_state(&b, &st);
	check(st.counters.stale == 4, "state: counts them (%llu)", (unsigned long long)st.counters.stale);
	st = (struct maglens_state){0};
	b.info.generation = a.generation;
	st.formats = (uintptr_t)formats;
	st.n_formats = N_FORMATS + 1;
	st.controls = (uintptr_t)controls;
	st.n_controls = MAGLENS_MAX_CONTROLS;
	st.inputs = (uintptr_t)inputs;
	st.n_inputs = 1;
	check(!xioctl(b.fd, MAGLENS_IOC_STATE, &st), "state: answered");
	check(st.n_formats == N_FORMATS && !memcmp(formats, test_formats(), N_FORMATS * sizeof(*formats)),
	      "state: has the formats");
	check(st.format_index == NV12_1080 && st.format_serial == 2, "state: has the choice of format");
	check(st.flags == MAGLENS_FLAG_EXCLUSIVE && !strcmp(st.card, "Kernel Test Camera") &&
	      !strcmp(st.camera_id, "kernel-test_1.0") && !strncmp(st.bus_info, "platform:maglens.", 17),
	      "state: has flags and names");
	check(st.ring_size == b.info.ring_size && st.slot_size == b.info.slot_size &&
	      st.video_nr == b.info.video_nr && st.generation == a.generation, "state: has ring and number");
	for (uint32_t i = 0; i < st.n_controls; i++)
		if (controls[i].id == FOCUS)
			check(controls[i].value == 321 && !strcmp(controls[i].name, "Focus, Absolute"),
			      "state: has the value an application set");
	check(st.n_inputs == 3 && !strcmp(inputs[0].name, "Automatic"),
	      "state: a list is copied as far as there is room, and its true length told");
	a.abi_version++;
	check(xioctl(b.fd, MAGLENS_IOC_ADOPT, &a) == -EPROTONOSUPPORT, "adopt: another ABI version is refused");
	reader_close(&r);
	camera_close(&b);
	free(formats);
}

void test_controls(void)
{
	struct maglens_push p;
	struct maglens_event ev;
	struct v4l2_queryctrl q;
	struct v4l2_event ve;
	struct backend b;
	char name[16];
	int one, two;

	camera_open(&b, 0);
	one = video_open(&b, O_NONBLOCK);
	two = video_open(&b, O_NONBLOCK);
	drain(&b);
	check(!set_control(one, FOCUS, 100) && backend_event(&b, 1000, &ev) &&
	      ev.type == MAGLENS_EVENT_CONTROL && ev.id == FOCUS && ev.value == 100 &&
	      ev.tgid == (uint32_t)getpid(), "control: set by an application, the backend is told who");
	prctl(PR_GET_NAME, name);
	check(!strcmp(ev.comm, name), "control: and by what name it goes");
	check(!set_control(one, FOCUS, 100) && backend_event(&b, 1000, &ev) && ev.value == 100,
	      "control: the backend is told of an unchanged value, too");
	for (int i = 0; i < 50; i++)
		set_control(i & 1 ? one : two, FOCUS, 200 + i);
	set_control(one, V4L2_CID_GAIN, 7);
	check(backend_event(&b, 0, &ev) && ev.value == 249 && ev.count == 50 &&
	      backend_event(&b, 0, &ev) && ev.id == V4L2_CID_GAIN && !backend_event(&b, 0, &ev),
	      "control: of a storm the latest value is left, one event per control");
	set_control(one, V4L2_CID_AUTO_FOCUS_START, 0);
	set_control(one, V4L2_CID_AUTO_FOCUS_START, 0);
	check(backend_event(&b, 0, &ev) && ev.count == 2, "control: presses of a button are counted");

	subscribe(two, V4L2_EVENT_CTRL, FOCUS);
	check(!push_value(&b, FOCUS, 400) && get_control(one, FOCUS) == 400, "push: the value is in force");
	check(next_event(two, &ve) && ve.id == FOCUS && ve.u.ctrl.value == 400 &&
	      ve.u.ctrl.changes & V4L2_EVENT_CTRL_CH_VALUE, "push: a subscriber gets the event");
	check(!backend_event(&b, 20, &ev), "push: nothing comes back to the backend");
	check(!push_value(&b, FOCUS, 400) && !next_event(two, &ve), "push: the same value again is no event");
	subscribe(two, V4L2_EVENT_CTRL, V4L2_CID_WHITE_BALANCE_TEMPERATURE);
	check(!push_value(&b, V4L2_CID_WHITE_BALANCE_TEMPERATURE, 4604) && !next_event(two, &ve),
	      "push: nor is one that its step rounds to the same");
	check(!push_value(&b, V4L2_CID_WHITE_BALANCE_TEMPERATURE, 4605) && next_event(two, &ve) &&
	      ve.u.ctrl.value == 4610, "push: but one that it rounds to another is");
	subscribe(two, V4L2_EVENT_CTRL, MASK);
	check(!push_value(&b, MASK, 2) && !next_event(two, &ve), "push: nor is a bit that the mask has not");
	p = push_of(&b, FOCUS, MAGLENS_PUSH_RANGE | MAGLENS_PUSH_DEFAULT);
	p.minimum = 50;
	p.maximum = 300;
	p.step = 2;
	p.default_value = 150;
	check(!xioctl(b.fd, MAGLENS_IOC_PUSH, &p) && p.value == 300, "push: a new range clamps, and says so");
	q = (struct v4l2_queryctrl){.id = FOCUS};
	xioctl(one, VIDIOC_QUERYCTRL, &q);
	check(q.minimum == 50 && q.maximum == 300 && q.step == 2 && q.default_value == 150,
	      "push: applications see range, step and default");
	check(next_event(two, &ve) && ve.u.ctrl.changes & V4L2_EVENT_CTRL_CH_RANGE, "push: with an event");
	p = push_of(&b, FOCUS, MAGLENS_PUSH_ACTIVE);
	check(!xioctl(b.fd, MAGLENS_IOC_PUSH, &p), "push: inactive");
	xioctl(one, VIDIOC_QUERYCTRL, &q);
	check(q.flags & V4L2_CTRL_FLAG_INACTIVE && next_event(two, &ve) &&
	      ve.u.ctrl.changes & V4L2_EVENT_CTRL_CH_FLAGS, "push: applications see it, with an event");
	check(!set_control(one, FOCUS, 60) && backend_event(&b, 100, &ev) && ev.value == 60,
	      "control: an inactive one can still be set");
	check(push_value(&b, V4L2_CID_AUTO_FOCUS_START, 1) == -EINVAL, "push: no value for a button");
	check(!push_value(&b, V4L2_CID_AUTO_FOCUS_STATUS, V4L2_AUTO_FOCUS_STATUS_REACHED) &&
	      get_control(one, V4L2_CID_AUTO_FOCUS_STATUS) == V4L2_AUTO_FOCUS_STATUS_REACHED &&
	      set_control(one, V4L2_CID_AUTO_FOCUS_STATUS, 0) == -EACCES,
	      "push: a read-only one can be pushed, and not set");
	check(push_value(&b, V4L2_CID_EXPOSURE_AUTO, 9) == -ERANGE, "push: a menu index out of range");
	check(push_value(&b, V4L2_CID_CONTRAST, 0) == -ENOENT, "push: a control the camera lacks");
	p = push_of(&b, GRID, MAGLENS_PUSH_RANGE);
	p.maximum = 3;
	check(xioctl(b.fd, MAGLENS_IOC_PUSH, &p) == -ERANGE, "push: a menu longer than its items");
	check(set_control(one, GRID, 2) == 0 && get_control(two, GRID) == 2, "control: a private menu works");
	close(one);
	close(two);
	camera_close(&b);
}

void test_events(void)
{
	struct maglens_event ev[4];
	struct backend b;
	struct reader r;
	void *volatile nowhere = (void *)16; /* volatile, or the compiler foresees the fault */
	int two;

	camera_open(&b, 0);
	check(read(b.fd, ev, sizeof(ev)) < 0 && errno == EAGAIN, "events: none yet");
	check(read(b.fd, ev, sizeof(ev[0]) - 1) < 0 && errno == EINVAL, "events: room for none is an error");
	reader_open(&r, &b);
	set_control(r.fd, FOCUS, 1);
	reader_format(&r, V4L2_PIX_FMT_NV12, 640, 480);
	check(read(b.fd, ev, sizeof(ev)) == 3 * sizeof(ev[0]) && ev[0].type == MAGLENS_EVENT_USAGE &&
	      ev[1].type == MAGLENS_EVENT_CONTROL && ev[2].type == MAGLENS_EVENT_FORMAT &&
	      ev[0].openers == 1 && ev[0].format_index == NV12_VGA,
	      "events: several in one read, in order, each with the state now");
	two = video_open(&b, 0);
	check(read(b.fd, nowhere, sizeof(ev)) < 0 && errno == EFAULT &&
	      read(b.fd, ev, sizeof(ev)) == sizeof(ev[0]) && ev[0].openers == 2 && ev[0].count == 1,
	      "events: a bad address loses none");
	close(two);
	reader_close(&r);
	camera_close(&b);
}
