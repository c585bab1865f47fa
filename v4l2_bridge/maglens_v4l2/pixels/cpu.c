/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asks the processor once; later calls read the answer. */
#include "cpu.h"

#include <pthread.h>

#ifdef ML_ARM64
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static struct ml_cpu found;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void probe(void)
{
#ifdef ML_X86
	__builtin_cpu_init();
	found.avx2 = __builtin_cpu_supports("avx2");
	found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") &&
		       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi");
	found.crc32c = __builtin_cpu_supports("sse4.2");
	found.vpclmul = found.avx512 && found.crc32c && __builtin_cpu_supports("pclmul") &&
			__builtin_cpu_supports("vpclmulqdq");
#endif
#ifdef ML_ARM64
	found.neon = true; /* part of the base architecture */
	found.crc32c = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

const struct ml_cpu *ml_cpu(void)
{
	pthread_once(&once, probe);
	return &found;
}

bool ml_level_here(enum ml_level level)
{
	switch (level) {
	case ML_PORTABLE:
		return true;
	case ML_AVX2:
		return ml_cpu()->avx2;
	case ML_AVX512:
		return ml_cpu()->avx512;
	case ML_NEON:
		return ml_cpu()->neon;
	default:
		return false;
	}
}

enum ml_level ml_level_best(void)
{
	enum ml_level best = ML_PORTABLE;

	for (int level = 0; level < ML_LEVELS; level++)
		if (ml_level_here((enum ml_level)level))
			best = (enum ml_level)level;
	return best;
}

const char *ml_level_name(enum ml_level level)
{
	static const char *const names[ML_LEVELS] = { "portable", "avx2", "avx512", "neon" };

	return names[level];
}
