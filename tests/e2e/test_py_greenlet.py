#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Greenlets, plain and gevent's, in five threads (pytargets/greenlets.py): a stack never shows another thread's Python frame. How many show
exactly the greenlet's own frames is said. The packages are fetched as wheels, once, into the folder that scripts/pythons uses.
"""
import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import harness as h
import pytruth as t

PYTHONS = t.pythons()
CACHE = Path(os.environ.get("TIDEMARK_CACHE", "/var/cache/tidemark")) / "pythons"
OWNER = re.compile(r"^((?:thread|hub)_\d+)_")


def pip(python):
    """The command of a pip that runs: the interpreter's own, else that of the newest one that has it."""
    others = sorted((p for p in PYTHONS if not p.why and p.root == Path("/")), key=lambda p: p.minor, reverse=True)
    for p in [python] * (python.root == Path("/")) + others:
        if not subprocess.run([p.path, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
            return [p.path, "-m", "pip", "--disable-pip-version-check"]
    raise h.Skip("no interpreter has pip")


def packages(python):
    """The folder with gevent and greenlet for this version, filled at the first call."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise h.Skip(f"{CACHE}: {e.strerror}") from e
    folder = CACHE / f"gevent-3.{python.minor}"
    with open(CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        done = subprocess.run([*pip(python), "install", "-q", "--no-compile", "--only-binary", ":all:", "--implementation", "cp", "--python-version",
                               f"3.{python.minor}", "--target", part, "gevent"], capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [l for l in done.stderr.splitlines() if "ERROR" in l] or ["no reason given"]
            raise h.Skip(f"no wheels of gevent for 3.{python.minor}: {errors[0]}")
        part.rename(folder)
    return folder


def inside(python, folder):
    """The packages where the interpreter sees them."""
    if python.root == Path("/"):
        return folder
    copy = python.root / "opt" / folder.name
    if not copy.exists():
        shutil.copytree(folder, copy)
    return python.inside(copy)


def owners(frames):
    return {m[1] for m in (OWNER.match(f[0]) for f in frames) if m}


def greenlets(python):
    where = inside(python, packages(python))
    with t.observe(python, "greenlets.py", False, args=[where]) as seen:
        truth, interval = seen.go()
        stacks = t.of_process(interval, truth.pid)
        seen.finish()
    mixed = [s for s in stacks if len(owners(t.frames_of(s))) > 1]
    right, none, other, missing, wrong = 0, 0, [], 0, []
    for sites, found, left in t.match(truth, stacks):
        missing += len(left)
        for stack, some in found:
            got, want = t.frames_of(stack), sites[0]["frames"]
            if owners(got) - owners(want):
                wrong.append(f"{t.nice(got)} for what {t.nice(want)} took")
            elif got == want:
                right += len(some)
            elif not got:
                none += len(some)
            else:
                other.append(f"got {t.nice(got)}; truth {t.nice(want)}")
    print(f"     {python.label}, gevent {truth.head['gevent']}, greenlet {truth.head['greenlet']}: {len(truth.sites)} sites, {right} right, "
          f"{len(other)} of the right thread but otherwise different, {none} without Python frames, {missing} not found by their sizes; "
          f"{len(wrong)} of a wrong thread; {len(stacks)} stacks, {len(mixed)} of two threads", flush=True)
    for text in other[:3]:
        print(f"       {text}")
    h.check(not wrong, f"{len(wrong)} stacks of a wrong thread: {wrong[:3]}")
    h.check(not mixed, f"{len(mixed)} stacks with frames of two threads: {[t.whole(s) for s in mixed[:3]]}")
    h.check(len(truth.sites) > 200, f"only {len(truth.sites)} sites ran")


h.main(*t.for_each(PYTHONS, "greenlets", greenlets))
