"""Sorting and selection: argsort, merge, top-k, the k-th element, binary search.

In: contiguous rows.  Out: positions (int64) inside the row; values are gathered at them, which is also how they
differentiate.  Elements are compared as unsigned keys that have the order of the elements: nan is the largest and
equals itself, -0 equals 0.  Keys of up to 32 bits are packed with the position into one 64-bit word, so that equal
elements stay in order; wider keys have a second plane for positions.

A row is sorted digit by digit from the lowest (radix sort), ping-pong in the thread's scratch memory.  Few long rows
are sorted in chunks, which ``sorting.merge`` then merges pairwise, many tasks to a merge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .language import Type, i64, stored, u32, u64, view
from .routine import routine

SMALL = 40  # rows up to this long are sorted by insertion
LOW = (1 << 32) - 1
PIECE = 1 << 14  # elements that one task merges
BLOCK = 64  # elements that top-k compares with its bound at once


def key_of(name: str, descending: bool) -> Any:
    """The function from an element's bits to its key, for the loops."""
    t = stored(name)
    width, real = t.width, name[0] in "bf" and name != "bool"
    u = Type("u", width)
    top = 1 << (width - 1)
    infinity = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF << 52}.get(name, 0)
    signed = t.kind == "i"
    flip = (1 << width) - 1 if descending else 0
    full = (1 << width) - 1
    down = Type("i", width)

    def key(word):  # type: ignore[no-untyped-def]
        if real:
            sign = u(down(word) >> (width - 1))
            plain = word ^ (sign | top)
            zero = top if word == u(top) else plain
            ordered = full if (word & (top - 1)) > u(infinity) else zero
        else:
            ordered = word ^ top if signed else word
        return ordered ^ flip if descending else ordered

    return key


def unsigned(name: str) -> Type:
    """The type as which a key is read."""
    return Type("u", stored(name).width)


def keys(x: np.ndarray, descending: bool) -> np.ndarray:
    """An array whose ascending order is the wanted one (its definition on NumPy arrays, by ranks)."""
    wide = x.astype(np.float64) if x.dtype.kind not in "biuf" or x.dtype.itemsize == 2 and x.dtype.kind == "f" else x
    ranks = np.unique(wide.reshape(-1), return_inverse=True)[1].reshape(x.shape)
    return -ranks if descending else ranks


# -- argsort ------------------------------------------------------------------------------------------


def _rows(k: Any, ints: Any) -> tuple[int, int]:
    rows, n, chunk = ints[:3]
    return rows * -(-n // chunk), max(1, 4096 // max(1, chunk))


def chunk_of(rows: int, n: int, width: int) -> int:
    """How much of a row is sorted at once: all of it, unless rows are few and long."""
    limit = 1 << 15 if rows < 8 else 1 << 20
    return n if n <= limit else 1 << 15


def _argsort_sizes(node: Any) -> list[int]:
    x = node.src[0]
    n = x.shape[-1]
    rows = x.size // n
    return [rows, n, chunk_of(rows, n, x.dtype.bits)]


def _argsort(k: Any) -> Any:
    name = k.params[0].dtype.name
    descending, packed = k.static
    key = key_of(name, descending)
    u = unsigned(name)
    wide = u.width == 64
    types = [u, u64 if packed else i64]

    def argsort(x, out, rows, n, chunk, lo, hi, scratch):  # type: ignore[no-untyped-def]
        words = view(scratch, 0, u64)
        places = view(scratch, 16 * chunk, u32)  # positions beside keys that fill a word
        counts = view(scratch, 24 * chunk, i64)
        chunks = (n + chunk - 1) // chunk
        digit = 11 if chunk >= 4096 else 8
        passes = (u.width + digit - 1) // digit
        size = i64(1) << digit
        mask = u64(size - 1)
        plane = rows * n
        for task in range(lo, hi):
            start = (task % chunks) * chunk
            length = min(chunk, n - start)
            base = (task // chunks) * n + start
            here = i64(0)
            there = length
            if length <= SMALL:
                for i in range(length):
                    if wide:
                        w = u64(key(x[base + i]))
                    else:
                        w = u64(key(x[base + i])) << 32 | u64(i)
                    j = i
                    while j > 0 and words[j - 1] > w:
                        words[j] = words[j - 1]
                        if wide:
                            places[j] = places[j - 1]
                        j -= 1
                    words[j] = w
                    if wide:
                        places[j] = u32(i)
            else:
                for d in range(passes * size):
                    counts[d] = 0
                for i in range(length):
                    w = u64(key(x[base + i]))
                    if wide:
                        words[i] = w
                        places[i] = u32(i)
                    else:
                        words[i] = w << 32 | u64(i)
                    for p in range(passes):
                        d = i64((w >> u64(p * digit)) & mask) + p * size
                        counts[d] = counts[d] + 1
                for p in range(passes):
                    table = p * size
                    shift = u64(p * digit + (0 if wide else 32))
                    if counts[table + i64((words[here] >> shift) & mask)] < length:
                        total = i64(0)
                        for d in range(size):
                            c = counts[table + d]
                            counts[table + d] = total
                            total += c
                        for i in range(length):
                            w = words[here + i]
                            d = table + i64((w >> shift) & mask)
                            to = counts[d]
                            counts[d] = to + 1
                            words[there + to] = w
                            if wide:
                                places[there + to] = places[here + i]
                        swap = here
                        here = there
                        there = swap
            for i in range(length):
                if packed:
                    if wide:
                        out[base + i] = words[here + i]
                        out[plane + base + i] = u64(places[here + i]) + u64(start)
                    else:
                        out[base + i] = words[here + i] + u64(start)
                else:
                    if wide:
                        out[base + i] = i64(places[here + i])
                    else:
                        out[base + i] = i64(words[here + i] & LOW)

    return argsort, types


@routine("sorting.argsort", sizes=_argsort_sizes, loops=_argsort, tasks=_rows)
def argsort(static: Any, x: np.ndarray) -> np.ndarray:
    """Positions that sort the last axis, stable; or (packed) words with key and position, chunk by chunk."""
    descending, packed = static
    if not packed:
        return np.argsort(keys(x, descending), -1, kind="stable")
    n = x.shape[-1]
    chunk = chunk_of(x.size // n, n, 8 * x.dtype.itemsize)
    key = _numpy_keys(x, descending).reshape(-1, n)
    starts = range(0, n, chunk)
    order = np.concatenate([np.argsort(key[:, s : s + chunk], -1, kind="stable") + s for s in starts], -1)
    ordered = np.take_along_axis(key, order, -1)
    if x.dtype.itemsize == 8:
        return np.stack([ordered, order.astype(np.uint64)])
    return ((ordered << np.uint64(32)) | order.astype(np.uint64))[None]


def _numpy_keys(x: np.ndarray, descending: bool) -> np.ndarray:
    """The loops' keys as uint64."""
    name = x.dtype.name
    word = x.view(unsigned(name).numpy)
    width = unsigned(name).width
    full, top = (1 << width) - 1, 1 << (width - 1)
    wide = word.astype(np.uint64)
    if x.dtype.kind in "bu":
        out = wide
    elif x.dtype.kind == "i":
        out = wide ^ np.uint64(top)
    else:
        negative = (wide & np.uint64(top)) != 0
        out = np.where(negative, ~wide & np.uint64(full), wide | np.uint64(top))
        out = np.where(wide == np.uint64(top), np.uint64(top), out)
        out = np.where(np.isnan(x.astype(np.float64)), np.uint64(full), out)
    return out ^ np.uint64(full) if descending else out


# -- merge --------------------------------------------------------------------------------------------


def _merge_sizes(node: Any) -> list[int]:
    planes, rows, n = node.src[0].shape
    return [rows, n, node.arg[1][0]]


def _merge_tasks(k: Any, ints: Any) -> tuple[int, int]:
    return ints[0] * -(-ints[1] // PIECE), 1


def _merge(k: Any) -> Any:
    wide, last = k.static

    def merge(words, out, rows, n, width, lo, hi, scratch):  # type: ignore[no-untyped-def]
        pieces = (n + PIECE - 1) // PIECE
        plane = rows * n
        for task in range(lo, hi):
            base = (task // pieces) * n
            at = (task % pieces) * PIECE
            end = min(at + PIECE, n)
            while at < end:
                # Here begins or goes on the pair of runs [first, middle) and [middle, stop).
                first = at // (2 * width) * (2 * width)
                middle = min(first + width, n)
                stop = min(first + 2 * width, n)
                done = at - first
                low = max(i64(0), done - (stop - middle))
                high = min(done, middle - first)
                while low < high:  # how many of the first ``done`` come from the left run
                    half = (low + high) // 2
                    if words[base + first + half] <= words[base + middle + done - half - 1]:
                        low = half + 1
                    else:
                        high = half
                a = first + low
                b = middle + done - low
                until = min(end, stop)
                while at < until:
                    left = a < middle and (b >= stop or words[base + a] <= words[base + b])
                    source = base + (a if left else b)
                    if last:
                        out[base + at] = i64(words[plane + source]) if wide else i64(words[source] & LOW)
                    else:
                        out[base + at] = words[source]
                        if wide:
                            out[plane + base + at] = words[plane + source]
                    a += i64(left)
                    b += i64(not left)
                    at += 1

    return merge, [u64, i64 if last else u64]


@routine(
    "sorting.merge", sizes=_merge_sizes, loops=_merge, tasks=_merge_tasks, key=lambda n: (n.src[0].shape[0] == 2, n.arg[1][1])
)
def merge(static: Any, words: np.ndarray) -> np.ndarray:
    """Sorted runs of ``width`` merged in pairs; positions alone after the last merge."""
    width, last = static
    planes, rows, n = words.shape
    out = words.copy()
    for start in range(0, n, 2 * width):
        part = words[..., start : start + 2 * width]
        order = np.argsort(part[0], -1, kind="stable")
        out[..., start : start + 2 * width] = np.take_along_axis(part, np.broadcast_to(order, part.shape), -1)
    if not last:
        return out
    return (out[1] if planes == 2 else out[0] & np.uint64(LOW)).astype(np.int64)


# -- top-k --------------------------------------------------------------------------------------------


def _topk_sizes(node: Any) -> list[int]:
    x = node.src[0]
    return [x.size // x.shape[-1], x.shape[-1], node.shape[-1]]


def _topk_tasks(k: Any, ints: Any) -> tuple[int, int]:
    return ints[0], max(1, 4096 // ints[1])


def _topk(k: Any) -> Any:
    name = k.params[0].dtype.name
    (descending,) = k.static
    key = key_of(name, descending)
    u = unsigned(name)
    none = (1 << u.width) - 1

    def before(a, p, b, q):  # type: ignore[no-untyped-def]
        return a < b or (a == b and p < q)

    def topk(x, out, rows, n, k, lo, hi, scratch):  # type: ignore[no-untyped-def]
        best = view(scratch, 0, u)
        room = 2 * k + BLOCK
        places = view(scratch, 8 * (room + 8), i64)
        for row in range(lo, hi):
            base = row * n
            bound = u(none)
            held = i64(0)
            full = False
            for start in range(0, n, BLOCK):
                length = min(n - start, i64(BLOCK))
                some = u32(0)
                if length == BLOCK:
                    for j in range(BLOCK):
                        c = key(x[base + start + j])
                        some |= u32(c < bound)
                else:
                    some = u32(1)
                if some > 0 or not full:
                    for j in range(length):
                        c = key(x[base + start + j])
                        if not full or c < bound:
                            best[held] = c
                            places[held] = start + j
                            held += 1
                    if held >= k + BLOCK or (not full and held >= k):
                        # The k first of what is held, by quickselect; the rest goes.
                        left = i64(0)
                        right = held - 1
                        while left < right:
                            middle = (left + right) // 2
                            pivot = best[middle]
                            place = places[middle]
                            a = left
                            b = right
                            while a <= b:
                                while before(best[a], places[a], pivot, place):
                                    a += 1
                                while before(pivot, place, best[b], places[b]):
                                    b -= 1
                                if a <= b:
                                    swap = best[a]
                                    best[a] = best[b]
                                    best[b] = swap
                                    moved = places[a]
                                    places[a] = places[b]
                                    places[b] = moved
                                    a += 1
                                    b -= 1
                            if k - 1 <= b:
                                right = b
                            elif k - 1 >= a:
                                left = a
                            else:
                                left = right
                        bound = best[k - 1]
                        held = k
                        full = True
            # Shell sort of what is left (Ciura's gaps for the end, then doubling).
            gap = i64(1)
            while gap * 9 // 4 < held:
                gap = gap * 9 // 4 + 1
            while gap > 0:
                for i in range(gap, held):
                    c = best[i]
                    place = places[i]
                    j = i
                    while j >= gap and before(c, place, best[j - gap], places[j - gap]):
                        best[j] = best[j - gap]
                        places[j] = places[j - gap]
                        j -= gap
                    best[j] = c
                    places[j] = place
                gap = gap * 4 // 9
            for i in range(k):
                out[row * k + i] = places[i]

    return topk, [u, i64]


@routine("sorting.topk", sizes=_topk_sizes, loops=_topk, tasks=_topk_tasks, key=lambda n: (n.arg[1][0],))
def topk(static: Any, x: np.ndarray) -> np.ndarray:
    """Positions of the k first along the last axis in order, equal ones by position."""
    descending, k = static
    return np.argsort(keys(x, descending), -1, kind="stable")[..., :k]


# -- the k-th element ---------------------------------------------------------------------------------


def _kth_sizes(node: Any) -> list[int]:
    x = node.src[0]
    return [x.size // x.shape[-1], x.shape[-1]]


def _kth(k: Any) -> Any:
    name = k.params[0].dtype.name
    key = key_of(name, False)
    u = unsigned(name)

    def kth(x, ranks, out, rows, n, lo, hi, scratch):  # type: ignore[no-untyped-def]
        counts = view(scratch, 0, i64)
        for row in range(lo, hi):
            base = row * n
            rank = ranks[row]
            found = u64(0)  # the digits known so far, of the key that has this rank
            known = u64(0)  # a mask of them
            for p in range(u.width // 8):
                shift = u64(u.width - 8 * (p + 1))
                for d in range(256):
                    counts[d] = 0
                for i in range(n):
                    c = u64(key(x[base + i]))
                    if (c & known) == found:
                        d = i64((c >> shift) & 255)
                        counts[d] = counts[d] + 1
                d = i64(0)
                while rank >= counts[d] and d < 255:
                    rank -= counts[d]
                    d += 1
                found |= u64(d) << shift
                known |= u64(255) << shift
            for i in range(n):
                if u64(key(x[base + i])) == found:
                    if rank == 0:
                        out[row] = i
                    rank -= 1

    return kth, [u, i64, i64]


@routine("sorting.kth", sizes=_kth_sizes, loops=_kth, tasks=lambda k, ints: (ints[0], max(1, 4096 // ints[1])))
def kth(static: Any, x: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Position of the element that a stable sort of the last axis would put at ``ranks`` (from 0)."""
    order = np.argsort(keys(x, False), -1, kind="stable")
    return np.take_along_axis(order, ranks[..., None], -1)[..., 0]


# -- binary search ------------------------------------------------------------------------------------

SEARCHES = 2048  # values that one task looks up


def _search_sizes(node: Any) -> list[int]:
    edges, values = node.src[:2]
    n = edges.shape[-1]
    rows = edges.size // n if n else 1
    return [rows, n, values.size // rows]


def _search_tasks(k: Any, ints: Any) -> tuple[int, int]:
    return ints[0] * -(-ints[2] // SEARCHES), 1


def _search(k: Any) -> Any:
    right, sorter = k.static
    t = stored(k.params[0].dtype.name)

    def find(edges, order, values, out, n, m, lo, hi):  # type: ignore[no-untyped-def]
        blocks = (m + SEARCHES - 1) // SEARCHES
        for task in range(lo, hi):
            row = task // blocks
            first = (task % blocks) * SEARCHES
            for i in range(first, min(first + SEARCHES, m)):
                v = values[row * m + i]
                a = i64(0)
                b = n
                while a < b:
                    half = a + (b - a) // 2
                    e = edges[row * n + (order[row * n + half] if sorter else half)]
                    inside = e > v if right else e >= v
                    a = a if inside else half + 1
                    b = half if inside else b
                out[row * m + i] = a

    if sorter:

        def sorted_search(edges, values, order, out, rows, n, m, lo, hi, scratch):  # type: ignore[no-untyped-def]
            find(edges, order, values, out, n, m, lo, hi)

        return sorted_search, [t, t, i64, i64]

    def search(edges, values, out, rows, n, m, lo, hi, scratch):  # type: ignore[no-untyped-def]
        find(edges, edges, values, out, n, m, lo, hi)

    return search, [t, t, i64]


@routine("sorting.search", sizes=_search_sizes, loops=_search, tasks=_search_tasks)
def search(static: Any, edges: np.ndarray, values: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """How many elements of each sorted row are less than (``right``: or equal to) each of its values."""
    right, _ = static
    rows = edges.reshape(-1, edges.shape[-1])
    if order is not None:
        rows = np.take_along_axis(rows, order.reshape(rows.shape), -1)
    wanted = values.reshape(len(rows), -1)
    found = [np.searchsorted(r, v, "right" if right else "left") for r, v in zip(rows, wanted)]
    return np.reshape(found, values.shape).astype(np.int64)


__all__ = ["argsort", "chunk_of", "key_of", "keys", "kth", "merge", "search", "topk"]
