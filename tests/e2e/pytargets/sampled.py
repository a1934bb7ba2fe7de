# SPDX-License-Identifier: GPL-2.0-or-later
"""
Python objects too large for pymalloc, so that each is one block of malloc or calloc, of known size. Says ready, waits for a line,
prints its truth, waits for another. Argument: seed.
"""
import json
import random
import sys

PLACES = 1000
CALLS = 8000


class Site:
    def __init__(self):
        self.places = [(None, 0)] * PLACES
        self.alloc_bytes = self.alloc_count = 0

    def put(self, at, thing, size):
        self.places[at] = (thing, size)
        self.alloc_bytes += size
        self.alloc_count += 1

    def truth(self, name):
        live = [size for thing, size in self.places if thing is not None]
        return {"caller": name, "alloc_bytes": self.alloc_bytes, "alloc_count": self.alloc_count, "live_bytes": sum(live),
                "live_count": len(live)}


def make_bytes(n):
    thing = b"x" * n
    return thing, sys.getsizeof(thing)


def make_bytearray(n):
    thing = bytearray(n)
    return thing, thing.__alloc__()  # the object itself is pymalloc's


def make_nothing(n):
    return None, n


def run(seed):
    draw = random.Random(seed)
    sites = {make_bytes: Site(), make_bytearray: Site()}
    for _ in range(CALLS):
        for make, site in sites.items():
            at, n = draw.randrange(PLACES), int(600 * 2 ** draw.uniform(0, 6))
            site.places[at] = make_nothing(0)
            thing, size = make(n)
            site.put(at, thing, size)
    return sites


def main():
    print(json.dumps({"tag": "ready"}), flush=True)
    sys.stdin.readline()
    sites = run(int(sys.argv[1]))
    print(json.dumps({"tag": "sampled", "sites": [s.truth(make.__name__) for make, s in sites.items()]}), flush=True)
    sys.stdin.readline()


main()
