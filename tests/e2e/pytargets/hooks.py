# SPDX-License-Identifier: GPL-2.0-or-later
"""
Allocates through all domains of CPython while libpyhooks.so counts what passes its hooks. Arguments: folder; "wait": until the file `go` is there;
"first": the hooks are there before anyone attaches. Writes `ready`, `truth`; ends when `end` is there.
"""
import ctypes
import os
import sys
import time

folder = sys.argv[1]
lib = ctypes.PyDLL(os.path.join(folder, "libpyhooks.so"))


def make(n):
    out = []
    for i in range(n):
        out.append([i] * (i % 90))
        out.append("%d-text" % i)
        out.append({"key": i, i: bytes(i % 1500)})
    return out


def work():
    kept = make(3000)
    make(3000)
    del kept[::2]
    grow = bytearray()
    for i in range(400):
        grow += b"x" * 700
    return kept, grow, "ü" * 100000, list(range(50000))


def ready(name):
    with open(os.path.join(folder, name + ".part"), "w") as f:
        f.write(str(os.getpid()))
    os.rename(os.path.join(folder, name + ".part"), os.path.join(folder, name))


if "first" in sys.argv and lib.hooks_install():
    sys.exit(77)
ready("ready")
while "wait" in sys.argv and not os.path.exists(os.path.join(folder, "go")):
    time.sleep(0.01)
if "first" not in sys.argv and lib.hooks_install():
    sys.exit(77)
result = work()
lib.hooks_calls()
lib.hooks_report(os.fsencode(folder))
