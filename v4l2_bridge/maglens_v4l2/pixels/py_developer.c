/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Python type Developer. */
#include "develop.h"
#include "pyobj.h"

struct developer_object {
	PyObject_HEAD
	struct ml_busy busy;
	struct ml_bayer src;
	struct ml_image dst;
	int32_t zones_x, zones_y;
	bool tuned;
	struct ml_develop *develop;
};

bool ml_bayer_from(uint32_t fourcc, int width, int height, int stride, struct ml_bayer *src)
{
	const char *wrong;

	*src = (struct ml_bayer){ .width = width, .height = height, .stride = stride };
	if (!ml_bayer_format(fourcc, src)) {
		PyErr_SetString(PyExc_ValueError, "src: fourcc must be one of p[RgGB]AA or p[RgGB]CC");
		return false;
	}
	if (!stride && width > 0 && width <= ML_MAX_SIDE)
		src->stride = width * src->bits / 8;
	wrong = ml_bayer_check(src);
	if (!wrong)
		return true;
	PyErr_Format(PyExc_ValueError, "src: %s (%dx%d, stride %d)", wrong, width, height, src->stride);
	return false;
}

static bool crop_from(PyObject *o, struct ml_develop_config *c)
{
	if (!ml_rect_from("crop", o, c->src.width, c->src.height, &c->crop))
		return false;
	if (!(c->crop.x % 4 || c->crop.w % 4))
		return true;
	PyErr_SetString(PyExc_ValueError, "crop: x and width must be multiples of 4");
	return false;
}

static PyObject *developer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "src_fourcc", "src_width", "src_height", "src_stride", "dst_fourcc",
				 "dst_width",  "dst_height", "dst_stride", "fit",	 "crop",
				 "rect",       "threads",    "zones",	   "level",	 NULL };
	struct ml_develop_config c = { .level = ml_level_best(), .threads = 1 };
	int sw, sh, ss, dw, dh, ds, zones_x = 1, zones_y = 1;
	const char *fit = "letterbox", *wrong;
	PyObject *rect = Py_None, *crop = Py_None;
	uint32_t from, to;
	struct developer_object *self;
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&iiiO&iii|$sOOi(ii)O&", names, ml_fourcc_from, &from, &sw,
					 &sh, &ss, ml_fourcc_from, &to, &dw, &dh, &ds, &fit, &crop, &rect, &c.threads,
					 &zones_x, &zones_y, ml_level_from, &c.level))
		return NULL;
	if (!ml_bayer_from(from, sw, sh, ss, &c.src) || !ml_image_from("dst", to, dw, dh, ds, &c.dst) ||
	    !ml_fit_from(fit, &c.fit) || !crop_from(crop, &c) ||
	    !ml_rect_from("rect", rect, c.dst.width, c.dst.height, &c.rect))
		return NULL;
	if (c.threads < 1 || c.threads > ML_MAX_THREADS)
		return PyErr_Format(PyExc_ValueError, "threads must be 1 to %d, not %d", ML_MAX_THREADS, c.threads);
	if (zones_x < 1 || zones_y < 1 || zones_x > ML_MAX_ZONES || zones_y > ML_MAX_ZONES)
		return PyErr_Format(PyExc_ValueError, "zones must be 1 to %d each way", ML_MAX_ZONES);
	c.zones_x = zones_x;
	c.zones_y = zones_y;
	self = (struct developer_object *)alloc(type, 0);
	if (!self)
		return NULL;
	self->src = c.src;
	self->dst = c.dst;
	self->zones_x = zones_x;
	self->zones_y = zones_y;
	self->develop = ml_develop_new(&c, &wrong);
	if (self->develop)
		return (PyObject *)self;
	Py_DECREF(self);
	return wrong ? PyErr_Format(PyExc_ValueError, "%s", wrong) : PyErr_NoMemory();
}

static void developer_dealloc(PyObject *o)
{
	ml_develop_free(((struct developer_object *)o)->develop);
	ml_dealloc(o);
}

static PyObject *developer_tune(PyObject *o, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "black", "white", "gains", "matrix", "curve", "falloff", NULL };
	struct developer_object *self = (struct developer_object *)o;
	struct ml_tuning t = { 0 };
	double *g = t.gain, *m = t.matrix;
	PyObject *curve_from, *falloff_from = Py_None;
	Py_buffer curve, falloff = { 0 };
	const char *wrong;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "dd(ddd)(ddddddddd)O|O:tune", names, &t.black, &t.white, g, g + 1,
					 g + 2, m, m + 1, m + 2, m + 3, m + 4, m + 5, m + 6, m + 7, m + 8, &curve_from,
					 &falloff_from))
		return NULL;
	if (!ml_buffer_get(curve_from, "curve", false, ML_CURVE_SAMPLES * sizeof(uint16_t), &curve))
		return NULL;
	if (falloff_from != Py_None) {
		if (!ml_buffer_get(falloff_from, "falloff", false, 0, &falloff)) {
			PyBuffer_Release(&curve);
			return NULL;
		}
		t.falloff = falloff.buf;
		t.falloff_entries = (int32_t)(falloff.len / (Py_ssize_t)sizeof(double));
		if (falloff.len > (Py_ssize_t)(ML_FALLOFF_MAX * sizeof(double)))
			t.falloff_entries = ML_FALLOFF_MAX + 1;
	}
	t.curve = curve.buf;
	if ((uintptr_t)curve.buf % sizeof(uint16_t) || (uintptr_t)falloff.buf % sizeof(double))
		wrong = "curve and falloff must be aligned";
	else if (!ml_busy_enter(&self->busy, "Developer"))
		wrong = NULL;
	else {
		wrong = ml_develop_tune(self->develop, &t);
		self->tuned = self->tuned || !wrong;
		ml_busy_leave(&self->busy);
	}
	PyBuffer_Release(&curve);
	if (falloff_from != Py_None)
		PyBuffer_Release(&falloff);
	if (wrong)
		return PyErr_Format(PyExc_ValueError, "%s", wrong);
	if (PyErr_Occurred())
		return NULL;
	Py_RETURN_NONE;
}

/* The three buffers of a run; all released again when one is no good. */
struct buffers {
	struct ml_pair pair;
	Py_buffer stats;
	bool measured;
};

static size_t stats_bytes(const struct developer_object *self)
{
	return sizeof(struct ml_zone) * (size_t)(self->zones_x * self->zones_y) + ML_HISTOGRAM * sizeof(uint64_t);
}

static void buffers_release(struct buffers *b)
{
	ml_pair_release(&b->pair);
	if (b->measured)
		PyBuffer_Release(&b->stats);
}

static bool stats_get(const struct developer_object *self, PyObject *o, struct buffers *b)
{
	const uintptr_t dst = (uintptr_t)b->pair.dst.buf, src = (uintptr_t)b->pair.src.buf;
	uintptr_t at;

	if (o == Py_None)
		return true;
	if (!ml_buffer_get(o, "stats", true, stats_bytes(self), &b->stats))
		return false;
	b->measured = true;
	at = (uintptr_t)b->stats.buf;
	if (at % sizeof(uint64_t)) {
		PyErr_SetString(PyExc_ValueError, "stats must be aligned to 8 bytes");
		return false;
	}
	if ((at < dst + (size_t)b->pair.dst.len && dst < at + (size_t)b->stats.len) ||
	    (at < src + (size_t)b->pair.src.len && src < at + (size_t)b->stats.len)) {
		PyErr_SetString(PyExc_ValueError, "stats overlaps src or dst");
		return false;
	}
	return true;
}

static PyObject *developer_run(PyObject *o, PyObject *args)
{
	struct developer_object *self = (struct developer_object *)o;
	PyObject *from, *to, *stats = Py_None;
	struct ml_zone *zones = NULL;
	struct buffers b = { 0 };

	if (!PyArg_ParseTuple(args, "OO|O:run", &from, &to, &stats))
		return NULL;
	if (!self->tuned) {
		PyErr_SetString(PyExc_RuntimeError, "call tune() before the first run()");
		return NULL;
	}
	if (!ml_pair_get(from, ml_bayer_bytes(&self->src), to, ml_image_bytes(&self->dst), &b.pair))
		return NULL;
	if (!stats_get(self, stats, &b) || !ml_busy_enter(&self->busy, "Developer")) {
		buffers_release(&b);
		return NULL;
	}
	if (b.measured)
		zones = b.stats.buf;
	Py_BEGIN_ALLOW_THREADS
	ml_develop_run(self->develop, b.pair.src.buf, b.pair.dst.buf, zones,
		       zones ? (uint64_t *)(zones + self->zones_x * self->zones_y) : NULL);
	Py_END_ALLOW_THREADS
	ml_busy_leave(&self->busy);
	buffers_release(&b);
	Py_RETURN_NONE;
}

static PyObject *get_bytes(PyObject *o, void *which)
{
	const struct developer_object *self = (struct developer_object *)o;
	const char *name = which;

	if (name[0] == 's')
		return PyLong_FromSize_t(ml_bayer_bytes(&self->src));
	return PyLong_FromSize_t(name[0] == 'd' ? ml_image_bytes(&self->dst) : stats_bytes(self));
}

static PyObject *get_placed(PyObject *o, void *unused)
{
	const struct ml_rect r = ml_develop_placed(((struct developer_object *)o)->develop);

	(void)unused;
	return Py_BuildValue("(iiii)", (int)r.x, (int)r.y, (int)r.w, (int)r.h);
}

static PyObject *get_reduces(PyObject *o, void *unused)
{
	(void)unused;
	return PyBool_FromLong(ml_develop_reduces(((struct developer_object *)o)->develop));
}

static PyMethodDef methods[] = {
	{ "tune", (PyCFunction)(void (*)(void))developer_tune, METH_VARARGS | METH_KEYWORDS,
	  "tune(black, white, gains, matrix, curve, falloff=None): what the next frames are developed with." },
	{ "run", developer_run, METH_VARARGS, "run(src, dst, stats=None): develops one frame." },
	{ 0 },
};

static PyGetSetDef getset[] = {
	{ "src_bytes", get_bytes, NULL, "bytes a source buffer must have", "s" },
	{ "dst_bytes", get_bytes, NULL, "bytes a destination buffer must have", "d" },
	{ "stats_bytes", get_bytes, NULL, "bytes a statistics buffer must have", "m" },
	{ "placed", get_placed, NULL, "(x, y, width, height) of the picture inside the destination", NULL },
	{ "reduces", get_reduces, NULL, "whether pixels are averages of quads; else the frame is demosaiced", NULL },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Develops packed Bayer frames to NV12 or YUYV; allocates nothing per frame." },
	{ Py_tp_new, developer_new },
	{ Py_tp_dealloc, developer_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, getset },
	{ 0 },
};

PyType_Spec ml_developer_spec = {
	.name = "maglens_v4l2._pixels.Developer",
	.basicsize = sizeof(struct developer_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};
