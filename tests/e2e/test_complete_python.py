#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native stacks of Debian's python3 at work with json, regular expressions, sqlite and threads: complete, and as libdw unwinds them."""
import oracle

oracle.main(oracle.Python)
