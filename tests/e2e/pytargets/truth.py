# SPDX-License-Identifier: GPL-2.0-or-later
"""
The truth about allocations of a Python program, recorded by itself: which sizes are asked of malloc, and by which Python stack.

A size is an object. bytearray(S("here")) asks it for its value through __index__, from C, while the very instruction runs that then
allocates: the frames that it sees are those of a traceback out of the allocation. Where no object is taken, note() stands on the line
that allocates. Sizes are unique, and so large that malloc serves them. Runs on 3.8 and later; imports nothing that is not needed.
"""
import itertools
import json
import os
import sys
import time

FIRST, PRIME = 100008, 8191
BYTEARRAY, BYTES, LIST, STR, EXACT = "bytearray", "bytes", "list", "str", "exact"
EMPTY_STR = sys.getsizeof("")
_numbers = itertools.count()
_records = []
_notes = {}
KEEP = []
keep = KEEP.append


def _length(kind, requested):
    """Which length leads to a request of so many bytes: objects have heads, arrays of pointers take eight each."""
    if kind == LIST:
        return requested // 8
    return requested - {BYTEARRAY: 1, BYTES: 33, STR: EMPTY_STR, EXACT: 0}[kind]


def copy(text):
    """Another string: to keep a code object's own alive would change where the next one lies."""
    return (text + " ")[:-1]


def stack_of(frame):
    """[[name, file, line]], innermost first. Names are qualified where the version has that."""
    found = []
    while frame is not None:
        code = frame.f_code
        found.append([copy(getattr(code, "co_qualname", code.co_name)), copy(code.co_filename), frame.f_lineno])
        frame = frame.f_back
    return found


class S:
    """A size of its own. native: between which of its frames (number of the inner one) the interpreter's C code must stand."""

    __slots__ = "label", "n", "requested", "native", "gone", "depth"

    def __init__(self, label, kind=BYTEARRAY, native=(), gone=False, depth=0):
        self.label, self.native, self.gone, self.depth = label, list(native), gone, depth
        self.requested = 0
        while self.requested % 512 == 0:  # round sizes are asked for by others too
            self.requested = FIRST + 8 * (next(_numbers) ** 2 % PRIME)  # unique up to 4,095 of them, and so are most sums of two
        self.n = _length(kind, self.requested)

    def __index__(self):
        self.record(sys._getframe(1))
        return self.n

    def record(self, frame):
        _records.append((self, stack_of(frame), id(frame.f_code)))


class Quiet(S):
    """Small and not recorded, of the same make: warms a site up until the interpreter has specialised it."""

    __slots__ = ()

    def __init__(self):
        self.n = 8

    def __index__(self):
        return self.n

    def record(self, frame):
        pass


QUIET = Quiet()


def note(size):
    """To be called on the line that allocates: returns the length as a plain number."""
    size.record(sys._getframe(1))
    return size.n


def noted(size, *inner):
    """As note(), for an allocation that happens in frames `inner` below the caller's."""
    if size is not QUIET:
        _records.append((size, list(inner) + stack_of(sys._getframe(1)), 0))
    return size.n


def both(label, site, native=(), depth=0, **kw):
    """Runs a site cold, then warm: specialised instructions, inlined calls, remembered stacks."""
    site(S(label + ", cold", native=native, depth=depth, **kw))
    for _ in range(120):
        site(QUIET)
    del KEEP[-100:]
    site(S(label + ", hot", native=native, depth=depth, **kw))


def again(label, site, times, **kw):
    """One stack, several blocks."""
    size = S(label, **kw)
    for _ in range(times):
        site(size)


def write(path, **more):
    """One line per (size, stack), in one step for who waits for the file; the first line is about the process."""
    sums = {}
    for size, frames, code in _records:
        key = size.requested, json.dumps(frames)
        if key not in sums:
            sums[key] = dict(label=size.label, requested=size.requested, count=0, frames=frames, native=size.native, gone=size.gone,
                             depth=size.depth, code=code)
        sums[key]["count"] += 1
    with open(path + ".part", "w", encoding="ascii") as f:
        f.write(json.dumps(dict(pid=os.getpid(), version=list(sys.version_info[:3]), sites=len(sums), **more)) + "\n")
        for s in sums.values():
            f.write(json.dumps(s) + "\n")
    os.rename(path + ".part", path)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.02)


def begin():
    """`script FOLDER [wait] [...]`: with `wait`, says that it is there and goes on when FOLDER/go is. The folder."""
    folder = sys.argv[1]
    if sys.argv[2:3] == ["wait"]:
        with open(os.path.join(folder, "ready.part"), "w", encoding="ascii") as f:
            f.write(str(os.getpid()))
        os.rename(os.path.join(folder, "ready.part"), os.path.join(folder, "ready"))
        wait_for(os.path.join(folder, "go"))
    return folder


def finish(folder, **more):
    """Writes FOLDER/truth and stays until FOLDER/end is there."""
    write(os.path.join(folder, "truth"), **more)
    wait_for(os.path.join(folder, "end"))
