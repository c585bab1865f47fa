/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's side of the link protocol, version 1 (docs/protocol.md), as far as a plain reader needs it. */
#ifndef LINK_H
#define LINK_H

#include <libusb.h>
#include <stddef.h>
#include <stdint.h>

#define LEADER_BYTES 80
#define TRAILER_BYTES 32
#define STRUCTURE_TRANSFER 1024

enum op {
	OP_INFO = 0x01,
	OP_DESCRIPTOR = 0x02,
	OP_CLOCK = 0x03,
	OP_RESULT = 0x04,
	OP_POWER_RECEIVE = 0x06,
	OP_CONFIGURE = 0x10,
	OP_START = 0x11,
	OP_STOP = 0x12,
	OP_POWER_SEND = 0x15,
};

enum status { STATUS_OK = 0, STATUS_ADJUSTED = 1, STATUS_NONE = 2 };

/* One mode of the descriptor. */
struct mode {
	uint32_t fourcc, width, height, numerator, denominator;
};

/* What CONFIGURE's result says. */
struct configured {
	uint32_t fourcc, width, height, stride, payload_bytes;
};

struct leader {
	uint32_t epoch, fourcc, width, height, stride, payload_bytes;
	uint64_t frame_id, time_ns;
};

struct link {
	libusb_device_handle *handle;
	uint8_t interface, bulk, interrupt;
	uint16_t bulk_packet, tag;
	uint8_t state; /* as INFO told; 0 is IDLE */
	uint8_t descriptor[65536];
	size_t descriptor_bytes;
};

/* All return 0, or -1 after a line on standard error. */
int link_identify(struct link *link);
int link_mode(const struct link *link, unsigned int index, struct mode *mode);
int link_contract(struct link *link);
int link_clock(struct link *link, uint64_t *module_ns);
int link_configure(struct link *link, uint16_t index, const struct mode *mode, struct configured *answer);
int link_start(struct link *link, uint32_t epoch);
int link_stop(struct link *link);

/* 0 where the bytes are a leader (trailer) in good order; the text says what is wrong. */
const char *leader_open(const uint8_t *raw, size_t length, struct leader *leader);
const char *trailer_open(const uint8_t *raw, size_t length, const struct leader *leader, uint32_t *payload_crc);

#endif
