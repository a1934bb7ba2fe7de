# SPDX-License-Identifier: GPL-2.0-or-later
"""
Allocations of known sizes at known lines, one or more for each way in which Python code comes to run; by theme in sites_*.py. What each
line asks of malloc is recorded by the sizes themselves (truth.py).
"""
import ctypes
import sys

import sites_flow
import sites_made
import sites_plain
import sites_text
from truth import BYTES, EXACT, LIST, S, begin, finish, keep, note

FOLDER = begin()

# --- module level, and each kind of object ---

keep(bytearray(S("module level")))
keep(bytes(S("module level, bytes", BYTES)))
keep(b"x" * S("module level, repeated bytes", BYTES))
keep([None] * S("module level, list", LIST))
keep(ctypes.create_string_buffer(32)), keep((ctypes.c_char * note(S("module level, ctypes array", EXACT)))())

# --- all others ---

sys.path.insert(0, FOLDER)
for part in (sites_plain.functions, sites_plain.classes, sites_plain.nested, sites_flow.generators, sites_flow.coroutines, sites_flow.threads,
             sites_flow.depth, sites_flow.callbacks, sites_text.exceptions, sites_text.contexts, sites_text.decorators, sites_text.lines,
             sites_made.generated):
    part()
sites_made.long_functions(FOLDER)
sites_made.imports(FOLDER)
finish(FOLDER, missing=dict(sites_flow.MISSING, **sites_made.MISSING))
