#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layer python: what passes CPython's allocation domains, to the byte. The truth is counted by hooks before the allocators (libpyhooks.so), in the same run; of
Tidemark's stacks those that begin in a hook are what passed them. Where the compiler inlined the allocators (Debian's builds), PyObject_Malloc and its kin are
probed, outside of the hooks: there the calls that the library makes itself are compared.
"""
import contextlib
import json
import shutil

import harness as h
import pytruth as t

PYTHONS = t.pythons()
# One of each way in which the tables are reached, and one stripped and optimised by profiles.
FEW = t.pythons("3.9", "3.13.0", "3.11.2") or PYTHONS
HOOKS = {"hook_malloc", "hook_calloc", "hook_realloc"}


def read(path):
    return json.loads(path.read_text(encoding="ascii"))


@contextlib.contextmanager
def hooked(python, *args, env=None, tool_args=(), birth=False):
    folder = python.folder()
    shutil.copy(h.build("libpyhooks.so")[0], folder)
    with t.observe(python, "hooks.py", birth, "--layer", "python", *tool_args, args=args, env=env, folder=folder) as seen:
        yield seen


def is_optimised(python):
    """Debian's are, with profiles; what the tests build is not."""
    return "-" in python.label


def expect(truth):
    return dict(truth, live_bytes=truth["alloc_bytes"] - truth["free_bytes"], live_count=truth["alloc_count"] - truth["free_count"])


def sums(stacks):
    return {ours: sum(s[theirs] for s in stacks) for ours, theirs in h.COUNTS.items()}


def is_known(stack):
    return any(f["name"] == "call_all" for f in stack["frames"])


def check_hooks(python, allocator, env=None, args=()):
    with hooked(python, *args, env=env) as seen:
        truth, interval = seen.go(read)
        stacks = t.of_process(interval, truth["pid"], "python")
        proc = interval.proc(truth["pid"])
        h.check_equal(proc["python_allocator"], allocator, "allocator")
        h.check_equal(truth["lost"], 0, "blocks that the truth has no room for")
        h.check(truth["known"]["alloc_count"] > 10000 and truth["all"]["alloc_count"] > 50000, f"hardly a call was made: {truth}")
        h.check_equal(sums([s for s in stacks if is_known(s)]), expect(truth["known"]), f"the library's own calls, {python.label}")
        if not is_optimised(python) and not args:
            h.check_equal(sums([s for s in stacks if h.frame_name(s) in HOOKS]), expect(truth["all"]), f"what passed the hooks, {python.label}")
        faults = {k: n for k, n in proc["losses"].items() if k not in h.FACTS | {"missed_free"} and n}
        h.check(not faults, f"losses: {faults}")
        seen.finish()


def pymalloc(python):
    check_hooks(python, "pymalloc")


def malloc(python):
    check_hooks(python, "malloc", {"PYTHONMALLOC": "malloc"})


def debug(python):
    """Sizes as requested, not as padded."""
    check_hooks(python, "debug", {"PYTHONMALLOC": "debug"})


def mimalloc(python):
    check_hooks(python, "mimalloc", {"PYTHONMALLOC": "mimalloc"})


def first(python):
    """The hooks are there before Tidemark is: it is their functions that stand in the tables."""
    check_hooks(python, "pymalloc", args=("first",))


h.main(*t.for_each(PYTHONS, "pymalloc", pymalloc), *t.for_each(FEW, "malloc", malloc), *t.for_each(FEW, "debug", debug),
       *t.for_each(t.pythons("3.13.0"), "mimalloc", mimalloc), *t.for_each(FEW, "first", first))
