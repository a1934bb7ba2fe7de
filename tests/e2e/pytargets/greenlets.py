# SPDX-License-Identifier: GPL-2.0-or-later
"""
Greenlets that allocate and switch a lot, in several threads: plain ones that switch out of Python and out of C callbacks, and gevent's,
each thread with a hub of its own. A function's name begins with the thread that alone runs it, then comes the greenlet.
"""
import sys
import threading

sys.path.insert(0, sys.argv[-1])  # where the packages are

import gevent
import greenlet
from gevent import queue

from truth import QUIET, S, begin, finish, keep

ROUNDS, QUIET_ROUNDS = 4, 200
TEMPLATE = """
def {who}_leaf(s):
    keep(bytearray(s))

def {who}_deep(s, depth, switch):
    if depth:
        return {who}_deep(s, depth - 1, switch)
    {who}_leaf(s)
    switch()
    keep(bytearray(s if s is QUIET else S("{who}, after a switch")))

def {who}_callback(s, depth, switch):
    sorted([1], key=lambda _: {who}_deep(s, depth, switch))

def {who}_run(switch, depth):
    for i in range({rounds} + {quiet}):
        s = QUIET if i % {every} else S("{who}")
        ({who}_callback if i % 2 else {who}_deep)(s, depth, switch)
    keep(bytearray(S("{who}, last")))
"""


def define(who):
    names = {"keep": keep, "S": S, "QUIET": QUIET}
    text = TEMPLATE.format(who=who, rounds=ROUNDS, quiet=QUIET_ROUNDS, every=(ROUNDS + QUIET_ROUNDS) // ROUNDS)
    exec(compile(text, "/greenlets/%s.py" % who, "exec"), names)
    return names[who + "_run"]


def ring_of(thread):
    """Plain greenlets in a ring: each switches to the next one that is not dead."""
    ring = []

    def next_of(me):
        def switch():
            at = ring.index(me[0])
            for other in ring[at + 1:] + ring[:at]:
                if not other.dead:
                    return other.switch()
            return None
        return switch

    def body(run, me, depth):
        def start():
            run(next_of(me), depth)
        return start

    for n in range(6):
        me = []
        me.append(greenlet.greenlet(body(define("thread_%d_green_%d" % (thread, n)), me, n * 3)))
        ring.append(me[0])
    for g in ring:
        while not g.dead:
            g.switch()


def hub_of(thread):
    """gevent's: they sleep for nothing, and wait for each other in a queue."""
    line = queue.Queue()

    def by_sleep():
        gevent.sleep(0)

    def by_queue():
        line.put(1)
        gevent.sleep(0)
        line.get()

    gevent.joinall([gevent.spawn(define("hub_%d_green_%d" % (thread, n)), by_queue if n % 2 else by_sleep, n * 2) for n in range(6)])


folder = begin()
sys.setswitchinterval(0.0005)
threads = [threading.Thread(target=ring_of, args=(n,)) for n in range(2)] + [threading.Thread(target=hub_of, args=(n,)) for n in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
finish(folder, missing={}, greenlet=greenlet.__version__, gevent=gevent.__version__)
