// SPDX-License-Identifier: GPL-2.0-or-later
/* Preloaded: counts the requests for memory above a size, between arm and disarm. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_size_t above = SIZE_MAX, largest;
static atomic_long count;

static void note(size_t size)
{
	size_t most = atomic_load(&largest);

	if (size <= atomic_load(&above))
		return;
	atomic_fetch_add(&count, 1);
	while (size > most && !atomic_compare_exchange_weak(&largest, &most, size))
		;
}

void allocations_arm(size_t bytes)
{
	atomic_store(&count, 0);
	atomic_store(&largest, 0);
	atomic_store(&above, bytes);
}

long allocations_disarm(size_t *most)
{
	atomic_store(&above, SIZE_MAX);
	*most = atomic_load(&largest);
	return atomic_load(&count);
}

void *malloc(size_t size)
{
	note(size);
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	note(n * size);
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	note(size);
	return __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	note(size);
	return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size)
{
	note(size);
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	note(size);
	*out = __libc_memalign(alignment, size);
	return *out ? 0 : ENOMEM;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	static void *(*real)(void *, size_t, int, int, int, off_t);

	if (!real)
		real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
	note(size);
	return real(address, size, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
	return mmap(address, size, protection, flags, fd, offset);
}
