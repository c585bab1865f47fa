/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Python type Remap. */
#include "pyobj.h"
#include "remap.h"

#include <stdlib.h>

struct remap_object {
	PyObject_HEAD
	struct ml_image src, dst;
	struct ml_remap map;
};

/* Whether the numbers of a table can be read where they are; false with ValueError set. */
static bool aligned(const Py_buffer views[3])
{
	if (!((uintptr_t)views[0].buf % sizeof(int32_t) || (uintptr_t)views[1].buf % sizeof(int32_t) ||
	      (uintptr_t)views[2].buf % sizeof(uint16_t)))
		return true;
	PyErr_SetString(PyExc_ValueError, "x, y and gain must be aligned");
	return false;
}

/* Reads the three arrays of a plane of @w x @h pixels; NULL with an exception set. */
static struct ml_remap_entry *table_from(PyObject *arrays, int32_t w, int32_t h, int32_t stride, int32_t step)
{
	static const char *const names[] = { "x", "y", "gain" };
	const size_t n = (size_t)w * (size_t)h;
	const size_t need[] = { n * sizeof(int32_t), n * sizeof(int32_t), n * sizeof(uint16_t) };
	struct ml_remap_entry *table = NULL;
	Py_buffer views[3];
	PyObject *parts[3];
	int got = 0;

	if (!PyArg_ParseTuple(arrays, "OOO", &parts[0], &parts[1], &parts[2]))
		return NULL;
	for (; got < 3; got++) {
		if (!ml_buffer_get(parts[got], names[got], false, need[got], &views[got]))
			break;
	}
	if (got == 3 && aligned(views)) {
		table = malloc(n * sizeof(*table));
		if (!table) {
			PyErr_NoMemory();
		} else {
			Py_BEGIN_ALLOW_THREADS
			ml_remap_fill(table, w, h, stride, step, views[0].buf, views[1].buf, views[2].buf);
			Py_END_ALLOW_THREADS
		}
	}
	while (got > 0)
		PyBuffer_Release(&views[--got]);
	return table;
}

static PyObject *remap_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "width", "height", "src_stride", "dst_stride", "luma", "chroma", NULL };
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	int w, h, from, to;
	PyObject *luma, *chroma;
	struct remap_object *self;
	struct ml_image src, dst;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiiiO!O!", names, &w, &h, &from, &to, &PyTuple_Type, &luma,
					 &PyTuple_Type, &chroma) ||
	    !ml_image_from("src", ML_NV12, w, h, from, &src) || !ml_image_from("dst", ML_NV12, w, h, to, &dst))
		return NULL;
	if (w < 4 || h < 4)
		return PyErr_Format(PyExc_ValueError, "a picture of %dx%d has no neighbours to mix", w, h);
	if ((int64_t)src.stride * h > INT32_MAX)
		return PyErr_Format(PyExc_ValueError, "a plane of %d rows of %d bytes is too large", h, src.stride);
	self = (struct remap_object *)alloc(type, 0);
	if (!self)
		return NULL;
	self->src = src;
	self->dst = dst;
	self->map.width = w;
	self->map.height = h;
	self->map.src_stride = src.stride;
	self->map.dst_stride = dst.stride;
	self->map.luma = table_from(luma, w, h, src.stride, 1);
	self->map.chroma = self->map.luma ? table_from(chroma, w / 2, h / 2, src.stride, 2) : NULL;
	if (self->map.chroma)
		return (PyObject *)self;
	Py_DECREF(self);
	return NULL;
}

static void remap_dealloc(PyObject *o)
{
	free(((struct remap_object *)o)->map.luma);
	free(((struct remap_object *)o)->map.chroma);
	ml_dealloc(o);
}

static PyObject *remap_run(PyObject *o, PyObject *args)
{
	struct remap_object *self = (struct remap_object *)o;
	PyObject *from, *to;
	struct ml_pair pair;

	if (!PyArg_ParseTuple(args, "OO:run", &from, &to))
		return NULL;
	if (!ml_pair_get(from, ml_image_bytes(&self->src), to, ml_image_bytes(&self->dst), &pair))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	ml_remap_run(&self->map, pair.src.buf, pair.dst.buf);
	Py_END_ALLOW_THREADS
	ml_pair_release(&pair);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "run", remap_run, METH_VARARGS, "run(src, dst): one frame; ValueError before anything is written." },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Moves the pixels of an NV12 picture by tables made beforehand; allocates nothing per frame." },
	{ Py_tp_new, remap_new },
	{ Py_tp_dealloc, remap_dealloc },
	{ Py_tp_methods, methods },
	{ 0 },
};

PyType_Spec ml_remap_spec = {
	.name = "maglens_v4l2._pixels.Remap",
	.basicsize = sizeof(struct remap_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};
