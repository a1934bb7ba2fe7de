#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that never return: left by longjmp, by siglongjmp from a signal handler, by the death of the thread. Later ones are exact."""
import harness as h


def jumps():
    # a call that never returns and a return that was not seen look the same: it is labelled, and must not be more than that
    truth, interval = h.run_exact(h.build("jumps"), "jumps", allowed=("missed_return",))
    lost = interval.proc(truth["pid"])["losses"].get("missed_return", 0)
    h.check(lost <= 300 * 4 + 200 + 16, f"{lost} missed returns; 1200 longjmps, 200 jumps of the handler, 16 threads")


h.main(jumps)
