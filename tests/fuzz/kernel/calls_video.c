// SPDX-License-Identifier: GPL-2.0-or-later
/* The applications' side: calls of the video device. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void do_open(void)
{
	unsigned int i = byte() % VIDEOS;
	char path[32];

	if (run.video[i] >= 0)
		return;
	/* Most often the camera's own; the rest is for cameras that came and went. */
	snprintf(path, sizeof(path), "/dev/video%d", byte() & 7 ? run.state[byte() % CAMERAS].video_nr : byte() & 3);
	run.video[i] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

void do_fmt(void)
{
	static const unsigned long requests[] = {VIDIOC_S_FMT, VIDIOC_TRY_FMT, VIDIOC_G_FMT};
	const struct maglens_format *f = &formats[byte() % COUNT(formats)];
	struct v4l2_format v = {.type = near(V4L2_BUF_TYPE_VIDEO_CAPTURE)};

	v.fmt.pix.pixelformat = f->fourcc;
	v.fmt.pix.width = near(f->width);
	v.fmt.pix.height = near(f->height);
	disturb(&v, sizeof(v));
	call(one_of(run.video, VIDEOS), requests[byte() % COUNT(requests)], &v);
}

void do_enum(void)
{
	const struct maglens_format *f = &formats[byte() % COUNT(formats)];
	int fd = one_of(run.video, VIDEOS);

	switch (byte() % 6) {
	case 0:
		call(fd, VIDIOC_QUERYCAP, scratch);
		break;
	case 1:
		call(fd, VIDIOC_ENUM_FMT, &(struct v4l2_fmtdesc){.index = near(2), .type = near(1)});
		break;
	case 2:
		call(fd, VIDIOC_ENUM_FRAMESIZES,
		     &(struct v4l2_frmsizeenum){.index = near(0), .pixel_format = f->fourcc});
		break;
	case 3:
		call(fd, VIDIOC_ENUM_FRAMEINTERVALS,
		     &(struct v4l2_frmivalenum){.index = near(1), .pixel_format = f->fourcc,
						.width = near(f->width), .height = near(f->height)});
		break;
	case 4:
		call(fd, VIDIOC_ENUMINPUT, &(struct v4l2_input){.index = near(1)});
		break;
	default: {
		int input = near(1);

		call(fd, byte() & 1 ? VIDIOC_S_INPUT : VIDIOC_G_INPUT, &input);
	}
	}
}

void do_parm(void)
{
	struct v4l2_streamparm p = {.type = near(V4L2_BUF_TYPE_VIDEO_CAPTURE)};

	p.parm.capture.timeperframe = (struct v4l2_fract){near(1), near(30)};
	disturb(&p, sizeof(p));
	call(one_of(run.video, VIDEOS), byte() & 3 ? VIDIOC_S_PARM : VIDIOC_G_PARM, &p);
}

static uint32_t memory(void)
{
	return byte() < 200 ? V4L2_MEMORY_MMAP : byte() & 7;
}

void do_buffers(void)
{
	int fd = one_of(run.video, VIDEOS);
	struct v4l2_requestbuffers req = {.count = near(byte() & 7) & 63,
					  .type = near(V4L2_BUF_TYPE_VIDEO_CAPTURE), .memory = memory()};
	struct v4l2_create_buffers create = {.count = req.count, .memory = req.memory};

	if (byte() & 1) {
		call(fd, VIDIOC_REQBUFS, &req);
		return;
	}
	create.format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	call(fd, VIDIOC_G_FMT, &create.format);
	create.format.fmt.pix.sizeimage = near(create.format.fmt.pix.sizeimage) & 0x3fffff;
	call(fd, VIDIOC_CREATE_BUFS, &create);
}

void do_buffer(void)
{
	static const unsigned long requests[] = {VIDIOC_QBUF,	  VIDIOC_QBUF,	VIDIOC_QBUF,
						 VIDIOC_QUERYBUF, VIDIOC_DQBUF, VIDIOC_PREPARE_BUF};
	struct v4l2_buffer b = {.index = near(byte() & 3), .type = near(V4L2_BUF_TYPE_VIDEO_CAPTURE),
				.memory = memory()};
	unsigned long request = requests[byte() % COUNT(requests)];

	if (b.memory == V4L2_MEMORY_DMABUF)
		b.m.fd = run.shared;
	if (b.memory == V4L2_MEMORY_USERPTR)
		b.m.userptr = address(scratch);
	disturb(&b, sizeof(b));
	call(one_of(run.video, VIDEOS), request, &b);
}

void do_stream(void)
{
	int type = near(V4L2_BUF_TYPE_VIDEO_CAPTURE);

	call(one_of(run.video, VIDEOS), byte() & 3 ? VIDIOC_STREAMON : VIDIOC_STREAMOFF, &type);
}

void do_export(void)
{
	struct v4l2_exportbuffer e = {.type = near(V4L2_BUF_TYPE_VIDEO_CAPTURE), .index = near(byte() & 3),
				      .flags = O_RDWR | O_CLOEXEC};

	disturb(&e, sizeof(e));
	if (call(one_of(run.video, VIDEOS), VIDIOC_EXPBUF, &e))
		return;
	if (run.shared >= 0)
		close(run.shared);
	run.shared = e.fd;
}

void do_control(void)
{
	const struct maglens_control *k = &controls[byte() % COUNT(controls)];
	struct v4l2_control c = {.id = near(k->id), .value = near(k->maximum)};
	struct v4l2_ext_control x = {.id = near(k->id), .value = near(k->maximum)};
	struct v4l2_ext_controls list = {.which = byte() & 1 ? V4L2_CTRL_WHICH_CUR_VAL : V4L2_CTRL_WHICH_DEF_VAL,
					 .count = near(1) & 0xff, .controls = &x};
	int fd = one_of(run.video, VIDEOS);

	switch (byte() % 8) {
	case 0:
		call(fd, VIDIOC_G_CTRL, &c);
		break;
	case 1:
		call(fd, VIDIOC_QUERYCTRL, &(struct v4l2_queryctrl){.id = k->id | word() << 30});
		break;
	case 2:
		call(fd, VIDIOC_QUERYMENU, &(struct v4l2_querymenu){.id = k->id, .index = near(k->maximum)});
		break;
	case 3:
		call(fd, VIDIOC_G_EXT_CTRLS, &list);
		break;
	case 4:
		call(fd, VIDIOC_S_EXT_CTRLS, &list);
		break;
	case 5:
		call(fd, VIDIOC_TRY_EXT_CTRLS, &list);
		break;
	default:
		call(fd, VIDIOC_S_CTRL, &c);
	}
}

void do_event(void)
{
	struct v4l2_event_subscription sub = {.type = near(byte() & 1 ? V4L2_EVENT_CTRL : V4L2_EVENT_SOURCE_CHANGE),
					      .id = controls[byte() % COUNT(controls)].id, .flags = byte() & 3};
	struct v4l2_event ev;
	int fd = one_of(run.video, VIDEOS);

	if (sub.type == V4L2_EVENT_SOURCE_CHANGE)
		sub.id = near(0);
	switch (byte() & 3) {
	case 0:
		call(fd, VIDIOC_DQEVENT, &ev);
		break;
	case 1:
		call(fd, VIDIOC_UNSUBSCRIBE_EVENT, &sub);
		break;
	default:
		call(fd, VIDIOC_SUBSCRIBE_EVENT, &sub);
	}
}

/* What the core answers by itself or refuses, of the size that it asks for; every struct is without pointers. */
void do_core(void)
{
	static const unsigned long requests[] = {
		VIDIOC_QUERY_EXT_CTRL, VIDIOC_QUERY_EXT_CTRL, VIDIOC_G_PRIORITY, VIDIOC_S_PRIORITY,
		VIDIOC_LOG_STATUS, VIDIOC_G_SELECTION, VIDIOC_S_SELECTION, VIDIOC_CROPCAP,
		VIDIOC_G_CROP, VIDIOC_S_CROP, VIDIOC_G_STD, VIDIOC_S_STD,
		VIDIOC_QUERYSTD, VIDIOC_ENUMSTD, VIDIOC_ENUMOUTPUT, VIDIOC_G_OUTPUT,
		VIDIOC_S_OUTPUT, VIDIOC_G_AUDIO, VIDIOC_S_AUDIO, VIDIOC_G_TUNER,
		VIDIOC_S_TUNER, VIDIOC_G_FREQUENCY, VIDIOC_S_FREQUENCY, VIDIOC_G_MODULATOR,
		VIDIOC_G_JPEGCOMP, VIDIOC_S_JPEGCOMP, VIDIOC_G_DV_TIMINGS, VIDIOC_S_DV_TIMINGS,
		VIDIOC_DV_TIMINGS_CAP, VIDIOC_ENCODER_CMD, VIDIOC_DECODER_CMD, VIDIOC_ENUM_FREQ_BANDS,
		VIDIOC_OVERLAY, VIDIOC_G_ENC_INDEX,
	};
	unsigned long request = requests[byte() % COUNT(requests)];
	int fd = one_of(run.video, VIDEOS);
	union {
		uint8_t bytes[4096]; /* more than any */
		struct v4l2_query_ext_ctrl query;
		uint32_t number;
	} arg = {0};

	if (request == VIDIOC_QUERY_EXT_CTRL)
		arg.query.id = near(controls[byte() % COUNT(controls)].id) | (uint32_t)(byte() & 3) << 30;
	else if (request == VIDIOC_S_PRIORITY)
		arg.number = near(byte() & 3);
	else
		for (unsigned int n = byte() & 31; n; n--)
			arg.bytes[byte() % sizeof(arg.query)] = byte();
	disturb(&arg, _IOC_SIZE(request) >= 4 ? _IOC_SIZE(request) : 4);
	call(fd, request, &arg);
}
