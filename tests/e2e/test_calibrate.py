#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hit costs: measured in a child, kept until the next boot, measured again where the kept figures can't be used. How true they are, tests/bench tells."""
import json
import os
import re
import signal
import stat
import subprocess

import harness as h

KERNEL = ("emulated_ns", "stepped_ns", "nop5_ns", "return_ns")
BODIES = ("body_skip_ns", "body_count_ns", "body_stack_ns", "body_free_ns")


class Place:
    """Where the figures are kept, for this test only."""

    def __init__(self, directory=None):
        self.dir = directory or h.scratch() / "run"
        self.file = self.dir / "costs-v1"
        self.env = dict(os.environ, TIDEMARK_COSTS_DIR=str(self.dir), TIDEMARK_DEBUG="1")

    def costs(self):
        """The `costs` line of `probes` on ourselves, and what it said on stderr."""
        done = subprocess.run([h.TOOL, "probes", "-f", "json", "-p", str(os.getpid())], capture_output=True, text=True, timeout=60,
                              env=self.env, check=False)
        h.check_equal(done.returncode, 0, f"exit code of probes ({done.stderr.strip()})")
        found = [l for l in map(json.loads, done.stdout.splitlines()) if l["type"] == "costs"]
        h.check_equal(len(found), 1, "`costs` lines")
        h.check(found[0]["known"], f"no costs: {done.stderr.strip()}")
        return found[0], done.stderr


def figures(line):
    return {k: v for k, v in line.items() if k.endswith("_ns")}


def plausible_and_kept():
    place = Place()
    first, said = place.costs()
    print("     " + ", ".join(f"{k} {v}" for k, v in figures(first).items()))
    h.check(first["fresh"], "nothing was kept, but the figures are not new")
    for k in KERNEL + BODIES:
        h.check(first[k] is not None and 1 <= first[k] <= 1e6, f"{k} is {first[k]}")
    h.check(re.search(r"costs of hits: measured in", said), f"no word on how long it took: {said}")
    h.check_equal(stat.S_IMODE(place.dir.stat().st_mode), 0o755, "mode of the directory")
    h.check_equal(stat.S_IMODE(place.file.stat().st_mode), 0o644, "mode of the file")
    h.check_equal(os.listdir(place.dir), ["costs-v1"], "what lies in the directory")
    second, said = place.costs()
    h.check_equal((second["fresh"], figures(second)), (False, figures(first)), "the second start")
    h.check("costs of hits: measured" not in said, f"measured again: {said}")


def unusable_files():
    place = Place()
    place.costs()
    text = place.file.read_text()
    boot = re.search(r"^boot (\S+)$", text, re.M)[1]
    broken = {
        "garbage": "\0\xff" * 50000, "cut": text[:-4], "another boot": text.replace(boot, boot[::-1]),
        "beyond belief": re.sub(r"emulated_ps \d+", "emulated_ps 999999999999", text),
    }
    for what, content in broken.items():
        place.file.write_text(content, encoding="latin-1")
        again = place.costs()[0]
        h.check(again["fresh"], f"{what}: the file was believed")
        h.check(1 <= again["emulated_ns"] <= 1e6, f"{what}: {again['emulated_ns']} ns")
        h.check_equal(len(place.file.read_text().splitlines()), len(text.splitlines()), f"{what}: lines written")


def files_of_others():
    """One that anybody may write, one of another user, a link, a pipe: not read; the run goes on."""
    place = Place()
    place.costs()
    place.file.chmod(0o666)
    h.check(place.costs()[0]["fresh"], "a file that anybody may write was believed")
    os.chown(place.file, 65534, 65534)
    h.check(place.costs()[0]["fresh"], "another user's file was believed")
    elsewhere = place.dir.parent / "elsewhere"
    place.file.rename(elsewhere)
    before = elsewhere.read_text()
    place.file.symlink_to(elsewhere)
    h.check(place.costs()[0]["fresh"], "a link was followed")
    h.check(not place.file.is_symlink() and elsewhere.read_text() == before, "written through a link")
    place.file.unlink()
    os.mkfifo(place.file)
    h.check(place.costs()[0]["fresh"], "a pipe was read")
    h.check(place.file.is_file(), "the pipe was not replaced")


def nowhere_to_write():
    from pathlib import Path
    place = Place(Path("/proc/nothing/here"))
    for _ in range(2):
        line, said = place.costs()
        h.check(line["fresh"], "kept nowhere, but not new")
        h.check("can't be written" in said, f"not told: {said}")


def stat_of(pid):
    """(state, parent) of a process; None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            state, parent = f.read().rsplit(")", 1)[1].split()[:2]
    except OSError:
        return None
    return state, int(parent)


def child_of(pid):
    """Processes born since `pid` are looked at only: their numbers follow its own."""
    newer = [int(d) for d in os.listdir("/proc") if d.isdigit() and int(d) > pid]
    for p in newer:
        state, parent = stat_of(p) or ("Z", 0)
        if parent == pid and state != "Z":
            return p
    return None


def is_dead(pid):
    return (stat_of(pid) or ("Z", 0))[0] == "Z"


def killed_on_the_way():
    """The child that is measured dies with its parent, and takes the probes with it."""
    place = Place()
    seen = 0
    for _ in range(20):
        place.file.unlink(missing_ok=True)
        with h.Process([h.TOOL, "probes", "-p", str(os.getpid())], env=place.env) as tool:
            child = h.wait_until(lambda: child_of(tool.pid) or (tool.p.poll() is not None and "ended"), 30, "a child, or the end", step=0)
            tool.kill(signal.SIGKILL)
            tool.wait(10)
        if child != "ended":
            seen += 1
            h.wait_until(lambda: is_dead(child), 10, f"the child {child} dies with its parent")
        if seen == 3:
            break
    h.check(seen, "no child was ever seen")
    h.check(place.costs()[0]["known"], "nothing is known after that")


def live_start_leaves_no_trace():
    """A run that calibrates first shows the same figures as one that does not: the child's calls are nobody's."""
    place = Place()
    with h.Target([*h.build("many"), "10"]) as t:
        for fresh in (True, False):
            with h.Tool("top", "-f", "json", "-i", "0.3", "--mode", "exact", "-p", str(t.pid), env=place.env) as tool:
                tool.attached()
                i = tool.fresh()
                h.check_equal([p["pid"] for p in i.procs], [t.pid], "processes")
                h.check_equal({s["pid"] for s in i.stacks} - {t.pid}, set(), "stacks of others")
                h.check("costs of hits: " in tool.errors(), f"no calibration at the start: {tool.errors()}")
                h.check_equal("costs of hits: measured" in tool.errors(), fresh, "measured at this start")
                tool.finish()


h.main(plausible_and_kept, unusable_files, files_of_others, nowhere_to_write, killed_on_the_way, live_start_leaves_no_trace)
