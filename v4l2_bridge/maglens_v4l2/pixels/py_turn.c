/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The function turn of maglens_v4l2._pixels. */
#include "pyobj.h"
#include "turn.h"

PyObject *ml_py_turn(PyObject *module, PyObject *args)
{
	int w, h, stride, out_stride, degrees, mirror;
	struct ml_image from, to;
	PyObject *source, *target;
	struct ml_pair pair;
	bool across;

	(void)module;
	if (!PyArg_ParseTuple(args, "iiiOiOip:turn", &w, &h, &stride, &source, &out_stride, &target, &degrees, &mirror))
		return NULL;
	if (degrees != 0 && degrees != 90 && degrees != 180 && degrees != 270)
		return PyErr_Format(PyExc_ValueError, "degrees is 0, 90, 180 or 270, not %d", degrees);
	across = degrees % 180 != 0;
	if (!ml_image_from("src", ML_NV12, w, h, stride, &from) ||
	    !ml_image_from("dst", ML_NV12, across ? h : w, across ? w : h, out_stride, &to))
		return NULL;
	if (from.stride % 2 || to.stride % 2)
		return PyErr_Format(PyExc_ValueError, "strides are even, not %d and %d", from.stride, to.stride);
	if (!ml_pair_get(source, ml_image_bytes(&from), target, ml_image_bytes(&to), &pair))
		return NULL;
	if (((uintptr_t)pair.src.buf | (uintptr_t)pair.dst.buf) % sizeof(uint16_t)) {
		ml_pair_release(&pair);
		return PyErr_Format(PyExc_ValueError, "src and dst begin at even addresses");
	}
	Py_BEGIN_ALLOW_THREADS
	ml_turn(&from, pair.src.buf, &to, pair.dst.buf, degrees / 90, mirror != 0);
	Py_END_ALLOW_THREADS
	ml_pair_release(&pair);
	Py_RETURN_NONE;
}
