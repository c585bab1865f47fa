/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The promises that behave.c has checked, one function per promise, and what they share. */
#ifndef MAGLENS_TEST_BEHAVE_H
#define MAGLENS_TEST_BEHAVE_H

#include "lib.h"

/*
 * The longest gap between two frames at the nominal rate, in microseconds: two intervals, and what a machine may be late
 * by. The kernel stamps a frame when its work item runs: a tenth of an interval. That the application has it takes one
 * more wake-up, of its own process: half an interval.
 */
#define INTERVAL_US (1000000 / 30)
#define LONGEST_STAMPED_US (2 * INTERVAL_US + INTERVAL_US / 10)
#define LONGEST_SEEN_US (2 * INTERVAL_US + INTERVAL_US / 2)

int set_control(int fd, uint32_t id, int32_t value);
int32_t get_control(int fd, uint32_t id);
void subscribe(int fd, uint32_t type, uint32_t id);
bool next_event(int fd, struct v4l2_event *ev);
void drain(const struct backend *b); /* reads away what events are pending */
struct maglens_push push_of(const struct backend *b, uint32_t id, uint32_t what);
int push_value(const struct backend *b, uint32_t id, int64_t value);
int placeholder(const struct backend *b, int fill, uint32_t bytes); /* 0 bytes: none */

void test_before_create(void);
void test_create_refuses(void);
void test_unknown_format(void);
void test_ring(void);
void test_buffers(void);
void test_submit(void);
void test_filler(void);
void test_continuity(void);
void test_adopt(void);
void test_controls(void);
void test_events(void);
void test_sharing(bool exclusive);
void test_removal(void);

#endif
