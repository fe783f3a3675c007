/* Programs.  In: buffers and numbers.  Out: buffers.

A Runner does what Program.run and Plan.run do: memory for the results, the words of this run written to a copy of the plan's
table that nobody else is using, and the one native call. */

#include "fast.h"

typedef long long (*RunPlan)(void *plan, long long first, long long count, void *pool, void *scratch, void *status);

typedef struct { Py_ssize_t position, source; long long offset; } Pointer;
typedef struct { Py_ssize_t position, number; PyObject *dtype; } Number;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *plan;
    RunPlan run_plan;
    Pointer *pointers;
    Number *numbers;
    Py_ssize_t *out_bytes, *taken; /* taken: the input whose memory a result is written to, or -1 */
    Py_ssize_t pointer_count, number_count, in_count, out_count, launches, instructions, arena, small_arena;
    int parallel, scratch;
} Runner;

/* -- memory: runtime.buffers, whose lock is held ------------------------------------------------------- */

static int count_up(PyObject *name, Py_ssize_t by) {
    PyObject *old = PyObject_GetAttr(given.memory, name);
    PyObject *sum = old == NULL ? NULL : PyLong_FromSsize_t(PyLong_AsSsize_t(old) + by);
    int done = sum == NULL ? -1 : PyObject_SetAttr(given.memory, name, sum);
    Py_XDECREF(old);
    Py_XDECREF(sum);
    return done;
}

/* buffers.size_class */
static Py_ssize_t size_class(Py_ssize_t nbytes) {
    if (nbytes <= 512)
        return nbytes <= 0 ? 64 : (nbytes + 63) & -64;
    int length = 64 - __builtin_clzll((unsigned long long)nbytes - 1);
    Py_ssize_t step = (Py_ssize_t)1 << (length - 4);
    return (nbytes + step - 1) & -step;
}

static PyObject *allocate(PyObject *blocks_by_size, Py_ssize_t nbytes) {
    Py_ssize_t size = size_class(nbytes);
    PyObject *key = PyLong_FromSsize_t(size), *bytes = PyLong_FromSsize_t(nbytes), *block = NULL, *b = NULL;
    if (key == NULL || bytes == NULL)
        goto end;
    PyObject *blocks = PyDict_GetItemWithError(blocks_by_size, key);
    Py_ssize_t last = blocks == NULL ? 0 : PyList_GET_SIZE(blocks);
    if (last) {
        block = Py_NewRef(PyList_GET_ITEM(blocks, last - 1));
        if (PyList_SetSlice(blocks, last - 1, last, NULL) < 0 || count_up(words.cached, -size) < 0 || count_up(words.allocated, size) < 0)
            goto end;
    } else if ((block = PyObject_CallMethodOneArg(given.memory, words.take, key)) == NULL)
        goto end;
    if ((b = fresh(given.Buffer)) == NULL)
        goto end;
    AT(b, buffer_at.ptr) = Py_NewRef(PyTuple_GET_ITEM(block, 0));
    AT(b, buffer_at.nbytes) = Py_NewRef(bytes);
    AT(b, buffer_at.device) = Py_NewRef(given.CPU);
    AT(b, buffer_at.owner) = Py_NewRef(Py_None);
    AT(b, buffer_at.cell) = Py_NewRef(Py_None);
    AT(b, buffer_at.size) = Py_NewRef(key);
    AT(b, buffer_at.export) = Py_NewRef(Py_None);
    AT(b, buffer_at.block) = Py_NewRef(block);
end:
    Py_XDECREF(key);
    Py_XDECREF(bytes);
    Py_XDECREF(block);
    return b;
}

/* Buffer.__del__: the block waits in the pool for the next request. */
PyObject *give(PyObject *buffer, PyObject *Py_UNUSED(ignored)) {
    PyObject *block = AT(buffer, buffer_at.block), *size = AT(buffer, buffer_at.size);
    if (block == NULL || block == Py_None || size == NULL)
        Py_RETURN_NONE;
    PyObject *lock = PyObject_GetAttr(given.memory, words.lock), *blocks = PyObject_GetAttr(given.memory, words.free);
    PyObject *cached = PyObject_GetAttr(given.memory, words.cached), *limit = PyObject_GetAttr(given.memory, words.cache_limit);
    PyObject *held = lock && blocks && cached && limit ? PyObject_CallMethodNoArgs(lock, words.acquire) : NULL, *result = NULL;
    if (held != NULL) {
        Py_ssize_t bytes = PyLong_AsSsize_t(size);
        PyObject *list = PyDict_GetItemWithError(blocks, size);
        if (list == NULL || PyLong_AsSsize_t(cached) + bytes > PyLong_AsSsize_t(limit)) /* it makes the list, or room */
            result = PyObject_CallMethodObjArgs(given.memory, words.give, size, block, NULL);
        else if (count_up(words.allocated, -bytes) == 0 && count_up(words.cached, bytes) == 0 && PyList_Append(list, block) == 0)
            result = Py_NewRef(Py_None);
        Py_XDECREF(PyObject_CallMethodNoArgs(lock, words.release));
    }
    Py_XDECREF(held);
    Py_XDECREF(lock);
    Py_XDECREF(blocks);
    Py_XDECREF(cached);
    Py_XDECREF(limit);
    return result;
}

/* Memory for the results that have none and take over nobody's, and the arena: new references; -1 with an error. */
static int allocate_all(Runner *self, PyObject *inputs, PyObject *outs, PyObject **arena) {
    PyObject *lock = PyObject_GetAttr(given.memory, words.lock), *blocks = PyObject_GetAttr(given.memory, words.free);
    PyObject *held = lock == NULL || blocks == NULL ? NULL : PyObject_CallMethodNoArgs(lock, words.acquire);
    int done = held == NULL ? -1 : 0;
    for (Py_ssize_t j = 0; done == 0 && j < self->out_count; j++) {
        PyObject *given_ = PyList_GET_ITEM(outs, j), *b;
        if (self->taken[j] >= 0)
            b = Py_NewRef(PySequence_Fast_GET_ITEM(inputs, self->taken[j]));
        else if (given_ != Py_None)
            continue;
        else
            b = allocate(blocks, self->out_bytes[j]);
        done = b == NULL ? -1 : PyList_SetItem(outs, j, b);
    }
    if (done == 0 && self->arena) {
        Py_ssize_t last = PyList_GET_SIZE(given.small_arenas);
        if (self->arena > self->small_arena)
            *arena = allocate(blocks, self->arena);
        else if (last) {
            *arena = Py_NewRef(PyList_GET_ITEM(given.small_arenas, last - 1));
            done = PyList_SetSlice(given.small_arenas, last - 1, last, NULL);
        } else
            *arena = allocate(blocks, self->small_arena);
        done = *arena == NULL ? -1 : done;
    }
    if (held != NULL) { /* the most that was in use, and the lock given back whatever happened */
        PyObject *type, *value, *trace, *now, *most;
        PyErr_Fetch(&type, &value, &trace);
        now = PyObject_GetAttr(given.memory, words.allocated);
        most = PyObject_GetAttr(given.memory, words.peak);
        if (now && most && PyObject_RichCompareBool(now, most, Py_GT) == 1)
            PyObject_SetAttr(given.memory, words.peak, now);
        Py_XDECREF(now);
        Py_XDECREF(most);
        Py_XDECREF(PyObject_CallMethodNoArgs(lock, words.release));
        PyErr_Restore(type, value, trace);
    }
    Py_XDECREF(held);
    Py_XDECREF(lock);
    Py_XDECREF(blocks);
    return done;
}

/* -- tables: runtime.plan_table ---------------------------------------------------------------------------- */

/* A copy of the plan's words that nobody is using, up to date: a new reference. */
static PyObject *take_table(Runner *self, PyObject *idle, long long **at) {
    Py_ssize_t last = PyList_GET_SIZE(idle);
    PyObject *table, *mine = NULL, *now = NULL, *address = NULL, *done = NULL;
    if (last) {
        table = Py_NewRef(PyList_GET_ITEM(idle, last - 1));
        if (PyList_SetSlice(idle, last - 1, last, NULL) < 0)
            goto failed;
    } else if ((table = PyObject_CallMethodNoArgs(self->plan, words.copy)) == NULL)
        return NULL;
    mine = PyObject_GetAttr(table, words.version);
    now = PyObject_GetAttr(self->plan, words.version_);
    address = PyObject_GetAttr(table, words.address);
    if (mine == NULL || now == NULL || address == NULL)
        goto failed;
    int same = mine == now ? 1 : PyObject_RichCompareBool(mine, now, Py_EQ);
    if (same < 0 || (!same && (done = PyObject_CallMethodOneArg(self->plan, words.refresh, table)) == NULL))
        goto failed;
    *at = (long long *)PyLong_AsVoidPtr(address);
    Py_DECREF(mine);
    Py_DECREF(now);
    Py_DECREF(address);
    Py_XDECREF(done);
    return table;
failed:
    Py_XDECREF(mine);
    Py_XDECREF(now);
    Py_XDECREF(address);
    Py_DECREF(table);
    return NULL;
}

/* The bits of a number, in the low bytes. */
static int number_word(PyObject *value, PyObject *dtype, long long *word) {
    if (PyFloat_CheckExact(value) && (dtype == given.float32 || dtype == given.float64)) {
        double d = PyFloat_AS_DOUBLE(value);
        float f = (float)d;
        *word = 0;
        if (dtype == given.float32)
            memcpy(word, &f, sizeof f);
        else
            memcpy(word, &d, sizeof d);
        return 0;
    }
    PyObject *found = PyObject_CallFunctionObjArgs(given.scalar_word, value, dtype, NULL);
    *word = found == NULL ? 0 : PyLong_AsLongLong(found);
    Py_XDECREF(found);
    return PyErr_Occurred() ? -1 : 0;
}

/* The address of a buffer.  AttributeError for what is none: a value that is pending in another thread. */
static int address_of(PyObject *buffer, long long *at) {
    if (!Py_IS_TYPE(buffer, given.Buffer)) {
        PyErr_Format(PyExc_AttributeError, "%R is no buffer", buffer);
        return -1;
    }
    *at = PyLong_AsLongLong(AT(buffer, buffer_at.ptr));
    return *at == -1 && PyErr_Occurred() ? -1 : 0;
}

static int write_words(Runner *self, long long *table, PyObject *inputs, PyObject *outs, PyObject *arena, PyObject *numbers) {
    long long few[32], *base = few;
    Py_ssize_t count = self->in_count + self->out_count + 1;
    int done = 0;
    if (count > 32 && (base = PyMem_Malloc(count * sizeof *base)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; done == 0 && i < self->in_count; i++)
        done = address_of(PySequence_Fast_GET_ITEM(inputs, i), &base[i]);
    for (Py_ssize_t j = 0; done == 0 && j < self->out_count; j++)
        done = address_of(PyList_GET_ITEM(outs, j), &base[self->in_count + j]);
    base[count - 1] = 0;
    if (done == 0 && arena != NULL)
        done = address_of(arena, &base[count - 1]);
    for (Py_ssize_t i = 0; done == 0 && i < self->pointer_count; i++)
        table[self->pointers[i].position] = base[self->pointers[i].source] + self->pointers[i].offset;
    for (Py_ssize_t i = 0; done == 0 && i < self->number_count; i++) {
        Number *n = &self->numbers[i];
        if (n->number >= PySequence_Fast_GET_SIZE(numbers)) {
            PyErr_SetString(PyExc_IndexError, "a program got too few numbers");
            done = -1;
        } else
            done = number_word(PySequence_Fast_GET_ITEM(numbers, n->number), n->dtype, &table[n->position]);
    }
    if (base != few)
        PyMem_Free(base);
    return done;
}

/* -- a run ---------------------------------------------------------------------------------------------------- */

static int is_sequence(PyObject *o, Py_ssize_t size) {
    return (PyList_Check(o) || PyTuple_Check(o)) && (size < 0 || PySequence_Fast_GET_SIZE(o) == size);
}

static int count_launches(long long done) {
    PyObject *old = PyDict_GetItemWithError(given.counters, words.launches);
    PyObject *sum = old == NULL ? NULL : PyLong_FromLongLong(PyLong_AsLongLong(old) + done);
    int failed = sum == NULL ? -1 : PyDict_SetItem(given.counters, words.launches, sum);
    Py_XDECREF(sum);
    return failed;
}

/* runner(inputs, numbers, outs or None): the results' buffers, or (launches done, status) when the program ended early. */
static PyObject *runner_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Runner *self = (Runner *)callable;
    if (PyVectorcall_NARGS(flags) != 3 || names != NULL || !is_sequence(args[0], self->in_count) || !is_sequence(args[1], -1) ||
        (args[2] != Py_None && !(PyList_Check(args[2]) && PyList_GET_SIZE(args[2]) == self->out_count)))
        return PyErr_Format(PyExc_TypeError, "a program takes lists of %zd buffers, of numbers, and of %zd results", self->in_count, self->out_count);
    PyObject *outs = args[2] == Py_None ? PyList_New(self->out_count) : Py_NewRef(args[2]);
    PyObject *arena = NULL, *idle = NULL, *table = NULL, *scratch = NULL, *result = NULL;
    long long *at = NULL, done = 0, status = 0;
    void *pool = NULL, *memory = NULL;
    if (outs == NULL)
        return NULL;
    if (args[2] == Py_None)
        for (Py_ssize_t j = 0; j < self->out_count; j++)
            PyList_SET_ITEM(outs, j, Py_NewRef(Py_None));
    if (allocate_all(self, args[0], outs, &arena) < 0 || (idle = PyObject_GetAttr((PyObject *)self->plan, words.idle)) == NULL ||
        (table = take_table(self, idle, &at)) == NULL)
        goto end;
    if (write_words(self, at, args[0], outs, arena, args[1]) < 0)
        goto end;
    if (self->parallel) {
        PyObject *address = PyObject_CallNoArgs(given.workers);
        pool = address == NULL ? NULL : PyLong_AsVoidPtr(address);
        Py_XDECREF(address);
        if (PyErr_Occurred())
            goto end;
    }
    if (self->scratch) {
        if ((scratch = PyObject_CallNoArgs(given.take_scratch)) == NULL)
            goto end;
        memory = PyLong_AsVoidPtr(PyTuple_GET_ITEM(scratch, 0));
    }
    Py_BEGIN_ALLOW_THREADS;
    done = self->run_plan(at + self->instructions, 0, self->launches, pool, memory, at);
    Py_END_ALLOW_THREADS;
    if (done < 0) {
        done = ~done;
        status = at[0];
        at[0] = 0;
    }
    if ((scratch != NULL && PyList_Append(given.idle_scratch, scratch) < 0) || PyList_Append(idle, table) < 0)
        goto end;
    if (arena != NULL && self->arena <= self->small_arena && PyList_Append(given.small_arenas, arena) < 0)
        goto end;
    if (count_launches(done) < 0)
        goto end;
    result = status ? Py_BuildValue("(LL)", done, status) : Py_NewRef(outs);
end:
    Py_XDECREF(outs);
    Py_XDECREF(arena);
    Py_XDECREF(idle);
    Py_XDECREF(table);
    Py_XDECREF(scratch);
    return result;
}

static void runner_dealloc(PyObject *o) {
    Runner *self = (Runner *)o;
    for (Py_ssize_t i = 0; i < self->number_count; i++)
        Py_XDECREF(self->numbers[i].dtype);
    PyMem_Free(self->pointers);
    PyMem_Free(self->numbers);
    PyMem_Free(self->out_bytes);
    PyMem_Free(self->taken);
    Py_XDECREF(self->plan);
    Py_TYPE(o)->tp_free(o);
}

static Py_ssize_t item(PyObject *list, Py_ssize_t i) {
    PyObject *value = PySequence_GetItem(list, i);
    Py_ssize_t found = value == NULL ? -1 : PyNumber_AsSsize_t(value, PyExc_OverflowError);
    Py_XDECREF(value);
    return found;
}

static PyObject *runner_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"plan", "address", "instructions", "launches", "parallel", "scratch", "inputs", "positions", "sources",
                            "offsets", "number_positions", "number_order", "number_types", "out_bytes", "taken", "arena", "small_arena", NULL};
    PyObject *plan, *address, *positions, *sources, *offsets, *at, *order, *types, *bytes, *taken;
    Py_ssize_t instructions, launches, inputs, arena, small;
    int parallel, scratch;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOnnppnOOOOOOOOnn:Runner", names, &plan, &address, &instructions, &launches, &parallel,
                                     &scratch, &inputs, &positions, &sources, &offsets, &at, &order, &types, &bytes, &taken, &arena, &small))
        return NULL;
    Runner *self = (Runner *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = runner_call;
    self->plan = Py_NewRef(plan);
    self->run_plan = (RunPlan)PyLong_AsVoidPtr(address);
    self->instructions = instructions;
    self->launches = launches;
    self->parallel = parallel;
    self->scratch = scratch;
    self->in_count = inputs;
    self->arena = arena;
    self->small_arena = small;
    Py_ssize_t pointer_count = PySequence_Size(positions), number_count = PySequence_Size(at), out_count = PySequence_Size(bytes);
    self->pointers = PyMem_Calloc(pointer_count + 1, sizeof *self->pointers);
    self->numbers = PyMem_Calloc(number_count + 1, sizeof *self->numbers);
    self->out_bytes = PyMem_Calloc(out_count + 1, sizeof *self->out_bytes);
    self->taken = PyMem_Calloc(out_count + 1, sizeof *self->taken);
    if (!self->pointers || !self->numbers || !self->out_bytes || !self->taken)
        PyErr_NoMemory();
    for (; !PyErr_Occurred() && self->pointer_count < pointer_count; self->pointer_count++) {
        Py_ssize_t i = self->pointer_count;
        self->pointers[i] = (Pointer){item(positions, i), item(sources, i), item(offsets, i)};
    }
    for (; !PyErr_Occurred() && self->number_count < number_count; self->number_count++) {
        Py_ssize_t i = self->number_count, k = item(order, i);
        self->numbers[i] = (Number){item(at, i), k, PySequence_GetItem(types, k)};
    }
    for (; !PyErr_Occurred() && self->out_count < out_count; self->out_count++) {
        self->out_bytes[self->out_count] = item(bytes, self->out_count);
        self->taken[self->out_count] = item(taken, self->out_count);
    }
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

PyTypeObject RunnerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "spiraltorch.fast._fast.Runner",
    .tp_basicsize = sizeof(Runner),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = runner_new,
    .tp_dealloc = runner_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Runner, vectorcall),
};
