/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "link.h"

#include <stdio.h>
#include <string.h>

#include "crc32c.h"

#define REPLY_MS 500
#define CONTROL_BYTES 4096
#define HEADER_BYTES 8
#define BLOCK_BYTES (CONTROL_BYTES - HEADER_BYTES)
#define CONTROL_MAGIC 0x4c4d
#define LEADER_MAGIC 0x444c4c4du
#define TRAILER_MAGIC 0x52544c4du
#define CRC_OFFSET 8
#define MAJOR 1

/* PD messages: docs/protocol.md, "Power". */
#define PD_FROM_SOURCE (1 << 8 | 2 << 6)
#define PD_ACCEPT 3
#define PD_PS_RDY 6
#define PD_SOURCE_CAPABILITIES 1
#define PD_REQUEST 2
#define PDO_5V_900MA (100u << 10 | 90)
#define PDO_9V_3A (180u << 10 | 300)

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const uint8_t *at)
{
	return get32(at) | (uint64_t)get32(at + 4) << 32;
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value);
	put16(at + 2, value >> 16);
}

static int fail(const char *what, int code)
{
	fprintf(stderr, "c_reader: %s: %s\n", what, code < 0 ? libusb_error_name(code) : "not as the protocol says");
	return -1;
}

/* A reply's body; its length, or -1. `status` is any the module gave. */
static int receive(struct link *link, uint8_t op, uint16_t value, uint16_t tag, uint8_t *raw, uint8_t *status)
{
	int got = libusb_control_transfer(link->handle, 0xc1, op, value, link->interface, raw, CONTROL_BYTES, REPLY_MS);

	if (got < 0)
		return fail("control read", got);
	if (got < HEADER_BYTES || get16(raw) != CONTROL_MAGIC || raw[2] != MAJOR || get16(raw + 4) != got ||
	    get16(raw + 6) != tag)
		return fail("control reply", 0);
	*status = raw[3];
	return got - HEADER_BYTES;
}

/* A request to the module and its result's body, in `raw` behind the header; its length, or -1. */
static int request(struct link *link, uint8_t op, const uint8_t *body, size_t length, uint8_t *raw)
{
	uint8_t payload[256], status;
	int sent, got;

	link->tag = (uint16_t)(link->tag % 0xffff + 1);
	put16(payload, CONTROL_MAGIC);
	payload[2] = MAJOR;
	payload[3] = op;
	put16(payload + 4, (uint32_t)(HEADER_BYTES + length));
	put16(payload + 6, link->tag);
	memcpy(payload + HEADER_BYTES, body, length);
	sent = libusb_control_transfer(link->handle, 0x41, op, 0, link->interface, payload,
				       (uint16_t)(HEADER_BYTES + length), REPLY_MS);
	if (sent < 0)
		return fail("control write", sent);
	got = receive(link, OP_RESULT, link->tag, link->tag, raw, &status);
	if (got < 0)
		return -1;
	if (status != STATUS_OK && status != STATUS_ADJUSTED) {
		fprintf(stderr, "c_reader: request 0x%02x was refused with status 0x%02x\n", op, status);
		return -1;
	}
	return got;
}

int link_identify(struct link *link)
{
	uint8_t raw[CONTROL_BYTES], status;
	uint32_t bytes, crc;
	int got = receive(link, OP_INFO, 0, 0, raw, &status);

	if (got < 24 || status != STATUS_OK)
		return fail("INFO", 0);
	link->state = raw[HEADER_BYTES + 1];
	bytes = get32(raw + HEADER_BYTES + 4);
	crc = get32(raw + HEADER_BYTES + 8);
	if (bytes == 0 || bytes > sizeof(link->descriptor))
		return fail("descriptor length", 0);
	for (link->descriptor_bytes = 0; link->descriptor_bytes < bytes; link->descriptor_bytes += (size_t)got) {
		size_t want = bytes - link->descriptor_bytes < BLOCK_BYTES ? bytes - link->descriptor_bytes : BLOCK_BYTES;

		got = receive(link, OP_DESCRIPTOR, (uint16_t)(link->descriptor_bytes / BLOCK_BYTES), 0, raw, &status);
		if (got < 0 || status != STATUS_OK || (size_t)got != want)
			return fail("DESCRIPTOR", 0);
		memcpy(link->descriptor + link->descriptor_bytes, raw + HEADER_BYTES, want);
	}
	return crc32c(0, link->descriptor, bytes) == crc ? 0 : fail("descriptor CRC", 0);
}

/* CBOR, as much as a descriptor has of it. */
struct cbor {
	const uint8_t *at, *end;
};

static int head(struct cbor *c, int *major, uint64_t *argument)
{
	int width;

	if (c->at >= c->end)
		return -1;
	*major = *c->at >> 5;
	*argument = *c->at++ & 31;
	if (*argument < 24)
		return 0;
	if (*argument > 27)
		return -1;
	width = 1 << (*argument - 24);
	if (c->end - c->at < width)
		return -1;
	for (*argument = 0; width; width--)
		*argument = *argument << 8 | *c->at++;
	return 0;
}

static int skip(struct cbor *c)
{
	uint64_t left = 1, argument;
	int major;

	while (left--) {
		if (head(c, &major, &argument))
			return -1;
		if (major == 2 || major == 3) {
			if ((uint64_t)(c->end - c->at) < argument)
				return -1;
			c->at += argument;
		} else if (major == 4) {
			left += argument;
		} else if (major == 5) {
			left += 2 * argument;
		}
	}
	return 0;
}

/* Go to the value of `key` in the map that is next. */
static int find(struct cbor *c, const char *key)
{
	uint64_t pairs, length;
	int major;

	if (head(c, &major, &pairs) || major != 5)
		return -1;
	while (pairs--) {
		if (head(c, &major, &length) || major != 3 || (uint64_t)(c->end - c->at) < length)
			return -1;
		c->at += length;
		if (length == strlen(key) && !memcmp(c->at - length, key, length))
			return 0;
		if (skip(c))
			return -1;
	}
	return -1;
}

/* Go to item `index` of the array that is next. */
static int item(struct cbor *c, unsigned int index)
{
	uint64_t count;
	int major;

	if (head(c, &major, &count) || major != 4 || index >= count)
		return -1;
	while (index--)
		if (skip(c))
			return -1;
	return 0;
}

static int number(struct cbor c, uint32_t *value)
{
	uint64_t argument;
	int major;

	if (head(&c, &major, &argument) || major != 0 || argument > UINT32_MAX)
		return -1;
	*value = (uint32_t)argument;
	return 0;
}

int link_mode(const struct link *link, unsigned int index, struct mode *mode)
{
	struct cbor map = {link->descriptor, link->descriptor + link->descriptor_bytes};
	struct cbor c;
	uint64_t length;
	int major;

	if (find(&map, "modes") || item(&map, index))
		return fail("no such mode", 0);
	c = map;
	if (find(&c, "fourcc") || head(&c, &major, &length) || major != 3 || length != 4 || c.end - c.at < 4)
		return fail("mode", 0);
	mode->fourcc = get32(c.at);
	c = map;
	if (find(&c, "width") || number(c, &mode->width))
		return fail("mode", 0);
	c = map;
	if (find(&c, "height") || number(c, &mode->height))
		return fail("mode", 0);
	c = map;
	if (find(&c, "interval") || item(&c, 0) || number(c, &mode->numerator) || skip(&c) ||
	    number(c, &mode->denominator))
		return fail("mode", 0);
	return 0;
}

static int power(struct link *link, uint16_t number, uint16_t id, const uint32_t *objects, int count)
{
	uint8_t body[2 + 7 * 4], raw[CONTROL_BYTES];

	put16(body, (uint32_t)(count << 12 | id << 9 | PD_FROM_SOURCE | number));
	for (int i = 0; i < count; i++)
		put32(body + 2 + 4 * i, objects[i]);
	return request(link, OP_POWER_SEND, body, (size_t)(2 + 4 * count), raw) < 0 ? -1 : 0;
}

/* Offer 5 V 900 mA and 9 V 3 A, and grant whatever the module asks for of that. */
int link_contract(struct link *link)
{
	const uint32_t offers[] = {PDO_5V_900MA, PDO_9V_3A};
	uint8_t raw[CONTROL_BYTES], event[64], status;
	int got, length;

	if (power(link, PD_SOURCE_CAPABILITIES, 0, offers, 2))
		return -1;
	got = receive(link, OP_POWER_RECEIVE, 0, 0, raw, &status);
	while (got >= 0 && status == STATUS_NONE) { /* an event says when there is something */
		int error = libusb_interrupt_transfer(link->handle, link->interrupt, event, sizeof(event), &length, REPLY_MS);

		if (error)
			return fail("waiting for the module's Request", error);
		got = receive(link, OP_POWER_RECEIVE, 0, 0, raw, &status);
	}
	if (got != 6 || status != STATUS_OK || (get16(raw + HEADER_BYTES) & 0x1f) != PD_REQUEST)
		return fail("Request", 0);
	return power(link, PD_ACCEPT, 1, NULL, 0) || power(link, PD_PS_RDY, 2, NULL, 0) ? -1 : 0;
}

int link_clock(struct link *link, uint64_t *module_ns)
{
	uint8_t raw[CONTROL_BYTES], status;
	int got = receive(link, OP_CLOCK, 0, 0, raw, &status);

	if (got < 16 || status != STATUS_OK)
		return fail("CLOCK", 0);
	*module_ns = get64(raw + HEADER_BYTES);
	return 0;
}

int link_configure(struct link *link, uint16_t index, const struct mode *mode, struct configured *answer)
{
	uint8_t body[28] = {0}, raw[CONTROL_BYTES];

	put16(body, index);
	put32(body + 4, mode->fourcc);
	put32(body + 8, mode->width);
	put32(body + 12, mode->height);
	put32(body + 16, mode->numerator);
	put32(body + 20, mode->denominator);
	if (request(link, OP_CONFIGURE, body, sizeof(body), raw) < 40)
		return fail("CONFIGURE", 0);
	answer->fourcc = get32(raw + HEADER_BYTES + 4);
	answer->width = get32(raw + HEADER_BYTES + 8);
	answer->height = get32(raw + HEADER_BYTES + 12);
	answer->stride = get32(raw + HEADER_BYTES + 24);
	answer->payload_bytes = get32(raw + HEADER_BYTES + 28);
	return 0;
}

int link_start(struct link *link, uint32_t epoch)
{
	uint8_t body[4], raw[CONTROL_BYTES];

	put32(body, epoch);
	return request(link, OP_START, body, sizeof(body), raw) < 0 ? -1 : 0;
}

int link_stop(struct link *link)
{
	uint8_t raw[CONTROL_BYTES];

	return request(link, OP_STOP, NULL, 0, raw) < 0 ? -1 : 0;
}

static const char *open_sealed(const uint8_t *raw, size_t length, size_t least, uint32_t magic)
{
	static const uint8_t zero[4];
	uint32_t crc;

	if (length < least || length > 512)
		return "length";
	if (get32(raw) != magic)
		return "magic";
	if (raw[6] != MAJOR)
		return "version";
	if (get16(raw + 4) != length)
		return "length";
	crc = crc32c(0, raw, CRC_OFFSET);
	crc = crc32c(crc, zero, sizeof(zero));
	crc = crc32c(crc, raw + CRC_OFFSET + 4, length - CRC_OFFSET - 4);
	return crc == get32(raw + CRC_OFFSET) ? NULL : "crc";
}

const char *leader_open(const uint8_t *raw, size_t length, struct leader *leader)
{
	const char *wrong = open_sealed(raw, length, LEADER_BYTES, LEADER_MAGIC);

	if (wrong)
		return wrong;
	leader->epoch = get32(raw + 12);
	leader->frame_id = get64(raw + 16);
	leader->time_ns = get64(raw + 24);
	leader->fourcc = get32(raw + 32);
	leader->width = get32(raw + 36);
	leader->height = get32(raw + 40);
	leader->stride = get32(raw + 44);
	leader->payload_bytes = get32(raw + 48);
	return NULL;
}

const char *trailer_open(const uint8_t *raw, size_t length, const struct leader *leader, uint32_t *payload_crc)
{
	const char *wrong = open_sealed(raw, length, TRAILER_BYTES, TRAILER_MAGIC);

	if (wrong)
		return wrong;
	if (raw[7] || get32(raw + 12) != leader->epoch || get64(raw + 16) != leader->frame_id ||
	    get32(raw + 24) != leader->payload_bytes)
		return "frame";
	*payload_crc = get32(raw + 28);
	return NULL;
}
