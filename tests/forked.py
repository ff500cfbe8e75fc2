"""Commands that start from a process in which the libraries are imported already.

A run of the workflow is dozens of short processes, and importing torch takes longer than what most
of them do on a test's sizes. A server imports the libraries once and forks a process for each
command. The command gets the caller's arguments, folder, environment, standard streams and umask;
its exit status and the signals sent to it are passed on. The package itself is imported afresh by
each, so that a test may edit its copy. ``code`` runs the code that is its first argument, as
``python -c`` does.

What libraries read from the environment when they are imported is the server's. A command with
other Hugging Face variables starts from a second server, which has not imported what reads them.

Run as a program, ``python forked.py FOLDER`` serves until its standard input ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

LIGHT = (
    *("torch", "torch._dynamo", "torch.optim", "safetensors.torch"),
    *("numpy", "scipy.optimize", "scipy.stats", "scipy.linalg"),
    *("pandas", "pyarrow.parquet", "pyarrow.dataset", "pydantic", "yaml", "jinja2", "altair"),
    *("typer", "rich.console", "rich.table", "rich.progress", "filelock"),
    *("snakemake.cli", "snakemake.api", "snakemake.workflow", "snakemake.dag"),
)
"""Imported by both servers. Not polars: it begins a thread, which a fork would lose."""

FULL = (
    *("transformers.models.olmo.modeling_olmo", "transformers.models.auto.modeling_auto"),
    "tokenizers",
)
"""Imported by the server whose Hugging Face variables are the tests' own."""

READ_AT_IMPORT = ("HF_", "TRANSFORMERS_", "TORCH_", "OMP_", "MKL_")
"""How the variables begin that libraries read when they are imported."""

CODE = "code"
"""The command that runs its first argument."""

CLIENT = """#!{python} -SE
import json, os, signal, socket, sys

READ_AT_IMPORT = {read}
mine = {{k: v for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT)}}
umask = os.umask(0)
os.umask(umask)
request = json.dumps([{module!r}, sys.argv, os.getcwd(), dict(os.environ), umask]).encode()
server = socket.socket(socket.AF_UNIX)
server.connect(os.path.join({folder!r}, "full" if mine == {own} else "light"))
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
status = int(server.recv(16) or -signal.SIGKILL)
if status < 0:
    with __import__("contextlib").suppress(OSError):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the servers, which end with their standard input, and write their commands."""
    scripts = folder / "bin"
    scripts.mkdir()
    own = {k: v for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT)}
    filled = {"python": sys.executable, "read": READ_AT_IMPORT, "own": own, "folder": str(folder)}
    for module in ("trajectory", "snakemake", CODE):
        (scripts / module).write_text(CLIENT.format(module=module, **filled))
    (scripts / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for script in scripts.iterdir():
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # it begins its threads when imported
    )


def wait(folder: Path) -> None:
    """Wait until both servers listen."""
    end = time.monotonic() + 500
    while not all((folder / name).exists() for name in ("light", "full")):
        assert time.monotonic() < end, "the server of imported libraries did not start"
        time.sleep(0.05)


class Server:
    """Forks a process for each request."""

    def __init__(self, address: Path, ends: int) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        named = address.with_suffix(".named")
        self.listening.bind(str(named))
        self.listening.listen(64)
        named.rename(address)  # what has the name listens
        self.ends = ends
        self.clients: dict[int, tuple[socket.socket, int]] = {}
        self.woken, self.wake = socket.socketpair()
        self.wake.setblocking(False)

    def serve(self) -> list[Any] | None:
        """Serve until the end: None; or, in a forked process, the request to run."""
        signal.set_wakeup_fd(self.wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            waited = [self.ends, self.listening, self.woken, *self.clients]
            for ready in select.select(waited, [], [])[0]:
                if ready == self.ends:
                    return None
                if ready is self.woken:
                    self.woken.recv(4096)
                    self.tell_ended()
                elif ready is self.listening:
                    request = self.accept()
                    if request is not None:
                        return request
                elif ready in self.clients:
                    self.pass_on(ready)

    def accept(self) -> list[Any] | None:
        """Fork for the next request, which is returned in the forked process alone."""
        client, _ = self.listening.accept()
        content = b""
        try:
            length, streams, _, _ = socket.recv_fds(client, 8, 3)
            while len(content) < int.from_bytes(length, "big"):
                content += client.recv(1 << 20)
        except OSError:  # the caller is gone
            client.close()
            return None
        child = os.fork()
        if child:
            for stream in streams:
                os.close(stream)
            self.clients[client.fileno()] = client, child
            return None
        os.setpgrp()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for other in (client, self.listening, self.woken, self.wake):
            other.close()
        for other, _ in self.clients.values():
            other.close()
        request: list[Any] = json.loads(content)
        return request

    def tell_ended(self) -> None:
        """Tell each caller whose process ended its exit status."""
        for number, (client, child) in list(self.clients.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                client.close()
                del self.clients[number]

    def pass_on(self, number: int) -> None:
        """Pass a caller's signals on; a caller that is gone takes its processes with it."""
        client, child = self.clients[number]
        with suppress(OSError):
            signals = client.recv(16)
            if signals:
                os.kill(child, signals[0])
                return
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        client.close()
        del self.clients[number]


def run(
    module: str, arguments: list[str], folder: str, environment: dict[str, str], umask: int
) -> None:
    """Run a module as its command does, and end the process."""
    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = arguments
    sys.executable = str(
        Path(arguments[0]).with_name("python")
    )  # a run uses the commands beside it
    sys.stdin = sys.__stdin__ = os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    own = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [str(Path(one).resolve()) for one in own if one]
    importlib.import_module("site").execsitecustomize()
    status = 0
    try:
        if module == CODE:
            code = sys.argv.pop(1)
            exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    # What an interpreter does at its end, but for freeing the libraries: that would write to every
    # page that is shared with the server, and the system would copy each.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(folder: Path) -> None:
    """Serve as ``light`` and, in a process of its own that imports more, as ``full``."""
    for name in LIGHT:
        importlib.import_module(name)
    ends, held = os.pipe()
    full = os.fork()
    if not full:
        os.close(held)
        for name in FULL:
            importlib.import_module(name)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    lost = [name for name in threads if not name.startswith(("python", "jemalloc_bg_thd"))]
    assert not lost, f"a fork would lose the threads {lost}"
    gc.freeze()
    server = Server(folder / ("light" if full else "full"), 0 if full else ends)
    request = server.serve()
    if request is not None:
        run(*request)
    if full:
        os.close(held)
        os.waitpid(full, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
