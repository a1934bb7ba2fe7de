#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Twelve times attached and let go, or killed, under load: nothing crashes, nothing is stuck, nothing is left. tests/stat/attach_loop.py is the long form,
and judges how long a round took.
"""
import attaching
import harness as h


def twelve_times():
    found = attaching.run(12, 1)
    attaching.table(found)


h.main(twelve_times)
