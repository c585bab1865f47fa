/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC-32C in portable C (eight tables, eight bytes a step) and with the processor's own CRC instruction, three streams
 * at a time since that instruction has a latency of three and a throughput of one.
 */
#include "crc32c.h"

#include <string.h>

#include "cpu.h"

#define POLY 0x82f63b78u /* bit-reflected */

/* Lengths of the three streams: long ones first, then what is left in short ones. */
#define LONG_BYTES 8192
#define SHORT_BYTES 256

static uint32_t slice[8][256];
/* shift[k][b]: the register with only byte k set to b, moved over LONG_BYTES or SHORT_BYTES zero bytes. */
static uint32_t shift_long[4][256], shift_short[4][256];

/* a * b modulo the polynomial; bit 31 is x^0. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;

	for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
		if (a & bit)
			product ^= b;
		b = b & 1 ? (b >> 1) ^ POLY : b >> 1;
	}
	return product;
}

uint32_t ml_crc32c_xpow(uint64_t bits)
{
	uint32_t result = 1u << 31, base = 1u << 30; /* x^0 and x^1 */

	for (; bits; bits >>= 1) {
		if (bits & 1)
			result = multiply(result, base);
		base = multiply(base, base);
	}
	return result;
}

static void shift_table(uint32_t table[4][256], size_t bytes)
{
	uint32_t factor = ml_crc32c_xpow(8 * (uint64_t)bytes);

	for (int k = 0; k < 4; k++)
		for (uint32_t b = 0; b < 256; b++)
			table[k][b] = multiply(factor, b << (8 * k));
}

void ml_crc32c_init(void)
{
	for (uint32_t b = 0; b < 256; b++) {
		uint32_t crc = b;

		for (int i = 0; i < 8; i++)
			crc = crc & 1 ? (crc >> 1) ^ POLY : crc >> 1;
		slice[0][b] = crc;
	}
	for (uint32_t b = 0; b < 256; b++)
		for (int k = 1; k < 8; k++)
			slice[k][b] = (slice[k - 1][b] >> 8) ^ slice[0][slice[k - 1][b] & 0xff];
	shift_table(shift_long, LONG_BYTES);
	shift_table(shift_short, SHORT_BYTES);
	ml_crc32c_vpclmul_init();
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

uint32_t ml_crc32c_raw_portable(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t v = load64(p) ^ crc;

		crc = 0;
		for (int k = 0; k < 8; k++)
			crc ^= slice[7 - k][(v >> (8 * k)) & 0xff];
	}
	for (; n; n--, p++)
		crc = (crc >> 8) ^ slice[0][(crc ^ *p) & 0xff];
	return crc;
}

#if defined(ML_X86) || defined(ML_ARM64)

#ifdef ML_X86
#include <nmmintrin.h>
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC64(c, v) _mm_crc32_u64((c), (v))
#define CRC8(c, v) _mm_crc32_u8((uint32_t)(c), (v))
#else
/* The compiler's names, because <arm_acle.h> hides them unless the whole file is built for the extension. */
#define CRC_TARGET __attribute__((target("+crc")))
#define CRC64(c, v) __builtin_aarch64_crc32cx((uint32_t)(c), (v))
#define CRC8(c, v) __builtin_aarch64_crc32cb((uint32_t)(c), (v))
#endif

static inline uint32_t moved(uint32_t table[4][256], uint64_t crc)
{
	return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^
	       table[3][(crc >> 24) & 0xff];
}

CRC_TARGET static uint64_t three_streams(uint64_t crc, const uint8_t **at, size_t *left, size_t bytes,
					 uint32_t table[4][256])
{
	const uint8_t *p = *at;

	for (; *left >= 3 * bytes; *left -= 3 * bytes, p += 2 * bytes) {
		uint64_t b = 0, c = 0;

		for (const uint8_t *end = p + bytes; p < end; p += 8) {
			crc = CRC64(crc, load64(p));
			b = CRC64(b, load64(p + bytes));
			c = CRC64(c, load64(p + 2 * bytes));
		}
		crc = moved(table, crc) ^ b;
		crc = moved(table, crc) ^ c;
	}
	*at = p;
	return crc;
}

CRC_TARGET uint32_t ml_crc32c_raw_hardware(uint32_t start, const uint8_t *p, size_t n)
{
	uint64_t crc = start;

	crc = three_streams(crc, &p, &n, LONG_BYTES, shift_long);
	crc = three_streams(crc, &p, &n, SHORT_BYTES, shift_short);
	for (; n >= 8; n -= 8, p += 8)
		crc = CRC64(crc, load64(p));
	for (; n; n--, p++)
		crc = CRC8(crc, *p);
	return (uint32_t)crc;
}

#else

uint32_t ml_crc32c_raw_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
	return ml_crc32c_raw_portable(crc, p, n);
}

#endif

int ml_crc32c_by(enum ml_crc_way way, uint32_t crc, const uint8_t *p, size_t n, uint32_t *out)
{
	switch (way) {
	case ML_CRC_PORTABLE:
		*out = ~ml_crc32c_raw_portable(~crc, p, n);
		return 0;
	case ML_CRC_HARDWARE:
		if (!ml_cpu()->crc32c)
			return -1;
		*out = ~ml_crc32c_raw_hardware(~crc, p, n);
		return 0;
	case ML_CRC_VPCLMUL:
		if (!ml_cpu()->vpclmul)
			return -1;
		*out = ~ml_crc32c_raw_vpclmul(~crc, p, n);
		return 0;
	default:
		return -1;
	}
}

uint32_t ml_crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
	for (int way = ML_CRC_WAYS - 1; way > ML_CRC_PORTABLE; way--)
		if (ml_crc32c_by((enum ml_crc_way)way, crc, p, n, &crc) == 0)
			return crc;
	return ~ml_crc32c_raw_portable(~crc, p, n);
}
