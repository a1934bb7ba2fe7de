#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Static executables: the allocator is found by the symbol table of the program itself."""
import harness as h


def static_c():
    h.run_exact(h.build("shapes_static"), "shapes")


def static_cxx():
    h.run_exact(h.build("cxx_static"), "cxx")


h.main(static_c, static_cxx)
