#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Flask application under gunicorn that leaks at one line: the stack that holds the most live bytes ends, as far as the program's own file
goes, in that line, and all that leaked is there. Seen from birth and attached to; the frames around it are Flask's and gunicorn's.
"""
import os
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import harness as h
import pytruth as t

APP = """
from flask import Flask, jsonify

app = Flask(__name__)
seen = []


class Cache:
    def __init__(self):
        self.blocks = []

    def remember(self, n):
        header = "for request %d" % n
        self.blocks.append(
            (header,
             bytearray(BLOCK - 1)))


def churn(n):
    return [bytes(BLOCK * 2) for _ in range(n % 5)]


BLOCK = 30011
cache = Cache()


@app.route("/leak/<int:n>")
def leak(n):
    churn(n)
    cache.remember(n)
    return jsonify(n=n)


@app.route("/clean/<int:n>")
def clean(n):
    return jsonify(n=len(churn(n)))
"""
BLOCK, CLIENTS, EACH = 30011, 4, 100
LINE = APP.splitlines().index("             bytearray(BLOCK - 1)))") + 1
CALL = APP.splitlines().index("    cache.remember(n)") + 1


def get(url):
    with urllib.request.urlopen(url, timeout=30) as r:
        return r.read()


def load(base):
    def client(k):
        for i in range(EACH):
            get(f"{base}/leak/{i * CLIENTS + k}")
            get(f"{base}/clean/{i}")

    threads = [threading.Thread(target=client, args=(k,)) for k in range(CLIENTS)]
    for c in threads:
        c.start()
    for c in threads:
        c.join()


def program():
    python = h.find_program("/usr/bin/python3")
    if subprocess.run([python, "-c", "import flask, gunicorn"], capture_output=True, check=False).returncode:
        raise h.Skip("python3-flask or gunicorn is not installed")
    d = h.scratch()
    (d / "app.py").write_text(APP)
    port = h.free_port()
    return d, port, [python, "-m", "gunicorn", "--chdir", d, "-w", "2", "--threads", "2", "-b", f"127.0.0.1:{port}", "--pid", d / "pid", "app:app"]


def check_leak(interval, folder):
    """In each worker the largest live stack is the leak, named by its line; together they hold every block."""
    workers = [p for p in interval.procs if p["state"] == "running" and any(q["pid"] == p["ppid"] for q in interval.procs)]
    h.check(len(workers) >= 2, f"{len(workers)} workers shown, two run")
    blocks = 0
    for w in workers:
        stacks = sorted(t.of_process(interval, w["pid"]), key=lambda s: -s["live_bytes"])
        mine = [s for s in stacks if s["live_count"] and s["live_bytes"] == BLOCK * s["live_count"]]
        blocks += sum(s["live_count"] for s in mine)
        if not mine:
            continue
        top = stacks[0]
        own = [f for f in t.frames_of(top) if f[1] and os.path.basename(f[1]) == "app.py" and str(folder) in f[1]]
        h.check(own, f"the largest live stack of {w['pid']}, {top['live_bytes']} bytes, has no frame of app.py: {t.whole(top)}")
        name = "Cache.remember" if own[0][0].startswith("Cache") else "remember"  # before 3.11 there is no qualified name
        h.check_equal([f[0] for f in own] + [own[0][2], own[1][2]], [name, "leak", LINE, CALL], "functions and lines of app.py, innermost first")
        h.check_equal(t.frames_of(top)[0], own[0], "innermost Python frame of the leak")
        files = {f[1] for f in t.frames_of(top) if f[1]}
        for package in "flask", "gunicorn":
            h.check(any(f"/{package}/" in f for f in files), f"{package} is not among the callers: {t.whole(top, 60)}")
        h.check(not any(f["kind"] == "native" and t.EVAL.match(f["name"]) for f in top["frames"]), f"the loop is left: {t.whole(top, 60)}")
        h.check(top["complete"], f"the stack of the leak is not complete: {t.whole(top, 60)}")
        print(f"     worker {w['pid']}: {top['live_count']} blocks of {BLOCK} bytes at {own[0][0]} app.py:{own[0][2]}; {len(top['frames'])} frames")
    h.check_equal(blocks, CLIENTS * EACH, f"blocks of {BLOCK} bytes that live, in stacks that hold nothing else")


def settled(tool, folder, seconds=40):
    """The workers may be a moment behind the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check_leak(tool.fresh(60), folder)
        except h.Failure:
            if time.monotonic() > deadline:
                raise


def from_birth():
    d, port, command = program()
    with h.Tool("top", "-f", "json", "-i", "2", "--limit", "50", "--layer", "heap", "--", *command) as tool:
        h.wait_until(lambda: h.listening(port), 60, "gunicorn listens")
        try:
            load(f"http://127.0.0.1:{port}")
            settled(tool, d)
        finally:
            os.kill(int((d / "pid").read_text()), signal.SIGTERM)
        tool.ended(60)


def attached():
    d, port, command = program()
    with h.Process(command) as gunicorn:
        h.wait_until(lambda: h.listening(port), 60, "gunicorn listens")
        get(f"http://127.0.0.1:{port}/clean/1")
        with h.Tool("top", "-f", "json", "-i", "1", "--limit", "0", "--layer", "heap", "-p", gunicorn.pid) as tool:
            tool.attached()
            load(f"http://127.0.0.1:{port}")
            settled(tool, d)
            tool.finish(seconds=30)
        gunicorn.kill()
        gunicorn.wait(30, "gunicorn")


def too_old():
    """A version that is not walked: its stacks are native, and the process says why."""
    found = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.7.*/bin/python3.7"))
    if not found:
        raise h.Skip("no Python 3.7 under pyenv")
    with h.Tool("top", "-f", "json", "-i", "0.5", "--", found[0], "-S", "-c", "x = bytearray(99999); import time; time.sleep(60)") as tool:
        tool.attached()
        interval = tool.fresh()
        proc = interval.procs[-1]
        h.check_equal(proc["python_unsupported"], "Python 3.7", "why its Python frames are not shown")
        kinds = {f["kind"] for s in interval.stacks for f in s["frames"]}
        h.check_equal(kinds, {"native"}, "kinds of frames")


h.main(from_birth, attached, too_old)
