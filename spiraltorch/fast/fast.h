/* What the parts of the C module share: the Python classes and objects that they work on, and how they are read and made.

Objects of the Python classes are read and made at the offsets of their __slots__, which `setup` asks the classes for. */

#ifndef SPIRALTORCH_FAST_H
#define SPIRALTORCH_FAST_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#define AT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

extern struct node_at { Py_ssize_t op, src, arg, shape, dtype, origin, digest; } node_at;
extern struct cell_at { Py_ssize_t node, version, buffer, device, history, history_version, error, exposed; } cell_at;
extern struct tensor_at {
    Py_ssize_t storage, steps, cache, cached_from, requires_grad, fn, index, seen, detached, hooks, base, grad;
} tensor_at;
extern struct buffer_at { Py_ssize_t ptr, nbytes, device, owner, cell, size, block, export; } buffer_at;
extern struct seen_at { Py_ssize_t call, results, pack; } seen_at;
extern struct applied_at { Py_ssize_t shape, dtype; } applied_at;
extern struct bits_at { Py_ssize_t value, key, is_static; } bits_at;
extern struct dtype_at { Py_ssize_t itemsize; } dtype_at;

/* What `setup` was given, held for ever. */
extern struct given {
    PyTypeObject *Node, *Storage, *Tensor, *DType, *Buffer;
    PyObject *Bits, *Seen, *Applied, *SHORT, *ROWS, *CPU, *float32, *float64, *queue, *config, *dtypes, *calls, *inside, *memory, *TURNING,
        *idle_scratch, *small_arenas, *attach, *computed_at_once, *number, *numbers, *user_origin, *scalar_word, *take_scratch, *workers, *programs, *counters;
} given;

/* Interned strings, the empty tuple, and small numbers. */
extern struct words {
    PyObject *dict, *cells, *bytes, *limit, *trace, *overflow, *queue_bytes, *read, *default_, *op, *differentiable, *device, *apply,
        *const_, *permute, *buffer, *idle, *version, *version_, *copy, *refresh, *address, *lock, *acquire, *release, *free, *cached, *allocated,
        *peak, *take, *log, *cpu, *gemm, *runner, *index, *move_to_end, *launches, *give, *cache_limit, *nbytes, *empty, *zero, *one;
} words;

extern PyTypeObject RecorderType, RunnerType;
PyObject *walk(PyObject *module, PyObject *args);
PyObject *walk_from(PyObject *roots, PyObject *where);
PyObject *look(PyObject *module, PyObject *args);
PyObject *pending(PyObject *module, PyObject *refs);
PyObject *give(PyObject *buffer, PyObject *ignored);

static inline int is_op(PyObject *op, PyObject *name) {
    return op == name || (PyUnicode_GET_LENGTH(op) == PyUnicode_GET_LENGTH(name) && PyUnicode_Compare(op, name) == 0);
}

static inline PyObject *fresh(PyTypeObject *type) { return PyBaseObject_Type.tp_new(type, words.empty, NULL); }

/* A node that is not looked up in the table of nodes; steals `src` and `origin`, NULL if one of them is. */
static inline PyObject *node_of(PyObject *op, PyObject *src, PyObject *arg, PyObject *shape, PyObject *dtype, PyObject *origin) {
    PyObject *n = src == NULL || origin == NULL ? NULL : fresh(given.Node);
    if (n == NULL) {
        Py_XDECREF(src);
        Py_XDECREF(origin);
        return NULL;
    }
    AT(n, node_at.op) = Py_NewRef(op);
    AT(n, node_at.src) = src;
    AT(n, node_at.arg) = Py_NewRef(arg);
    AT(n, node_at.shape) = Py_NewRef(shape);
    AT(n, node_at.dtype) = Py_NewRef(dtype);
    AT(n, node_at.origin) = origin;
    AT(n, node_at.digest) = Py_NewRef(Py_None);
    return n;
}

static inline int append2(PyObject *list, PyObject *a, PyObject *b) {
    return PyList_Append(list, a) < 0 || PyList_Append(list, b) < 0 ? -1 : 1;
}

#endif
