/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The extension maglens_v4l2._pixels: its functions, and the types of the other files. */
#include "crc32c.h"
#include "pyobj.h"

#include <string.h>

static PyObject *image_bytes(PyObject *module, PyObject *args)
{
	struct ml_image im;
	uint32_t fourcc;
	int w, h, stride = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&ii|i:image_bytes", ml_fourcc_from, &fourcc, &w, &h, &stride) ||
	    !ml_image_from("image", fourcc, w, h, stride, &im))
		return NULL;
	return PyLong_FromSize_t(ml_image_bytes(&im));
}

static PyObject *fill(PyObject *module, PyObject *args)
{
	struct ml_image im;
	struct ml_rect all = { 0 };
	uint32_t fourcc;
	int w, h, stride, y, u = ML_NEUTRAL_C, v = ML_NEUTRAL_C;
	PyObject *to;
	Py_buffer dst;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&iiiOi|ii:fill", ml_fourcc_from, &fourcc, &w, &h, &stride, &to, &y, &u, &v) ||
	    !ml_image_from("dst", fourcc, w, h, stride, &im))
		return NULL;
	if ((y | u | v) < 0 || y > 255 || u > 255 || v > 255)
		return PyErr_Format(PyExc_ValueError, "y, u, v are bytes, not (%d, %d, %d)", y, u, v);
	if (!ml_buffer_get(to, "dst", true, ml_image_bytes(&im), &dst))
		return NULL;
	all.w = w;
	all.h = h;
	Py_BEGIN_ALLOW_THREADS
	ml_fill_rect(&im, dst.buf, &all, (uint8_t)y, (uint8_t)u, (uint8_t)v);
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&dst);
	Py_RETURN_NONE;
}

static PyObject *copy(PyObject *module, PyObject *args)
{
	struct ml_pair pair;
	PyObject *source, *to;
	Py_ssize_t nbytes;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOn:copy", &source, &to, &nbytes))
		return NULL;
	if (nbytes < 0)
		return PyErr_Format(PyExc_ValueError, "nbytes is a length, not %zd", nbytes);
	if (!ml_pair_get(source, (size_t)nbytes, to, (size_t)nbytes, &pair))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	memcpy(pair.dst.buf, pair.src.buf, (size_t)nbytes);
	Py_END_ALLOW_THREADS
	ml_pair_release(&pair);
	Py_RETURN_NONE;
}

static PyObject *unpack(PyObject *module, PyObject *args)
{
	struct ml_bayer from;
	struct ml_widen_job job = { 0 };
	uint32_t fourcc;
	int w, h, stride, bits;
	PyObject *source, *to;
	struct ml_pair pair;
	size_t row;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&iiiOiO:unpack", ml_fourcc_from, &fourcc, &w, &h, &stride, &source, &bits, &to) ||
	    !ml_bayer_from(fourcc, w, h, stride, &from))
		return NULL;
	if (bits != 8 && bits != 16)
		return PyErr_Format(PyExc_ValueError, "bits is 8 or 16, not %d", bits);
	row = (size_t)w * (size_t)bits / 8;
	if (!ml_pair_get(source, ml_bayer_bytes(&from), to, row * (size_t)h, &pair))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	job.bits = from.bits;
	job.quads = w / 2;
	job.bytewise = bits == 8;
	for (int32_t y = 0; y < h; y++) {
		const size_t at = (size_t)from.stride * (size_t)y;

		job.row = (const uint8_t *)pair.src.buf + at;
		job.bytes = ml_bayer_bytes(&from) - at;
		job.out = (uint8_t *)pair.dst.buf + row * (size_t)y;
		ml_raw_ops(ml_level_best())->widen(&job);
	}
	Py_END_ALLOW_THREADS
	ml_pair_release(&pair);
	Py_RETURN_NONE;
}

static int crc_way(const char *name, enum ml_crc_way *way)
{
	static const char *const names[ML_CRC_WAYS] = { "portable", "hardware", "vpclmul" };

	for (int k = 0; k < ML_CRC_WAYS; k++) {
		if (strcmp(name, names[k]) == 0) {
			*way = (enum ml_crc_way)k;
			return 0;
		}
	}
	PyErr_Format(PyExc_ValueError, "way is portable, hardware or vpclmul, not '%s'", name);
	return -1;
}

static PyObject *crc32c(PyObject *module, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "data", "init", "way", NULL };
	enum ml_crc_way way = ML_CRC_PORTABLE;
	const char *wanted = NULL;
	unsigned int init = 0;
	uint32_t crc = 0;
	int lacking = 0;
	PyObject *o;
	Py_buffer data;

	(void)module;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|I$z:crc32c", names, &o, &init, &wanted) ||
	    (wanted && crc_way(wanted, &way)) || !ml_buffer_get(o, "data", false, 0, &data))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	if (wanted)
		lacking = ml_crc32c_by(way, init, data.buf, (size_t)data.len, &crc);
	else
		crc = ml_crc32c(init, data.buf, (size_t)data.len);
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&data);
	if (lacking)
		return PyErr_Format(PyExc_ValueError, "this processor lacks what '%s' needs", wanted);
	return PyLong_FromUnsignedLong(crc);
}

static PyObject *levels(PyObject *module, PyObject *none)
{
	PyObject *all = PyList_New(0), *tuple;

	(void)module;
	(void)none;
	if (!all)
		return NULL;
	for (int k = 0; k < ML_LEVELS; k++) {
		PyObject *name;

		if (!ml_level_here((enum ml_level)k))
			continue;
		name = PyUnicode_FromString(ml_level_name((enum ml_level)k));
		if (!name || PyList_Append(all, name)) {
			Py_XDECREF(name);
			Py_DECREF(all);
			return NULL;
		}
		Py_DECREF(name);
	}
	tuple = PyList_AsTuple(all);
	Py_DECREF(all);
	return tuple;
}

static PyMethodDef functions[] = {
	{ "image_bytes", image_bytes, METH_VARARGS,
	  "image_bytes(fourcc, width, height, stride=0) -> bytes that a buffer of this picture must have." },
	{ "fill", fill, METH_VARARGS, "fill(fourcc, width, height, stride, dst, y, u=128, v=128): one colour." },
	{ "turn", ml_py_turn, METH_VARARGS,
	  "turn(width, height, stride, src, dst_stride, dst, degrees, mirror): an NV12 picture turned clockwise." },
	{ "recolour", (PyCFunction)(void (*)(void))ml_py_recolour, METH_VARARGS | METH_KEYWORDS,
	  "recolour(fourcc, width, height, src_stride, src, dst_stride, dst, black, weights, *, level=None): Y'CbCr of "
	  "another matrix or range to limited range." },
	{ "copy", copy, METH_VARARGS, "copy(src, dst, nbytes): the first bytes of one buffer to the start of another." },
	{ "unpack", unpack, METH_VARARGS,
	  "unpack(fourcc, width, height, stride, src, bits, dst): packed samples one by one, tight rows." },
	{ "crc32c", (PyCFunction)(void (*)(void))crc32c, METH_VARARGS | METH_KEYWORDS,
	  "crc32c(data, init=0, *, way=None) -> CRC-32C of data, continuing from init." },
	{ "levels", levels, METH_NOARGS, "levels() -> the SIMD levels of this processor, worst first." },
	{ 0 },
};

static int exec(PyObject *module)
{
	ml_crc32c_init();
	return ml_add_type(module, &ml_scaler_spec) || ml_add_type(module, &ml_jpeg_spec) ||
			       ml_add_type(module, &ml_developer_spec) || ml_add_type(module, &ml_remap_spec) ?
		       -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
	{ Py_mod_exec, exec },
	{ 0 },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "maglens_v4l2._pixels",
	.m_doc = "Pixels and checksums in C: buffers in, buffers out, the GIL released.",
	.m_methods = functions,
	.m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__pixels(void)
{
	return PyModuleDef_Init(&definition);
}
