/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gathers on AVX2. QEMU 7.2, when it emulates the processor, takes register 4 as the index of a gather for no index at
 * all, and reads anywhere; which register is taken is the compiler's choice. Here it is always another one.
 */
#ifndef ML_GATHER_H
#define ML_GATHER_H

#include <immintrin.h>
#include <stdint.h>

/* Eight times 32 bits, at 16-bit entries of @table. */
__attribute__((target("avx2"), always_inline)) static inline __m256i ml_gather16(const void *table, __m256i entries)
{
	register __m256i index __asm__("xmm5") = entries;
	__m256i mask = _mm256_set1_epi32(-1), found;

	__asm__("vpgatherdd %1, (%2, %3, 2), %0"
		: "=&x"(found), "+&x"(mask)
		: "r"(table), "x"(index)
		: "memory");
	return found;
}

#endif
