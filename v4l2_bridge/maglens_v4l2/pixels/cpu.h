/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which instruction sets this machine offers, asked once at run time. */
#ifndef ML_CPU_H
#define ML_CPU_H

#include <stdbool.h>

#if defined(__x86_64__)
#define ML_X86 1
#endif
#if defined(__aarch64__)
#define ML_ARM64 1
#endif

/* SIMD levels, worst first. A level that this machine lacks is never run. */
enum ml_level { ML_PORTABLE, ML_AVX2, ML_AVX512, ML_NEON, ML_LEVELS };

struct ml_cpu {
	bool avx2;
	bool avx512;     /* F, BW, VL, DQ and VBMI: byte permutes across the whole register */
	bool neon;
	bool crc32c;     /* SSE4.2 or the ARMv8 CRC extension */
	bool vpclmul;    /* carry-less multiply on 512-bit registers */
};

const struct ml_cpu *ml_cpu(void);
bool ml_level_here(enum ml_level level);
enum ml_level ml_level_best(void);
const char *ml_level_name(enum ml_level level);

#endif
