/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Python type Scaler. */
#include "pyobj.h"
#include "scale.h"

struct scaler_object {
	PyObject_HEAD
	struct ml_busy busy;
	struct ml_image src, dst;
	struct ml_scaler *scaler;
};

static PyObject *scaler_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "src_fourcc", "src_width", "src_height", "src_stride", "dst_fourcc",
				 "dst_width",  "dst_height", "dst_stride", "fit",	 "rect",
				 "flip_x",     "flip_y",     "level",	   NULL };
	struct ml_scale_config c = { .level = ml_level_best() };
	uint32_t from, to;
	int sw, sh, ss, dw, dh, ds, flip_x = 0, flip_y = 0;
	const char *fit = "letterbox";
	PyObject *rect = Py_None;
	struct scaler_object *self;
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&iiiO&iii|$sOppO&", names, ml_fourcc_from, &from, &sw, &sh,
					 &ss, ml_fourcc_from, &to, &dw, &dh, &ds, &fit, &rect, &flip_x, &flip_y,
					 ml_level_from, &c.level))
		return NULL;
	if (!ml_image_from("src", from, sw, sh, ss, &c.src) || !ml_image_from("dst", to, dw, dh, ds, &c.dst) ||
	    !ml_fit_from(fit, &c.fit) ||
	    !ml_rect_from("rect", rect, c.dst.width, c.dst.height, &c.rect))
		return NULL;
	c.flip_x = flip_x;
	c.flip_y = flip_y;
	self = (struct scaler_object *)alloc(type, 0);
	if (!self)
		return NULL;
	self->src = c.src;
	self->dst = c.dst;
	self->scaler = ml_scaler_new(&c);
	if (self->scaler)
		return (PyObject *)self;
	Py_DECREF(self);
	return PyErr_NoMemory();
}

static void scaler_dealloc(PyObject *o)
{
	ml_scaler_free(((struct scaler_object *)o)->scaler);
	ml_dealloc(o);
}

static PyObject *scaler_run(PyObject *o, PyObject *args)
{
	struct scaler_object *self = (struct scaler_object *)o;
	PyObject *from, *to;
	struct ml_pair pair;

	if (!PyArg_ParseTuple(args, "OO:run", &from, &to))
		return NULL;
	if (!ml_pair_get(from, ml_image_bytes(&self->src), to, ml_image_bytes(&self->dst), &pair))
		return NULL;
	if (!ml_busy_enter(&self->busy, "Scaler")) {
		ml_pair_release(&pair);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	ml_scaler_run(self->scaler, pair.src.buf, pair.dst.buf);
	Py_END_ALLOW_THREADS
	ml_busy_leave(&self->busy);
	ml_pair_release(&pair);
	Py_RETURN_NONE;
}

static PyObject *scaler_src_bytes(PyObject *o, void *unused)
{
	(void)unused;
	return PyLong_FromSize_t(ml_image_bytes(&((struct scaler_object *)o)->src));
}

static PyObject *scaler_dst_bytes(PyObject *o, void *unused)
{
	(void)unused;
	return PyLong_FromSize_t(ml_image_bytes(&((struct scaler_object *)o)->dst));
}

static PyObject *scaler_placed(PyObject *o, void *unused)
{
	const struct ml_rect r = ml_scaler_placed(((struct scaler_object *)o)->scaler);

	(void)unused;
	return Py_BuildValue("(iiii)", (int)r.x, (int)r.y, (int)r.w, (int)r.h);
}

static PyMethodDef methods[] = {
	{ "run", scaler_run, METH_VARARGS, "run(src, dst): converts one frame; ValueError before anything is written." },
	{ 0 },
};

static PyGetSetDef getset[] = {
	{ "src_bytes", scaler_src_bytes, NULL, "bytes a source buffer must have", NULL },
	{ "dst_bytes", scaler_dst_bytes, NULL, "bytes a destination buffer must have", NULL },
	{ "placed", scaler_placed, NULL, "(x, y, width, height) of the picture inside the destination", NULL },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Converts and scales between NV12 and YUYV into a given buffer; allocates nothing per frame." },
	{ Py_tp_new, scaler_new },
	{ Py_tp_dealloc, scaler_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, getset },
	{ 0 },
};

PyType_Spec ml_scaler_spec = {
	.name = "maglens_v4l2._pixels.Scaler",
	.basicsize = sizeof(struct scaler_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};
