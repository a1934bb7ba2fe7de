# SPDX-License-Identifier: GPL-2.0-or-later
"""
Known Python stacks: each site allocates a number of bytes that no other one does, ROUNDS times from the same line; golden.expected has the frames of
each, by line, so a line that moves here has to move there. Imports nothing but what is built into every CPython: for guests with an interpreter and little else.
"""
import _thread
import posix

ROUNDS = 3
HEAD = 1  # bytearray asks for a byte more than it holds
kept = []
keep = kept.append


def say(word):
    posix.write(1, b'{"tag": "%s"}\n' % word)


def plain(n):
    keep(bytearray(n - HEAD))


def outer(n):
    def inner():
        plain(n)

    inner()


class Thing:
    def __init__(self, n):
        self.data = bytearray(n - HEAD)

    def method(self, n):
        self.data = bytearray(n - HEAD)

    @staticmethod
    def static(n):
        Thing.of(n)

    @classmethod
    def of(cls, n):
        keep(bytearray(n - HEAD))


class Size:
    """bytearray asks for its value while it runs."""

    def __init__(self, n):
        self.n = n

    def __index__(self):
        keep(bytearray(self.n - HEAD))
        return 8


class Dying:
    def __init__(self, n):
        self.n = n

    def __del__(self):
        keep(bytearray(self.n - HEAD))


def dies(n):
    thing = Dying(n)
    del thing


def sorts(n):
    sorted([1], key=lambda item: keep(bytearray(n - HEAD)))


def maps(n):
    list(map(plain, [n]))


def yields(n):
    yield 1
    keep(bytearray(n - HEAD))
    yield 2


def delegates(n):
    yield from yields(n)


def iterates(n):
    for item in delegates(n):
        keep(item)


def expression(n):
    sum(len(bytearray(size - HEAD)) for size in [n])


def recurse(depth, n):
    if depth > 1:
        recurse(depth - 1, n)
    else:
        plain(n)


def raises(n):
    try:
        raise ValueError(n)
    except ValueError as e:
        keep(bytearray(e.args[0] - HEAD))
    finally:
        plain(n + 1)


def decorate(function):
    def wrapper(*args, **more):
        return function(*args, **more)

    return wrapper


@decorate
def decorated(n):
    keep(
        [
            1,
            bytearray(n - HEAD),
        ],
    )


def in_thread(n, done):
    plain(n)
    done.release()


def threads(n):
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(in_thread, (n, done))
    done.acquire()


CODE = compile("def made(n):\n    keep(bytearray(n - HEAD))\n\nmade(SIZE)\n", "made up", "exec")


def executes(n):
    exec(CODE, {"SIZE": n, "keep": keep, "HEAD": HEAD})


say(b"ready")
posix.read(0, 1)
for _ in range(ROUNDS):
    plain(20001)
    outer(20002)
    Thing(20003).method(20004)
    Thing.static(20005)
    bytearray(Size(20006))
    dies(20007)
    sorts(20008)
    maps(20009)
    iterates(20010)
    expression(20011)
    recurse(50, 20012)
    raises(20013)
    decorated(20015)
    threads(20016)
    executes(20017)
    recurse(250, 20018)
say(b"allocated")
while posix.read(0, 1):
    pass
