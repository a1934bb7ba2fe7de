# SPDX-License-Identifier: GPL-2.0-or-later
"""
Sites of sites.py: functions, classes, nested functions and comprehensions.
"""
import ctypes
import functools
import inspect
import weakref

from truth import BYTES, EXACT, LIST, QUIET, STR, S, again, both, keep, note, noted

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
