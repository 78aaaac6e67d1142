"""Python processes for tests without the two seconds of torch's import: one parent has imported it and forks them.

`start` and `run` take Python source, as `python -c` does, and mount this checkout before it. What the interpreter or a
preloaded library reads from the environment as it starts is the parent's. Without fork, each is an ordinary process.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PRELOADED = (
    "torch",
    "numpy",
    "PIL.Image",
    "safetensors.torch",
    "tokenizers",
)  # nothing of ours, nothing that reads HF_*
# The source runs as the last statement of `__main__`, so that the process ends as any other does.
PARENT = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import warm; exec(warm.wait_for_work(int(sys.argv[1])))"
_MOUNT = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from mounting import mount_package; mount_package()\n"
_WORD = 8  # bytes of a number on the wire


def start(
    source: str, *arguments: object, cwd: Path = TESTS.parent, env: Mapping[str, str] | None = None
) -> Process | subprocess.Popen[str]:
    """A process that runs `source`; what it writes is kept for `communicate`."""
    source = _MOUNT + source
    words, environment = [str(argument) for argument in arguments], dict(os.environ if env is None else env)
    if hasattr(os, "fork"):
        return Process(source, words, cwd, environment)
    command, pipe = [sys.executable, "-c", source, *words], subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(source: str, *arguments: object, timeout: float = 300, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs `source` to its end; `options` are those of `start`."""
    process = start(source, *arguments, **options)  # type: ignore[arg-type]
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


class Process:
    """A forked process, with as much of `subprocess.Popen` as tests use."""

    def __init__(self, source: str, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self._written = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115, closed with this object
        self._keeper, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as request:
            request.write(json.dumps([source, arguments, str(cwd), dict(env)]).encode())
            request.seek(0)
            given = [file.fileno() for file in (request, *self._written, theirs)]
            socket.send_fds(_parent(), [b"."], given)
        self.pid = self._hear()

    def _hear(self) -> int:
        number = self._keeper.recv(_WORD, socket.MSG_WAITALL)
        assert len(number) == _WORD, "the parent of the tests' processes has died"
        return int.from_bytes(number, "big")

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._hear())
            self._keeper.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        for file in self._written:
            file.seek(0)
        stdout, stderr = (file.read().decode() for file in self._written)
        return stdout, stderr


@cache
def _parent() -> socket.socket:
    """The connection to the parent, which ends when this process does."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", PARENT, str(theirs.fileno())]
        subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
    return ours


def wait_for_work(connection: int) -> str:
    """In the parent: never returns. In each process that it forks: sets it up and returns the source to run."""
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a keeper that has ended is nobody's concern
    with socket.socket(fileno=connection) as requests:
        while True:
            _, given, _, _ = socket.recv_fds(requests, 1, 4)
            if not given:  # the tests have ended
                sys.exit()
            if os.fork() == 0:
                break
            for file in given:
                os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, output, errors, keeper = given
    with socket.socket(fileno=keeper) as answers:
        child = os.fork()
        if child:
            answers.sendall(child.to_bytes(_WORD, "big"))
            answers.sendall(os.waitpid(child, 0)[1].to_bytes(_WORD, "big"))
            os._exit(0)
    for file, stream in ((output, 1), (errors, 2)):
        os.dup2(file, stream)
        os.close(file)
    with open(request, encoding="utf-8") as file:
        source, arguments, folder, environment = json.load(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    return source
