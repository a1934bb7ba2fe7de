#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that never return: left by longjmp, by siglongjmp from a signal handler, by the death of the thread. Later ones are exact."""
import harness as h


def jumps():
    h.run_exact(h.build("jumps"), "jumps")


h.main(jumps)
