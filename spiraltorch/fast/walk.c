/* Graphs that are looked at.  In: roots.  Out: what jit.eager.canonical makes: the key of their structure, the nodes in
topological order, the leaves, and the numbers that are data. */

#include "fast.h"

/* The nodes met, by address: a table that is never more than half full. */
typedef struct { PyObject **nodes; Py_ssize_t *ids; size_t mask, count; } Met;

static Py_ssize_t *met(Met *m, PyObject *node) {
    size_t i = ((size_t)node >> 4) * 0x9E3779B97F4A7C15ull >> 20 & m->mask;
    while (m->nodes[i] != NULL && m->nodes[i] != node)
        i = (i + 1) & m->mask;
    if (m->nodes[i] == NULL)
        m->ids[i] = -1;
    return &m->ids[i];
}

static int met_room(Met *m, size_t size) {
    Met old = *m;
    m->nodes = PyMem_Calloc(size, sizeof *m->nodes);
    m->ids = PyMem_Malloc(size * sizeof *m->ids);
    m->mask = size - 1;
    if (m->nodes == NULL || m->ids == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; old.nodes != NULL && i <= old.mask; i++)
        if (old.nodes[i] != NULL) {
            Py_ssize_t *id = met(m, old.nodes[i]);
            m->nodes[id - m->ids] = old.nodes[i];
            *id = old.ids[i];
        }
    PyMem_Free(old.nodes);
    PyMem_Free(old.ids);
    return 0;
}

static int add_ids(PyObject *key, Met *m, PyObject *src) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(src); i++) {
        PyObject *id = PyLong_FromSsize_t(*met(m, PyTuple_GET_ITEM(src, i)));
        int failed = id == NULL || PyList_Append(key, id) < 0;
        Py_XDECREF(id);
        if (failed)
            return -1;
    }
    return 0;
}

/* What jit.eager.canonical says of one node whose operands are met; 1 for a leaf on another device, -1 with an error. */
static int say(PyObject *n, Met *m, PyObject *where, PyObject *key, PyObject *leaves, PyObject *numbers, PyObject *types) {
    PyObject *op = AT(n, node_at.op), *src = AT(n, node_at.src), *arg = AT(n, node_at.arg), *dtype = AT(n, node_at.dtype);
    int is_row = PyDict_Contains(given.ROWS, op);
    if (is_row < 0)
        return -1;
    if (is_row) {
        if (append2(key, op, dtype) < 0 || ((arg != Py_None || PyTuple_GET_SIZE(src) != 2) && PyList_Append(key, arg) < 0))
            return -1;
        return add_ids(key, m, src);
    }
    if (is_op(op, words.apply))
        return PyList_Append(key, arg) < 0 ? -1 : add_ids(key, m, src);
    if (is_op(op, words.buffer)) {
        PyObject *place = PyObject_GetAttr(arg, words.device);
        Py_XDECREF(place); /* the buffer keeps it */
        if (place == NULL || PyList_Append(key, words.zero) < 0 || append2(key, AT(n, node_at.shape), dtype) < 0)
            return -1;
        return PyList_Append(leaves, n) < 0 ? -1 : place != where && place != given.CPU;
    }
    if (is_op(op, words.const_)) {
        if (AT(arg, bits_at.is_static) != Py_False)
            return append2(key, op, AT(arg, bits_at.key)) < 0 || PyList_Append(key, dtype) < 0 ? -1 : 0;
        return append2(key, words.one, dtype) < 0 || PyList_Append(numbers, AT(arg, bits_at.value)) < 0 || PyList_Append(types, dtype) < 0 ? -1 : 0;
    }
    PyObject *count = PyLong_FromSsize_t(PyTuple_GET_SIZE(src));
    int done = count == NULL || append2(key, op, arg) < 0 || append2(key, AT(n, node_at.shape), dtype) < 0 || PyList_Append(key, count) < 0;
    Py_XDECREF(count);
    return done ? -1 : add_ids(key, m, src);
}

typedef struct { PyObject *node; Py_ssize_t next; } Visit;

PyObject *walk_from(PyObject *roots, PyObject *where) {
    PyObject *found = NULL;
    PyObject *key = PyList_New(0), *order = PyList_New(0), *leaves = PyList_New(0), *numbers = PyList_New(0), *types = PyList_New(0);
    Met m = {0};
    size_t room = 64, depth = 0;
    Visit *stack = PyMem_Malloc(room * sizeof *stack);
    int elsewhere = 0;
    if (stack == NULL)
        PyErr_NoMemory();
    if (stack == NULL || types == NULL || numbers == NULL || leaves == NULL || order == NULL || key == NULL || met_room(&m, 128) < 0)
        goto end;
    for (Py_ssize_t r = 0; r < PyList_GET_SIZE(roots); r++) {
        if (*met(&m, PyList_GET_ITEM(roots, r)) >= 0)
            continue;
        stack[depth++] = (Visit){PyList_GET_ITEM(roots, r), 0};
        while (depth) {
            PyObject *n = stack[depth - 1].node, *src = AT(n, node_at.src), *s = NULL;
            Py_ssize_t i = stack[depth - 1].next;
            while (i < PyTuple_GET_SIZE(src) && *met(&m, s = PyTuple_GET_ITEM(src, i)) >= 0)
                i++;
            if (i < PyTuple_GET_SIZE(src)) {
                stack[depth - 1].next = i + 1;
                if (depth == room) {
                    Visit *more = PyMem_Realloc(stack, (room *= 2) * sizeof *stack);
                    if (more == NULL) {
                        PyErr_NoMemory();
                        goto end;
                    }
                    stack = more;
                }
                stack[depth++] = (Visit){s, 0};
                continue;
            }
            depth--;
            if (2 * (m.count + 1) > m.mask && met_room(&m, 2 * (m.mask + 1)) < 0)
                goto end;
            int done = say(n, &m, where, key, leaves, numbers, types);
            if (done < 0 || PyList_Append(order, n) < 0)
                goto end;
            elsewhere |= done;
            Py_ssize_t *id = met(&m, n);
            m.nodes[id - m.ids] = n;
            *id = (Py_ssize_t)m.count++;
        }
    }
    PyObject *last = PyTuple_New(PyList_GET_SIZE(roots));
    for (Py_ssize_t r = 0; last != NULL && r < PyList_GET_SIZE(roots); r++) {
        PyObject *id = PyLong_FromSsize_t(*met(&m, PyList_GET_ITEM(roots, r)));
        if (id == NULL)
            Py_CLEAR(last);
        else
            PyTuple_SET_ITEM(last, r, id);
    }
    if (last != NULL)
        found = elsewhere ? Py_NewRef(Py_None) : PyTuple_Pack(6, key, last, order, leaves, numbers, types);
    Py_XDECREF(last);
end:
    PyMem_Free(stack);
    PyMem_Free(m.nodes);
    PyMem_Free(m.ids);
    Py_XDECREF(key);
    Py_XDECREF(order);
    Py_XDECREF(leaves);
    Py_XDECREF(numbers);
    Py_XDECREF(types);
    return found;
}

PyObject *walk(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *roots, *where;
    return PyArg_ParseTuple(args, "O!O", &PyList_Type, &roots, &where) ? walk_from(roots, where) : NULL;
}
