/* Calls of operators: scalar rows over tensors and numbers, and calls that were seen before.

In: a call.  Out: the tensor that short.py or dispatch.py would make, or what their function answers. */

#include "fast.h"

/* -- reading ------------------------------------------------------------------------------------- */

static inline int is_short(PyObject *o) {
    return Py_TYPE(o) == given.Tensor || PySet_Contains(given.SHORT, (PyObject *)Py_TYPE(o)) == 1;
}

/* Tensor._read: a new reference, because another thread may write to the cell while Python code runs. */
static PyObject *node_of_tensor(PyObject *t) {
    PyObject *node = AT(AT(t, tensor_at.storage), cell_at.node);
    if (PyTuple_GET_SIZE(AT(t, tensor_at.steps)) == 0)
        return Py_NewRef(node);
    if (AT(t, tensor_at.cached_from) == node)
        return Py_NewRef(AT(t, tensor_at.cache));
    return PyObject_CallMethodNoArgs(t, words.read);
}

static inline int is_tracked(PyObject *t) {
    return AT(t, tensor_at.requires_grad) != Py_False || AT(t, tensor_at.fn) != Py_None ||
           AT(AT(t, tensor_at.storage), cell_at.history) != Py_None;
}

static inline PyObject *device_of(PyObject *t) { return AT(AT(t, tensor_at.storage), cell_at.device); }

/* ordering.is_turned */
static int is_turned(PyObject *t) {
    PyObject *steps = AT(t, tensor_at.steps);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(steps); i++)
        if (PySet_Contains(given.TURNING, PyTuple_GET_ITEM(PyTuple_GET_ITEM(steps, i), 0)) != 0)
            return 1;
    return 0;
}

/* whether a list or tuple holds such a tensor */
static int has_turned(PyObject *list) {
    if (!PyList_CheckExact(list) && !PyTuple_CheckExact(list))
        return 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list); i++) {
        PyObject *t = PySequence_Fast_GET_ITEM(list, i);
        if (is_short(t) && is_turned(t))
            return 1;
    }
    return 0;
}

/* ordering.shared_order: a new reference to the one permutation that all these tensors are seen through, or NULL without an error. */
static PyObject *shared_order(PyObject *const *args, Py_ssize_t count) {
    PyObject *steps = AT(args[0], tensor_at.steps);
    if (PyTuple_GET_SIZE(steps) != 1 || !is_op(PyTuple_GET_ITEM(PyTuple_GET_ITEM(steps, 0), 0), words.permute))
        return NULL;
    for (Py_ssize_t i = 1; i < count; i++)
        if (AT(args[i], tensor_at.steps) != steps && PyObject_RichCompareBool(AT(args[i], tensor_at.steps), steps, Py_EQ) != 1)
            return NULL;
    return Py_NewRef(steps);
}

static inline int is_exposed(PyObject *t) { return AT(AT(t, tensor_at.storage), cell_at.exposed) != Py_False; }

static int same_shape(PyObject *a, PyObject *b) { return a == b ? 1 : PyObject_RichCompareBool(a, b, Py_EQ); }

/* -- making -------------------------------------------------------------------------------------- */

/* errors.user_origin: (code, instruction) of the nearest caller outside the package, or None. */
static PyObject *find_origin(void) {
    PyFrameObject *f = PyEval_GetFrame();
    Py_XINCREF(f);
    while (f != NULL) {
        PyCodeObject *code = PyFrame_GetCode(f);
        PyObject *known = PyDict_GetItem(given.inside, code->co_filename);
        PyObject *found = NULL;
        if (known == NULL)
            found = PyObject_CallFunctionObjArgs(given.user_origin, words.zero, NULL);
        else if (known == Py_False) {
#if PY_VERSION_HEX >= 0x030b0000
            found = Py_BuildValue("(Oi)", code, PyFrame_GetLasti(f));
#else
            PyObject *lasti = PyObject_GetAttrString((PyObject *)f, "f_lasti");
            found = lasti == NULL ? NULL : Py_BuildValue("(ON)", code, lasti);
#endif
        }
        Py_DECREF(code);
        if (known == NULL || known == Py_False) {
            Py_DECREF(f);
            return found;
        }
        PyFrameObject *back = PyFrame_GetBack(f);
        Py_DECREF(f);
        f = back;
    }
    Py_RETURN_NONE;
}

/* Node.nbytes: a new reference. */
static PyObject *nbytes(PyObject *node) {
    PyObject *shape = AT(node, node_at.shape);
    Py_ssize_t size = PyLong_AsSsize_t(AT(AT(node, node_at.dtype), dtype_at.itemsize));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++) {
        Py_ssize_t n = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
        if (n == -1 || __builtin_mul_overflow(size, n, &size)) {
            PyErr_Clear();
            return PyObject_GetAttr(node, words.nbytes); /* more than 64 bits count */
        }
    }
    return PyLong_FromSsize_t(size);
}

/* short.tensor_of: a tensor with a pending cell of its own; steals `node`.  `state` is this thread's queue.__dict__. */
static PyObject *tensor_of(PyObject *node, PyObject *where, PyObject *state) {
    PyObject *cell = node == NULL ? NULL : fresh(given.Storage);
    PyObject *t = cell == NULL ? NULL : fresh(given.Tensor);
    if (t == NULL) {
        Py_XDECREF(node);
        Py_XDECREF(cell);
        return NULL;
    }
    AT(cell, cell_at.node) = node;
    AT(cell, cell_at.version) = Py_NewRef(words.zero);
    AT(cell, cell_at.buffer) = Py_NewRef(Py_None);
    AT(cell, cell_at.device) = Py_NewRef(where);
    AT(cell, cell_at.history) = Py_NewRef(Py_None);
    AT(cell, cell_at.history_version) = Py_NewRef(words.zero);
    AT(cell, cell_at.error) = Py_NewRef(Py_None);
    AT(cell, cell_at.exposed) = Py_NewRef(Py_False);
    AT(t, tensor_at.storage) = cell;
    AT(t, tensor_at.steps) = Py_NewRef(words.empty);
    AT(t, tensor_at.requires_grad) = Py_NewRef(Py_False);
    AT(t, tensor_at.fn) = Py_NewRef(Py_None);
    AT(t, tensor_at.index) = Py_NewRef(words.zero);
    AT(t, tensor_at.seen) = Py_NewRef(words.zero);
    AT(t, tensor_at.detached) = Py_NewRef(Py_False);
    AT(t, tensor_at.hooks) = Py_NewRef(Py_None);
    AT(t, tensor_at.base) = Py_NewRef(Py_None);
    AT(t, tensor_at.grad) = Py_NewRef(Py_None);

    PyObject *cells = PyDict_GetItemWithError(state, words.cells), *old = PyDict_GetItemWithError(state, words.bytes);
    PyObject *limit = PyDict_GetItemWithError(state, words.limit), *trace = PyDict_GetItemWithError(state, words.trace);
    PyObject *most = PyObject_GetAttr(given.config, words.queue_bytes), *ref = PyWeakref_NewRef(cell, NULL), *size = nbytes(node), *bytes = NULL;
    if (cells == NULL || old == NULL || limit == NULL || trace == NULL || most == NULL || ref == NULL || size == NULL)
        goto failed;
    bytes = PyNumber_Add(old, size);
    if (bytes == NULL || PyList_Append(cells, ref) < 0 || PyDict_SetItem(state, words.bytes, bytes) < 0)
        goto failed;
    int is_long = PyList_GET_SIZE(cells) > PyLong_AsSsize_t(limit) || PyObject_RichCompareBool(bytes, most, Py_GT) != 0;
    if (is_long && trace == Py_None) {
        PyObject *done = PyObject_CallMethodNoArgs(given.queue, words.overflow);
        if (done == NULL)
            goto failed;
        Py_DECREF(done);
    }
    if (PyErr_Occurred())
        goto failed;
    Py_DECREF(most);
    Py_DECREF(ref);
    Py_DECREF(size);
    Py_DECREF(bytes);
    return t;
failed:
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "the queue of this thread is not set up");
    Py_XDECREF(most);
    Py_XDECREF(ref);
    Py_XDECREF(size);
    Py_XDECREF(bytes);
    Py_DECREF(t);
    return NULL;
}

/* `call` on the tape, and operands that others can write to looked at now; steals `out`, which it gives back. */
static PyObject *finish(PyObject *out, PyObject *outs, PyObject *call, PyObject *tensors, int tracked, int exposed) {
    PyObject *done = NULL;
    if (out == NULL || outs == NULL || tensors == NULL)
        goto failed;
    if (tracked) {
        if ((done = PyObject_CallFunctionObjArgs(given.attach, call, tensors, outs, NULL)) == NULL)
            goto failed;
        Py_DECREF(done);
    }
    if (exposed) {
        if ((done = PyObject_CallFunctionObjArgs(given.computed_at_once, tensors, outs, NULL)) == NULL)
            goto failed;
        Py_DECREF(done);
    }
    return out;
failed:
    Py_XDECREF(out);
    return NULL;
}

/* -- calls ---------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python;      /* means the same, for any arguments */
    PyObject *name;        /* of an operator whose calls are remembered, or NULL */
    PyObject *row;         /* the scalar row that the short way records, or NULL */
    PyObject *pair;        /* types of the short way with two tensors, or with one for a unary row: a tuple */
    PyObject *with_number; /* and with a number */
    PyObject *result;      /* type of the result, or NULL: the operands' */
    PyObject *call;        /* for the tape; None for a row without a derivative */
    int operands, reflected, pointwise;
} Recorder;

static inline int among(PyObject *types, PyObject *dtype) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); i++)
        if (PyTuple_GET_ITEM(types, i) == dtype)
            return 1;
    return 0;
}

#define NOT_HERE Py_NewRef(Py_NotImplemented) /* the call goes another way */

static PyObject *recorded(Recorder *self, PyObject *src, PyObject *like, PyObject *where, PyObject *state, PyObject *order) {
    PyObject *dtype = AT(like, node_at.dtype);
    PyObject *node = node_of(self->row, src, Py_None, AT(like, node_at.shape), self->result ? self->result : dtype, find_origin());
    PyObject *t = tensor_of(node, where, state);
    if (t != NULL && order != NULL) { /* its cell is row-major in the order of the operands' cells */
        Py_SETREF(AT(t, tensor_at.steps), Py_NewRef(order));
        AT(t, tensor_at.cached_from) = Py_NewRef(Py_None);
    }
    return t;
}

/* What an operand is in a call: the tensor, or where all have one order their cell. */
static inline PyObject *operand(PyObject *t, PyObject *order) {
    return order == NULL ? node_of_tensor(t) : Py_NewRef(AT(AT(t, tensor_at.storage), cell_at.node));
}

/* A row over one or two tensors of one type and shape. */
static PyObject *over_tensors(Recorder *self, PyObject *const *args, Py_ssize_t count, PyObject *state, PyObject *order) {
    PyObject *a = args[0], *b = args[count - 1], *out = NULL, *tensors = NULL, *outs = NULL;
    PyObject *x = operand(a, order), *y = x == NULL ? NULL : operand(b, order);
    if (y == NULL)
        goto end;
    int here = among(self->pair, AT(x, node_at.dtype));
    if (here && count == 2)
        here = AT(x, node_at.dtype) == AT(y, node_at.dtype) && device_of(a) == device_of(b) ? same_shape(AT(x, node_at.shape), AT(y, node_at.shape)) : 0;
    if (here <= 0) {
        out = here < 0 ? NULL : NOT_HERE;
        goto end;
    }
    int tracked = self->call != Py_None && (is_tracked(a) || is_tracked(b)), exposed = is_exposed(a) || is_exposed(b);
    out = recorded(self, count == 2 ? PyTuple_Pack(2, x, y) : PyTuple_Pack(1, x), x, device_of(a), state, order);
    if (out != NULL && (tracked || exposed)) {
        tensors = count == 2 ? PyTuple_Pack(2, a, b) : PyTuple_Pack(1, a);
        outs = PyTuple_Pack(1, out);
        out = finish(out, outs, self->call, tensors, tracked, exposed);
    }
end:
    Py_XDECREF(x);
    Py_XDECREF(y);
    Py_XDECREF(tensors);
    Py_XDECREF(outs);
    return out;
}

/* short.number_node: a new reference. */
static PyObject *number_node(PyObject *value, PyObject *dtype) {
    PyObject *key = PyTuple_Pack(2, value, dtype);
    PyObject *c = key == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(given.numbers, key));
    Py_XDECREF(key);
    return c != NULL || PyErr_Occurred() ? c : PyObject_CallFunctionObjArgs(given.number, value, dtype, NULL);
}

/* A row over a tensor that needs no gradient and a Python number. */
static PyObject *over_number(Recorder *self, PyObject *a, PyObject *value, PyObject *state, PyObject *order) {
    PyObject *x = operand(a, order), *c, *out = NULL;
    if (x == NULL)
        return NULL;
    if (!among(self->with_number, AT(x, node_at.dtype)) || is_tracked(a) || is_exposed(a))
        out = NOT_HERE;
    else if ((c = number_node(value, AT(x, node_at.dtype))) != NULL) {
        out = recorded(self, self->reflected ? PyTuple_Pack(2, c, x) : PyTuple_Pack(2, x, c), x, device_of(a), state, order);
        Py_DECREF(c);
    }
    Py_DECREF(x);
    return out;
}

/* again.describe: 1, or 0 for a value that keys know nothing of, or -1 with an error. */
static int describe(PyObject *value, PyObject *key, PyObject *tensors) {
    PyTypeObject *kind = Py_TYPE(value);
    if (is_short(value)) {
        PyObject *n = node_of_tensor(value);
        if (n == NULL)
            return -1;
        int done = !is_op(AT(n, node_at.op), words.const_);
        if (done)
            done = PyList_Append(tensors, value) < 0 ? -1 : append2(key, AT(n, node_at.shape), AT(n, node_at.dtype));
        Py_DECREF(n);
        return done;
    }
    if (kind == &PyLong_Type || kind == &PyBool_Type || kind == &PyUnicode_Type || value == Py_None || kind == given.DType ||
        kind == &PyComplex_Type || value == Py_Ellipsis)
        return append2(key, (PyObject *)kind, value);
    if (kind == &PyFloat_Type) {
        if (PyFloat_AS_DOUBLE(value) != 0)
            return append2(key, (PyObject *)kind, value);
        PyObject *text = PyObject_Str(value);
        int done = text == NULL ? -1 : append2(key, (PyObject *)kind, text);
        Py_XDECREF(text);
        return done;
    }
    if (kind == &PyTuple_Type || kind == &PyList_Type) {
        PyObject *count = PyLong_FromSsize_t(PySequence_Fast_GET_SIZE(value));
        int done = count == NULL ? -1 : append2(key, (PyObject *)kind, count);
        Py_XDECREF(count);
        for (Py_ssize_t i = 0; done == 1 && i < PySequence_Fast_GET_SIZE(value); i++)
            done = describe(PySequence_Fast_GET_ITEM(value, i), key, tensors);
        return done;
    }
    return 0;
}

/* again.key_of: a tuple whose tensors are appended to `tensors`; NotImplemented for arguments that are not plain. */
static PyObject *key_of(PyObject *name, PyObject *const *args, Py_ssize_t count, PyObject *names, int reversed, PyObject *tensors) {
    PyObject *key = PyList_New(0), *type = PyObject_GetAttr(given.dtypes, words.default_), *found = NULL;
    int done = key == NULL || type == NULL ? -1 : append2(key, name, type);
    Py_XDECREF(type);
    for (Py_ssize_t i = 0; done == 1 && i < count; i++)
        done = describe(args[reversed ? count - 1 - i : i], key, tensors);
    for (Py_ssize_t i = 0; done == 1 && names != NULL && i < PyTuple_GET_SIZE(names); i++)
        done = PyList_Append(key, PyTuple_GET_ITEM(names, i)) < 0 ? -1 : describe(args[count + i], key, tensors);
    if (done >= 0)
        found = done ? PyList_AsTuple(key) : NOT_HERE;
    Py_XDECREF(key);
    return found;
}

/* dispatch._repeat: the results of a call that was seen before, over other tensors of the same shapes and types. */
static PyObject *repeat(PyObject *seen, PyObject *tensors, PyObject *state) {
    Py_ssize_t count = PyList_GET_SIZE(tensors);
    PyObject *results = AT(seen, seen_at.results), *pack = AT(seen, seen_at.pack), *call = AT(seen, seen_at.call);
    PyObject *where = device_of(PyList_GET_ITEM(tensors, 0)), *out = NULL, *origin = NULL;
    PyObject *src = PyTuple_New(count), *outs = PyList_New(0);
    int tracked = 0, exposed = 0;
    if (src == NULL || outs == NULL || (origin = find_origin()) == NULL)
        goto end;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *t = PyList_GET_ITEM(tensors, i), *n = node_of_tensor(t);
        if (n == NULL)
            goto end;
        PyTuple_SET_ITEM(src, i, n);
        tracked |= is_tracked(t);
        exposed |= is_exposed(t);
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(results); i++) {
        PyObject *a = PyList_GET_ITEM(results, i);
        PyObject *n = node_of(words.apply, Py_NewRef(src), a, AT(a, applied_at.shape), AT(a, applied_at.dtype), Py_NewRef(origin));
        PyObject *t = tensor_of(n, where, state);
        int failed = t == NULL || PyList_Append(outs, t) < 0;
        Py_XDECREF(t);
        if (failed)
            goto end;
    }
    if (tracked) { /* an operator without derivatives stays off the tape */
        PyObject *op = PyObject_GetAttr(call, words.op), *flag = op == NULL ? NULL : PyObject_GetAttr(op, words.differentiable);
        tracked = flag == NULL ? -1 : PyObject_IsTrue(flag);
        Py_XDECREF(op);
        Py_XDECREF(flag);
        if (tracked < 0)
            goto end;
    }
    out = pack == Py_None ? Py_NewRef(PyList_GET_ITEM(outs, 0)) : Py_NewRef(outs);
    out = finish(out, outs, call, tensors, tracked, exposed);
    if (out != NULL && pack != Py_None) {
        Py_DECREF(out);
        out = PyObject_CallFunctionObjArgs(pack, outs, NULL);
    }
end:
    Py_XDECREF(src);
    Py_XDECREF(outs);
    Py_XDECREF(origin);
    return out;
}

/* A call that was seen before; NotImplemented for one that was not, or whose tensors are not in one place. */
static PyObject *over_any(Recorder *self, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject *state) {
    PyObject *tensors = PyList_New(0), *out = NULL;
    PyObject *key = tensors == NULL ? NULL : key_of(self->name, args, count, names, self->reflected, tensors);
    if (key == NULL || key == Py_NotImplemented) {
        Py_XDECREF(tensors);
        return key;
    }
    PyObject *seen = PyDict_GetItemWithError(given.calls, key);
    Py_DECREF(key);
    int here = seen != NULL && PyList_GET_SIZE(tensors) > 0;
    for (Py_ssize_t i = 1; here && i < PyList_GET_SIZE(tensors); i++)
        here = device_of(PyList_GET_ITEM(tensors, i)) == device_of(PyList_GET_ITEM(tensors, 0));
    if (here) {
        Py_INCREF(seen); /* what is remembered may be forgotten meanwhile */
        out = repeat(seen, tensors, state);
        Py_DECREF(seen);
    } else if (!PyErr_Occurred())
        out = NOT_HERE;
    Py_DECREF(tensors);
    return out;
}

static PyObject *recorder_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Recorder *self = (Recorder *)callable;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (names != NULL && PyTuple_GET_SIZE(names) == 0)
        names = NULL;
    PyObject *order = NULL;
    int is_plain = 1; /* a result whose axes lie as they are numbered */
    for (Py_ssize_t i = 0; self->pointwise && is_plain && i < count + (names == NULL ? 0 : PyTuple_GET_SIZE(names)); i++)
        is_plain = is_short(args[i]) ? !is_turned(args[i]) : !has_turned(args[i]);
    PyObject *state = PyObject_GetAttr(given.queue, words.dict), *out = state == NULL ? NULL : NOT_HERE;
    if (!is_plain && out != NULL && names == NULL && count == self->operands && is_short(args[0]))
        order = shared_order(args, is_short(args[count - 1]) ? count : 1);
    if (out != NULL && (is_plain || order != NULL) && self->row != NULL && names == NULL && count == self->operands && is_short(args[0])) {
        PyObject *last = args[count - 1];
        if (is_short(last)) {
            if (self->pair != Py_None) {
                Py_DECREF(out);
                out = over_tensors(self, args, count, state, order);
            }
        } else if (self->with_number != Py_None && (PyFloat_CheckExact(last) || PyLong_CheckExact(last))) {
            Py_DECREF(out);
            out = over_number(self, args[0], last, state, order);
        }
    }
    int is_known = self->name != NULL && !(self->reflected && count && !is_short(args[0])); /* 2 has no __rmul__ */
    if (out == Py_NotImplemented && is_plain && is_known && PyDict_GetItemWithError(state, words.trace) == Py_None) {
        Py_DECREF(out);
        out = over_any(self, args, count, names, state);
    }
    Py_XDECREF(state);
    Py_XDECREF(order);
    if (out != Py_NotImplemented)
        return out;
    Py_DECREF(out);
    return PyObject_Vectorcall(self->python, args, flags & ~PY_VECTORCALL_ARGUMENTS_OFFSET, names);
}

static PyObject *recorder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"python", "name", "row", "operands", "pair", "number", "result", "call", "reflected", "pointwise", NULL};
    PyObject *python, *name = Py_None, *row = Py_None, *pair = Py_None, *with = Py_None, *result = Py_None, *call = Py_None;
    int operands = 0, reflected = 0, pointwise = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOiOOOOpp:Recorder", names, &python, &name, &row, &operands, &pair, &with, &result,
                                     &call, &reflected, &pointwise))
        return NULL;
    Recorder *self = (Recorder *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = recorder_call;
    self->python = Py_NewRef(python);
    self->name = name == Py_None ? NULL : Py_NewRef(name);
    self->row = row == Py_None ? NULL : Py_NewRef(row);
    self->pair = Py_NewRef(pair);
    self->with_number = Py_NewRef(with);
    self->result = result == Py_None ? NULL : Py_NewRef(result);
    self->call = Py_NewRef(call);
    self->operands = operands;
    self->reflected = reflected;
    self->pointwise = pointwise;
    return (PyObject *)self;
}

static void recorder_dealloc(PyObject *o) {
    Recorder *self = (Recorder *)o;
    Py_XDECREF(self->python);
    Py_XDECREF(self->name);
    Py_XDECREF(self->row);
    Py_XDECREF(self->pair);
    Py_XDECREF(self->with_number);
    Py_XDECREF(self->result);
    Py_XDECREF(self->call);
    Py_TYPE(o)->tp_free(o);
}

static PyObject *recorder_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type)) {
    return object == NULL || object == Py_None ? Py_NewRef(self) : PyMethod_New(self, object);
}

/* A recorder has the name, documentation and signature of its Python function. */
static PyObject *recorder_getattr(PyObject *self, PyObject *name) {
    if (PyUnicode_CompareWithASCIIString(name, "__class__") == 0 || PyUnicode_CompareWithASCIIString(name, "__reduce_ex__") == 0 ||
        PyUnicode_CompareWithASCIIString(name, "__reduce__") == 0 || PyUnicode_CompareWithASCIIString(name, "__wrapped__") == 0 ||
        PyUnicode_CompareWithASCIIString(name, "__get__") == 0)
        return PyObject_GenericGetAttr(self, name);
    return PyObject_GetAttr(((Recorder *)self)->python, name);
}

static PyObject *recorder_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyObject_GetAttrString(((Recorder *)self)->python, "__qualname__"); /* found by name, as functions are */
}

static PyObject *recorder_repr(PyObject *self) { return PyObject_Repr(((Recorder *)self)->python); }

static PyMethodDef recorder_methods[] = {{"__reduce__", recorder_reduce, METH_NOARGS, NULL}, {NULL}};

static PyMemberDef recorder_members[] = {{"__wrapped__", T_OBJECT_EX, offsetof(Recorder, python), READONLY, NULL}, {NULL}};

PyTypeObject RecorderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "spiraltorch.fast._fast.Recorder",
    .tp_basicsize = sizeof(Recorder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_new = recorder_new,
    .tp_dealloc = recorder_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Recorder, vectorcall),
    .tp_descr_get = recorder_get,
    .tp_getattro = recorder_getattr,
    .tp_repr = recorder_repr,
    .tp_methods = recorder_methods,
    .tp_members = recorder_members,
};
