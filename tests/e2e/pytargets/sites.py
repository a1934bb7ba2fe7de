# SPDX-License-Identifier: GPL-2.0-or-later
"""
Allocations of known sizes at known lines, one or more for each way in which Python code comes to run. What each line asks of malloc is
recorded by the sizes themselves (truth.py).
"""
import asyncio
import contextlib
import ctypes
import functools
import gc
import importlib
import inspect
import itertools
import json
import operator
import os
import pickle
import re
import signal
import sys
import threading
import weakref

from truth import BYTES, EXACT, LIST, QUIET, STR, S, again, begin, both, finish, keep, note, noted

MISSING = {}
try:
    import sqlite3
except ImportError as e:
    sqlite3 = None
    MISSING["sqlite3"] = str(e)
FOLDER = begin()

# --- module level, and each kind of object ---

keep(bytearray(S("module level")))
keep(bytes(S("module level, bytes", BYTES)))
keep(b"x" * S("module level, repeated bytes", BYTES))
keep([None] * S("module level, list", LIST))
keep(ctypes.create_string_buffer(32)), keep((ctypes.c_char * note(S("module level, ctypes array", EXACT)))())


# --- functions ---

def function(s):
    keep(bytearray(s))


def outer_function(s):
    function(s)


def with_defaults(s, *args, option=None, **more):
    return keep(bytearray(s))


def keywords(s):
    with_defaults(s=s, option=1, other=2)


def starred(s):
    with_defaults(*[s, 1, 2], **{"option": 3, "other": 4})


def tail(s):
    x = 1
    if x:
        return keep(bytearray(s))
    return None


def plain_number(s):
    n = note(s); keep(bytearray(n))


def plain_bytes(s):
    n = note(s); keep(b"y" * n)


def plain_list(s):
    n = note(s); keep([0] * n)


def plain_text(s):
    a = "z" * (s.n - 1)
    note(s); keep(a + "z")


def two_on_one_line(s):
    a = bytearray(QUIET); keep(bytearray(s)); del a


def default_argument(s):
    def inner(x=keep(bytearray(s))):
        return x
    inner()


def in_loops(s):
    for i in range(3):
        while i == 2:
            keep(bytearray(s))
            break
    else:
        i = None


def string_buffer(s):
    keep(ctypes.create_string_buffer(noted(s, *CREATE_STRING_BUFFER)))


def create_string_buffer_frame():
    """What runs below create_string_buffer's caller."""
    lines, first = inspect.getsourcelines(ctypes.create_string_buffer)
    branch = next(i for i, line in enumerate(lines) if "isinstance(init, int)" in line)
    line = next(i for i, line in enumerate(lines) if i > branch and "= buftype()" in line)
    code = ctypes.create_string_buffer.__code__
    return [[code.co_name, code.co_filename, first + line]]


CREATE_STRING_BUFFER = create_string_buffer_frame()


def functions():
    both("function", function)
    both("function called by a function", outer_function)
    both("keyword arguments", keywords)
    both("starred arguments", starred)
    both("return statement", tail)
    both("plain number", plain_number)
    both("plain bytes", plain_bytes, kind=BYTES)
    both("plain list", plain_list, kind=LIST)
    both("plain text", plain_text, kind=STR)
    both("second statement of a line", two_on_one_line)
    both("default argument", default_argument)
    both("loops", in_loops)
    both("create_string_buffer", string_buffer, kind=EXACT)
    again("seven of one stack", outer_function, 7)


# --- classes ---

class Base:
    def __init__(self, s):
        keep(bytearray(s))


class Derived(Base):
    def __init__(self, s):
        self.before = 1
        super().__init__(s)


class Simple:
    def __init__(self, s):
        self.block = bytearray(s)
        keep(self.block)


class Newer:
    def __new__(cls, s):
        self = super().__new__(cls)
        keep(bytearray(s))
        return self


class Meta(type):
    def __call__(cls, s):
        keep(bytearray(s))
        return super().__call__()


class WithMeta(metaclass=Meta):
    pass


class Methods:
    size = QUIET

    def __init__(self, s=QUIET):
        self.size = s

    def method(self, s):
        keep(bytearray(s))

    @classmethod
    def class_method(cls, s):
        keep(bytearray(s))

    @staticmethod
    def static_method(s):
        keep(bytearray(s))

    class Inner:
        def method(self, s):
            keep(bytearray(s))

    @property
    def value(self):
        return keep(bytearray(self.size))

    @value.setter
    def value(self, s):
        keep(bytearray(s))

    @functools.cached_property
    def cached(self):
        return keep(bytearray(self.size))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return keep(bytearray(self.size))

    def __eq__(self, other):
        keep(bytearray(self.size))
        return True

    def __hash__(self):
        keep(bytearray(self.size))
        return 1

    def __lt__(self, other):
        keep(bytearray(self.size))
        return False

    def __getitem__(self, s):
        return keep(bytearray(s))

    def __setitem__(self, key, s):
        keep(bytearray(s))

    def __call__(self, s):
        keep(bytearray(s))

    def __len__(self):
        keep(bytearray(self.size))
        return 1

    def __bool__(self):
        keep(bytearray(self.size))
        return True

    def __contains__(self, s):
        keep(bytearray(s))
        return True

    def __iter__(self):
        keep(bytearray(self.size))
        return iter((1,))

    def __add__(self, s):
        keep(bytearray(s))
        return self

    def __repr__(self):
        keep(bytearray(self.size))
        return "methods"

    def __format__(self, spec):
        keep(bytearray(self.size))
        return "methods"


class Deleted:
    def __init__(self, s):
        self.s = s

    def __del__(self):
        keep(bytearray(self.s))


class Iterator:
    def __init__(self, s):
        self.s, self.left = s, 1

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        keep(bytearray(self.s))
        return self


class Descriptor:
    def __get__(self, instance, owner):
        return keep(bytearray(instance.size))

    def __set__(self, instance, s):
        keep(bytearray(s))


class Described:
    described = Descriptor()

    def __init__(self, s=QUIET):
        self.size = s


class AllAttributes:
    def __init__(self, s):
        object.__setattr__(self, "s", s)

    def __getattribute__(self, name):
        keep(bytearray(object.__getattribute__(self, "s")))
        return name

    def __setattr__(self, name, s):
        keep(bytearray(s))


class Registering:
    def __init_subclass__(cls, size=QUIET):
        keep(bytearray(size))

    def __class_getitem__(cls, s):
        return keep(bytearray(s))


class MissingKeys(dict):
    def __missing__(self, s):
        return keep(bytearray(s))


def use_property(s):
    return Methods(s).value


def use_setter(s):
    Methods().value = s


def use_getattr(s):
    return Methods(s).anything


def use_eq(s):
    return Methods(s) == 3


def use_lt(s):
    return Methods(s) < 3


def use_repr(s):
    return repr(Methods(s))


def use_format(s):
    return f"{Methods(s):>3}"


def use_bool(s):
    if Methods(s):
        pass


def use_for(s):
    for _ in Methods(s):
        pass


def use_setitem(s):
    Methods()[1] = s


def use_described(s):
    Described().described = s


def use_attribute(s):
    return AllAttributes(s).anything


def use_setattr(s):
    AllAttributes(QUIET).anything = s


def delete(s):
    d = Deleted(s)
    del d


def weak_callback(s):
    d = Base(QUIET)
    r = weakref.ref(d, lambda _: keep(bytearray(s)))
    del d
    return r


def class_body(s):
    class Body:
        x = 1
        keep(bytearray(s))

        class Inside:
            pass

    return Body


def inner_class_body(s):
    class Body:
        class Inside:
            y = [1,
                 keep(bytearray(s))]

    return Body


def subclass(s):
    class Child(Registering, size=s):
        pass

    return Child


def classes():
    m = Methods()
    both("__init__", Simple)
    both("__init__ through super()", Derived)
    both("__init__, by name", lambda s: Simple(s))
    both("__init__ through super(), by name", lambda s: Derived(s))
    both("__new__", Newer)
    both("__new__, by name", lambda s: Newer(s))
    both("__call__ of a metaclass", WithMeta)
    both("method", m.method)
    both("method, unbound", lambda s: Methods.method(m, s))
    both("class method", Methods.class_method)
    both("static method", Methods.static_method)
    both("method of an inner class", Methods.Inner().method)
    both("property", use_property)
    both("setter of a property", use_setter)
    both("cached property", lambda s: Methods(s).cached)
    both("__getattr__", use_getattr, native=[0])
    both("__getattribute__", use_attribute)
    both("__setattr__", use_setattr, native=[0])
    both("__eq__", use_eq, native=[0])
    both("__eq__ of members of a list", lambda s: [Methods(s)].index(3), native=[0])
    both("__lt__", use_lt, native=[0])
    both("__hash__", lambda s: {Methods(s): 1}, native=[0])
    both("__getitem__", lambda s: m[s])
    both("__setitem__", use_setitem, native=[0])
    both("__call__", m)
    both("__call__, by name", lambda s: m(s))
    both("__len__", lambda s: len(Methods(s)), native=[0])
    both("__bool__", use_bool, native=[0])
    both("__contains__", lambda s: s in m, native=[0])
    both("__iter__", use_for, native=[0])
    both("__next__", lambda s: [x for x in Iterator(s)], native=[0])
    both("__next__, from list()", lambda s: list(Iterator(s)), native=[0])
    both("__add__", lambda s: m + s, native=[0])
    both("__repr__", use_repr, native=[0])
    both("__format__", use_format, native=[0])
    both("__missing__", lambda s: MissingKeys()[s], native=[0])
    both("__get__", lambda s: Described(s).described, native=[0])
    both("__set__", use_described, native=[0])
    both("__del__", delete, native=[0])
    both("callback of a weak reference", weak_callback, native=[0])
    both("__class_getitem__", lambda s: Registering[s], native=[0])
    class_body(S("class body", native=[0]))
    inner_class_body(S("body of an inner class", native=[0, 1]))
    subclass(S("__init_subclass__", native=[0]))


# --- nested functions, lambdas, comprehensions ---

def nest(s):
    def inner():
        def innermost():
            keep(bytearray(s))
        innermost()
    inner()


def make_closure(count):
    def closure(s):
        nonlocal count
        count += 1
        keep(bytearray(s))
    return closure


def list_comprehension(s):
    return [keep(bytearray(s)) for _ in range(1)]


def list_comprehension_condition(s):
    return [i for i in range(1)
            if keep(bytearray(s))]


def nested_comprehension(s):
    return [[keep(bytearray(x)) for x in (s,)] for _ in range(1)]


def dict_comprehension(s):
    return {i:
            keep(bytearray(s)) for i in range(1)}


def set_comprehension(s):
    return {keep(bytearray(s))
            for _ in range(1)}


def generator_expression(s):
    for _ in (keep(bytearray(s)) for _ in range(1)):
        pass


def comprehension_of_functions(s):
    return [function(x) for x in (s,)]


@functools.lru_cache(maxsize=None)
def remembered(s):
    keep(bytearray(s))


def nested():
    both("nested functions", nest)
    both("closure", make_closure(0))
    both("lambda", lambda s: keep(bytearray(s)))
    both("lambda in a lambda", lambda s: (lambda: keep(bytearray(s)))())
    both("lambda over lines", lambda s: (1,
                                         keep(bytearray(s)),
                                         2))
    both("list comprehension", list_comprehension)
    both("condition of a list comprehension", list_comprehension_condition)
    both("nested list comprehensions", nested_comprehension)
    both("dict comprehension", dict_comprehension)
    both("set comprehension", set_comprehension)
    both("generator expression", generator_expression)
    both("function in a list comprehension", comprehension_of_functions)
    both("generator expression in list()", lambda s: list(keep(bytearray(x)) for x in (s,)), native=[0])
    both("generator expression in any()", lambda s: any(keep(bytearray(x)) for x in (s,)))
    both("generator expression in join()", lambda s: ",".join(str(keep(bytearray(x))) for x in (s,)), native=[0])
    both("partial", functools.partial(function, *()), native=[0])
    remembered(S("lru_cache", native=[0]))


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


# --- exceptions ---

class Raised(Exception):
    def __init__(self, s):
        super().__init__("raised")
        keep(bytearray(s))


def in_except(s):
    try:
        raise KeyError("x")
    except KeyError:
        keep(bytearray(s))


def in_except_of_call(s):
    try:
        int("no number")
    except (TypeError,
            ValueError) as e:
        str(e)
        keep(bytearray(s))


def in_finally(s):
    try:
        try:
            raise KeyError("x")
        finally:
            keep(bytearray(s))
    except KeyError:
        pass


def in_finally_without(s):
    try:
        pass
    finally:
        keep(bytearray(s))


def in_finally_of_return(s):
    try:
        return 1
    finally:
        keep(bytearray(s))


def in_else(s):
    try:
        pass
    except KeyError:
        pass
    else:
        keep(bytearray(s))


def raising_deep(s):
    try:
        raise KeyError("deep")
    finally:
        function(s)


def while_propagating(s):
    try:
        raising_deep(s)
    except KeyError:
        pass


def in_raise(s):
    try:
        raise Raised(
            s)
    except Raised:
        pass


def in_raise_from(s):
    try:
        try:
            raise KeyError("x")
        except KeyError as e:
            raise \
                Raised(s) from e
    except Raised:
        pass


def in_except_expression(s):
    def kinds():
        keep(bytearray(s))
        return KeyError
    try:
        raise KeyError
    except kinds():
        pass


def exceptions():
    for f in (in_except, in_except_of_call, in_finally, in_finally_without, in_finally_of_return, in_else, while_propagating, in_raise,
              in_raise_from, in_except_expression):
        both("exceptions, " + f.__name__, f)


# --- with, context managers ---

class Context:
    def __init__(self, enter=QUIET, leave=QUIET):
        self.enter, self.leave = enter, leave

    def __enter__(self):
        keep(bytearray(self.enter))
        return self

    def __exit__(self, *_):
        keep(bytearray(self.leave))
        return True


def entering(s):
    with Context(s):
        pass


def leaving(s):
    with Context(leave=s):
        x = 1
        x += 1


def leaving_two(s):
    with Context(leave=s), \
            Context():
        pass


def leaving_by_exception(s):
    with Context(leave=s):
        x = 1
        raise KeyError(x)


def leaving_by_return(s):
    with Context(leave=s):
        return 1


@contextlib.contextmanager
def managed(enter, leave=QUIET):
    keep(bytearray(enter))
    try:
        yield
    finally:
        keep(bytearray(leave))


def entering_managed(s):
    with managed(s):
        pass


def leaving_managed(s):
    with managed(QUIET, s):
        pass


def leaving_managed_by_exception(s):
    with contextlib.suppress(KeyError):
        with managed(QUIET, s):
            raise KeyError("x")


@managed(QUIET)
def decorated_by_manager(s):
    keep(bytearray(s))


def exit_stack(s):
    with contextlib.ExitStack() as stack:
        stack.callback(function, s)


def contexts():
    for f in (entering, leaving, leaving_two, leaving_by_exception, leaving_by_return, entering_managed, leaving_managed,
              leaving_managed_by_exception, decorated_by_manager, exit_stack):
        both("with, " + f.__name__, f)


# --- decorators ---

def plain_decorator(f):
    def wrapper(*args):
        return f(*args)
    return wrapper


def wrapping_decorator(f):
    @functools.wraps(f)
    def wrapper(*args):
        return f(*args)
    return wrapper


def allocating_decorator(s):
    def decorator(f):
        keep(bytearray(s))
        return f
    return decorator


def wrapper_allocates(f):
    @functools.wraps(f)
    def wrapper(s):
        keep(bytearray(s))
        return f(s)
    return wrapper


@plain_decorator
def decorated_plainly(s):
    keep(bytearray(s))


@wrapping_decorator
@plain_decorator
def decorated_twice(s):
    keep(bytearray(s))


@wrapper_allocates
def decorated_outside(s):
    return s


def decorating(s):
    @plain_decorator
    @allocating_decorator(s)
    @wrapping_decorator
    def decorated():
        pass
    decorated()


def decorating_class(s):
    @allocating_decorator(s)
    class Decorated:
        pass
    return Decorated


class DecoratorClass:
    def __init__(self, f):
        self.f = f

    def __call__(self, s):
        return self.f(s)


@DecoratorClass
def decorated_by_class(s):
    keep(bytearray(s))


def decorators():
    for f in (decorated_plainly, decorated_twice, decorated_outside, decorating, decorating_class, decorated_by_class):
        both("decorators, " + getattr(f, "__name__", "by class"), f)


# --- expressions and calls over lines ---

def three(*args):
    return 1


class Fluent:
    def step(self, s):
        keep(bytearray(s))
        return self


def call_first(s):
    three(keep(bytearray(s)),
          2,
          3)


def call_middle(s):
    three(
        1,
        keep(bytearray(s)),
        3
    )


def call_last(s):
    three(1,
          2, 3, keep(
              bytearray(
                  s
              )
          )
          )


def call_keyword(s):
    three(*(), **dict(
        a=keep(
            bytearray(s))
    )) if False else three(
        *(1,
          keep(bytearray(s))))


def chained(s):
    (Fluent()
     .step(QUIET)
     .step(s)
     .step(QUIET))


def arithmetic(s):
    return (1 +
            len(bytearray(QUIET)) +
            (keep(bytearray(s)) or 1) *
            2)


def operator_multiplies(s):
    keep(b"x"
         *
         s)


def subscripted(s):
    return [1, 2][
        keep(bytearray(s)) or 1
    ]


def literal(s):
    return {
        "a": 1,
        "b": [2,
              keep(bytearray(s)),
              3],
    }


def formatted(s):
    return (f"{1}"
            f"{keep(bytearray(s))}"
            f"{2}")


def formatted_lines(s):
    return f"""
    {1}
    {keep(bytearray(s))}
    """


def conditional(s):
    return (1 if three(1)
            and not keep(bytearray(s))
            else 2)


def backslashes(s):
    x = three(1) and \
        keep(bytearray(s)) \
        or 2
    return x


def condition_lines(s):
    if (three(1)
            and keep(bytearray(s)) is None
            and three(2)):
        return 1
    return 2


def assigned(s):
    a = b = \
        keep(bytearray(s))
    return a, b


def unpacked(s):
    a, b = (
        1,
        keep(bytearray(s))
    )
    return a, b


def augmented(s):
    x = [1]
    x += (
        keep(bytearray(s)),
    )
    return x


def walrus(s):
    if (y :=
            keep(bytearray(s))):
        return y
    return None


def loop_header(s):
    for _ in (
            1,
            keep(bytearray(s))):
        pass


def loop_condition(s):
    while keep(
            bytearray(s)):
        pass


def returned(s):
    return (
        1,
        keep(bytearray(s)),
    )


def asserted(s):
    assert not \
        keep(bytearray(s)), \
        "never"


def asserted_text(s):
    try:
        assert False, \
            keep(bytearray(s))
    except AssertionError:
        pass


def compared(s):
    return (0
            < three(1)
            < len([keep(
                bytearray(s))]) + 1)


def defined(s):
    def inner(
            a=1,
            b=keep(bytearray(s)),
            *, c=2):
        return a, b, c
    inner()


def annotated(s):
    x: int = \
        keep(bytearray(s))
    return x


def deleted(s):
    d = {None: 1}
    del d[
        keep(bytearray(s))
    ]


def globally(s):
    global LAST
    LAST = [
        keep(bytearray(s))]


def lines():
    for f in (call_first, call_middle, call_last, call_keyword, chained, arithmetic, subscripted, literal, formatted, formatted_lines,
              conditional, backslashes, condition_lines, assigned, unpacked, augmented, walrus, loop_header, loop_condition, returned,
              asserted, asserted_text, compared, defined, annotated, deleted, globally):
        both("lines, " + f.__name__, f)
    both("lines, operator", operator_multiplies, kind=BYTES)


# --- long functions: tables of lines with every kind of step ---

def long_source():
    """A function of some 1,500 lines: gaps, lines of more than 256 bytes of code, steps back."""
    text = ["def long_function(sizes):", "    s = iter(sizes)", "    keep(bytearray(next(s)))"]
    text += ["    x = 1"] * 130 + ["    keep(bytearray(next(s)))"]
    text += [""] * 126 + ["    keep(bytearray(next(s)))"]
    text += [""] * 127 + ["    keep(bytearray(next(s)))"]
    text += ["    # nothing"] * 128 + ["    keep(bytearray(next(s)))"]
    text += [""] * 300 + ["    keep(bytearray(next(s)))"]
    text += ["    x = (" + " + ".join("x" for _ in range(200)) + ")", "    keep(bytearray(next(s)))"]
    text += ["    y = [" + ", ".join("x" for _ in range(600)) + "]; keep(bytearray(next(s)))"]
    text += ["    three(", "        1,"] + [""] * 140 + ["        keep(bytearray(next(s))),"] + [""] * 140
    text += ["        keep(bytearray(next(s))))", "    keep(bytearray(next(s)))"]
    text += ["    for i in range(2):"] + ["        x = i"] * 200 + ["        if i: keep(bytearray(next(s)))"]
    text += ["    def inner(s):"] + [""] * 260 + ["        x = 1", "        keep(bytearray(s))", "    inner(next(s))"]
    text += ["    z = (1 if three(", "        x) else", "        2), keep(bytearray(next(s)))"]
    text += ["    try:", "        three(", "            1, {}[0])", "    except KeyError:", "        keep(bytearray(next(s)))"]
    text += ["    return keep(bytearray(next(s)))"]
    return "\n".join(text) + "\n"


def long_functions(folder):
    path = os.path.join(folder, "longer.py")
    with open(path, "w", encoding="utf-8") as f:
        f.write("from truth import keep\n\n\ndef three(*args):\n    return 1\n\n\n" + long_source())
    module = importlib.import_module("longer")
    total = long_source().count("next(s)")
    for label in "cold", "second time":
        module.long_function([S("long function, place %d, %s" % (i, label)) for i in range(total)])


# --- code made at run time ---

def run_code(text, filename, s, mode="exec", **names):
    code = compile(text, filename, mode)
    return (eval if mode == "eval" else exec)(code, dict(names, keep=keep, s=s))


def generated():
    run_code("keep(bytearray(s))", "<made up>", S("exec", native=[0]))
    run_code("\n\n\nkeep(bytearray(s))\n", "/nowhere/at all.py", S("exec, a file name with a blank", native=[0]))
    run_code("keep(bytearray(s))", "<evaluated>", S("eval", native=[0]), mode="eval")
    run_code("(1,\n\n keep(bytearray(s)))", "<evaluated lines>", S("eval over lines", native=[0]), mode="eval")
    run_code("def made(s):\n    keep(bytearray(s))\nmade(s)\n", "<functions>", S("function in exec"))
    run_code("\n" * 70000 + "keep(bytearray(s))", "<far>", S("line 70,001", native=[0]))
    run_code("def gr\u00f6\u00dfe(s):\n keep(bytearray(s))\ngr\u00f6\u00dfe(s)\n", "gr\u00f6\u00dfe.py", S("latin names"))
    run_code("def \u0444(s):\n keep(bytearray(s))\n\u0444(s)\n", "\u0444\u0443\u043d\u043a\u0446\u0438\u044f.py", S("cyrillic names"))
    run_code("class \u6570:\n def \u5b57(self, s):\n  keep(bytearray(s))\n\u6570().\u5b57(s)\n", "\u6570\u5b57.py", S("chinese names"))
    run_code("def \U00010400(s):\n keep(bytearray(s))\n\U00010400(s)\n", "\U0001f40d.py", S("names beyond 16 bits"))
    run_code("def f(s):\n keep(bytearray(s))\nf(s)\n", "broken\udcff.py", S("file name that is not UTF-8"))
    run_code("def %s(s):\n keep(bytearray(s))\n%s(s)\n" % (("n" * 100,) * 2), "/" + "d" * 90 + "/f.py", S("long names"))
    exec("keep(bytearray(S('exec of text', native=[0])))")
    eval("keep(bytearray(S('eval of text', native=[0])))")
    if sys.version_info >= (3, 10):
        run_code("match [1, 2]:\n case [1]:\n  pass\n case [1, x] if keep(bytearray(s)) is None:\n  pass\n", "<match>",
                 S("guard of a case", native=[0]))
    if sys.version_info >= (3, 11):
        run_code("try:\n raise ExceptionGroup('g', [KeyError()])\nexcept* KeyError as e:\n keep(bytearray(s))\n", "<groups>",
                 S("except*", native=[0]))
    if sys.version_info >= (3, 12):
        run_code("def f[T](x=keep(bytearray(s))):\n return x\n", "<generic>", S("default of a generic function", native=[0]))
        run_code("class C[T](object if keep(bytearray(s)) else list):\n pass\n", "<generic class>", S("bases of a generic class"))
        run_code("def f[T: keep(bytearray(s))](): pass\nf.__type_params__[0].__bound__\n", "<bound>", S("bound of a type", native=[0]))
    if sys.version_info >= (3, 14):
        run_code("def f(x: keep(bytearray(s))): pass\nf.__annotations__\n", "<annotations>", S("annotation, evaluated late", native=[0]))
        run_code("t'{keep(bytearray(s))}'\n", "<template>", S("template string", native=[0]))


# --- imports ---

MODULE = """
from truth import S, keep

x = [1,
     keep(bytearray(S("import, %(name)s")))]


def later(s):
    keep(bytearray(s))
%(more)s
"""


def put(folder, name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def imports(folder):
    import py_compile
    import zipfile
    put(folder, "imported_first.py", MODULE % dict(name="first", more="import imported_second"))
    put(folder, "imported_second.py", MODULE % dict(name="second", more=""))
    put(folder, "package/__init__.py", MODULE % dict(name="package", more="from . import member"))
    put(folder, "package/member.py", MODULE % dict(name="member", more=""))
    path = put(folder, "elsewhere/compiled.py", MODULE % dict(name="compiled", more=""))
    py_compile.compile(path, cfile=os.path.join(folder, "compiled.pyc"), dfile="said/to/be/compiled.py")
    with zipfile.ZipFile(os.path.join(folder, "zipped.zip"), "w") as z:
        z.writestr("from_zip.py", MODULE % dict(name="zip", more=""))
    sys.path.append(os.path.join(folder, "zipped.zip"))
    importlib.invalidate_caches()
    for name in "imported_first", "package", "compiled", "from_zip":
        try:
            module = importlib.import_module(name)
        except ImportError as e:
            MISSING["import " + name] = str(e)
            continue
        both("function of an imported module, " + name, module.later)


sys.path.insert(0, FOLDER)
for part in (functions, classes, nested, generators, coroutines, threads, depth, callbacks, exceptions, contexts, decorators, lines,
             generated):
    part()
long_functions(FOLDER)
imports(FOLDER)
finish(FOLDER, missing=MISSING)
