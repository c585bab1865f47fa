// SPDX-License-Identifier: GPL-2.0-or-later
/* Several readers, formats and inputs, and the end of a camera. */
#include "behave.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void test_sharing(bool exclusive)
{
	const char *mode = exclusive ? "exclusive" : "shared";
	struct maglens_format_push fp;
	struct maglens_event ev;
	struct v4l2_event ve;
	struct backend b;
	struct reader one, two;
	int ret;

	camera_open(&b, exclusive ? MAGLENS_FLAG_EXCLUSIVE : 0);
	reader_open(&one, &b);
	reader_open(&two, &b);
	drain(&b);
	subscribe(two.fd, V4L2_EVENT_SOURCE_CHANGE, 0);
	check(!reader_format(&one, V4L2_PIX_FMT_YUYV, 1280, 720) && backend_event(&b, 100, &ev) &&
	      ev.type == MAGLENS_EVENT_FORMAT && ev.format_index == YUYV_720 && ev.format_serial == 2,
	      "%s: the backend is told the format", mode);
	check(!next_event(two.fd, &ve), "%s: an application's choice is no SOURCE_CHANGE", mode);
	fp = (struct maglens_format_push){.generation = b.info.generation, .format_index = YUYV_720};
	check(!xioctl(b.fd, MAGLENS_IOC_FORMAT, &fp) && fp.format_serial == 2 && !next_event(two.fd, &ve),
	      "%s: the backend's choice of the same format is none either", mode);
	fp.interval = (struct maglens_fract){0, 0};
	fp.format_index = YUYV_VGA;
	check(!xioctl(b.fd, MAGLENS_IOC_FORMAT, &fp) && fp.format_serial == 3 && next_event(two.fd, &ve) &&
	      ve.type == V4L2_EVENT_SOURCE_CHANGE, "%s: of another one is", mode);
	check(!reader_start(&one, 3), "%s: the first reader streams", mode);
	check(xioctl(b.fd, MAGLENS_IOC_FORMAT, &fp) == -EBUSY, "%s: now the backend cannot change it", mode);
	ret = reader_format(&two, V4L2_PIX_FMT_NV12, 1920, 1080);
	if (exclusive) {
		check(ret == -EBUSY, "exclusive: a second reader cannot set the format");
		check(reader_buffers(&two, 2) == -EBUSY, "exclusive: nor have buffers");
	} else {
		struct v4l2_buffer buf;

		check(!ret, "shared: a second reader is given the running format");
		check(!reader_start(&two, 3), "shared: a second reader streams");
		backend_sync(&b);
		check(b.format == YUYV_VGA, "shared: the format did not change");
		backend_frame(&b);
		check(!reader_take(&one, 1000, &buf) && !reader_take(&two, 1000, &buf),
		      "shared: both get the frame");
		reader_stop(&two);
	}
	check(xioctl(two.fd, VIDIOC_S_INPUT, &(int){2}) == -EBUSY,
	      "%s: no other input while another file has buffers", mode);
	check(!xioctl(two.fd, VIDIOC_S_INPUT, &(int){0}), "%s: the same input is fine", mode);
	drain(&b);
	check(!xioctl(one.fd, VIDIOC_S_INPUT, &(int){2}) && backend_event(&b, 100, &ev) &&
	      ev.type == MAGLENS_EVENT_INPUT && ev.input == 2, "%s: the backend is told the input", mode);
	{
		struct maglens_input_push ip = {.generation = b.info.generation, .index = 1,
						.what = MAGLENS_INPUT_STATUS | MAGLENS_INPUT_NAME,
						.input = {.name = "234 mm", .status = 0}};
		struct v4l2_input in = {.index = 1};

		xioctl(one.fd, VIDIOC_ENUMINPUT, &in);
		check(in.status == V4L2_IN_ST_NO_SIGNAL, "%s: an input has its status", mode);
		check(!xioctl(b.fd, MAGLENS_IOC_INPUT, &ip) && !xioctl(one.fd, VIDIOC_ENUMINPUT, &in) &&
		      !in.status && !strcmp((char *)in.name, "234 mm"), "%s: which can be pushed", mode);
		ip.index = 3;
		check(xioctl(b.fd, MAGLENS_IOC_INPUT, &ip) == -EINVAL, "%s: of inputs there are", mode);
	}
	reader_stop(&one);
	check(!reader_format(&two, V4L2_PIX_FMT_NV12, 1920, 1080), "%s: free again, the format changes", mode);
	backend_sync(&b);
	check(b.format == NV12_1080, "%s: to what was asked", mode);
	reader_close(&one);
	reader_close(&two);
	camera_close(&b);
}

void test_removal(void)
{
	struct pollfd p = {.events = POLLIN | POLLPRI};
	struct v4l2_buffer buf;
	struct backend b;
	struct reader r;
	int status, idle, flags;
	pid_t pid;

	camera_open(&b, 0);
	reader_open(&r, &b);
	idle = video_open(&b, O_NONBLOCK);
	reader_start(&r, 3);
	backend_frame(&b);
	reader_take(&r, 1000, &buf);
	pid = fork();
	if (!pid) { /* blocked in DQBUF until the camera goes; alarm() says that it did not wake */
		camera_close(&b);
		flags = fcntl(r.fd, F_GETFL);
		fcntl(r.fd, F_SETFL, flags & ~O_NONBLOCK);
		alarm(5);
		for (;;) {
			int ret = reader_take(&r, 0, &buf);

			if (ret)
				_exit(ret == -EIO || ret == -ENODEV ? 0 : 1);
		}
	}
	nap_ms(300);
	check(waitpid(pid, &status, WNOHANG) == 0, "removal: a reader blocks in DQBUF");
	camera_close(&b);
	check(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status),
	      "removal: it wakes up with EIO or ENODEV");
	p.fd = r.fd;
	check(poll(&p, 1, 1000) == 1 && p.revents & (POLLERR | POLLHUP), "removal: poll says so");
	check(reader_take(&r, 0, &buf) == -ENODEV, "removal: a streaming file gets ENODEV");
	check(set_control(idle, FOCUS, 1) == -ENODEV, "removal: an idle one as well");
	check(!msync(r.data[0], r.length[0], MS_ASYNC), "removal: its buffers are still mapped");
	close(idle);
	reader_close(&r);
}
