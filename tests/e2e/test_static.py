#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Static executables: the allocator is found by the symbol table of the program itself."""
import time

import harness as h


def rewritten_in_place():
    """The same inode holds another program by its next start: places of probes are those of the code that is there now."""
    shapes, cxx = h.build("shapes_static", "cxx_static")
    app = h.scratch() / "tide-app"
    app.write_bytes(shapes.read_bytes())
    app.chmod(0o755)
    inode = app.stat().st_ino
    with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-n", "tide-ap[p]") as tool:
        tool.attached()
        for program, tag in ((shapes, "shapes"), (cxx, "cxx"), (shapes, "shapes")):
            with open(app, "r+b") as f:
                f.write(program.read_bytes())
                f.truncate()
            h.check(app.stat().st_ino == inode, "the file is still the same one")
            time.sleep(0.5)  # its old probes go within milliseconds
            with h.Target([app]) as t:
                tool.until(lambda i, t=t: i.proc(t.pid, state="running"), 10, "it is followed")
                t.send()
                h.check_truth(tool.fresh(), t.said(tag))
        tool.finish()


def static_c():
    h.run_exact(h.build("shapes_static"), "shapes")


def static_cxx():
    h.run_exact(h.build("cxx_static"), "cxx")


h.main(static_c, static_cxx, rewritten_in_place)
