#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native stacks of redis-server under redis-benchmark: complete, and as libdw unwinds them."""
import oracle

oracle.main(oracle.Redis)
