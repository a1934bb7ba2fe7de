#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Names in running processes: generated code named by perf maps (our own, Node's, CPython's), in containers too; files that were deleted
or replaced; static executables of musl.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import harness as h

NAME = "generated::forwards /app.js:7"
TOP = ["top", "-f", "json", "-i", "1", "--limit", "0"]


def stacks_of(interval, function):
    """Frames of the stacks in which a function of this name allocates."""
    return [s["frames"] for s in interval.stacks if any(f["name"] == function for f in s["frames"])]


def callers(interval, function="site_plain"):
    """What called it: the frame after it, in each stack."""
    found = []
    for frames in stacks_of(interval, function):
        at = [f["name"] for f in frames].index(function)
        found += frames[at + 1:at + 2]
    return found


def generated(target, pid, inside):
    """Without a map the address alone; the name as soon as it is written, for the stacks seen before too."""
    with h.Tool(*TOP, "-p", pid) as tool:
        tool.attached()
        target.send()
        target.said("unnamed")
        found = callers(tool.until(callers, 30, "the stack of generated code"))
        for f in found:
            h.check(re.fullmatch(r"0x[0-9a-f]+", f["name"]) and f["module"] is None and f["kind"] == "native", f"a frame without a name is {f}")
        target.send()
        h.check_equal(target.said("named")["pid"], inside, "the pid that the target has for itself")
        found = callers(tool.until(lambda i: any(f["name"] == NAME for f in callers(i)), 30, "the name out of the perf map"))
        h.check_equal({f["name"] for f in found}, {NAME}, "callers of site_plain")
        h.check_equal({f["module"] for f in found}, {f"/tmp/perf-{inside}.map"}, "their module")
        for frames in stacks_of(tool.fresh(), "site_plain"):
            names = [f["name"] for f in frames]
            h.check("use_generated" in names and "main" in names, f"the stack does not go on beyond generated code: {names}")
        tool.finish()


def generated_code():
    with h.Target(h.build("names_jit")) as t:
        try:
            generated(t, t.pid, t.pid)
        finally:
            Path(f"/tmp/perf-{t.pid}.map").unlink(missing_ok=True)


def child_of(pid):
    return h.wait_until(lambda: [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()], 10, "the child of unshare")[0]


def generated_code_in_a_container():
    """A mount and a pid namespace of its own: its /tmp is another one, its pid is 1, and its program's path leads nowhere outside."""
    if not shutil.which("unshare"):
        raise h.Skip("no unshare")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        raise h.Skip("namespaces can't be made here")
    script = f'exec 9<{h.build("names_jit")[0]} && mount -t tmpfs none /tmp && exec /proc/self/fd/9'
    with h.Target(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]) as t:
        generated(t, child_of(t.pid), 1)


def named_after(change):
    """Attached after its file was changed, it still has the names and lines of what it runs."""
    copy = h.scratch() / "names_jit"
    shutil.copy(h.build("names_jit")[0], copy)
    with h.Target([copy]) as t:
        change(copy)
        try:
            with h.Tool(*TOP, "-p", t.pid) as tool:
                tool.attached()
                t.send()
                t.said("unnamed")
                tool.until(callers, 30, "the stack")
                t.send()
                t.said("named")
                frames = stacks_of(tool.fresh(), "site_plain")[0]
                site = next(f for f in frames if f["name"] == "site_plain")
                h.check(site["file"] and site["file"].endswith("names_jit.c") and site["line"], f"no line of {site}")
                h.check_equal(site["module"], str(copy), "the module's path")
                tool.finish()
        finally:
            Path(f"/tmp/perf-{t.pid}.map").unlink(missing_ok=True)


def deleted_file():
    named_after(lambda path: path.unlink())


def upgraded_file():
    def upgrade(path):
        new = path.with_suffix(".new")
        shutil.copy("/bin/true", new)
        new.rename(path)

    named_after(upgrade)


def static_musl():
    if not shutil.which("musl-gcc"):
        raise h.Skip("no musl-gcc")
    program = h.scratch() / "names_musl"
    source = h.ROOT / "tests/e2e/targets/names_jit.c"
    made = subprocess.run(["musl-gcc", "-static", "-O2", "-g", "-D_GNU_SOURCE", "-fno-builtin", "-I", source.parent, source, "-o", program],
                          capture_output=True, text=True, check=False)
    h.check(made.returncode == 0, f"musl-gcc: {made.stderr[-300:]}")
    with h.Target([program]) as t:
        try:
            generated(t, t.pid, t.pid)
        finally:
            Path(f"/tmp/perf-{t.pid}.map").unlink(missing_ok=True)


def interpreter(command, pattern, what):
    """A program whose interpreter writes the map. It starts when told, allocates for ever, and is ended."""
    with h.Process(command) as p:
        path = Path(f"/tmp/perf-{p.pid}.map")
        try:
            h.wait_until(path.exists, 20, f"{what} writes its perf map")
            with h.Tool(*TOP, "--native", "-p", p.pid) as tool:
                tool.attached()
                named = lambda i: [f for s in i.stacks for f in s["frames"] if re.match(pattern, f["name"]) and f["module"] == str(path)]
                tool.until(named, 40, f"frames of {what} that are called {pattern!r}")
                tool.finish()
        finally:
            path.unlink(missing_ok=True)


def node():
    if not shutil.which("node"):
        raise h.Skip("no node")
    script = """
        function allocates(n) { return Buffer.allocUnsafeSlow(n).length; }
        function outerWork() { let s = 0; for (let i = 0; i < 50; i++) s += allocates(20000 + i); return s; }
        setInterval(outerWork, 2);
    """
    interpreter(["node", "--perf-basic-prof", "--interpreted-frames-native-stack", "-e", script], r".*(allocates|outerWork)", "node")


def cpython():
    """From 3.12 on, with -X perf: a trampoline for each code object."""
    found = sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3")) + [Path("/usr/bin/python3")]
    for python in found:
        if subprocess.run([python, "-X", "perf", "-c", "import sys; sys.exit(not sys.is_stack_trampoline_active())"],
                          capture_output=True, check=False).returncode == 0:
            break
    else:
        raise h.Skip("no Python of 3.12 or later")
    script = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def allocates(n):
    libc.free(ctypes.c_void_p(libc.malloc(n)))
def outer_work():
    for i in range(50):
        allocates(3000 + i)
while True:
    outer_work()
    time.sleep(.002)
"""
    interpreter([python, "-X", "perf", "-c", script], r"py::(allocates|outer_work):", "CPython")


h.main(generated_code, generated_code_in_a_container, deleted_file, upgraded_file, static_musl, node, cpython)
