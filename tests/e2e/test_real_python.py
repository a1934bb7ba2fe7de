#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's python3 at work for ten seconds (json, regular expressions, sqlite, threads) against the LD_PRELOAD counter."""
import harness as h

WORK = """
import json, re, sqlite3, threading, time

def documents(n):
    return [{"id": i, "name": "user %d" % i, "tags": ["t%d" % (i % k) for k in range(1, 9)], "text": "lorem ipsum " * (i % 50)}
            for i in range(n)]

def work(end, keep):
    db = sqlite3.connect(":memory:")
    db.execute("create table t (id integer primary key, body text)")
    while time.monotonic() < end:
        docs = documents(300)
        texts = [json.dumps(d) for d in docs]
        db.executemany("insert into t (body) values (?)", ((t,) for t in texts))
        back = [json.loads(t) for (t,) in db.execute("select body from t order by id desc limit 300")]
        found = [re.findall(r"(?:ipsum|user \\d+)", t) for t in texts]
        keep.append(bytes(len(found) * 100 + len(back)))
        db.execute("delete from t where id % 3 = 0")
    db.close()

keep = []
end = time.monotonic() + 10
threads = [threading.Thread(target=work, args=(end, keep)) for _ in range(3)]
for t in threads:
    t.start()
work(end, keep)
for t in threads:
    t.join()
print(len(keep))
"""


def python():
    program = h.find_program("/usr/bin/python3")
    script = h.scratch() / "work.py"
    script.write_text(WORK)
    h.run_counted(h.Counter(h.scratch()), [program, script], 120, wanted="^python3")


h.main(python)
