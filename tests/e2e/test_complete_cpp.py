#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native stacks of a stripped C++ program without frame pointers: complete, and as libdw unwinds them."""
import oracle

oracle.main(oracle.Cpp)
