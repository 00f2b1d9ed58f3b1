"""Commands that start at once, for tests whose command lines are written as a user's.

Importing torch takes seconds of every process. So the folder that stands first on a test's PATH
holds small programs named like the commands, and `python` for scripts. Each hands its arguments, streams, folder and
environment to a server that has imported torch, and which forks the command: the same entry point
in a process with its own streams, signals and exit code.

A command starts from cold, as installed, when its environment sets something that is read at import
(LIBRARY_SETTINGS), or when FLETCHING_TESTS_COLD is set for the whole suite.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import multiprocessing
import os
import resource
import runpy
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from conftest import environment
from suite import FORKS, PROGRAMS

# Variables that Python, torch and its libraries read once, at import.
LIBRARY_SETTINGS = (
    "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE",
    "HF_HUB_OFFLINE", "HOME", "LANG", "LC_ALL", "LD_PRELOAD", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA", "POLARS_MAX_THREADS", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONPATH",
    "TOKENIZERS_PARALLELISM", "XDG_CACHE_HOME",
)  # fmt: skip
# A command under other limits starts from cold too.
LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")
LONGEST_REQUEST = 1 << 20

_ALIVE: list[socket.socket] = []  # the servers' sign that this process has not ended

PROGRAM = """#!{python} -IS
import json, os, resource, signal, socket, sys

def settings():
    libraries = [os.environ.get(name) for name in {names}]
    limits = [resource.getrlimit(getattr(resource, name)) for name in {limits}]
    streams_are_open = all(os.path.exists("/dev/fd/%d" % number) for number in range(3))
    return json.dumps([libraries, limits, streams_are_open], sort_keys=True)

runs_script = {name!r} != "python" or sys.argv[1:2] and sys.argv[1].endswith(".py")
if not runs_script or settings() != {settings!r}:
    os.execv({installed!r}, [{installed!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
umask = os.umask(0)
request = dict(argv=[{name!r}, *sys.argv[1:]], env=dict(os.environ), cwd=os.getcwd(), umask=umask)
socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
os.close(0)  # the command alone holds the pipes, or their other ends would never see it leave
os.close(1)
child = int(server.recv(64))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(child, number))
code = int(server.recv(64))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@functools.cache
def folder_of_programs() -> str:
    """A folder for the front of PATH; its server runs as long as this process. "" for cold starts."""
    if os.environ.get("FLETCHING_TESTS_COLD") or not hasattr(os, "pidfd_open"):
        return ""
    address = f"\0fletching-tests-{os.getpid()}"  # in Linux's abstract namespace: no file
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    alive, watched = socket.socketpair()
    FORKS.Process(target=_serve, args=(listener, watched), daemon=True).start()
    _ALIVE.append(alive)
    watched.close()
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    libraries = [environment().get(name) for name in LIBRARY_SETTINGS]
    limits = [resource.getrlimit(getattr(resource, name)) for name in LIMITS]
    for name in ("python", *PROGRAMS):
        text = PROGRAM.format(
            python=sys.executable,
            names=LIBRARY_SETTINGS,
            limits=LIMITS,
            settings=json.dumps([libraries, limits, True], sort_keys=True),
            installed=str(Path(sys.executable).parent / name),
            address=address,
            name=name,
        )
        program = folder / name
        program.write_text(text)
        program.chmod(0o755)
    return str(folder)


def _serve(listener: socket.socket, watched: socket.socket) -> None:
    """Fork a keeper for each connection, until the tests have ended."""
    multiprocessing.process.current_process()._config.pop("daemon")  # commands may have children
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        readable, _, _ = select.select([listener, watched], [], [])
        if watched in readable:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            watched.close()
            _keep(connection)
            return
        connection.close()


def _keep(connection: socket.socket) -> None:
    """Fork the command, tell its process id and exit code; it dies with the program in front."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 3)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    connection.send(str(child).encode())
    ended = os.pidfd_open(child)
    readable, _, _ = select.select([ended, connection], [], [])
    if ended not in readable:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if ended in readable:
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """What the installed script does; `multiprocessing` ends the process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.stdin = open(0, closefd=False, encoding="utf-8")
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)
    sys.argv = request["argv"]
    if sys.argv[0] == "python":
        _run_script()
    [entry] = importlib.metadata.entry_points(group="console_scripts", name=sys.argv[0])
    sys.exit(entry.load()())


def _run_script() -> NoReturn:
    """`python SCRIPT …`: the folder of the script comes first in its imports."""
    sys.argv.pop(0)
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit(0)
