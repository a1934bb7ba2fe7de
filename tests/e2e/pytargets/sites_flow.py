# SPDX-License-Identifier: GPL-2.0-or-later
"""
Sites of sites.py: generators, coroutines, threads, depth, and Python called back by C.
"""
import asyncio
import ctypes
import functools
import gc
import itertools
import json
import operator
import os
import pickle
import re
import signal
import sys
import threading

from sites_plain import Deleted, Methods, function, outer_function
from truth import QUIET, S, both, keep

MISSING = {}
try:
    import sqlite3
except ImportError as e:
    sqlite3 = None
    MISSING["sqlite3"] = str(e)


# --- generators ---

def generator(s):
    yield 0
    keep(bytearray(s))
    yield 1


def by_next(s):
    g = generator(s)
    next(g)
    next(g)


def by_for(s):
    for _ in generator(s):
        pass


def delegating(s):
    yield from generator(s)


def delegating_twice(s):
    x = yield from delegating(s)
    return x


def by_yield_from(s):
    for _ in delegating_twice(s):
        pass


def receiving():
    while True:
        s = yield
        keep(bytearray(s))


def by_send(s):
    g = receiving()
    g.send(None)
    g.send(s)


def catching(s):
    try:
        yield
    except KeyError:
        keep(bytearray(s))
        yield
    finally:
        pass


def by_throw(s):
    g = catching(s)
    next(g)
    g.throw(KeyError("thrown"))


def closing(s):
    try:
        yield
    finally:
        keep(bytearray(s))


def by_close(s):
    g = closing(s)
    next(g)
    g.close()


def by_collection(s):
    g = closing(s)
    next(g)
    del g


def generators():
    both("generator, next", by_next, native=[0])
    both("generator, for", by_for)
    both("generator, list()", lambda s: list(generator(s)), native=[0])
    both("generator, unpacked", lambda s: [*generator(s)], native=[0])
    both("yield from", by_yield_from)
    both("generator, send", by_send, native=[0])
    both("generator, throw", by_throw, native=[0])
    both("generator, close", by_close, native=[0])
    both("generator, freed", by_collection, native=[0])
    both("generator, chain", lambda s: list(itertools.chain(generator(s))), native=[0])
    suspended = [generator(S("generator, resumed after others")) for _ in range(3)]
    for g in suspended:
        next(g)
    for g in reversed(suspended):
        next(g)


# --- async ---

async def leaf(s):
    keep(bytearray(s))


async def awaiting(s):
    await leaf(s)


async def after_sleep(s):
    await asyncio.sleep(0)
    keep(bytearray(s))


async def awaiting_after_sleep(s):
    await after_sleep(s)


async def async_generator(s):
    yield 1
    await asyncio.sleep(0)
    keep(bytearray(s))
    yield 2


async def async_for(s):
    async for _ in async_generator(s):
        pass


async def async_comprehension(s):
    return [keep(bytearray(s)) async for x in async_generator(QUIET) if x == 2]


class AsyncContext:
    def __init__(self, s):
        self.s = s

    async def __aenter__(self):
        keep(bytearray(self.s))

    async def __aexit__(self, *_):
        pass


async def async_with(s):
    async with AsyncContext(s):
        pass


async def in_executor(s):
    await asyncio.get_running_loop().run_in_executor(None, function, s)


async def called_soon(s):
    asyncio.get_running_loop().call_soon(function, s)
    await asyncio.sleep(0)


async def all_async():
    for f in (leaf, awaiting, after_sleep, awaiting_after_sleep, async_for, async_comprehension, async_with, in_executor, called_soon):
        await f(S("async, " + f.__name__))
        await asyncio.gather(*[f(S("async task, " + f.__name__)) for _ in range(3)])
        for _ in range(60):
            await f(QUIET)
        await f(S("async, hot, " + f.__name__))


def coroutines():
    asyncio.run(all_async())


# --- threads: each with functions of its own ---

def in_thread_one(s):
    keep(bytearray(s))


def in_thread_two(s):
    keep([keep(bytearray(x)) for x in (s,)])


def in_thread_three(s):
    both_in_thread(s)


def both_in_thread(s):
    function(s)


class OwnThread(threading.Thread):
    def __init__(self, s):
        super().__init__()
        self.s = s

    def run(self):
        keep(bytearray(self.s))


def threads():
    found = [threading.Thread(target=f, args=(S("thread, " + f.__name__),)) for f in (in_thread_one, in_thread_two, in_thread_three)]
    found += [threading.Thread(target=both, args=("thread, both", outer_function)), OwnThread(S("thread, run()"))]
    for t in found:
        t.start()
    for t in found:
        t.join()


# --- depth ---

def recurse(s, depth):
    if depth == 0:
        keep(bytearray(s))
    else:
        recurse(s, depth - 1)


def even(s, depth):
    if depth == 0:
        return keep(bytearray(s))
    return odd(s, depth - 1)


def odd(s, depth):
    if depth == 0:
        return keep(bytearray(s))

    return even(s, depth - 1)


def through_sorted(s, depth):
    if depth == 0:
        keep(bytearray(s))
        return 0
    sorted([depth - 1], key=lambda d: through_sorted(s, d))
    return 0


class Chained:
    def __init__(self, s, depth):
        self.next = Chained(s, depth - 1) if depth else keep(bytearray(s))


def depth():
    sys.setrecursionlimit(3000)
    for n in (30, 90):
        both("recursion, %d deep" % n, lambda s, n=n: recurse(s, n), depth=n)
    both("recursion of two, 40 deep", lambda s: even(s, 40), depth=40)
    both("recursion through sorted, 8 deep", lambda s: through_sorted(s, 8), native=[0, 1, 2, 3, 4, 5, 6, 7][1::2], depth=16)
    both("recursion of __init__, 30 deep", lambda s: Chained(s, 30), depth=30)
    recurse(S("recursion, 500 deep", depth=500), 500)
    even(S("recursion of two, 500 deep", depth=500), 500)
    recurse(S("recursion, 500 deep, again", depth=500), 500)


# --- C code that calls back ---

def key(s):
    keep(bytearray(s))
    return 1


def pair(_, s):
    keep(bytearray(s))
    return 1


def compare(a, b):
    keep(bytearray(compare.s))
    return 0


QSORT_TYPE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))


def by_qsort(s):
    def qsort_compare(a, b):
        keep(bytearray(s))
        return 0
    numbers = (ctypes.c_int * 2)(1, 2)
    ctypes.CDLL(None).qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), QSORT_TYPE(qsort_compare))


def by_bsearch_pythonapi(s):
    ctypes.pythonapi.PyObject_CallFunctionObjArgs.restype = ctypes.py_object
    ctypes.pythonapi.PyObject_CallFunctionObjArgs(ctypes.py_object(key), ctypes.py_object(s), None)


def substitute(s):
    return re.sub("b", lambda m: str(keep(bytearray(s))), "abc")


def by_json(s):
    json.dumps([s], default=lambda x: str(keep(bytearray(x))))


class Reduced:
    def __init__(self, s=QUIET):
        self.s = s

    def __reduce__(self):
        keep(bytearray(self.s))
        return Reduced, ()


def by_signal(s):
    def on_signal(_number, _frame):
        keep(bytearray(s))
    old = signal.signal(signal.SIGUSR1, on_signal)
    os.kill(os.getpid(), signal.SIGUSR1)
    x = 0
    while x < 1000:
        x += 1
    signal.signal(signal.SIGUSR1, old)


def by_profile(s):
    def profiler(_frame, event, _arg):
        if event == "call":
            sys.setprofile(None)
            keep(bytearray(s))
    sys.setprofile(profiler)
    function(QUIET)


def by_gc(s):
    def on_collection(phase, _info):
        if phase == "start":
            keep(bytearray(s))
    gc.callbacks.append(on_collection)
    gc.collect(0)
    gc.callbacks.remove(on_collection)


def by_cycle(s):
    a = Deleted(s)
    a.myself = a
    del a
    gc.collect()


def by_sqlite(s):
    db = sqlite3.connect(":memory:")
    db.create_function("f", 1, lambda x: keep(bytearray(s)))
    db.execute("select f(1)").fetchall()
    db.close()


def callbacks():
    both("sorted(key=)", lambda s: sorted([s], key=key), native=[0])
    both("list.sort(key=lambda)", lambda s: [s].sort(key=lambda x: keep(bytearray(x))), native=[0])
    both("max(key=)", lambda s: max([s], key=key), native=[0])
    both("list(map())", lambda s: list(map(key, [s])), native=[0])
    both("list(filter())", lambda s: list(filter(key, [s])), native=[0])
    both("for over map()", lambda s: [x for x in map(key, [s])], native=[0])
    both("reduce", lambda s: functools.reduce(pair, [0, s]), native=[0])
    both("starmap", lambda s: list(itertools.starmap(pair, [(0, s)])), native=[0])
    both("re.sub", substitute, native=[0])
    both("qsort by ctypes", by_qsort, native=[0])
    both("a call through ctypes.pythonapi", by_bsearch_pythonapi, native=[0])
    both("json.dumps(default=)", by_json)
    both("__reduce__ by pickle", lambda s: pickle.dumps(Reduced(s)), native=[0])
    both("methodcaller", lambda s: operator.methodcaller("static_method", s)(Methods), native=[0])
    both("getattr()", lambda s: getattr(Methods(s), "value"), native=[0])
    both("dict.setdefault hash", lambda s: {}.setdefault(Methods(s)), native=[0])
    both("handler of a signal", by_signal)
    both("profile function", by_profile)
    both("callback of the collector", by_gc, native=[0])
    by_cycle(S("__del__ by the collector", native=[0]))
    if sqlite3:
        both("function of sqlite", by_sqlite, native=[0])
