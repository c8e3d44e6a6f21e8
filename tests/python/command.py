"""The command, run as a program: into pipes, or on a terminal of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

Done = subprocess.CompletedProcess[str]


class Command:
    """Runs `hotmesh-dba` on a database that the environment names."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory = directory
        self.env = {**os.environ, "HOTMESH_DBA_DSN": dsn, "COLUMNS": "200", "NO_COLOR": "1"}

    def __call__(self, *arguments: str, **env: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "hotmesh_dba", *arguments],
            cwd=self.directory,
            env={**self.env, **env},
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it, to be signalled."""
        return subprocess.Popen(
            [sys.executable, "-m", "hotmesh_dba", *arguments],
            cwd=self.directory,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


class Terminal:
    """The command as a person runs it: on a terminal, where Ctrl-C is a key.

    :param files: the streams (`stdout`, `stderr`) that the person redirects, and where to.
    """

    def __init__(
        self,
        command: Command,
        *arguments: str,
        files: Mapping[str, Path] = MappingProxyType({}),
        **env: str,
    ) -> None:
        self._terminal, theirs = pty.openpty()
        streams = {name: os.open(path, os.O_CREAT | os.O_WRONLY) for name, path in files.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hotmesh_dba", *arguments],
            cwd=command.directory,
            env={**command.env, "TERM": "xterm", **env},
            stdin=theirs,
            stdout=streams.get("stdout", theirs),
            stderr=streams.get("stderr", theirs),
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        for stream in (theirs, *streams.values()):
            os.close(stream)
        self.shown = ""

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def press_until_it_ends(self, keys: bytes) -> None:
        """Press keys again and again."""
        for _ in range(100):
            self.type(keys)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.3)
                return
        raise AssertionError(f"it goes on and on: {self.shown}")

    def until(self, text: str) -> None:
        """Read until something is shown."""
        while text not in self.shown:
            assert self._read(), f"{text!r} was never shown: {self.shown}"

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        os.close(self._terminal)
        return self._process.wait(60)

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # how a terminal says that nobody is left on it
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def plain(shown: str) -> str:
    """What was shown, without the terminal's control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
