/* The module spiraltorch.fast._fast: what it was given, and its parts. */

#include "fast.h"

struct node_at node_at;
struct cell_at cell_at;
struct tensor_at tensor_at;
struct buffer_at buffer_at;
struct seen_at seen_at;
struct applied_at applied_at;
struct bits_at bits_at;
struct dtype_at dtype_at;
struct given given;
struct words words;

/* Where a class keeps an attribute of its __slots__; -1 with an error. */
static Py_ssize_t offset_of(PyObject *type, const char *name) {
    PyObject *d = PyObject_GetAttrString(type, name);
    Py_ssize_t offset = -1;
    if (d != NULL && Py_IS_TYPE(d, &PyMemberDescr_Type))
        offset = ((PyMemberDescrObject *)d)->d_member->offset;
    else if (d != NULL)
        PyErr_Format(PyExc_TypeError, "%R is no slot", d);
    Py_XDECREF(d);
    return offset;
}

static PyMethodDef give_method = {"__del__", give, METH_NOARGS, "Give the block back to the pool."};

#define GIVEN(name) {#name, (PyObject **)&given.name}

static PyObject *setup(PyObject *Py_UNUSED(module), PyObject *args, PyObject *names) {
    struct { const char *name; PyObject **to; } objects[] = {
        GIVEN(Node), GIVEN(Storage), GIVEN(Tensor), GIVEN(DType), GIVEN(Buffer), GIVEN(Bits), GIVEN(Seen), GIVEN(Applied), GIVEN(SHORT),
        GIVEN(ROWS), GIVEN(CPU), GIVEN(float32), GIVEN(float64), GIVEN(queue), GIVEN(config), GIVEN(dtypes), GIVEN(calls), GIVEN(inside),
        GIVEN(memory), GIVEN(idle_scratch), GIVEN(small_arenas), GIVEN(attach), GIVEN(computed_at_once), GIVEN(number), GIVEN(numbers),
        GIVEN(user_origin), GIVEN(scalar_word), GIVEN(take_scratch), GIVEN(workers), GIVEN(programs), GIVEN(counters), GIVEN(TURNING),
    };
    Py_ssize_t taken = 0;
    if (!PyArg_ParseTuple(args, ":setup"))
        return NULL;
    for (size_t i = 0; names != NULL && i < sizeof objects / sizeof *objects; i++) {
        PyObject *value = PyDict_GetItemString(names, objects[i].name);
        if (value != NULL) {
            *objects[i].to = Py_NewRef(value);
            taken++;
        }
    }
    if (names == NULL || taken != PyDict_GET_SIZE(names))
        return PyErr_Format(PyExc_ImportError, "the C module was built from other sources; build it again: pip install -e . --no-deps");
    if (PyDict_GetItemString(names, "Node") == NULL)
        Py_RETURN_NONE;
    PyObject *n = (PyObject *)given.Node, *c = (PyObject *)given.Storage, *t = (PyObject *)given.Tensor, *b = (PyObject *)given.Buffer;
    struct { PyObject *type; const char *name; Py_ssize_t *to; } slots[] = {
        {n, "op", &node_at.op}, {n, "src", &node_at.src}, {n, "arg", &node_at.arg}, {n, "shape", &node_at.shape},
        {n, "dtype", &node_at.dtype}, {n, "origin", &node_at.origin}, {n, "_digest", &node_at.digest},
        {c, "node", &cell_at.node}, {c, "version", &cell_at.version}, {c, "buffer", &cell_at.buffer}, {c, "device", &cell_at.device},
        {c, "history", &cell_at.history}, {c, "history_version", &cell_at.history_version}, {c, "error", &cell_at.error},
        {c, "exposed", &cell_at.exposed},
        {t, "_storage", &tensor_at.storage}, {t, "_steps", &tensor_at.steps}, {t, "_cache", &tensor_at.cache},
        {t, "_cached_from", &tensor_at.cached_from}, {t, "_requires_grad", &tensor_at.requires_grad}, {t, "_fn", &tensor_at.fn},
        {t, "_index", &tensor_at.index}, {t, "_seen", &tensor_at.seen}, {t, "_detached", &tensor_at.detached},
        {t, "_hooks", &tensor_at.hooks}, {t, "_base", &tensor_at.base}, {t, "_grad", &tensor_at.grad},
        {b, "ptr", &buffer_at.ptr}, {b, "nbytes", &buffer_at.nbytes}, {b, "device", &buffer_at.device}, {b, "owner", &buffer_at.owner},
        {b, "cell", &buffer_at.cell}, {b, "_size", &buffer_at.size}, {b, "_block", &buffer_at.block}, {b, "_export", &buffer_at.export},
        {given.Seen, "call", &seen_at.call}, {given.Seen, "results", &seen_at.results}, {given.Seen, "pack", &seen_at.pack},
        {given.Applied, "shape", &applied_at.shape}, {given.Applied, "dtype", &applied_at.dtype},
        {given.Bits, "value", &bits_at.value}, {given.Bits, "key", &bits_at.key}, {given.Bits, "static", &bits_at.is_static},
        {(PyObject *)given.DType, "itemsize", &dtype_at.itemsize},
    };
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if ((*slots[i].to = offset_of(slots[i].type, slots[i].name)) < 0)
            return NULL;
    PyObject *method = PyDescr_NewMethod(given.Buffer, &give_method);
    int done = method == NULL ? -1 : PyObject_SetAttrString(b, "__del__", method);
    Py_XDECREF(method);
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"setup", (PyCFunction)(void (*)(void))setup, METH_VARARGS | METH_KEYWORDS, "setup(**names): what this module works on."},
    {"walk", walk, METH_VARARGS,
     "walk(roots, where): (key, ids of the roots, order, leaves, numbers, their types); None when a leaf is on another device."},
    {"look", look, METH_VARARGS,
     "look(cells): True when they have their values; False when that is not for C; (program, launches done, status) after a failure."},
    {"pending", pending, METH_O, "pending(refs): the cells that are alive and have no value yet, each once, in order."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "spiraltorch.fast._fast", "Recording calls, walking graphs, running programs.", -1, functions,
};

PyMODINIT_FUNC PyInit__fast(void) {
    struct { PyObject **to; const char *text; } strings[] = {
        {&words.dict, "__dict__"}, {&words.cells, "cells"}, {&words.bytes, "bytes"}, {&words.limit, "limit"}, {&words.trace, "trace"},
        {&words.overflow, "overflow"}, {&words.queue_bytes, "queue_bytes"}, {&words.read, "_read"}, {&words.default_, "_default"},
        {&words.op, "op"}, {&words.differentiable, "differentiable"}, {&words.device, "device"}, {&words.apply, "APPLY"},
        {&words.const_, "CONST"}, {&words.permute, "PERMUTE"}, {&words.buffer, "BUFFER"}, {&words.idle, "_idle"}, {&words.version, "version"},
        {&words.version_, "_version"}, {&words.copy, "_copy"}, {&words.refresh, "_refresh"}, {&words.address, "address"},
        {&words.lock, "lock"}, {&words.acquire, "acquire"}, {&words.release, "release"}, {&words.free, "free"}, {&words.cached, "cached"},
        {&words.allocated, "allocated"}, {&words.peak, "peak"}, {&words.take, "take"}, {&words.log, "log"}, {&words.cpu, "cpu"},
        {&words.gemm, "gemm"}, {&words.runner, "runner"}, {&words.index, "index"}, {&words.move_to_end, "move_to_end"},
        {&words.launches, "launches"}, {&words.give, "give"}, {&words.nbytes, "nbytes"}, {&words.cache_limit, "cache_limit"},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        if ((*strings[i].to = PyUnicode_InternFromString(strings[i].text)) == NULL)
            return NULL;
    words.empty = PyTuple_New(0);
    words.zero = PyLong_FromLong(0);
    words.one = PyLong_FromLong(1);
    if (!words.empty || !words.zero || !words.one || PyType_Ready(&RecorderType) < 0 || PyType_Ready(&RunnerType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && (PyModule_AddObject(made, "Recorder", Py_NewRef(&RecorderType)) < 0 ||
                         PyModule_AddObject(made, "Runner", Py_NewRef(&RunnerType)) < 0))
        Py_CLEAR(made);
    return made;
}
