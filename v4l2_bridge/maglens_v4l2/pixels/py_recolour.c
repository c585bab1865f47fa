/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The function recolour of maglens_v4l2._pixels. */
#include "pyobj.h"
#include "recolour.h"

PyObject *ml_py_recolour(PyObject *module, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "fourcc", "width", "height", "src_stride", "src", "dst_stride",
				 "dst",	   "black", "weights", "level", NULL };
	enum ml_level level = ml_level_best();
	int w, h, in, out, black;
	struct ml_recolour by;
	struct ml_image from, to;
	PyObject *source, *target, *weights;
	struct ml_pair pair;
	uint32_t fourcc;

	(void)module;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&iiiOiOiO!|$O&:recolour", names, ml_fourcc_from, &fourcc, &w,
					 &h, &in, &source, &out, &target, &black, &PyTuple_Type, &weights,
					 ml_level_from, &level) ||
	    !ml_image_from("src", fourcc, w, h, in, &from) || !ml_image_from("dst", fourcc, w, h, out, &to))
		return NULL;
	if (black < 0 || black > 255)
		return PyErr_Format(PyExc_ValueError, "black is a byte, not %d", black);
	by.black = (uint8_t)black;
	if (!PyArg_ParseTuple(weights, "hhhhhhh;weights are seven", &by.y_y, &by.y_u, &by.y_v, &by.u_u, &by.u_v,
			      &by.v_u, &by.v_v) ||
	    !ml_pair_get(source, ml_image_bytes(&from), target, ml_image_bytes(&to), &pair))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	ml_recolour(&by, level, &from, pair.src.buf, &to, pair.dst.buf);
	Py_END_ALLOW_THREADS
	ml_pair_release(&pair);
	Py_RETURN_NONE;
}
