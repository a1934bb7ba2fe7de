# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps small objects, some megabytes per second, until the file `end` is there. Argument: folder. Writes `ready`."""
import os
import sys
import time

folder = sys.argv[1]
kept = []


def grow():
    for i in range(3000):
        kept.append([i] * (i % 40))
        kept.append("%d" % i)
        kept.append({i: (i, str(i))})


with open(os.path.join(folder, "ready.part"), "w") as f:
    f.write(str(os.getpid()))
os.rename(os.path.join(folder, "ready.part"), os.path.join(folder, "ready"))
while not os.path.exists(os.path.join(folder, "end")):
    grow()
    if len(kept) > 200000:
        del kept[:150000]
    time.sleep(0.05)
