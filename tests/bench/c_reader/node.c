// SPDX-License-Identifier: GPL-2.0-or-later
#include "node.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "maglens.h"

static int complain(const char *what)
{
	fprintf(stderr, "c_reader: node: %s: %s\n", what, strerror(errno));
	return -1;
}

int node_open(struct node *node, const struct configured *mode, uint32_t packet)
{
	struct maglens_format format = {
		.fourcc = mode->fourcc, .width = mode->width, .height = mode->height,
		.bytesperline = mode->stride, .sizeimage = mode->payload_bytes,
		.colorspace = V4L2_COLORSPACE_SRGB, .n_intervals = 1, .intervals = { { 1, 30 } },
	};
	struct maglens_input input = { .name = "module" };
	struct maglens_create create = {
		.abi_version = MAGLENS_ABI_VERSION, .card = "floor", .camera_id = "floor",
		.n_slots = NODE_SLOTS, .slot_slack = 2 * packet, .n_formats = 1, .n_inputs = 1, .hold_ms = 500,
		.video_nr = -1, .formats = (uintptr_t)&format, .inputs = (uintptr_t)&input,
	};
	struct maglens_state state = { 0 };

	node->fd = open("/dev/maglens", O_RDWR | O_CLOEXEC);
	if (node->fd < 0 || ioctl(node->fd, MAGLENS_IOC_CREATE, &create) || ioctl(node->fd, MAGLENS_IOC_STATE, &state))
		return complain("create");
	node->ring = mmap(NULL, create.ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, node->fd, 0);
	if (node->ring == MAP_FAILED)
		return complain("map");
	node->slot_size = create.slot_size;
	node->generation = create.generation;
	node->serial = state.format_serial;
	node->video_nr = create.video_nr;
	node->held = -1;
	for (int k = 0; k < NODE_SLOTS; k++)
		node->free[node->n_free++] = k;
	fprintf(stderr, "/dev/video%d\n", node->video_nr);
	return 0;
}

int node_take(struct node *node)
{
	return node->n_free ? node->free[--node->n_free] : -1;
}

uint8_t *node_at(const struct node *node, int slot)
{
	return node->ring + (size_t)slot * node->slot_size;
}

int node_submit(struct node *node, int slot, uint32_t bytes, uint64_t timestamp_ns)
{
	struct maglens_submit submit = {
		.slot = (uint32_t)slot, .bytesused = bytes, .format_serial = node->serial,
		.timestamp_ns = timestamp_ns, .generation = node->generation,
	};

	if (ioctl(node->fd, MAGLENS_IOC_SUBMIT, &submit))
		return complain("submit");
	if (node->held >= 0)
		node->free[node->n_free++] = node->held;
	node->held = slot;
	node->delivered += submit.delivered;
	return 0;
}

int node_watched(struct node *node)
{
	struct pollfd ready = { .fd = node->fd, .events = POLLIN };
	struct maglens_event event;

	for (;;) {
		struct maglens_state state = { 0 };

		if (ioctl(node->fd, MAGLENS_IOC_STATE, &state))
			return complain("state");
		if (state.streamers)
			return 0;
		if (poll(&ready, 1, 60000) <= 0)
			return complain("nobody watches");
		if (read(node->fd, &event, sizeof(event)) < 0)
			return complain("event");
	}
}
