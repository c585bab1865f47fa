/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the Python types of this extension share. Only the stable ABI of Python 3.11 is used. */
#ifndef ML_PYOBJ_H
#define ML_PYOBJ_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "cpu.h"
#include "develop.h"
#include "image.h"
#include "scale.h"

/* Keeps a second thread out of an object whose scratch memory is in use. */
struct ml_busy {
	atomic_flag flag;
};

/* False, with RuntimeError set, when another thread is inside. */
bool ml_busy_enter(struct ml_busy *b, const char *type);
void ml_busy_leave(struct ml_busy *b);

/* "O&" converters: a fourcc from a four-letter str or from V4L2's integer; a level's name, None for the best. */
int ml_fourcc_from(PyObject *o, void *fourcc);
int ml_level_from(PyObject *o, void *level);

/* A contiguous buffer of at least @need bytes; false with ValueError (or TypeError for what is no buffer) set. */
bool ml_buffer_get(PyObject *o, const char *name, bool writable, size_t need, Py_buffer *view);

/* What a run reads and what it writes. */
struct ml_pair {
	Py_buffer src, dst;
};

/* Buffers of at least so many bytes that share none; false with ValueError (or TypeError) set, and nothing is held. */
bool ml_pair_get(PyObject *src, size_t src_need, PyObject *dst, size_t dst_need, struct ml_pair *pair);
void ml_pair_release(struct ml_pair *pair);

/* Checks @im, @stride 0 meaning tight; false with ValueError set, the message led by @name. */
bool ml_image_from(const char *name, uint32_t fourcc, int width, int height, int stride, struct ml_image *im);

/* The same for a packed Bayer picture. */
bool ml_bayer_from(uint32_t fourcc, int width, int height, int stride, struct ml_bayer *src);

/* An even rectangle from a tuple (x, y, width, height) inside @width x @height, or all of it from None. */
bool ml_rect_from(const char *name, PyObject *o, int width, int height, struct ml_rect *r);
bool ml_fit_from(const char *s, enum ml_fit *fit);

/* Types and functions of the other files. Each returns 0, or -1 with an exception set. */
int ml_add_type(PyObject *module, PyType_Spec *spec);
extern PyType_Spec ml_scaler_spec, ml_jpeg_spec, ml_developer_spec, ml_remap_spec;

PyObject *ml_py_turn(PyObject *module, PyObject *args);
PyObject *ml_py_recolour(PyObject *module, PyObject *args, PyObject *kwargs);

/* Frees an instance of a heap type after its C parts are gone. */
void ml_dealloc(PyObject *self);

#endif
