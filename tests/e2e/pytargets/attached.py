# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python one of tests/e2e/targets/attached.c: two threads that make and drop objects of all kinds, each round timed."""
import json
import sys
import threading
import time

THREADS = 2
NAP_S = 0.001


class Worker(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.rounds, self.longest = 0, 0.0
        self.fault = None

    def run(self):
        n = 0
        while self.fault is None:
            began = time.perf_counter()
            self.make(n)
            self.longest = max(self.longest, time.perf_counter() - began)
            self.rounds += 1
            n += 1
            time.sleep(NAP_S)

    def make(self, n):
        kept = [b"%d" % i * (n % 90 + 1) for i in range(40)]
        text = json.dumps({str(i): list(range(i)) for i in range(20)})
        grown = bytearray()
        for k in kept:
            grown += k
        if len(grown) != sum(map(len, kept)) or json.loads(text)["7"] != list(range(7)):
            self.fault = "an object has changed"


def main():
    workers = [Worker() for _ in range(THREADS)]
    for w in workers:
        w.start()
    print(json.dumps({"tag": "ready"}), flush=True)
    for n, _ in enumerate(sys.stdin, 1):
        rounds = [w.rounds for w in workers]
        longest = max(w.longest for w in workers)
        for w in workers:
            w.rounds, w.longest = 0, 0.0
        print(json.dumps({"tag": f"look{n}", "rounds": sum(rounds), "least": min(rounds), "longest_ms": round(longest * 1e3, 3),
                          "fault": next((w.fault for w in workers if w.fault), None)}), flush=True)


main()
