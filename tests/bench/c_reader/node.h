/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A camera of maglens.ko with one format, fed from its ring. */
#ifndef NODE_H
#define NODE_H

#include <stddef.h>
#include <stdint.h>

#include "link.h"

#define NODE_SLOTS 8

struct node {
	int fd, video_nr;
	uint8_t *ring;
	uint32_t slot_size, serial;
	uint64_t generation;
	int free[NODE_SLOTS], n_free;
	int held; /* the kernel's, until another has been submitted; -1: none */
	uint64_t delivered;
};

/* Both return 0, or -1 after a line on standard error. */
int node_open(struct node *node, const struct configured *mode, uint32_t packet);
int node_submit(struct node *node, int slot, uint32_t bytes, uint64_t timestamp_ns);

/* A slot to receive into, or -1. */
int node_take(struct node *node);
uint8_t *node_at(const struct node *node, int slot);

/* Wait until somebody streams; 0, or -1. */
int node_watched(struct node *node);

#endif
