# SPDX-License-Identifier: GPL-2.0-or-later
"""
Code objects that are freed and made anew at the same address, with other names, files or lines, and that differ from the one before in
as little as possible. In a rush, when nobody can read them in time, and slowly, when each one lives until it was looked at.
"""
import os

from truth import S, begin, finish, keep, wait_for

RUSH, SLOW = 60, 3
TEXT = """{gap}def {name}(s):
    keep(bytearray(s))
{name}(s)
"""


held = []


def hold():
    """Says FOLDER/alive-N and waits for FOLDER/seen-N."""
    n = len(held)
    held.append(n)
    open(os.path.join(folder, "alive-%d" % n), "w").close()
    wait_for(os.path.join(folder, "seen-%d" % n))


def once(vary, i, size, slow=False):
    """What varies with i: the rest is equal, even in length."""
    name = "reused_%s_%03d" % (vary, i if vary in ("name", "all") else 0)
    path = "/reused/%s_%03d.py" % (vary, i if vary in ("file", "all") else 0)
    gap = "\n" * (100 + (i if vary in ("line", "all") else 0))
    names = {"keep": keep, "s": size}
    code = compile(TEXT.format(gap=gap, name=name), path, "exec")
    exec(code, names)
    if slow:
        hold()
    names.clear()


def body(vary, i, size, slow=False):
    """Equal names, file and first line; the line of the allocation differs, and so does the table of lines."""
    names = {"keep": keep, "s": size}
    code = compile("def reused_body(s):\n" + "\n" * (1 + i) + "    keep(bytearray(s))\nreused_body(s)\n", "/reused/body.py", "exec")
    exec(code, names)
    if slow:
        hold()
    names.clear()


def imported(vary, i, size, slow=False):
    """As the import of many small modules leaves it: only the module's own code, all beginning in line 1."""
    path = "/reused/%s_%03d.py" % (vary, i)
    names = {"keep": keep, "s": size}
    code = compile("keep(bytearray(s))\n", path, "exec")
    exec(code, names)
    if slow:
        hold()
    names.clear()


folder = begin()
for vary, how in ("name", once), ("file", once), ("line", once), ("all", once), ("body", body), ("module", imported):
    for n in range(RUSH):
        how(vary, n, S("%s, rushed" % vary, gone=True))
    for n in range(SLOW):
        how(vary, RUSH + n, S("%s, slow" % vary), True)
finish(folder)
