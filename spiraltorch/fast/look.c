/* A look at values: pending cells become the results of a program that was compiled before.

In: cells.  Out: they hold buffers, as after jit.eager.compute, which does what is not found here: a program that is not
compiled yet, memory that is used again, devices. */

#include "fast.h"

static PyObject *referent(PyObject *ref) { /* a new reference, or NULL without an error */
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *object = NULL;
    PyWeakref_GetRef(ref, &object);
    return object;
#else
    PyObject *object = PyWeakref_GetObject(ref);
    return object == Py_None ? NULL : Py_NewRef(object);
#endif
}

PyObject *pending(PyObject *Py_UNUSED(module), PyObject *refs) {
    PyObject *found = PyDict_New(), *list = NULL;
    if (!PyList_Check(refs))
        return PyErr_Format(PyExc_TypeError, "pending takes a list");
    for (Py_ssize_t i = 0; found != NULL && i < PyList_GET_SIZE(refs); i++) {
        PyObject *cell = referent(PyList_GET_ITEM(refs, i));
        if (cell == NULL)
            continue;
        if (AT(cell, cell_at.error) == Py_None && !is_op(AT(AT(cell, cell_at.node), node_at.op), words.buffer) &&
            PyDict_SetItem(found, cell, Py_None) < 0)
            Py_CLEAR(found);
        Py_DECREF(cell);
    }
    if (found != NULL)
        list = PyDict_Keys(found);
    Py_XDECREF(found);
    return list;
}

/* Storage.settle: the cell's value is in `buffer`. */
static int settle(PyObject *cell, PyObject *buffer) {
    PyObject *old = AT(cell, cell_at.node), *ref = PyWeakref_NewRef(cell, NULL);
    PyObject *n = node_of(words.buffer, Py_NewRef(words.empty), buffer, AT(old, node_at.shape), AT(old, node_at.dtype), Py_NewRef(Py_None));
    if (ref == NULL || n == NULL) {
        Py_XDECREF(ref);
        Py_XDECREF(n);
        return -1;
    }
    Py_SETREF(AT(cell, cell_at.buffer), Py_NewRef(buffer));
    Py_SETREF(AT(buffer, buffer_at.cell), ref);
    Py_SETREF(AT(cell, cell_at.node), n);
    return 0;
}

/* The key of jit.eager.find_program for these cells, which overwrite nothing. */
static PyObject *program_key(PyObject *found, Py_ssize_t cells) {
    PyObject *key = PyTuple_GET_ITEM(found, 0), *last = PyTuple_GET_ITEM(found, 1), *out = NULL, *whole = NULL;
    PyObject *cpu = PyObject_GetAttr(given.config, words.cpu), *gemm = PyObject_GetAttr(given.config, words.gemm);
    PyObject *index = PyObject_GetAttr(given.CPU, words.index), *minus = PyLong_FromLong(-1);
    if (cpu && gemm && index && minus && append2(key, minus, cpu) > 0 && append2(key, gemm, index) > 0 &&
        PyList_SetSlice(key, PyList_GET_SIZE(key), PyList_GET_SIZE(key), last) == 0 && (whole = PyList_AsTuple(key)) != NULL &&
        (out = PyTuple_New(cells + 1)) != NULL) {
        PyTuple_SET_ITEM(out, 0, Py_NewRef(whole));
        for (Py_ssize_t i = 0; i < cells; i++)
            PyTuple_SET_ITEM(out, i + 1, Py_NewRef(Py_None));
    }
    Py_XDECREF(cpu);
    Py_XDECREF(gemm);
    Py_XDECREF(index);
    Py_XDECREF(minus);
    Py_XDECREF(whole);
    return out;
}

static PyObject *run(PyObject *runner, PyObject *leaves, PyObject *numbers) {
    PyObject *inputs = PyList_New(PyList_GET_SIZE(leaves)), *out = NULL;
    if (inputs == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(leaves); i++)
        PyList_SET_ITEM(inputs, i, Py_NewRef(AT(PyList_GET_ITEM(leaves, i), node_at.arg)));
    PyObject *args[] = {inputs, numbers, Py_None};
    out = PyObject_Vectorcall(runner, args, 3, NULL);
    Py_DECREF(inputs);
    return out;
}

PyObject *look(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *cells, *log, *roots = NULL, *found = NULL, *key = NULL, *program = NULL, *runner = NULL, *outs = NULL, *result = NULL;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &cells))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(cells);
    if ((log = PyObject_GetAttr(given.config, words.log)) == NULL)
        return NULL;
    int here = count > 0 && PySet_GET_SIZE(log) == 0;
    Py_DECREF(log);
    for (Py_ssize_t i = 0; here && i < count; i++) {
        PyObject *cell = PyList_GET_ITEM(cells, i);
        here = AT(cell, cell_at.error) == Py_None && AT(cell, cell_at.buffer) == Py_None && AT(cell, cell_at.device) == given.CPU &&
               !is_op(AT(AT(cell, cell_at.node), node_at.op), words.buffer);
    }
    if (!here)
        Py_RETURN_FALSE;
    if ((roots = PyList_New(count)) == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        PyList_SET_ITEM(roots, i, Py_NewRef(AT(PyList_GET_ITEM(cells, i), cell_at.node)));
    if ((found = walk_from(roots, given.CPU)) == NULL)
        goto end;
    if (found == Py_None) {
        result = Py_NewRef(Py_False);
        goto end;
    }
    if ((key = program_key(found, count)) == NULL)
        goto end;
    program = Py_XNewRef(PyDict_GetItemWithError(given.programs, key));
    if (program == NULL) {
        result = PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
        goto end;
    }
    if ((runner = PyObject_GetAttr(program, words.runner)) == NULL)
        goto end;
    if (runner == Py_None) {
        result = Py_NewRef(Py_False);
        goto end;
    }
    PyObject *moved = PyObject_CallMethodOneArg(given.programs, words.move_to_end, key);
    if (moved == NULL)
        PyErr_Clear(); /* another thread has just forgotten it: nothing is lost */
    Py_XDECREF(moved);
    if ((outs = run(runner, PyTuple_GET_ITEM(found, 3), PyTuple_GET_ITEM(found, 4))) == NULL)
        goto end;
    if (PyTuple_Check(outs)) {
        result = PyTuple_Pack(3, program, PyTuple_GET_ITEM(outs, 0), PyTuple_GET_ITEM(outs, 1));
        goto end;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (settle(PyList_GET_ITEM(cells, i), PyList_GET_ITEM(outs, i)) < 0)
            goto end;
    result = Py_NewRef(Py_True);
end:
    Py_XDECREF(roots);
    Py_XDECREF(found);
    Py_XDECREF(key);
    Py_XDECREF(program);
    Py_XDECREF(runner);
    Py_XDECREF(outs);
    return result;
}
