#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The live screen on a terminal: first table, keys, q quits, the terminal is restored however it ends."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import harness as h

ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78]|\][^\x07]*\x07)")


class Screen:
    """The tool on a pseudo-terminal of 120 x 30."""

    def __init__(self, *args, rows=30, columns=120):
        if not h.TOOL.exists():
            raise h.Skip(f"{h.TOOL.name} is not built")
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.raw = b""
        self.began = time.monotonic()
        self.p = subprocess.Popen([str(a) for a in (h.TOOL, "top", *args)], stdin=slave, stdout=slave, stderr=slave, close_fds=True,
                                  env=dict(os.environ, TERM="xterm-256color", LANG="C.UTF-8"), start_new_session=True)
        h._started.append(self.p)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.05):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            try:
                self.raw += os.read(self.master, 65536)
            except OSError:
                pass
        return self.raw

    def text(self):
        return ESCAPES.sub(b" ", self.read()).decode(errors="replace")

    def shows(self, pattern, seconds, since=0):
        def look():
            if self.p.poll() is not None and not self.read(0):
                raise h.Failure(f"ended with {self.p.returncode}: {self.text()[-300:]!r}")
            self.read()
            return re.search(pattern, ESCAPES.sub(b" ", self.raw[since:]).decode(errors="replace"))

        return h.wait_until(look, seconds, f"the screen shows {pattern!r}; it shows {self.text()[-400:]!r}", step=0)

    def key(self, keys):
        os.write(self.master, keys)
        return len(self.raw)

    def ended(self, seconds, code):
        h.wait_until(lambda: self.read() and self.p.poll() is not None, seconds, "the tool has ended")
        h.check_equal(self.p.returncode, code, f"exit code ({self.text()[-300:]!r})")
        for _ in range(5):
            self.read()
        h.check_equal(termios.tcgetattr(self.slave), self.before, "terminal settings afterwards")
        opened, closed = self.raw.rfind(b"\x1b[?1049h"), self.raw.rfind(b"\x1b[?1049l")
        h.check(opened < 0 or closed > opened, "the alternate screen is still there")
        hidden, shown = self.raw.rfind(b"\x1b[?25l"), self.raw.rfind(b"\x1b[?25h")
        shown = max(shown, self.raw.rfind(b"\x1b[?12;25h"), self.raw.rfind(b"\x1b[34h\x1b[?25h"))
        h.check(hidden < 0 or shown > hidden, "the cursor is still hidden")

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        os.close(self.slave)
        os.close(self.master)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def first_table_and_quit():
    with h.Target([*h.build("many"), "1000"]) as t, Screen("-p", t.pid) as s:
        s.shows(r"\bmany\b", 10)
        print(f"     first table after {time.monotonic() - s.began:.2f} s")
        s.key(b"q")
        s.ended(5, 0)


def open_a_process():
    """Enter opens the stacks of a process, Enter again one stack; ? is help."""
    with h.Target([*h.build("many"), "1000"]) as t, Screen("-p", t.pid, "-i", "0.5", "--mode", "exact") as s:
        s.shows(r"\bmany\b", 10)
        t.send()
        t.said("many")
        at = s.key(b"\r")
        s.shows(r"site_first", 10, at)
        at = s.key(b"\r")
        s.shows(r"main", 10, at)
        at = s.key(b"?")
        s.shows(r"next layer", 10, at)
        s.key(b"qqqq")  # out of the help, and out
        s.ended(5, 0)


def resized():
    with h.Target([*h.build("leaky"), "leak"]) as t, Screen("-p", t.pid, "-i", "0.3") as s:
        t.send()
        s.shows(r"\bleaky\b", 10)
        for rows, columns in ((5, 20), (1, 1), (60, 300), (24, 80)):
            at = len(s.raw)
            s.resize(rows, columns)
            os.kill(s.p.pid, signal.SIGWINCH)
            h.wait_until(lambda before=at: len(s.read()) > before or rows * columns < 50, 5, f"something is drawn at {rows} x {columns}")
            h.check_equal(s.p.poll(), None, f"exit code after a resize to {rows} x {columns}")
        at = len(s.raw)
        s.shows(r"leaky", 10, at - 1)
        s.key(b"q")
        s.ended(5, 0)


def told_to_end():
    for sig in (signal.SIGTERM, signal.SIGINT):
        with h.Target([*h.build("many"), "10"]) as t, Screen("-p", t.pid) as s:
            s.shows(r"\bmany\b", 10)
            os.kill(s.p.pid, sig)
            s.ended(5, 0)


def target_goes():
    with h.Target([*h.build("many"), "10"]) as t, Screen("-p", t.pid, "-i", "0.3") as s:
        s.shows(r"\bmany\b", 10)
        t.kill(signal.SIGKILL)
        h.wait_until(lambda: s.read() and s.p.poll() is not None, 10, "the tool ends when its target is gone")
        s.ended(1, 0)


def plain_tables():
    """Not a terminal: one plain table per interval, no escape sequences."""
    with h.Target([*h.build("many"), "1000"]) as t:
        t.send()
        t.said("many")
        with h.Process([h.TOOL, "top", "-i", "0.3", "-p", t.pid], stdin=subprocess.DEVNULL) as p:
            def output():
                with p.lock:
                    return b"".join(p.out)

            h.wait_until(lambda: len(re.findall(rb"(?m)^ *\d+ many\b", output())) >= 3 or p.p.poll() is not None, 20, "three tables")
            p.kill(signal.SIGINT)
            h.check_equal(p.wait(20), 0, f"exit code ({p.errors()})")
        h.check(b"\x1b" not in output(), "escape sequences in a plain table")
        h.check(len(re.findall(rb"(?m)^ *\d+ many\b", output())) >= 3, f"too few tables: {output()[:500]!r}")


h.main(first_table_and_quit, open_a_process, resized, told_to_end, target_goes, plain_tables)
