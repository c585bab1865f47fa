/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arguments and buffers, checked before anything is read or written. */
#include "pyobj.h"

#include <string.h>

bool ml_busy_enter(struct ml_busy *b, const char *type)
{
	if (!atomic_flag_test_and_set(&b->flag))
		return true;
	PyErr_Format(PyExc_RuntimeError, "this %s is at work in another thread: give each thread its own", type);
	return false;
}

void ml_busy_leave(struct ml_busy *b)
{
	atomic_flag_clear(&b->flag);
}

int ml_fourcc_from(PyObject *o, void *fourcc)
{
	if (PyUnicode_Check(o)) {
		Py_ssize_t n;
		const char *s = PyUnicode_AsUTF8AndSize(o, &n);

		if (!s)
			return 0;
		if (n == 4) {
			*(uint32_t *)fourcc = ML_FOURCC((uint8_t)s[0], (uint8_t)s[1], (uint8_t)s[2], (uint8_t)s[3]);
			return 1;
		}
		PyErr_Format(PyExc_ValueError, "a fourcc has four letters, not '%s'", s);
		return 0;
	}
	if (PyLong_Check(o)) {
		unsigned long v = PyLong_AsUnsignedLong(o);

		if (PyErr_Occurred() || v > UINT32_MAX) {
			PyErr_SetString(PyExc_ValueError, "a fourcc is a 32-bit number");
			return 0;
		}
		*(uint32_t *)fourcc = (uint32_t)v;
		return 1;
	}
	PyErr_SetString(PyExc_TypeError, "a fourcc is a str of four letters or V4L2's integer");
	return 0;
}

int ml_level_from(PyObject *o, void *level)
{
	const char *s;

	if (o == Py_None) {
		*(enum ml_level *)level = ml_level_best();
		return 1;
	}
	s = PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, NULL) : NULL;
	for (int k = 0; s && k < ML_LEVELS; k++) {
		if (strcmp(s, ml_level_name((enum ml_level)k)))
			continue;
		if (ml_level_here((enum ml_level)k)) {
			*(enum ml_level *)level = (enum ml_level)k;
			return 1;
		}
		PyErr_Format(PyExc_ValueError, "this processor lacks %s: see levels()", s);
		return 0;
	}
	if (!PyErr_Occurred())
		PyErr_SetString(PyExc_ValueError, "level is one of levels(), or None for the best");
	return 0;
}

bool ml_buffer_get(PyObject *o, const char *name, bool writable, size_t need, Py_buffer *view)
{
	if (!PyObject_CheckBuffer(o)) {
		PyErr_Format(PyExc_TypeError, "%s is no buffer", name);
		return false;
	}
	if (PyObject_GetBuffer(o, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE)) {
		PyErr_Clear();
		PyErr_Format(PyExc_ValueError, "%s: the buffer must be contiguous%s", name,
			     writable ? " and writable" : "");
		return false;
	}
	if ((size_t)view->len < need) {
		PyErr_Format(PyExc_ValueError, "%s has %zd bytes, %zu are needed", name, view->len, need);
		PyBuffer_Release(view);
		return false;
	}
	return true;
}

bool ml_pair_get(PyObject *src, size_t src_need, PyObject *dst, size_t dst_need, struct ml_pair *pair)
{
	uintptr_t a, b;

	if (!ml_buffer_get(src, "src", false, src_need, &pair->src))
		return false;
	if (!ml_buffer_get(dst, "dst", true, dst_need, &pair->dst)) {
		PyBuffer_Release(&pair->src);
		return false;
	}
	a = (uintptr_t)pair->src.buf;
	b = (uintptr_t)pair->dst.buf;
	if (a + (size_t)pair->src.len <= b || b + (size_t)pair->dst.len <= a)
		return true;
	ml_pair_release(pair);
	PyErr_SetString(PyExc_ValueError, "src and dst overlap");
	return false;
}

void ml_pair_release(struct ml_pair *pair)
{
	PyBuffer_Release(&pair->src);
	PyBuffer_Release(&pair->dst);
}

bool ml_image_from(const char *name, uint32_t fourcc, int width, int height, int stride, struct ml_image *im)
{
	const char *wrong;

	*im = (struct ml_image){ fourcc, width, height, stride };
	if (!stride && width > 0 && width <= ML_MAX_SIDE)
		im->stride = ml_row_bytes(fourcc, width);
	wrong = ml_image_check(im);
	if (!wrong)
		return true;
	PyErr_Format(PyExc_ValueError, "%s: %s (%dx%d, stride %d)", name, wrong, width, height, im->stride);
	return false;
}

bool ml_rect_from(const char *name, PyObject *o, int width, int height, struct ml_rect *r)
{
	int x, y, w, h;

	*r = (struct ml_rect){ 0, 0, width, height };
	if (o == Py_None)
		return true;
	if (!PyTuple_Check(o) || !PyArg_ParseTuple(o, "iiii", &x, &y, &w, &h)) {
		PyErr_Clear();
		PyErr_Format(PyExc_ValueError, "%s is (x, y, width, height) or None", name);
		return false;
	}
	if (x < 0 || y < 0 || w < 2 || h < 2 || w > width - x || h > height - y) {
		PyErr_Format(PyExc_ValueError, "%s (%d, %d, %d, %d) is not inside %dx%d", name, x, y, w, h, width,
			     height);
		return false;
	}
	if ((x | y | w | h) & 1) {
		PyErr_Format(PyExc_ValueError, "%s (%d, %d, %d, %d) must be even throughout", name, x, y, w, h);
		return false;
	}
	*r = (struct ml_rect){ x, y, w, h };
	return true;
}

bool ml_fit_from(const char *s, enum ml_fit *fit)
{
	if (!strcmp(s, "letterbox"))
		*fit = ML_FIT_LETTERBOX;
	else if (!strcmp(s, "stretch"))
		*fit = ML_FIT_STRETCH;
	else {
		PyErr_Format(PyExc_ValueError, "fit is 'letterbox' or 'stretch', not '%s'", s);
		return false;
	}
	return true;
}

int ml_add_type(PyObject *module, PyType_Spec *spec)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
	int result;

	if (!type)
		return -1;
	result = PyModule_AddType(module, (PyTypeObject *)type);
	Py_DECREF(type);
	return result;
}

void ml_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	release(self);
	Py_DECREF(type);
}
