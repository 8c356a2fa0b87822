"""A child process that answers line by line, and that can hang, flood or die without harm to its parent."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from regionloss_adapters.protocol import AdapterError

#: The most bytes in a line of the child.
LINE_LIMIT = 4 * 2**20
#: The number of bytes of its standard error to keep, the last ones.
KEPT_OF_STDERR = 8 * 2**10

_CHUNK = 2**16
#: Seconds that a child has to exit after its standard streams are closed.
_GRACE = 1.0


class ChildGoneError(Exception):
    """The child exited, closed a stream or gave no answer in time; the cause is not known yet."""


class Child:
    """A running command in its own process group, which answers one line at a time.

    Args:
        command: program and arguments; not run by a shell.
        cwd: the working folder, the current one if `None`.

    Raises:
        AdapterError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], cwd: str | Path | None = None) -> None:
        if os.name != "posix":
            raise AdapterError("an adapter in a process of its own needs POSIX: Linux, macOS or WSL")
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=dict(os.environ),  # without variables set by C libraries of this process
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise AdapterError(f"the adapter itself cannot be started: {error}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._stderr = _Tail(process.stderr)
        self._buffer = bytearray()
        os.set_blocking(self._stdin.fileno(), False)
        self._stop = weakref.finalize(self, _end, process, self._stderr)

    def exchange(self, line: bytes, seconds: float) -> bytes:
        """Send one line and return the child's answer, both without the line break.

        Raises:
            ChildGoneError: it exited, or gave no answer in time.
            AdapterError: its output is not one line, or longer than `LINE_LIMIT`.
        """
        deadline = time.monotonic() + seconds
        unsent = memoryview(line + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            if selector.select(0):
                output = self._read() or self._buffer
                raise AdapterError(f"the adapter itself wrote before it was asked: {excerpt(output)}")
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while True:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise ChildGoneError(f"gave no answer within {seconds:g} s")
                for key, _ in selector.select(remaining):
                    if key.fileobj is self._stdin:
                        unsent = unsent[self._write(unsent[:_CHUNK]) :]
                        if not unsent:
                            selector.unregister(self._stdin)
                    elif (answer := self._read()) is not None:
                        if unsent:
                            raise AdapterError("the adapter itself answered before it had been sent the whole question")
                        return answer

    def last_words(self) -> str:
        """The end of its standard error, as a sentence to append; empty if it wrote nothing."""
        stderr = self._stderr.text().strip()
        return f"\nits standard error ended with:\n{stderr}" if stderr else ""

    def stop(self) -> None:
        """Close its streams, wait a moment, and kill its whole process group."""
        self._stop()

    def kill(self) -> None:
        """Kill its whole process group at once."""
        _kill_group(self._process.pid)
        self._stop()

    def _write(self, part: memoryview) -> int:
        try:
            return os.write(self._stdin.fileno(), part)
        except BlockingIOError:
            return 0
        except BrokenPipeError:  # it no longer reads; its standard output shows why
            return len(part)

    def _read(self) -> bytes | None:
        """Read the available output, and return the line once it is complete."""
        chunk = os.read(self._stdout.fileno(), _CHUNK)
        if not chunk:
            raise ChildGoneError(self._how_it_ended())
        self._buffer += chunk
        line, newline, rest = self._buffer.partition(b"\n")
        if len(line) > LINE_LIMIT:
            raise AdapterError(f"the adapter itself wrote a line of more than {LINE_LIMIT} bytes: {excerpt(line)}")
        if not newline:
            return None
        if rest:
            raise AdapterError(f"the adapter itself wrote more than one line to one question: {excerpt(rest)}")
        self._buffer.clear()
        return bytes(line)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            return "closed its standard output"
        if code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"


class _Tail:
    """Drains a stream in a thread, so that its writer never blocks, and keeps the end of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._total = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, name="regionloss adapter stderr", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        with self._stream:
            while chunk := self._stream.read(_CHUNK):
                with self._lock:
                    self._kept += chunk
                    self._total += len(chunk)
                    del self._kept[:-KEPT_OF_STDERR]

    def join(self) -> None:
        """Wait for the end of the stream, but not if another process keeps it open."""
        self._thread.join(timeout=_GRACE)

    def text(self) -> str:
        """The kept bytes as text, with a note of how many were cut."""
        with self._lock:
            kept, cut = bytes(self._kept), self._total - len(self._kept)
        text = "\n".join(printable(line) for line in kept.decode("utf-8", "replace").splitlines())
        return f"[{cut} bytes cut] {text}" if cut else text


def printable(text: str) -> str:
    """Untrusted text without control characters for the terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def excerpt(data: bytes | bytearray) -> str:
    """The beginning of some output, for a message."""
    begun = printable(bytes(data[:120]).decode("utf-8", "replace"))
    return f"'{begun}'" + ("..." if len(data) > 120 else "")


def _end(process: subprocess.Popen[bytes], stderr: _Tail) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    for _ in range(2):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE)
        _kill_group(process.pid)  # also after a clean exit, to stop its children
    stderr.join()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group no longer exists, or is not ours
        os.killpg(pid, signal.SIGKILL)
