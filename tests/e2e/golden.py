# SPDX-License-Identifier: GPL-2.0-or-later
"""
Stacks as they are shown against those that stacks_golden.expected lists. Pure, takes lines and text; used here and for guests of the kernel matrix.
"""
import itertools
import os

PROGRAM = "stacks_golden"  # begins the names of its library too


def token(frame):
    module = os.path.basename((frame["module"] or "?").removesuffix(" (deleted)"))
    if "vdso" in module:
        return "(vdso)"
    if module.startswith(("libc.", "libc-", "ld-", "libpthread", "libdl")):
        return "(libc)"
    return frame["name"] if module.startswith(PROGRAM) else f"{module}:{frame['name']}"


def shape(stack):
    """One line like those of the file: `whole in_compare (libc) sort_here main (libc) _start`."""
    words = ["whole" if stack["complete"] else "cut"]
    for name, run in itertools.groupby(token(f) for f in stack["frames"] if not f["inlined"]):
        n = len(list(run))
        words.append(name if n == 1 or name.startswith("(") else f"{name}*{n}")
    return " ".join(words)


def expected(text):
    """{bytes per call: (calls, shape)}"""
    lines = [line.split(None, 2) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {int(size): (int(calls), words.strip()) for size, calls, words in lines}


def is_as(have, want):
    calls, (end, *frames) = want[0], want[1].split()
    have_end, *have_frames = have[1].split()
    n = len(have_frames)
    if have[0] != calls:
        return False
    if end == "begins":
        return have_end == "cut" and have_frames[:len(frames)] == frames
    if end == "late" and have_end == "cut":
        return n < len(frames) and have_frames == frames[:n]
    return have_end == ("whole" if end == "late" else end) and have_frames == frames


def faults(stacks, text):
    """What differs; `stacks`: the heap's stack lines of one interval, of the program only."""
    found = {}
    for s in stacks:
        calls = s["alloc_count_total"]
        if calls and s["alloc_bytes_total"] % calls == 0:
            found.setdefault(s["alloc_bytes_total"] // calls, []).append((calls, shape(s)))
    for size, want in expected(text).items():
        have = found.get(size, [])
        if len(have) != 1 or not is_as(have[0], want):
            yield f"{size} bytes: {' and '.join(f'{n} x {words}' for n, words in have) or 'no stack'}; expected {want[0]} x {want[1]}"
