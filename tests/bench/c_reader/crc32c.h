/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (RFC 3720): by the processor's instruction where it has one, else by tables. */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `length` bytes, going on from `crc` (0 at the beginning). */
uint32_t crc32c(uint32_t crc, const void *data, size_t length);

/* "sse4.2" or "table". */
const char *crc32c_name(void);

#endif
