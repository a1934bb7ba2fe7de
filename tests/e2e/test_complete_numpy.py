#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native stacks of numpy in several threads: complete, and as libdw unwinds them."""
import oracle

oracle.main(oracle.Numpy)
