#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""redis-server (on jemalloc) under redis-benchmark against the LD_PRELOAD counter."""
import os
import signal
import subprocess

import harness as h


class Redis:
    def __init__(self):
        self.server, self.bench = h.find_program("redis-server"), h.find_program("redis-benchmark")
        self.client = h.find_program("redis-cli")
        self.dir = h.scratch()
        self.port = h.free_port()
        self.argv = [self.server, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.dir]

    def wait(self):
        h.wait_until(lambda: h.listening(self.port), 30, "redis-server listens")

    def load(self):
        for tests in ("set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin", "mset,lrange_100"):
            subprocess.run([self.bench, "-h", "127.0.0.1", "-p", str(self.port), "-q", "-n", "20000", "-c", "20", "-r", "5000",
                            "-d", "200", "-t", tests], check=True, stdout=subprocess.DEVNULL, timeout=120)

    def shutdown(self):
        subprocess.run([self.client, "-p", str(self.port), "shutdown", "nosave"], check=False, stdout=subprocess.DEVNULL, timeout=60)


def attached_while_running():
    """Attached to a server that runs; both count from a moment when it stands still, to another such moment."""
    redis, counter = Redis(), h.Counter(h.scratch())
    with h.Process(counter.command(redis.argv)) as server:
        redis.wait()
        redis.load()
        h.stop_in_system_calls(server.pid)
        counter.begin_epoch()
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", server.pid) as tool:
            tool.attached()
            os.kill(server.pid, signal.SIGCONT)
            redis.load()
            h.stop_in_system_calls(server.pid)
            records = counter.records()
            tool.fresh()
            n = h.compare_counter(tool, records, "^redis-server")
            print(f"     {n} process compared: {records[0]['alloc_count']} allocations of {records[0]['alloc_bytes']} bytes, "
                  f"{records[0]['unmatched_free']} frees of older blocks")
            tool.finish()
            os.kill(server.pid, signal.SIGCONT)
        redis.shutdown()
        h.check_equal(server.wait(30), 0, "exit code of redis-server")


def from_birth():
    """Started by Tidemark: its allocator's library is opened when the program begins. Exact, or said to be late."""
    redis, counter = Redis(), h.Counter(h.scratch())

    def load(tool):
        redis.wait()
        tool.fresh()  # what it allocates from here on is seen in any case
        redis.load()
        redis.shutdown()

    with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "--", *counter.command(redis.argv)) as tool:
        tool.attached()
        load(tool)
        tool.wait(60, "redis-server under tidemark")
        tool.pump()
        proc, _ = h.last_lines(tool)[counter.records()[0]["pid"], "redis-server"]
        if "late_attach" in proc["losses"]:
            seen, all_calls = proc["layers"]["heap"]["alloc_count_total"], counter.records()[0]["alloc_count"]
            print(f"     said to be late: {seen} of {all_calls} allocations counted")
            h.check(all_calls * 0.9 < seen <= all_calls, f"{seen} of {all_calls} allocations counted")
        else:
            h.compare_counter(tool, counter.records(), "^redis-server")
        h.check_equal(tool.ended()["reason"], "targets_gone", "reason of the end")


h.main(attached_while_running, from_birth)
