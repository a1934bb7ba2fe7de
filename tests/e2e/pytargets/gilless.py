# SPDX-License-Identifier: GPL-2.0-or-later
"""
Threads that allocate at the same time, each with functions and sizes of its own: with the GIL, without it (C called by ctypes, sqlite,
zlib, lzma), of no Python at all, of C that calls back into Python, and in interpreters of their own. What each one allocated stands in
FOLDER/truth; a function's name begins with the thread that alone runs it.
"""
import ctypes
import json
import os
import sys
import threading
import time

from truth import begin, wait_for

SECONDS = 2.0
WITHOUT_PYTHON, CALLING = 45059, 45077
TEMPLATE = """
def spin_{n}_inner(size):
    bytearray(size - 1)

def spin_{n}_outer(size):
    count = 0
    while time.monotonic() < END:
        for _ in range(10):
            spin_{n}_inner(size)
            count += 1
    TRUTH["spin_{n}"] = [size, count]

def burst_{n}_inner(size):
    LIB.gilless_burst(size, 50, 20)

def burst_{n}_outer(size):
    count = 0
    while time.monotonic() < END:
        burst_{n}_inner(size)
        count += 50
    TRUTH["burst_{n}"] = [size, count]

def sub_{n}_drive(size):
    count = 0
    interpreter = INTERPRETERS.create()
    INTERPRETERS.run_string(interpreter, SUB.format(n={n}))
    while time.monotonic() < END:
        INTERPRETERS.run_string(interpreter, "sub_{n}_outer(%d)" % size)
        count += 100
    INTERPRETERS.destroy(interpreter)
    TRUTH["sub_{n}"] = [size, count]

def foreign_{n}_inner(size):
    bytearray(size - 1)

def foreign_{n}_callback():
    foreign_{n}_inner(FOREIGN[{n}])
    TRUTH.setdefault("foreign_{n}", [FOREIGN[{n}], 0])[1] += 1
"""
SUB = """
def sub_{n}_inner(size):
    bytearray(size - 1)

def sub_{n}_outer(size):
    for _ in range(100):
        sub_{n}_inner(size)
"""
TRUTH, FOREIGN = {}, {0: 46021, 1: 46027}
MISSING = {}
sys.setswitchinterval(0.0002)

try:
    if sys.version_info >= (3, 13):
        import _interpreters as INTERPRETERS
    else:
        import _xxsubinterpreters as INTERPRETERS
except ImportError as e:
    INTERPRETERS = None
    MISSING["interpreters"] = str(e)


def sql_0_work():
    import sqlite3
    db = sqlite3.connect(":memory:")
    db.execute("create table t (a integer, b text)")
    count = 0
    while time.monotonic() < END:
        db.executemany("insert into t values (?, ?)", [(i * 7919 % 997, "text %d " % i * 20) for i in range(100)])
        db.execute("select b from t order by b limit 20").fetchall()
        db.execute("delete from t where rowid % 2")
        count += 1
    db.close()
    TRUTH["sql_0"] = [0, count]


def zip_0_work():
    import zlib
    packed, count = zlib.compress(bytes(range(256)) * 2000), 0
    while time.monotonic() < END:
        zlib.decompress(packed)
        count += 1
    TRUTH["zip_0"] = [0, count]


def lzma_0_work():
    import lzma
    data, count = bytes(range(256)) * 200, 0
    while time.monotonic() < END:
        lzma.decompress(lzma.compress(data, preset=0))
        count += 1
    TRUTH["lzma_0"] = [0, count]


def hash_0_work():
    import hashlib
    data, count = b"x" * 100000, 0
    while time.monotonic() < END:
        hashlib.sha256(data).digest()
        count += 1
    TRUTH["hash_0"] = [0, count]


def attempt(f):
    def run():
        try:
            f()
        except ImportError as e:
            MISSING[f.__name__] = str(e)
    run.__name__ = f.__name__
    return run


folder = begin()
LIB = ctypes.CDLL(os.path.join(folder, "libgilless.so"))
LIB.gilless_burst.argtypes = LIB.gilless_alone.argtypes = [ctypes.c_size_t, ctypes.c_long, ctypes.c_int]
LIB.gilless_start.argtypes = [ctypes.c_size_t, ctypes.c_int]
CALLBACK = ctypes.CFUNCTYPE(None)
LIB.gilless_start_calling.argtypes = [ctypes.c_size_t, ctypes.c_long, ctypes.c_int, CALLBACK]
for number in range(3):
    exec(compile(TEMPLATE.format(n=number), "/threads/%d.py" % number, "exec"))
END = time.monotonic() + SECONDS
threads = [threading.Thread(target=globals()["spin_%d_outer" % i], args=(41011 + 2 * i,)) for i in range(3)]
threads += [threading.Thread(target=globals()["burst_%d_outer" % i], args=(43003 + 4 * i,)) for i in range(2)]
if INTERPRETERS:
    threads += [threading.Thread(target=globals()["sub_%d_drive" % i], args=(44017 + 6 * i,)) for i in range(2)]
threads += [threading.Thread(target=attempt(f)) for f in (sql_0_work, zip_0_work, lzma_0_work, hash_0_work)]
CALLBACKS = [CALLBACK(foreign_0_callback), CALLBACK(foreign_1_callback)]
started = [LIB.gilless_start(WITHOUT_PYTHON, 50), LIB.gilless_start(WITHOUT_PYTHON, 100)]
started += [LIB.gilless_start_calling(CALLING, 300, 3000, c) for c in CALLBACKS]
for t in threads:
    t.start()
for t in threads:
    t.join()
LIB.gilless_stop()
with open(os.path.join(folder, "truth.part"), "w", encoding="ascii") as f:
    json.dump(dict(pid=os.getpid(), started=started, threads=TRUTH, without=[WITHOUT_PYTHON, CALLING], missing=MISSING), f)
os.rename(os.path.join(folder, "truth.part"), os.path.join(folder, "truth"))
wait_for(os.path.join(folder, "end"))
