/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Python type JpegDecoder. */
#include "jpeg.h"
#include "pyobj.h"

struct jpeg_object {
	PyObject_HEAD
	struct ml_busy busy;
	struct ml_image dst;
	struct ml_jpeg *jpeg;
};

static PyObject *jpeg_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "fourcc", "width", "height", "stride", NULL };
	struct ml_image dst;
	uint32_t fourcc;
	int w, h, stride = 0;
	struct jpeg_object *self;
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&ii|i", names, ml_fourcc_from, &fourcc, &w, &h, &stride) ||
	    !ml_image_from("dst", fourcc, w, h, stride, &dst))
		return NULL;
	self = (struct jpeg_object *)alloc(type, 0);
	if (!self)
		return NULL;
	self->dst = dst;
	self->jpeg = ml_jpeg_new(&dst);
	if (self->jpeg)
		return (PyObject *)self;
	Py_DECREF(self);
	return PyErr_NoMemory();
}

static void jpeg_dealloc(PyObject *o)
{
	ml_jpeg_free(((struct jpeg_object *)o)->jpeg);
	ml_dealloc(o);
}

/* What run() answers: None, the warning's text, or ValueError. */
static PyObject *answer(const struct jpeg_object *self, enum ml_jpeg_result result)
{
	if (result == ML_JPEG_WARNING)
		return PyUnicode_DecodeLocale(ml_jpeg_text(self->jpeg), "surrogateescape");
	if (result == ML_JPEG_ERROR)
		return PyErr_Format(PyExc_ValueError, "src: %s", ml_jpeg_text(self->jpeg));
	Py_RETURN_NONE;
}

static PyObject *jpeg_run(PyObject *o, PyObject *args)
{
	struct jpeg_object *self = (struct jpeg_object *)o;
	enum ml_jpeg_result result;
	PyObject *from, *to, *given;
	struct ml_pair pair;

	if (!PyArg_ParseTuple(args, "OO:run", &from, &to))
		return NULL;
	if (!ml_pair_get(from, 1, to, ml_image_bytes(&self->dst), &pair))
		return NULL;
	if (pair.src.len > (Py_ssize_t)ML_JPEG_MAX_BYTES || !ml_busy_enter(&self->busy, "JpegDecoder")) {
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_ValueError, "src: %zd bytes are more than a frame may have (%u)",
				     pair.src.len, ML_JPEG_MAX_BYTES);
		ml_pair_release(&pair);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	result = ml_jpeg_run(self->jpeg, pair.src.buf, (size_t)pair.src.len, pair.dst.buf);
	Py_END_ALLOW_THREADS
	given = answer(self, result);
	ml_busy_leave(&self->busy);
	ml_pair_release(&pair);
	return given;
}

static PyMethodDef methods[] = {
	{ "run", jpeg_run, METH_VARARGS,
	  "run(src, dst): decodes one frame. Answers None, or the warning when the data were damaged but gave a "
	  "picture; ValueError (dst untouched) when they gave none." },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Decodes MJPEG frames of one size to limited-range NV12 or YUYV." },
	{ Py_tp_new, jpeg_new },
	{ Py_tp_dealloc, jpeg_dealloc },
	{ Py_tp_methods, methods },
	{ 0 },
};

PyType_Spec ml_jpeg_spec = {
	.name = "maglens_v4l2._pixels.JpegDecoder",
	.basicsize = sizeof(struct jpeg_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};
