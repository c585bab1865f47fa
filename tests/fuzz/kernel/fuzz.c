// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of maglens.ko: every ioctl, read, poll and mmap of /dev/maglens, and of the video device
 * behind it. An input is a byte string that is read as a program: each byte chooses a call or a
 * value for it, most values from those near what the camera has. Guided by coverage where the
 * kernel has KCOV, by the errors met otherwise: an input that reaches something new joins the
 * corpus.
 *
 * Usage: fuzz CORPUS OUT SECONDS SEED
 *   CORPUS   directory of inputs to start from; may be empty
 *   OUT      directory for new inputs and for "current", the input being run
 *
 * Exit status 0: nothing found. 3: the kernel complained (it is tainted); OUT/current did it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"

#define INPUT_BYTES 512
#define SHORTEST 64 /* of the random ones: a camera's creation is paid for once per input */
#define MAX_CORPUS 4096
#define REPORT_S 10
#define MAX_PATH 512

struct input {
	size_t length;
	uint8_t bytes[INPUT_BYTES];
};

static struct input *corpus[MAX_CORPUS];
static size_t n_corpus;
static unsigned int seed;

static unsigned int any(unsigned int n)
{
	return rand_r(&seed) % n;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static unsigned long tainted(void)
{
	static int fd = -1;
	char text[32] = "";

	if (fd < 0)
		fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0) {
		perror("/proc/sys/kernel/tainted");
		exit(2);
	}
	return strtoul(text, NULL, 10);
}

static void keep(const struct input *input)
{
	if (n_corpus == MAX_CORPUS)
		return;
	corpus[n_corpus] = malloc(sizeof(*input));
	*corpus[n_corpus++] = *input;
}

static void save(const char *directory, const struct input *input)
{
	char path[MAX_PATH];
	uint64_t hash = 0xcbf29ce484222325u;
	int fd;

	for (size_t i = 0; i < input->length; i++)
		hash = (hash ^ input->bytes[i]) * 0x100000001b3u;
	snprintf(path, sizeof(path), "%s/%016llx", directory, (unsigned long long)hash);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, input->bytes, input->length) != (ssize_t)input->length) {
		perror(path);
		exit(2);
	}
	close(fd);
}

static void load(const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	if (!dir) {
		perror(directory);
		exit(2);
	}
	while ((entry = readdir(dir))) {
		char path[MAX_PATH];
		struct input input;
		ssize_t n;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = read(fd, input.bytes, sizeof(input.bytes));
		close(fd);
		if (n <= 0)
			continue;
		input.length = n;
		keep(&input);
	}
	closedir(dir);
}

/* A new input: from the corpus, changed in a few places, or wholly random. */
static struct input invent(void)
{
	struct input input;

	if (!n_corpus || any(2)) {
		input.length = SHORTEST + any(INPUT_BYTES - SHORTEST);
		for (size_t i = 0; i < input.length; i++)
			input.bytes[i] = any(256);
		return input;
	}
	input = *corpus[any(n_corpus)];
	for (unsigned int changes = 1 + any(8); changes; changes--) {
		size_t at = any(input.length);

		switch (any(5)) {
		case 0:
			input.bytes[at] = any(256);
			break;
		case 1:
			input.bytes[at] ^= 1 << any(8);
			break;
		case 2: /* cut */
			memmove(&input.bytes[at], &input.bytes[at + 1], input.length - at - 1);
			if (input.length > 1)
				input.length--;
			break;
		case 3: /* insert */
			if (input.length == INPUT_BYTES)
				break;
			memmove(&input.bytes[at + 1], &input.bytes[at], input.length - at);
			input.bytes[at] = any(256);
			input.length++;
			break;
		case 4: { /* the tail of another */
			const struct input *other = corpus[any(n_corpus)];
			size_t from = any(other->length);
			size_t n = other->length - from;

			if (n > INPUT_BYTES - at)
				n = INPUT_BYTES - at;
			memcpy(&input.bytes[at], &other->bytes[from], n);
			input.length = at + n > input.length ? at + n : input.length;
		}
		}
	}
	return input;
}

int main(int argc, char **argv)
{
	unsigned long clean = tainted();
	char current[MAX_PATH];
	double start = now(), report = start, seconds;
	unsigned long runs = 0, fresh = 0;
	size_t replay;
	int fd;

	if (argc != 5) {
		fprintf(stderr, "usage: fuzz CORPUS OUT SECONDS SEED\n");
		return 2;
	}
	seconds = atof(argv[3]);
	seed = strtoul(argv[4], NULL, 0);
	load(argv[1]);
	snprintf(current, sizeof(current), "%s/current", argv[2]);
	fd = open(current, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	if (fd < 0) {
		perror(current);
		return 2;
	}
	calls_init();
	printf("# %zu inputs, guided by %s, seed %s\n", n_corpus, calls_guide(), argv[4]);
	for (replay = n_corpus; now() - start < seconds; runs++) {
		struct input input = replay ? *corpus[--replay] : invent();

		/* Written first: if the kernel dies of it, the file stays. */
		if (ftruncate(fd, 0) || pwrite(fd, input.bytes, input.length, 0) < 0) {
			perror(current);
			return 2;
		}
		if (calls_run(input.bytes, input.length) && runs >= n_corpus) {
			keep(&input);
			save(argv[2], &input);
			fresh++;
		}
		if (tainted() != clean) {
			printf("FOUND after %.1f s and %lu inputs\n", now() - start, runs + 1);
			return 3;
		}
		if (now() - report > REPORT_S) {
			report = now();
			printf("# %.0f s: %lu inputs, %lu new, %u points reached\n", report - start, runs, fresh,
			       calls_reached());
			fflush(stdout);
		}
	}
	printf("# end: %lu inputs, %lu new, %u points reached\n", runs, fresh, calls_reached());
	return 0;
}
