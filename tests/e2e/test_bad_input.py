#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input: the right exit code, exactly one line on stderr that names the object, nothing attached."""
import os
import shutil
import signal
import subprocess
import time

import harness as h


def run(args, code, names=(), seconds=15, prefix=(), quiet=True, tool=None):
    """One call of the tool that must fail."""
    p = h.Process([*prefix, tool or h.TOOL, *args], stdin=subprocess.DEVNULL)
    what = " ".join(str(a) for a in args)
    codes = code if isinstance(code, tuple) else (code,)
    got = p.wait(seconds, what)
    lines = p.error_lines()
    h.check(got in codes, f"`{what}`: exit code {got}, expected {code}; stderr {lines}")
    h.check(len(lines) == 1, f"`{what}`: {len(lines)} lines on stderr instead of one: {lines}")
    for n in names:
        h.check(str(n).lower() in lines[0].lower(), f"`{what}`: {n!r} is not named: {lines[0]}")
    if quiet:
        with p.lock:
            h.check(not b"".join(p.out).strip(), f"`{what}`: something on stdout: {p.out[:2]}")
    return lines[0]


def need_tool():
    if not h.TOOL.exists():
        raise h.Skip(f"{h.TOOL.name} is not built")


def unused_pid():
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as f:
        top = int(f.read())
    return next(p for p in range(top - 1, 1, -1) if not os.path.exists(f"/proc/{p}"))


def unknown_pid():
    need_tool()
    pid = unused_pid()
    for command in ("top", "leaks"):
        run([command, "-p", pid], 4, [pid])
    run(["top", "-f", "json", "-p", pid], 4, [pid], quiet=False)
    run(["top", "-p", "99999999999999"], (2, 4), ["99999999999999"])


def zombie():
    need_tool()
    dead = subprocess.Popen(["/bin/true"], stdin=subprocess.DEVNULL)
    h.wait_until(lambda: open(f"/proc/{dead.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()[0] == "Z", 5, "zombie")
    try:
        run(["top", "-f", "json", "-d", "1", "-p", dead.pid], 4, [dead.pid], quiet=False)
    finally:
        dead.wait()


def ends_while_attaching():
    need_tool()
    for n in range(12):
        with h.Target([*h.build("many"), "10"]) as t:
            tool = h.Process([h.TOOL, "top", "-f", "json", "-i", "0.3", "-p", t.pid], stdin=subprocess.DEVNULL)
            time.sleep(0.02 * n)
            t.kill(signal.SIGKILL)
            t.wait(5)
            code = tool.wait(15, "tidemark, whose target ended while it attached,")
            lines = tool.error_lines()
            with tool.lock:
                seen = b'"tick"' in b"".join(tool.out)
            h.check(code == 4 and len(lines) == 1 or code == 0 and not lines,
                    f"target ended after {20 * n} ms: exit code {code}, stderr {lines}")
            h.check(code == 4 or seen, f"target ended after {20 * n} ms: exit 0, but nothing was seen")


def no_allocator():
    need_tool()
    with h.Target(h.build("loop64"), ready=False) as t:
        before = h.patched_bytes(t.pid)
        run(["top", "-f", "json", "-d", "2", "--layer", "heap", "-p", t.pid], (1, 4), [t.pid], quiet=False)
        h.check_equal((t.p.poll(), h.patched_bytes(t.pid)), (None, before), "the target afterwards")


def bits_32():
    need_tool()
    with h.Target(h.build("loop32"), ready=False) as t:
        line = run(["top", "-f", "json", "-d", "2", "--layer", "heap", "-p", t.pid], (1, 4), [t.pid, "32"], quiet=False)
        h.check_equal((t.p.poll(), h.patched_bytes(t.pid)), (None, []), f"the target afterwards ({line})")


def not_root():
    need_tool()
    d = h.scratch()
    os.chmod(d, 0o755)
    copy = shutil.copy(h.TOOL, d / "tidemark")
    os.chmod(copy, 0o755)
    prefix = [h.find_program("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
    for args in (["top", "-a"], ["top", "-p", "1"], ["leaks", "-p", "1"], ["top", "--", "/bin/true"]):
        run([*args, "-d", "1"], 1, ["root"], prefix=prefix, tool=copy)
    version = subprocess.run([*prefix, copy, "--version"], capture_output=True, check=False)
    h.check_equal(version.returncode, 0, "exit code of --version without root")


def held_command_goes():
    """A command that was never let go ends with us."""
    need_tool()
    mark = f"mark-{os.getpid()}"
    run(["top", "--", "/bin/echo", mark], 1, ["type information"], prefix=["env", "TIDEMARK_SIMULATE_NO_BTF=1"])

    def gone():
        for p in os.listdir("/proc"):
            try:
                with open(f"/proc/{p}/cmdline", "rb") as f:
                    if p.isdigit() and int(p) != os.getpid() and mark.encode() in f.read():
                        return False
            except OSError:
                pass
        return True

    h.wait_until(gone, 5, "the held command is gone")


def no_btf():
    need_tool()
    run(["top", "-p", os.getpid()], 1, ["type information", "CONFIG_DEBUG_INFO_BTF"], prefix=["env", "TIDEMARK_SIMULATE_NO_BTF=1"])


def usage():
    need_tool()
    pid = os.getpid()
    for args, names in (
            (["top", "-a", "-p", pid], ["-a", "-p"]),
            (["top", "-p", pid, "--", "/bin/true"], ["-p", "--"]),
            (["top", "--mode", "pages", "--layer", "heap", "-p", pid], ["pages", "heap"]),
            (["top", "-i", "0"], ["-i"]),
            (["top", "-i", "-1"], ["-i"]),
            (["top", "-i", "x"], ["-i"]),
            (["top", "-d", "-5"], ["-d"]),
            (["top", "-n", "("], ["("]),
            (["top", "--budget", "-3"], ["budget"]),
            (["leaks", "--consecutive", "0", "-p", pid], ["consecutive"]),
            (["leaks", "--threshold", "x", "-p", pid], ["threshold"]),
            (["leaks", "--min-size", "-1", "-p", pid], ["min-size"]),
            (["top", "--layer", "brain"], ["brain"]),
            (["top", "--mode", "guess"], ["guess"]),
            (["top", "--sort", "beauty"], ["beauty"]),
            (["top", "--limit", "-1"], ["limit"]),
            (["top", "-f", "xml"], ["xml"]),
            (["top", "-p", "x"], ["x"]),
            (["top", "-p", "1,,2"], ["pid"]),
            (["top", "-p", "-4"], ["-4"]),
            (["top", "-p", ""], ["pid"]),
            (["top", "-p"], ["-p"]),
            (["top", "--"], ["--"]),
            (["top", "--no-such-option"], ["no-such-option"]),
            (["top", "stray"], ["stray"]),
            (["no-such-command"], ["no-such-command"]),
            (["top", "-p", pid, "-n", "x"], []),
            (["top", "-p", pid, "-g", "x"], [])):
        run([*args], 2, names)


def missing_objects():
    need_tool()
    run(["top", "-g", "no/such/cgroup"], 1, ["no/such/cgroup"])
    run(["top", "-g", "/sys/fs/cgroup/no-such-group"], 1, ["no-such-group"])
    run(["top", "--", "/no/such/program"], 1, ["/no/such/program"])
    run(["top", "--", "/etc/passwd"], 1, ["/etc/passwd"])
    run(["top", "-f", "json", "-d", "1", "-o", "/no/such/dir/out", "-p", os.getpid()], 1, ["/no/such/dir/out"])


def all_on_one_line_each():
    """A mixture: one pid that lives and one that doesn't. The living one is watched, or it is refused; never silence."""
    need_tool()
    pid = unused_pid()
    with h.Target([*h.build("many"), "10"]) as t:
        p = h.Process([h.TOOL, "top", "-f", "json", "-i", "0.3", "-d", "1", "-p", f"{t.pid},{pid}"], stdin=subprocess.DEVNULL)
        code = p.wait(15)
        h.check(code in (0, 4), f"exit code {code}")
        h.check(len(p.error_lines()) == 1 and str(pid) in p.errors(), f"the missing pid {pid} is not named in one line: {p.error_lines()}")


h.main(unknown_pid, zombie, ends_while_attaching, no_allocator, bits_32, not_root, held_command_goes, no_btf, usage, missing_objects, all_on_one_line_each)
