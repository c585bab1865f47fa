/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One input, run as a program of system calls. */
#ifndef MAGLENS_FUZZ_CALLS_H
#define MAGLENS_FUZZ_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void calls_init(void);
const char *calls_guide(void); /* "coverage" or "errors" */

/* Runs the input and cleans up after it. True if it reached something new. */
bool calls_run(const uint8_t *bytes, size_t length);

unsigned int calls_reached(void);

#endif
