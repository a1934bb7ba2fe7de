# SPDX-License-Identifier: GPL-2.0-or-later
"""
Python stacks as they are shown against those that pytargets/golden.expected lists. Pure, takes lines and text; used here and for guests of the kernel matrix.
"""
import itertools
import os

import golden

PROGRAM = "golden.py"
C = "(c)"


def token(frame):
    if frame["kind"] != "python":
        return C
    name = os.path.basename(frame["file"] or "?")
    return f"{frame['name']}:{frame['line']}" if name == PROGRAM else f"{frame['name']}@{name.replace(' ', '_')}:{frame['line']}"


def shape(stack):
    """Words like those of the file: [whole, (c), inner:30, outer:33, ...]"""
    words = ["whole" if stack["complete"] else "cut"]
    for name, run in itertools.groupby(token(f) for f in stack["frames"]):
        n = len(list(run))
        words.append(name if n == 1 or name == C else f"{name}*{n}")
    return words


def is_as(have, want):
    """C code may stand between any frames, and has to where the file says so."""
    have = list(have)
    for word in want:
        while have and have[0] == C and word != C:
            have.pop(0)
        if not have or have.pop(0) != word:
            return False
    return have in ([], [C])


def faults(stacks, text):
    """What differs; `stacks`: the heap's stack lines of one interval, of the program only. One site's C code may differ from call to call."""
    found = {}
    for s in stacks:
        calls = s["alloc_count_total"]
        if calls and s["alloc_bytes_total"] % calls == 0:
            found.setdefault(s["alloc_bytes_total"] // calls, []).append((calls, shape(s)))
    for size, (calls, words) in golden.expected(text).items():
        have = found.get(size, [])
        if sum(n for n, _ in have) != calls or not all(is_as(words_had, words.split()) for _, words_had in have):
            shown = " and ".join(f"{n} x {' '.join(words_had)}" for n, words_had in have)
            yield f"{size} bytes: {shown or 'no stack'}; expected {calls} x {words}"
