#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A prefork service with a leak, for `make demo`: HTTP on 127.0.0.1, two workers, a client that keeps them busy.

/render builds a page and lets it go; /session remembers 8 KB per visitor and never forgets; /report needs much for a
moment. So there is something that moves, something that grows and something that peaks. Ends with its parent.
"""
import argparse
import ctypes
import http.client
import http.server
import os
import random
import signal
import time

WORKERS = 2
END = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
SESSIONS = {}
PR_SET_PDEATHSIG = 1


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        page = {"/render": render_page, "/session": remember_visitor, "/report": build_report}.get(self.path)
        body = page() if page else b"unknown\n"
        self.send_response(200 if page else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def render_page():
    rows = [f"<tr><td>{n}</td><td>{random.random():.6f}</td></tr>" for n in range(400)]
    return "".join(rows).encode()


def remember_visitor():
    SESSIONS[len(SESSIONS)] = bytearray(8192)  # the leak: nobody ever takes it out
    return f"{len(SESSIONS)} sessions\n".encode()


def build_report():
    table = [[random.random() for _ in range(100)] for _ in range(2000)]
    return f"{sum(map(sum, table)):.3f}\n".encode()


def end_with_parent(parent):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


def fork(run, *args):
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        end_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END)
        run(*args)
        os._exit(0)
    return pid


def keep_busy(port):
    while True:
        path = random.choices(["/render", "/session", "/report"], [60, 38, 2])[0]
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()
        except OSError:
            pass
        time.sleep(0.01)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--ready", help="file that gets one line once the service answers")
    ready = arguments.parse_args().ready

    signal.pthread_sigmask(signal.SIG_BLOCK, END)  # taken by sigwait below, never in the middle of something
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server = http.server.HTTPServer(("127.0.0.1", 0), Service)
    children = [fork(server.serve_forever) for _ in range(WORKERS)]
    workers = " ".join(map(str, children))
    children.append(fork(keep_busy, server.server_port))
    if ready:
        with open(ready, "w", encoding="ascii") as f:
            f.write(f"pid {os.getpid()}, workers {workers}, http://127.0.0.1:{server.server_port}/session leaks\n")
    signal.sigwait(END)
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    for pid in children:
        os.waitpid(pid, 0)


main()
