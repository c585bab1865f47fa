/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts random pictures of random shapes through the pixel kernels, in buffers of exactly the size asked for, so that
 * a sanitizer sees every byte read or written outside. Every level and number of threads must give the same bits.
 * The CRC of all results is printed: it must be the same on every processor.
 *
 * usage: exercise FIRST_SEED COUNT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "develop.h"
#include "recolour.h"
#include "remap.h"
#include "scale.h"
#include "turn.h"
#ifdef WITH_JPEG
#include <turbojpeg.h>

#include "jpeg.h"
#endif

static uint64_t state;
static uint32_t total;
static uint16_t curve[ML_CURVE_SAMPLES];

static uint32_t any(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % below;
}

static uint8_t *noise(size_t n)
{
	uint8_t *p = malloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)any(256);
	return p;
}

static void fail(const char *what, unsigned long seed)
{
	fprintf(stderr, "seed %lu: %s\n", seed, what);
	exit(1);
}

/* One number a statement throughout: compilers differ in the order they evaluate arguments and initialisers in. */
static struct ml_image image_of(int32_t width, int32_t height)
{
	const uint32_t fourcc = any(2) ? ML_NV12 : ML_YUYV;
	const int32_t padding = (int32_t)any(9);

	return (struct ml_image){ fourcc, width, height, ml_row_bytes(fourcc, width) + padding };
}

/* Sides below twice @width and @height. */
static struct ml_image image(uint32_t width, uint32_t height)
{
	const int32_t w = 2 + 2 * (int32_t)any(width), h = 2 + 2 * (int32_t)any(height);

	return image_of(w, h);
}

static struct ml_rect inside(int32_t width, int32_t height)
{
	struct ml_rect r = { 0, 0, width, height };

	if (any(2))
		return r;
	r.w = 2 + 2 * (int32_t)any((uint32_t)width / 2);
	r.h = 2 + 2 * (int32_t)any((uint32_t)height / 2);
	r.x = 2 * (int32_t)any((uint32_t)(width - r.w) / 2 + 1);
	r.y = 2 * (int32_t)any((uint32_t)(height - r.h) / 2 + 1);
	return r;
}

static void scale_one(unsigned long seed)
{
	struct ml_scale_config c = { .src = image(80, 60) };
	uint8_t *src = noise(ml_image_bytes(&c.src)), *first;
	size_t out;

	c.dst = image(80, 60);
	c.fit = any(2) ? ML_FIT_STRETCH : ML_FIT_LETTERBOX;
	c.flip_x = any(2);
	c.flip_y = any(2);
	out = ml_image_bytes(&c.dst);
	first = calloc(out, 1);
	c.rect = inside(c.dst.width, c.dst.height);
	for (int level = 0; level < ML_LEVELS; level++) {
		struct ml_scaler *s;
		uint8_t *dst;

		if (!ml_level_here((enum ml_level)level))
			continue;
		c.level = (enum ml_level)level;
		s = ml_scaler_new(&c);
		dst = calloc(out, 1);
		ml_scaler_run(s, src, dst);
		ml_scaler_free(s);
		if (level == ML_PORTABLE)
			memcpy(first, dst, out);
		else if (memcmp(first, dst, out))
			fail("a level of the scaler differs", seed);
		free(dst);
	}
	total = ml_crc32c(total, first, out);
	free(src);
	free(first);
}

static void develop_with(const struct ml_develop_config *c, const struct ml_tuning *t, const uint8_t *src, uint8_t *dst,
			 uint64_t *stats, unsigned long seed)
{
	const char *wrong;
	struct ml_develop *d = ml_develop_new(c, &wrong);
	struct ml_zone *zones = (struct ml_zone *)stats;

	if (!d)
		fail(wrong ? wrong : "out of memory", seed);
	wrong = ml_develop_tune(d, t);
	if (wrong)
		fail(wrong, seed);
	ml_develop_run(d, src, dst, zones, (uint64_t *)(zones + c->zones_x * c->zones_y));
	ml_develop_free(d);
}

/* @src by every level and several numbers of threads: all the same. */
static void develop_alike(struct ml_develop_config *c, const struct ml_tuning *t, const uint8_t *src, unsigned long seed)
{
	const size_t out = ml_image_bytes(&c->dst);
	const size_t measured = sizeof(struct ml_zone) * (size_t)(c->zones_x * c->zones_y) +
				ML_HISTOGRAM * sizeof(uint64_t);
	uint8_t *first = calloc(out, 1);
	uint64_t *stats = calloc(measured, 1);

	develop_with(c, t, src, first, stats, seed);
	for (int level = 0; level < ML_LEVELS; level++) {
		uint8_t *dst;
		uint64_t *again;

		if (!ml_level_here((enum ml_level)level))
			continue;
		c->level = (enum ml_level)level;
		c->threads = 1 + (int)((seed + (unsigned long)level) % 4); /* no draw: processors have other numbers of levels */
		dst = calloc(out, 1);
		again = calloc(measured, 1);
		develop_with(c, t, src, dst, again, seed);
		if (memcmp(first, dst, out))
			fail("a level or number of threads differs", seed);
		if (memcmp(stats, again, measured))
			fail("statistics differ", seed);
		free(dst);
		free(again);
	}
	total = ml_crc32c(total, first, out);
	total = ml_crc32c(total, (const uint8_t *)stats, measured);
	free(first);
	free(stats);
}

static void develop_one(unsigned long seed)
{
	double falloff[3] = { 1 };
	struct ml_tuning t = {
		.matrix = { 1.62, -0.45, -0.17, -0.31, 1.55, -0.24, 0.02, -0.61, 1.59 },
		.curve = curve,
		.falloff = falloff,
	};
	struct ml_develop_config c = { .threads = 1 };
	uint8_t *src;

	falloff[1] = 1.1 + any(100) / 200.0;
	falloff[2] = 1.7 + any(100) / 100.0;
	t.falloff_entries = any(2) ? 3 : 0;
	for (int k = 0; k < 3; k++)
		t.gain[k] = 0.5 + any(100) / 100.0;
	c.fit = any(2) ? ML_FIT_STRETCH : ML_FIT_LETTERBOX;
	c.src.width = 4 + 4 * (int32_t)any(70);
	c.src.height = 2 + 2 * (int32_t)any(60);
	c.src.bits = any(2) ? 10 : 12;
	c.src.odd = any(2);
	c.src.swapped = any(2);
	c.src.stride = c.src.width * c.src.bits / 8 + (int32_t)any(9);
	c.dst = any(2) ? image_of(c.src.width, c.src.height) : image(90, 70);
	c.rect = inside(c.dst.width, c.dst.height);
	c.crop = inside(c.src.width, c.src.height);
	c.crop.x &= ~3;
	c.crop.w = (c.crop.w + 2) & ~3;
	if (c.crop.x + c.crop.w > c.src.width)
		c.crop.w = c.src.width - c.crop.x;
	c.zones_x = 1 + (int32_t)any((uint32_t)(c.crop.w + 63) / 64);
	c.zones_y = 1 + (int32_t)any((uint32_t)(c.crop.h + 7) / 8);
	if (c.zones_y > (c.crop.h / 2 + 3) / 4)
		c.zones_y = 1;
	t.black = any(100) << (c.src.bits - 10);
	t.white = (1 << c.src.bits) - 24.0;
	src = noise(ml_bayer_bytes(&c.src));
	develop_alike(&c, &t, src, seed);
	free(src);
}

/* The most that a row can add up to: the widest, all in one zone, its greens black and white in turn. */
static void develop_widest(void)
{
	static const uint8_t four[5] = { 0, 0, 0, 0xff, 0xc0 };
	const struct ml_tuning t = { .white = 1023, .gain = { 1, 1, 1 }, .matrix = { 1, 0, 0, 0, 1, 0, 0, 0, 1 },
				     .curve = curve };
	const int32_t width = ML_MAX_SIDE, height = 8;
	struct ml_develop_config c = { .src = { width, height, width * 10 / 8, .bits = 10 },
				       .dst = { ML_NV12, width, height, width }, .crop = { 0, 0, width, height },
				       .rect = { 0, 0, width, height }, .threads = 1, .zones_x = 1, .zones_y = 1 };
	const size_t in = ml_bayer_bytes(&c.src);
	uint8_t *src = malloc(in);

	for (size_t i = 0; i < in; i++)
		src[i] = four[i % sizeof(four)];
	develop_alike(&c, &t, src, 0);
	free(src);
}

/* What a tuning must not have is refused, and what was taken before goes on. */
static void refuse_one(unsigned long seed)
{
	static const double bad[] = { -1, 0, 5, 1e308, -1e308, INFINITY, NAN };
	const double wrong_value = bad[any(7)];
	const int32_t which = (int32_t)any(8);
	uint16_t other[ML_CURVE_SAMPLES];
	static const double fair[] = { 1, 1.2 };
	double falloff[] = { 1, 1.2 };
	const struct ml_tuning good = { .white = 1000, .gain = { 1, 1, 1 }, .matrix = { 1, 0, 0, 0, 1, 0, 0, 0, 1 },
					.curve = curve, .falloff = fair, .falloff_entries = 2 };
	struct ml_tuning t = good;
	struct ml_develop_config c = { .src = { .width = 64, .height = 8, .stride = 80, .bits = 10 },
				       .dst = { ML_NV12, 64, 8, 64 }, .crop = { 0, 0, 64, 8 }, .rect = { 0, 0, 64, 8 },
				       .threads = 1, .zones_x = 1, .zones_y = 1 };
	const char *wrong;
	struct ml_develop *d;
	uint8_t *src, *dst[2];

	memcpy(other, curve, sizeof(other));
	switch (which) {
	case 0:
		t.black = any(2) ? t.white : wrong_value - 1;
		t.black = t.black >= 0 && t.black < t.white ? NAN : t.black;
		break;
	case 1:
		t.white = any(2) ? 1024 : wrong_value;
		t.white = t.white > 0 && t.white < 1024 ? 0 : t.white;
		break;
	case 2:
		t.gain[any(3)] = wrong_value;
		break;
	case 3:
		t.matrix[any(9)] = wrong_value == 0 || wrong_value == 1 ? 4 : wrong_value;
		break;
	case 4:
		other[16 * any(32)] = UINT16_MAX; /* rises too steeply, then falls */
		t.curve = other;
		break;
	case 5:
		falloff[any(2)] = wrong_value;
		t.falloff = falloff;
		break;
	case 6:
		t.falloff_entries = any(2) ? 1 : ML_FALLOFF_MAX + 1;
		break;
	default:
		if (any(2))
			c.zones_x = 2;
		else
			c.zones_y = 2;
		if (ml_develop_new(&c, &wrong) || !wrong)
			fail("too many zones were taken", seed);
		return;
	}
	d = ml_develop_new(&c, &wrong);
	src = noise(ml_bayer_bytes(&c.src));
	if (!d || ml_develop_tune(d, &good))
		fail("a good tuning was refused", seed);
	for (int k = 0; k < 2; k++) {
		dst[k] = calloc(ml_image_bytes(&c.dst), 1);
		ml_develop_run(d, src, dst[k], NULL, NULL);
		if (k == 0 && !ml_develop_tune(d, &t))
			fail("a bad tuning was taken", seed);
	}
	if (memcmp(dst[0], dst[1], ml_image_bytes(&c.dst)))
		fail("a refused tuning changed the picture", seed);
	total = ml_crc32c(total, dst[0], ml_image_bytes(&c.dst));
	for (int k = 0; k < 2; k++)
		free(dst[k]);
	free(src);
	ml_develop_free(d);
}

/* A table of @w x @h entries: positions around the plane, and some far outside. */
static struct ml_remap_entry *table_of(int32_t w, int32_t h, int32_t stride, int32_t step)
{
	const size_t n = (size_t)w * (size_t)h;
	struct ml_remap_entry *table = malloc(n * sizeof(*table));
	int32_t *x = malloc(n * sizeof(*x)), *y = malloc(n * sizeof(*y));
	uint16_t *gain = malloc(n * sizeof(*gain));

	for (size_t i = 0; i < n; i++) {
		x[i] = (int32_t)any((uint32_t)(w + 4) * ML_REMAP_ONE) - ML_REMAP_ONE;
		y[i] = (int32_t)any((uint32_t)(h + 4) * ML_REMAP_ONE) - ML_REMAP_ONE;
		gain[i] = (uint16_t)any(65536);
		if (!any(8))
			x[i] = any(2) ? INT32_MAX : INT32_MIN;
		if (!any(8))
			y[i] = any(2) ? INT32_MAX : INT32_MIN;
	}
	ml_remap_fill(table, w, h, stride, step, x, y, gain);
	free(x);
	free(y);
	free(gain);
	return table;
}

static void remap_one(void)
{
	const int32_t w = 4 + 2 * (int32_t)any(30), h = 4 + 2 * (int32_t)any(30);
	const int32_t from = w + (int32_t)any(9), to = w + (int32_t)any(9);
	const size_t out = (size_t)to * (size_t)h * 3 / 2;
	struct ml_remap map = { .width = w, .height = h, .src_stride = from, .dst_stride = to };
	uint8_t *src = noise((size_t)from * (size_t)h * 3 / 2), *dst = calloc(out, 1);

	map.luma = table_of(w, h, from, 1);
	map.chroma = table_of(w / 2, h / 2, from, 2);
	ml_remap_run(&map, src, dst);
	total = ml_crc32c(total, dst, out);
	free(map.luma);
	free(map.chroma);
	free(src);
	free(dst);
}

/* Turned, and turned back: every pixel is where it was. */
static void turn_one(unsigned long seed)
{
	const int32_t w = 2 + 2 * (int32_t)any(60), h = 2 + 2 * (int32_t)any(60);
	const int quarters = (int)any(4), across = quarters % 2;
	const bool mirror = any(2);
	const struct ml_image im = { ML_NV12, w, h, w };
	struct ml_image to = { ML_NV12, across ? h : w, across ? w : h, 0 };
	const size_t n = ml_image_bytes(&im);
	uint8_t *src = noise(n), *dst, *back = malloc(n);

	to.stride = to.width + 2 * (int32_t)any(5);
	dst = calloc(ml_image_bytes(&to), 1);
	ml_turn(&im, src, &to, dst, quarters, mirror);
	total = ml_crc32c(total, dst, ml_image_bytes(&to));
	/* A mirrored quarter is its own way back. */
	ml_turn(&to, dst, &im, back, mirror ? quarters : (4 - quarters) % 4, mirror);
	if (memcmp(src, back, n))
		fail("a picture turned there and back is another one", seed);
	free(src);
	free(dst);
	free(back);
}

static void recolour_one(unsigned long seed)
{
	const struct ml_image from = image(150, 40);
	const struct ml_image to = { from.fourcc, from.width, from.height, from.stride + (int32_t)any(9) };
	const size_t out = ml_image_bytes(&to);
	struct ml_recolour by = { .black = (uint8_t)any(256) };
	int16_t *const weights[] = { &by.y_y, &by.y_u, &by.y_v, &by.u_u, &by.u_v, &by.v_u, &by.v_v };
	uint8_t *src = noise(ml_image_bytes(&from)), *first = calloc(out, 1);

	for (int k = 0; k < 7; k++)
		*weights[k] = (int16_t)((int32_t)any(65536) - 32768);
	for (int level = 0; level < ML_LEVELS; level++) {
		uint8_t *dst;

		if (!ml_level_here((enum ml_level)level))
			continue;
		dst = calloc(out, 1);
		ml_recolour(&by, (enum ml_level)level, &from, src, &to, dst);
		if (level == ML_PORTABLE)
			memcpy(first, dst, out);
		else if (memcmp(first, dst, out))
			fail("a level recolours otherwise", seed);
		free(dst);
	}
	total = ml_crc32c(total, first, out);
	free(src);
	free(first);
}

static void widen_one(void)
{
	struct ml_widen_job job = { .bits = any(2) ? 10 : 12 };
	uint8_t *src;
	size_t n;

	job.quads = 2 + 2 * (int32_t)any(60);
	job.bytewise = any(2);
	n = (size_t)job.quads * (job.bytewise ? 2 : 4);
	job.bytes = (size_t)(job.quads * 2 * job.bits / 8);
	src = noise(job.bytes);
	job.row = src;
	job.out = malloc(n);
	ml_raw_ops(ml_level_best())->widen(&job);
	total = ml_crc32c(total, job.out, n);
	free(job.out);
	free(src);
}

static void checksum_one(unsigned long seed)
{
	const size_t n = any(30000);
	uint8_t *p = noise(n ? n : 1);
	uint32_t want, got;

	ml_crc32c_by(ML_CRC_PORTABLE, 5, p, n, &want);
	for (int way = 0; way < ML_CRC_WAYS; way++)
		if (ml_crc32c_by((enum ml_crc_way)way, 5, p, n, &got) == 0 && got != want)
			fail("a way of the CRC differs", seed);
	total = ml_crc32c(total, (const uint8_t *)&want, sizeof(want));
	free(p);
}

#ifdef WITH_JPEG
static void jpeg_one(void)
{
	static const int samplings[] = { TJSAMP_420, TJSAMP_422, TJSAMP_444, TJSAMP_GRAY, TJSAMP_440, TJSAMP_411 };
	const struct ml_image dst = image(50, 50);
	const size_t out = ml_image_bytes(&dst);
	uint8_t *rgb = noise((size_t)(3 * dst.width * dst.height)), *to = malloc(out), *exact;
	unsigned char *coded = NULL;
	unsigned long n = 0;
	tjhandle handle = tjInitCompress();
	struct ml_jpeg *j = ml_jpeg_new(&dst);

	tjCompress2(handle, rgb, dst.width, 0, dst.height, TJPF_RGB, &coded, &n, samplings[any(6)], 1 + (int)any(100),
		    any(4) ? 0 : TJFLAG_PROGRESSIVE);
	for (int round = 0; round < 4; round++) {
		const size_t keep = round ? 2 + any((uint32_t)n - 2) : n;

		exact = malloc(keep); /* exactly as long as the data */
		memcpy(exact, coded, keep);
		for (uint32_t k = round ? any(9) : 0; k; k--)
			exact[any((uint32_t)keep)] = (uint8_t)any(256);
		ml_jpeg_run(j, exact, keep, to);
		free(exact);
	}
	ml_jpeg_free(j);
	tjDestroy(handle);
	tjFree(coded);
	free(rgb);
	free(to);
}
#endif

int main(int argc, char **argv)
{
	const unsigned long first = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;

	ml_crc32c_init();
	for (int32_t k = 0; k < ML_CURVE_SAMPLES; k++)
		curve[k] = (uint16_t)(k < 512 ? k * 32 : 16384 + (k - 512) * 6.39);
	develop_widest();
	for (unsigned long seed = first; seed < first + count; seed++) {
		state = seed * 0x9e3779b97f4a7c15u + 1;
		scale_one(seed);
		develop_one(seed);
		refuse_one(seed);
		remap_one();
		turn_one(seed);
		recolour_one(seed);
		widen_one();
		checksum_one(seed);
#ifdef WITH_JPEG
		jpeg_one();
#endif
	}
	printf("%08x\n", total);
	return 0;
}
