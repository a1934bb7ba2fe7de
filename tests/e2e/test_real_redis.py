#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""redis-server (on jemalloc) under redis-benchmark against the LD_PRELOAD counter."""
import subprocess

import harness as h


def redis():
    server, bench, client = h.find_program("redis-server"), h.find_program("redis-benchmark"), h.find_program("redis-cli")
    d = h.scratch()
    port = h.free_port()

    def load(_tool):
        h.wait_until(lambda: h.listening(port), 30, "redis-server listens")
        for tests in ("set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin", "mset,lrange_100"):
            subprocess.run([bench, "-h", "127.0.0.1", "-p", str(port), "-q", "-n", "20000", "-c", "20", "-r", "5000", "-d", "200",
                            "-t", tests], check=True, stdout=subprocess.DEVNULL, timeout=120)
        subprocess.run([client, "-p", str(port), "shutdown", "nosave"], check=False, stdout=subprocess.DEVNULL, timeout=60)

    h.run_counted(h.Counter(d), [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", d], 60,
                  wanted="^redis-server", while_running=load)


h.main(redis)
