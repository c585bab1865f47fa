/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * c_reader: the plainest program that gets a picture out of a module, to compare the daemon with.
 *
 * Waits on a udev monitor until a module appears, makes the same exchange as the daemon (INFO, DESCRIPTOR, power
 * contract, CLOCK, CONFIGURE, transfers, START), and ends with the first frame whose CRCs hold. Nothing sleeps.
 * One line of JSON on standard output; all times are CLOCK_MONOTONIC in ns.
 *
 *   c_reader [--mode N] [--stream FRAMES] [--no-crc] [--present] [--timeout SECONDS] [--node | --stdout]
 *
 * --mode     index into the descriptor's modes (0)
 * --stream   go on for so many frames, or until SIGTERM, and measure the throughput
 * --no-crc   do not check the payload's CRC
 * --present  take a module that is already there, under the contract that it has or the default
 * --node     make a camera of maglens.ko, receive into its ring, and submit every frame (its path: standard error)
 * --stdout   write every frame there; the JSON goes to standard error
 */
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libudev.h>
#include <libusb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "link.h"
#include "node.h"

#define CLASS_TRIPLE ":ff5301:"
#define INTERFACE_STRING "maglens"
#define FRAMES 4 /* in flight */
#define PIPE_BYTES (1 << 20) /* the most that a pipe may have without privileges */

enum role { LEADER, PAYLOAD, TRAILER, ROLES };

struct times {
	uint64_t udev_event, opened, identified, contracted, configured, started, first_frame;
};

struct reader {
	struct link link;
	struct configured mode;
	struct libusb_transfer *transfers[FRAMES * ROLES];
	struct leader leaders[FRAMES];
	int present, check_crc, queued, failed, stopping;
	int to_node, to_stdout;
	struct node node;
	int receiving[FRAMES], received[FRAMES]; /* slots of the node's ring */
	int64_t clock; /* host time less module time */
	uint64_t frames, bytes, target;
	uint64_t first_frame, last_frame;
};

static volatile sig_atomic_t told_to_end;

static void end(int signal)
{
	(void)signal;
	told_to_end = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* 1: the interface's string is ours; 0: it is not, or is not published yet. */
static int is_module(const char *syspath)
{
	const char *name = strrchr(syspath, '/') + 1;
	char path[4096], text[64] = "";
	struct dirent *entry;
	DIR *directory = opendir(syspath);
	int found = 0;

	if (!directory)
		return 0;
	while (!found && (entry = readdir(directory))) {
		FILE *file;

		if (strncmp(entry->d_name, name, strlen(name)) || entry->d_name[strlen(name)] != ':')
			continue;
		snprintf(path, sizeof(path), "%s/%s/interface", syspath, entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(text, sizeof(text), file))
			text[strcspn(text, "\n")] = '\0';
		fclose(file);
		found = !strcmp(text, INTERFACE_STRING);
	}
	closedir(directory);
	return found;
}

/* The device node of a module that this uevent tells of, or NULL. */
static char *judge(struct udev_device *device)
{
	const char *type = udev_device_get_devtype(device);
	const char *interfaces;

	if (type && !strcmp(type, "usb_interface")) /* the device's own uevent may have come too soon */
		device = udev_device_get_parent_with_subsystem_devtype(device, "usb", "usb_device");
	if (!device)
		return NULL;
	interfaces = udev_device_get_property_value(device, "ID_USB_INTERFACES");
	if (!interfaces || !strstr(interfaces, CLASS_TRIPLE) || !is_module(udev_device_get_syspath(device)))
		return NULL;
	return strdup(udev_device_get_devnode(device));
}

static char *find_present(struct udev *udev)
{
	struct udev_enumerate *list = udev_enumerate_new(udev);
	struct udev_list_entry *entry;
	char *node = NULL;

	udev_enumerate_add_match_subsystem(list, "usb");
	udev_enumerate_add_match_property(list, "DEVTYPE", "usb_device");
	udev_enumerate_scan_devices(list);
	udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(list)) {
		struct udev_device *device = udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry));

		if (device && !node)
			node = judge(device);
		udev_device_unref(device);
	}
	udev_enumerate_unref(list);
	return node;
}

static char *wait_for_module(struct udev *udev, int timeout_s, struct times *times)
{
	struct udev_monitor *monitor = udev_monitor_new_from_netlink(udev, "udev");
	uint64_t until = now_ns() + (uint64_t)timeout_s * 1000000000u;
	char *node = NULL;

	udev_monitor_filter_add_match_subsystem_devtype(monitor, "usb", NULL);
	udev_monitor_enable_receiving(monitor);
	fprintf(stderr, "c_reader: waiting for a module\n");
	while (!node) {
		struct pollfd ready = {udev_monitor_get_fd(monitor), POLLIN, 0};
		uint64_t now = now_ns();
		struct udev_device *device;
		const char *action;

		if (now >= until || poll(&ready, 1, (int)((until - now) / 1000000u) + 1) < 0)
			break;
		device = udev_monitor_receive_device(monitor);
		if (!device)
			continue;
		action = udev_device_get_action(device);
		if (action && strcmp(action, "remove")) {
			if (!strcmp(action, "add") && udev_device_get_devnode(device))
				times->udev_event = now_ns();
			node = judge(device);
		}
		udev_device_unref(device);
	}
	udev_monitor_unref(monitor);
	return node;
}

static int find_endpoints(struct link *link)
{
	struct libusb_config_descriptor *config;
	int error = libusb_get_active_config_descriptor(libusb_get_device(link->handle), &config);

	if (error) {
		fprintf(stderr, "c_reader: configuration: %s\n", libusb_error_name(error));
		return -1;
	}
	for (int i = 0; i < config->bNumInterfaces; i++) {
		const struct libusb_interface_descriptor *d = &config->interface[i].altsetting[0];

		if (d->bInterfaceClass != 0xff || d->bInterfaceSubClass != 0x53 || d->bInterfaceProtocol != 1)
			continue;
		link->interface = d->bInterfaceNumber;
		for (int k = 0; k < d->bNumEndpoints; k++) {
			const struct libusb_endpoint_descriptor *e = &d->endpoint[k];

			if (!(e->bEndpointAddress & 0x80))
				continue;
			if ((e->bmAttributes & 3) == LIBUSB_TRANSFER_TYPE_BULK && !link->bulk) {
				link->bulk = e->bEndpointAddress;
				link->bulk_packet = e->wMaxPacketSize & 0x7ff;
			} else if ((e->bmAttributes & 3) == LIBUSB_TRANSFER_TYPE_INTERRUPT && !link->interrupt) {
				link->interrupt = e->bEndpointAddress;
			}
		}
	}
	libusb_free_config_descriptor(config);
	return link->bulk && link->interrupt ? 0 : -1;
}

static void wrong(struct reader *reader, const char *what, const char *why)
{
	fprintf(stderr, "c_reader: %s: %s\n", what, why);
	reader->failed = 1;
}

/* Received where it is wanted already: hand it to the node. */
static void submit_frame(struct reader *reader, int slot)
{
	const struct leader *leader = &reader->leaders[slot];

	if (node_submit(&reader->node, reader->received[slot], leader->payload_bytes,
			(uint64_t)((int64_t)leader->time_ns + reader->clock)))
		reader->failed = 1;
}

static void write_frame(struct reader *reader, const uint8_t *from, size_t left)
{
	while (left) {
		const ssize_t n = write(STDOUT_FILENO, from, left);

		if (n < 0) {
			wrong(reader, "write", strerror(errno));
			return;
		}
		from += n;
		left -= (size_t)n;
	}
}

/* The next payload goes into another slot of the ring: this one is to be submitted once its trailer is there. */
static void swap_slot(struct reader *reader, int slot, struct libusb_transfer *transfer)
{
	const int next = node_take(&reader->node);

	reader->received[slot] = reader->receiving[slot];
	if (next < 0) {
		wrong(reader, "node", "no free slot");
		return;
	}
	reader->receiving[slot] = next;
	transfer->buffer = node_at(&reader->node, next);
}

/* A transfer of the right role came back whole: check it. */
static void take(struct reader *reader, int index, struct libusb_transfer *transfer)
{
	int slot = index / ROLES, length = transfer->actual_length;
	struct leader *leader = &reader->leaders[slot];
	const uint8_t *payload = reader->to_node ? node_at(&reader->node, reader->received[slot]) :
						   reader->transfers[slot * ROLES + PAYLOAD]->buffer;
	const char *why = NULL;
	uint32_t crc;

	switch ((enum role)(index % ROLES)) {
	case LEADER:
		why = leader_open(transfer->buffer, (size_t)length, leader);
		if (!why && (leader->fourcc != reader->mode.fourcc || leader->width != reader->mode.width ||
			     leader->height != reader->mode.height || leader->stride != reader->mode.stride))
			why = "geometry";
		if (why)
			wrong(reader, "leader", why);
		return;
	case PAYLOAD:
		if ((uint32_t)length != leader->payload_bytes)
			wrong(reader, "payload", "length");
		else if (reader->to_node)
			swap_slot(reader, slot, transfer);
		return;
	default:
		why = trailer_open(transfer->buffer, (size_t)length, leader, &crc);
		if (!why && reader->check_crc && crc32c(0, payload, leader->payload_bytes) != crc)
			why = "payload crc";
		if (why) {
			wrong(reader, "trailer", why);
			return;
		}
		if (reader->to_node)
			submit_frame(reader, slot);
		else if (reader->to_stdout)
			write_frame(reader, payload, leader->payload_bytes);
		reader->last_frame = now_ns();
		if (!reader->frames++)
			reader->first_frame = reader->last_frame;
		else
			reader->bytes += leader->payload_bytes;
	}
}

static void LIBUSB_CALL done(struct libusb_transfer *transfer)
{
	struct reader *reader = transfer->user_data;
	int index = 0, error;

	reader->queued--;
	if (reader->stopping || reader->failed)
		return;
	if (transfer->status != LIBUSB_TRANSFER_COMPLETED) {
		wrong(reader, "transfer", libusb_error_name(transfer->status));
		return;
	}
	while (reader->transfers[index] != transfer)
		index++;
	take(reader, index, transfer);
	if (reader->frames >= reader->target) {
		reader->stopping = 1;
		return;
	}
	error = libusb_submit_transfer(transfer);
	if (error)
		wrong(reader, "submit", libusb_error_name(error));
	else
		reader->queued++;
}

static int submit_all(struct reader *reader)
{
	uint32_t packet = reader->link.bulk_packet;
	int payload = (int)((reader->mode.payload_bytes / packet + 1) * packet);

	for (int i = 0; i < FRAMES * ROLES; i++) {
		int length = i % ROLES == PAYLOAD ? payload : STRUCTURE_TRANSFER;
		struct libusb_transfer *transfer = libusb_alloc_transfer(0);
		const int in_ring = reader->to_node && i % ROLES == PAYLOAD;
		uint8_t *buffer;
		int error;

		if (in_ring)
			reader->receiving[i / ROLES] = node_take(&reader->node);
		buffer = in_ring ? node_at(&reader->node, reader->receiving[i / ROLES]) : malloc((size_t)length);
		if (!transfer || !buffer)
			return -1;
		memset(buffer, 0, (size_t)length);
		libusb_fill_bulk_transfer(transfer, reader->link.handle, reader->link.bulk, buffer, length, done, reader, 0);
		reader->transfers[i] = transfer;
		error = libusb_submit_transfer(transfer);
		if (error == LIBUSB_ERROR_NO_MEM && i >= ROLES) { /* usbfs_memory_mb: what is queued must do */
			if (!in_ring)
				free(buffer);
			libusb_free_transfer(transfer);
			reader->transfers[i] = NULL;
			fprintf(stderr, "c_reader: the kernel's limit lets only %d transfers be queued\n", i);
			return i % ROLES ? -1 : 0;
		}
		if (error) {
			wrong(reader, "submit", libusb_error_name(error));
			return -1;
		}
		reader->queued++;
	}
	return 0;
}

/* Read `length` bytes at most, without the ring. Their number, or -1. */
static int read_one(struct reader *reader, uint8_t *buffer, int length)
{
	int got, error = libusb_bulk_transfer(reader->link.handle, reader->link.bulk, buffer, length, &got, 5000);

	if (!error)
		return got;
	fprintf(stderr, "c_reader: read: %s\n", libusb_error_name(error));
	return -1;
}

/*
 * A module that has streamed before may still have something in its controller's FIFO: throw away what comes until a
 * leader, and the frame behind it. The ring is then in step.
 */
static int hunt(struct reader *reader, uint32_t epoch)
{
	uint32_t packet = reader->link.bulk_packet;
	int room = (int)((reader->mode.payload_bytes / packet + 1) * packet), tries = 16, found = 0;
	uint8_t *buffer = malloc((size_t)room + STRUCTURE_TRANSFER);

	while (buffer && !found && tries--) {
		int got = read_one(reader, buffer, STRUCTURE_TRANSFER);

		if (got < 0)
			break;
		for (int at = 0; at < got && !found; at += (int)packet)
			found = !leader_open(buffer + at, (size_t)(got - at), &reader->leaders[0]) &&
				reader->leaders[0].epoch == epoch;
	}
	found = found && read_one(reader, buffer, room) >= 0 && read_one(reader, buffer, STRUCTURE_TRANSFER) >= 0;
	free(buffer);
	return found ? 0 : -1;
}

static int stream(struct reader *reader, struct times *times)
{
	const uint32_t epoch = (uint32_t)(now_ns() / 1000000u); /* another than that of a reader before */

	if (reader->link.state == 0) {
		if (submit_all(reader) || link_start(&reader->link, epoch))
			return -1;
	} else if (link_start(&reader->link, epoch) || hunt(reader, epoch) || submit_all(reader)) {
		return -1;
	}
	times->started = now_ns();
	while (!reader->stopping && !reader->failed && !told_to_end) {
		struct timeval limit = {5, 0};
		uint64_t before = reader->frames, since = now_ns();

		libusb_handle_events_timeout(NULL, &limit);
		if (reader->frames == before && !told_to_end && now_ns() - since > 4900000000u)
			wrong(reader, "stream", "nothing came for 5 s");
	}
	reader->stopping = 1;
	times->first_frame = reader->first_frame;
	for (int i = FRAMES * ROLES - 1; i >= 0; i--)
		if (reader->transfers[i])
			libusb_cancel_transfer(reader->transfers[i]);
	while (reader->queued > 0)
		libusb_handle_events(NULL);
	if (link_stop(&reader->link))
		return -1;
	return reader->failed ? -1 : 0;
}

static void report(const struct reader *reader, const struct times *t)
{
	double seconds = (double)(reader->last_frame - reader->first_frame) / 1e9;
	FILE *out = reader->to_stdout ? stderr : stdout;

	fprintf(out, "{\"udev_event_ns\": %" PRIu64 ", \"opened_ns\": %" PRIu64 ", \"identified_ns\": %" PRIu64
	       ", \"contracted_ns\": %" PRIu64 ", \"configured_ns\": %" PRIu64 ", \"started_ns\": %" PRIu64
	       ", \"first_frame_ns\": %" PRIu64,
	       t->udev_event, t->opened, t->identified, t->contracted, t->configured, t->started, t->first_frame);
	if (t->udev_event)
		fprintf(out, ", \"attach_to_frame_ms\": %.3f", (double)(t->first_frame - t->udev_event) / 1e6);
	fprintf(out, ", \"frames\": %" PRIu64 ", \"payload_bytes\": %u, \"crc\": \"%s\"", reader->frames,
	       reader->mode.payload_bytes, reader->check_crc ? crc32c_name() : "off");
	if (reader->frames > 1)
		fprintf(out, ", \"frames_per_s\": %.2f, \"bytes_per_s\": %.0f", (double)(reader->frames - 1) / seconds,
		       (double)reader->bytes / seconds);
	fprintf(out, "}\n");
}

static int run(struct reader *reader, const char *node, unsigned int index, struct times *times)
{
	struct mode mode;
	uint64_t module_ns, asked;
	int file = open(node, O_RDWR | O_CLOEXEC), error;

	if (file < 0) {
		fprintf(stderr, "c_reader: %s: %s\n", node, strerror(errno));
		return -1;
	}
	libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
	error = libusb_init(NULL);
	if (!error)
		error = libusb_wrap_sys_device(NULL, file, &reader->link.handle);
	if (error) {
		fprintf(stderr, "c_reader: %s: %s\n", node, libusb_error_name(error));
		return -1;
	}
	if (find_endpoints(&reader->link))
		return -1;
	error = libusb_claim_interface(reader->link.handle, reader->link.interface);
	if (error) {
		fprintf(stderr, "c_reader: claim: %s\n", libusb_error_name(error));
		return -1;
	}
	times->opened = now_ns();
	if (link_identify(&reader->link) || link_mode(&reader->link, index, &mode))
		return -1;
	if (reader->link.state && link_stop(&reader->link)) /* a reader before this one may have been killed */
		return -1;
	times->identified = now_ns();
	if (!reader->present && link_contract(&reader->link))
		return -1;
	times->contracted = now_ns();
	asked = now_ns();
	if (link_clock(&reader->link, &module_ns) || link_configure(&reader->link, (uint16_t)index, &mode, &reader->mode))
		return -1;
	reader->clock = (int64_t)(asked - module_ns);
	times->configured = now_ns();
	if (reader->to_node &&
	    (node_open(&reader->node, &reader->mode, reader->link.bulk_packet) || node_watched(&reader->node)))
		return -1;
	return stream(reader, times);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"mode", required_argument, NULL, 'm'},	   {"stream", required_argument, NULL, 's'},
		{"no-crc", no_argument, NULL, 'n'},	   {"present", no_argument, NULL, 'p'},
		{"timeout", required_argument, NULL, 't'}, {"node", no_argument, NULL, 'k'},
		{"stdout", no_argument, NULL, 'o'},	   {0},
	};
	const struct sigaction ends = { .sa_handler = end }, goes_on = { .sa_handler = SIG_IGN };
	struct reader *reader = calloc(1, sizeof(*reader));
	struct times times = {0};
	struct udev *udev = udev_new();
	int timeout_s = 60, option;
	unsigned int index = 0;
	char *node;

	if (!reader || !udev)
		return 1;
	sigaction(SIGTERM, &ends, NULL);
	sigaction(SIGPIPE, &goes_on, NULL); /* a write fails then; the module is stopped as usual */
	reader->check_crc = 1;
	reader->target = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'm')
			index = (unsigned int)strtoul(optarg, NULL, 10);
		else if (option == 's')
			reader->target = strtoull(optarg, NULL, 10) + 1;
		else if (option == 'n')
			reader->check_crc = 0;
		else if (option == 'p')
			reader->present = 1;
		else if (option == 'k')
			reader->to_node = 1;
		else if (option == 'o')
			reader->to_stdout = 1;
		else if (option == 't')
			timeout_s = atoi(optarg);
		else
			return 2;
	}
	if (reader->to_stdout)
		fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE_BYTES); /* where it is a pipe: fewer system calls on both sides */
	node = reader->present ? find_present(udev) : wait_for_module(udev, timeout_s, &times);
	if (!node) {
		fprintf(stderr, "c_reader: no module came\n");
		return 1;
	}
	if (run(reader, node, index, &times))
		return 1;
	report(reader, &times);
	return 0;
}
