# SPDX-License-Identifier: GPL-2.0-or-later
"""
Sites of sites.py: how code is written down. Exceptions, contexts, decorators, expressions over lines.
"""
import contextlib
import functools

from sites_plain import function
from truth import BYTES, QUIET, both, keep

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
