#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""All forms of operator new and delete, bad_alloc thrown and caught, new_handlers that throw or jump: exact, at the operator."""
import harness as h


def cxx():
    h.run_exact(h.build("cxx"), "cxx")


h.main(cxx)
