#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
`make bench`: every bench, one table, printed and written to build/bench.md. Timings never fail the run, only errors do; bars that were
missed are listed at the end. Needs root, and hours of an idle machine: BENCH_QUICK=1 runs everything for a moment, which shows that it works and
measures nothing. `make bench ARGS="pair governor --rounds 7"` runs some.
"""
import subprocess
import sys

import common
from bar1_pair import pair
from bar2_services import service
from bar3_host import host
from bar4_governor import governor
from bar7_attach import attach
from calibrate import calibrate
from kill import kill
from stacks import stacks

STATISTICS = common.HERE.parent / "stat"
STAT_SECONDS = 7200
OURS = {"attach_loop.py", "scale.py"}  # what 7 and 3 measure
QUICK = {"sampled.py": ("--runs", "2", "--python-runs", "1")}


def statistic(report, settings):
    """Whether sampled numbers are true (5) and leaks are found (6): tests of their own, whose output is taken as it is."""
    scripts = [p for p in sorted(STATISTICS.glob("*.py")) if p.stat().st_mode & 0o100 and p.name not in OURS]
    if not scripts:
        raise common.h.Skip("there are none in tests/stat")
    for script in scripts:
        if settings.quick and script.name not in QUICK:
            continue
        report.section(f"5, 6. {script.relative_to(common.h.ROOT)}")
        with common.h.Process([script, *(QUICK[script.name] if settings.quick else ())], stdin=subprocess.DEVNULL, preexec_fn=common.die_with_parent) as p:
            code = p.wait(STAT_SECONDS)
            text = b"".join(p.out).decode(errors="replace").strip()
        report.verbatim(text)
        if code == 77:
            report.note("skipped")
        elif code:
            report.miss(f"exit {code} {' '.join(p.error_lines()[-1:])}".strip())


BENCHES = {"calibrate": calibrate, "pair": pair, "service": service, "host": host, "governor": governor, "statistic": statistic, "attach": attach, "kill": kill,
           "stacks": stacks}

if __name__ == "__main__":
    options = common.options_of(sys.argv[1:], BENCHES)
    common.run_all({n: BENCHES[n] for n in options.what or BENCHES}, options)
