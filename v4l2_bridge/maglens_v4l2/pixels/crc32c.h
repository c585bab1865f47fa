/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), the check of every payload on the link. */
#ifndef ML_CRC32C_H
#define ML_CRC32C_H

#include <stddef.h>
#include <stdint.h>

enum ml_crc_way { ML_CRC_PORTABLE, ML_CRC_HARDWARE, ML_CRC_VPCLMUL, ML_CRC_WAYS };

/* Builds the tables; call once before any other function here. */
void ml_crc32c_init(void);

/* The CRC of the bytes so far (@crc, 0 at first) followed by @n bytes at @p, by the best way here. */
uint32_t ml_crc32c(uint32_t crc, const uint8_t *p, size_t n);

/* The same by one way; -1 when this machine lacks it, else 0 and the CRC in @out. */
int ml_crc32c_by(enum ml_crc_way way, uint32_t crc, const uint8_t *p, size_t n, uint32_t *out);

/* x^@bits modulo the polynomial, bit-reflected: shifts a CRC over @bits zero bits when multiplied. */
uint32_t ml_crc32c_xpow(uint64_t bits);

/* On the raw register (no inversion): for the ways below only. */
uint32_t ml_crc32c_raw_portable(uint32_t crc, const uint8_t *p, size_t n);
uint32_t ml_crc32c_raw_vpclmul(uint32_t crc, const uint8_t *p, size_t n);
uint32_t ml_crc32c_raw_hardware(uint32_t crc, const uint8_t *p, size_t n);
void ml_crc32c_vpclmul_init(void);

#endif
