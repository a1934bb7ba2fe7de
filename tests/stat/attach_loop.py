#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A thousand times attached and let go, or killed, under load (tests/e2e/attaching.py): no crash, nothing stuck, no breakpoint left, and no
round of the programs longer than 50 ms. On a busy machine the scheduler alone can take that: compare with the rounds without.

  attach_loop.py [CYCLES]
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
import attaching  # noqa: E402
import harness as h  # noqa: E402

LONGEST_MS = 50


def main():
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    h.need_root()
    began = time.monotonic()

    def progress(n, found):
        if n % 50 == 0 or max(found.values()) > LONGEST_MS:
            print(f"{n:5} {time.monotonic() - began:6.0f} s  {found}", flush=True)

    found = attaching.run(cycles, min(60, cycles), progress)
    attaching.table(found)
    late = {name: max(rounds) for name, (_, rounds) in found.items() if max(rounds) > LONGEST_MS}
    print(f"WRONG above {LONGEST_MS} ms: {late}" if late else f"never above {LONGEST_MS} ms")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
