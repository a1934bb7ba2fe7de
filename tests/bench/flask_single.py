# SPDX-License-Identifier: GPL-2.0-or-later
"""gunicorn whose one worker runs in the first process: for tools that do not follow into forked children. Arguments as gunicorn's."""
import os

from gunicorn.app.wsgiapp import run

os.fork = lambda: 0  # the arbiter believes that it is the worker
os.getppid = os.getpid  # whose parent has not changed
run()
