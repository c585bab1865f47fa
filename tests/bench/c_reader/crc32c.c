/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crc32c.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* 0x1edc6f41, reflected */

static uint32_t table[8][256];

__attribute__((constructor)) static void make_tables(void)
{
	for (uint32_t n = 0; n < 256; n++) {
		uint32_t crc = n;

		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
		table[0][n] = crc;
	}
	for (uint32_t n = 0; n < 256; n++)
		for (int k = 1; k < 8; k++)
			table[k][n] = table[k - 1][n] >> 8 ^ table[0][table[k - 1][n] & 0xff];
}

/* Eight bytes a step ("slicing by 8"). */
static uint32_t by_table(uint32_t crc, const uint8_t *data, size_t length)
{
	for (; length >= 8; length -= 8, data += 8) {
		uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 |
				      (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24);

		crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^ table[5][low >> 16 & 0xff] ^
		      table[4][low >> 24] ^ table[3][data[4]] ^ table[2][data[5]] ^
		      table[1][data[6]] ^ table[0][data[7]];
	}
	for (; length; length--, data++)
		crc = crc >> 8 ^ table[0][(crc ^ *data) & 0xff];
	return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *data, size_t length)
{
	uint64_t wide = crc;

	for (; length >= 8; length -= 8, data += 8) {
		uint64_t word;

		memcpy(&word, data, sizeof(word));
		wide = __builtin_ia32_crc32di(wide, word);
	}
	crc = (uint32_t)wide;
	for (; length; length--, data++)
		crc = __builtin_ia32_crc32qi(crc, *data);
	return crc;
}

static int has_instruction(void)
{
	return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t by_instruction(uint32_t crc, const uint8_t *data, size_t length)
{
	return by_table(crc, data, length);
}

static int has_instruction(void)
{
	return 0;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
	return ~(has_instruction() ? by_instruction(~crc, data, length) : by_table(~crc, data, length));
}

const char *crc32c_name(void)
{
	return has_instruction() ? "sse4.2" : "table";
}
