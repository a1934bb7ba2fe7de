#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Never another thread's Python frames: threads with and without the GIL, of C alone, of C that calls Python, with interpreters of their own
(pytargets/gilless.py). Each runs functions, and asks for sizes, that no other one does, so every stack shows whose it is.
"""
import collections
import re
import shutil

import harness as h
import pytruth as t

PYTHONS = [p for p in t.pythons() if p.label != "3.11.7"]  # 3.11.2 is there, and has less to name
OWNER = re.compile(r"^((?:spin|burst|sub|foreign|sql|zip|lzma|hash)_\d+)_")
LIBRARY = {"libsqlite3": "sql_0", "_sqlite3": "sql_0", "libz.": "zip_0", "zlib.": "zip_0", "liblzma": "lzma_0", "_lzma": "lzma_0"}
NONE = "no Python frames"
# A spinning thread holds the GIL when it allocates, so does one in an interpreter of its own and one that C called from; the others may be shown
# without Python frames, but not with wrong ones.
MUST_BE_SHOWN = ("spin", "sub", "foreign")


def owners(stack):
    return {m[1] for m in (OWNER.match(f["name"]) for f in stack["frames"] if f["kind"] == "python") if m}


def expected(stack, truth):
    """Who allocates what this stack holds, by its sizes or by the library that asked; None: not known."""
    count = stack["alloc_count_total"]
    size = stack["alloc_bytes_total"] / count if count else 0
    if size in truth["without"]:
        return NONE
    for who, (own, _) in truth["threads"].items():
        if own and size == own:
            return who
    for f in stack["frames"]:
        module = (f["module"] or "").rsplit("/", 1)[-1]
        for library, who in LIBRARY.items():
            if f["kind"] == "native" and module.startswith(library):
                return who
    return None


def judge(stacks, truth):
    """(Counter of (who, what was shown): blocks, [faults])."""
    seen, faults = collections.Counter(), []
    for s in stacks:
        shown, who = owners(s), expected(s, truth)
        blocks = s["alloc_count_total"]
        if len(shown) > 1:
            faults.append(f"frames of {sorted(shown)} in one stack ({blocks} blocks): {t.whole(s)}")
        if who == NONE:
            seen[NONE, "none" if not t.frames_of(s) else "wrong"] += blocks
            if t.frames_of(s):
                faults.append(f"a thread of C alone has Python frames ({blocks} blocks): {t.whole(s)}")
        elif who:
            what = "own" if shown == {who} else "wrong" if shown - {who} else "nameless" if any(
                f[0] == "<gone>" for f in t.frames_of(s)) else "other" if t.frames_of(s) else "none"
            seen[who, what] += blocks
            if what == "wrong":
                faults.append(f"{sorted(shown)} is charged for what {who} took ({blocks} blocks): {t.whole(s)}")
    return seen, faults


def check_counts(truth, seen):
    """What was taken is what was shown, so that nothing hides in a stack of mixed sizes."""
    for who, (size, count) in truth["threads"].items():
        if size:
            got = sum(n for (w, _), n in seen.items() if w == who)
            yield who, got, count


def threads(python):
    folder = python.folder()
    shutil.copy(h.build("libgilless.so")[0], folder)
    with t.observe(python, "gilless.py", False, folder=folder) as seen_run:
        truth, interval = seen_run.go(read=t.read_json)
        h.check_equal(truth["started"], [0, 0, 0, 0], "threads of C")
        seen, faults = judge(t.of_process(interval, truth["pid"]), truth)
        seen_run.finish()
    kinds = collections.defaultdict(collections.Counter)
    for (who, what), n in seen.items():
        kinds[who.split("_")[0]][what] += n
    print(f"     {python.label}: " + "; ".join(f"{k}: " + ", ".join(f"{w} {n}" for w, n in sorted(c.items())) for k, c in sorted(kinds.items())))
    if truth["missing"]:
        print(f"       not run, {python.label} lacks it: {truth['missing']}")
    for f in faults[:6]:
        print(f"       {f}")
    h.check(not faults, f"{len(faults)} stacks are charged to a wrong thread")
    h.check(kinds[NONE]["none"] > 1000, f"{kinds[NONE]['none']} blocks of threads of C alone were shown")
    for who, got, count in check_counts(truth, seen):
        h.check_equal(got, count, f"blocks of {who}")
        shown = seen[who, "own"]
        if who.startswith(MUST_BE_SHOWN):
            h.check(shown >= 0.999 * count, f"{shown} of {count} blocks of {who} are shown with its own frames: {dict(kinds[who.split('_')[0]])}")


h.main(*t.for_each(PYTHONS, "threads", threads))
