#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Is a slow leak on top? Flask under gunicorn, one worker, under steady load, with a bounded cache and a leak of 1 MiB a minute
(leaking_app.py); Tidemark with its default options, and stacks sorted by growth. Says for how many of the runs the leaking stack stood
first among those of the heap after 60 s, and since when. Needs root, Flask, gunicorn and wrk.

  leak_rank.py [--runs 20] [--seconds 60] [--options "--budget 2"] [--verbose]
Exit code 1 if it stood first in less than 95 % of the runs.
"""
import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import harness as h  # noqa: E402

LEAK = "session_keep"
LAYERS = ("heap",)
LOAD = """
local n = 0
local body = '{"a": [1, 2, 3], "b": "' .. string.rep("y", 500) .. '"}'
local json = { ["Content-Type"] = "application/json" }
math.randomseed(SEED)
function request()
	n = n + 1
	if n % 3 == 0 then return wrk.format("GET", "/") end
	if n % 3 == 1 then return wrk.format("GET", "/item/" .. math.random(1, 3000)) end
	return wrk.format("POST", "/echo", json, body)
end
"""


class Service:
    """gunicorn with one worker, and wrk on it, until the end."""

    def __init__(self, seed):
        self.dir, self.port = h.scratch(), h.free_port()
        python = h.find_program("/usr/bin/python3")
        if subprocess.run([python, "-c", "import flask, gunicorn"], capture_output=True, check=False).returncode:
            raise h.Skip("python3-flask or gunicorn is not installed")
        (self.dir / "load.lua").write_text(LOAD.replace("SEED", str(seed)))
        self.master = h.Process([python, "-m", "gunicorn", "--chdir", HERE, "-w", "1", "--threads", "2", "-b", f"127.0.0.1:{self.port}",
                                 "leaking_app:app"])
        self.load = None

    def __enter__(self):
        h.wait_until(lambda: h.listening(self.port), 60, "gunicorn listens")
        wrk = h.find_program("wrk")
        self.load = h.Process([wrk, "-t1", "-c4", "-d3600s", "-s", self.dir / "load.lua", f"http://127.0.0.1:{self.port}/"])
        time.sleep(5)  # the cache is full, templates are compiled
        return self

    def worker(self):
        children = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text().split()
        h.check(len(children) == 1, f"one worker was expected: {children}")
        return int(children[0])

    def __exit__(self, *_):
        for p in (self.load, self.master):
            if p:
                p.kill(signal.SIGTERM)
                try:
                    p.wait(10)
                except h.Failure:
                    pass
                p.end()


def is_leak(stack):
    return any(f["name"].endswith(LEAK) for f in stack["frames"])


def describe(stack):
    names = [f["name"] for f in stack["frames"] if f["kind"] == "python"][:3] or [f["name"] for f in stack["frames"]][:3]
    return f"{stack['layer']} {stack['live_bytes']} +- {stack['live_bytes_se']} {' < '.join(names)}"


def ranks(interval, pid):
    """Place of the leaking stack among those shown (as sorted), 1 is first; None: it is not there. And the first ones."""
    shown = [s for s in interval.stacks if s["pid"] == pid and s["layer"] in LAYERS]
    place = next((i for i, s in enumerate(shown, 1) if is_leak(s)), None)
    return place, shown[:3]


def run(seed, seconds, options, verbose):
    with Service(seed) as service:
        pid = service.worker()
        with h.Tool("top", "-f", "json", "-i", "1", "--sort", "growth", "--mode", "auto", *options, "-p", str(pid)) as tool:
            tool.attached()
            began = time.monotonic()
            since, n, place, first, share = None, 1, None, [], None
            while time.monotonic() - began < seconds:
                i = tool.interval(n)
                n += 1
                place, first = ranks(i, pid)
                share = i.proc(pid)
                since = (since or time.monotonic() - began) if place == 1 else None
                if verbose:
                    print(f"  {time.monotonic() - began:5.1f} s place {place}: {'; '.join(map(describe, first[:2]))}", flush=True)
            tool.finish()
        return place, since, first, share


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--runs", type=int, default=20)
    a.add_argument("--seconds", type=float, default=60)
    a.add_argument("--options", default="")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--verbose", action="store_true")
    a = a.parse_args()
    h.need_root()
    good = 0
    os.environ.setdefault("LEAK_BYTES_PER_MIN", str(1 << 20))
    for n in range(a.runs):
        place, since, first, proc = run(a.seed + n, a.seconds, a.options.split(), a.verbose)
        good += place == 1
        print(f"run {n + 1:2}: place {place}" + (f", first since {since:.0f} s" if since else "") +
              f"; attached {proc['attached_share']:.3f} of the time, cost {proc['overhead_pct']} %; first: {describe(first[0]) if first else None}", flush=True)
    print(f"the leaking stack stood first in {good} of {a.runs} runs")
    return 0 if good >= 0.95 * a.runs else 1


if __name__ == "__main__":
    sys.exit(main())
