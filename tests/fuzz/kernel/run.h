/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two files of calls share: the state of a run, and where values come from. */
#ifndef MAGLENS_FUZZ_RUN_H
#define MAGLENS_FUZZ_RUN_H

#include <linux/videodev2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maglens.h"

#define CAMERAS 2
#define VIDEOS 3
#define MAPPINGS 8
#define SCRATCH (64 << 10)
#define MAX_CALLS 96
#define MAX_NAPS 1
#define NAP_CHANCE 32 /* of 256 */
#define NAP_US 40000 /* over two intervals of the formats below: the filler acts */
#define DISTURBED 192 /* of 256: from here on a struct is disturbed */
#define OTHER_CAMERA 224
#define STRANGE 224 /* likewise: from here on a camera has a format of any code */
#define STRANGE_DEPTH 7 /* the camera to start from has one that V4L2 does not know */
#define N_FORMATS 4
#define N_MENU 4
#define N_CONTROLS 8
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* What one input has open. */
struct run {
	const uint8_t *at, *end;
	int camera[CAMERAS];
	struct maglens_state state[CAMERAS];
	int video[VIDEOS];
	int shared; /* a dmabuf */
	void *mapping[MAPPINGS];
	size_t mapped[MAPPINGS];
	unsigned int n_mapped, naps, last;
	bool fresh;
};

extern struct run run;

extern uint8_t *scratch; /* followed by a page that faults */

/* The test camera. A menu address of 1 stands for that of menu. */
extern const struct maglens_format formats[N_FORMATS];
extern const struct maglens_menu_item menu[N_MENU];
extern const struct maglens_control controls[N_CONTROLS];

uint8_t byte(void); /* the input's next, 0 behind its end */
uint32_t word(void);
uint64_t near(uint64_t n);	   /* a number near n, or one of those that programs trip over */
uint64_t address(const void *p);   /* of p mostly */
int one_of(const int *fds, unsigned int n);
void disturb(void *p, size_t size); /* overwrites a few aligned words */
int call(int fd, unsigned long request, void *arg);
uint32_t picture(const struct maglens_state *s); /* bytes of a frame of its format */

void do_open(void);
void do_fmt(void);
void do_enum(void);
void do_parm(void);
void do_buffers(void);
void do_buffer(void);
void do_stream(void);
void do_export(void);
void do_control(void);
void do_event(void);
void do_core(void);

#endif
