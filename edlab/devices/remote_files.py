"""Files on a board, stored by the SHA-256 of their content: a model or a data set is sent once.

They are sent by rsync if both sides have it, else through ssh's own pipe, which works with every board. Both ways
append to what is already there, so that they resume after a broken link, and the agent checks the files before they are
used. The pipe is also used if rsync fails: if a login shell prints text, or if rsync's version is unsuitable. sftp
needs a server, which is missing in small images (dropbear), and scp cannot resume.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edlab.agent import messages
from edlab.agent.errors import DISK_FIXES
from edlab.agent.messages import Accept, Accepted, Expect, Expected, Method, Nothing
from edlab.cache import digest, sha256_files
from edlab.errors import DeviceError, StorageError
from edlab.openssh import FAILED, Link

Call = Callable[[Method[Any, Any], Any], Any]  # `AgentSession.call`

_RSYNC_SILENCE_S = 60  # on both sides; then it ends, also if the link broke silently
_ATTEMPTS = 3  # by rsync, by the pipe, and again if files were damaged
_NO_ROOM = tuple(map(os.strerror, DISK_FIXES))  # as a board's commands print it


def content_key(files: Sequence[Path]) -> str:
    """The key of files on a board: the digest of their names and contents."""
    return digest([(file.name, _sha256(file)) for file in files])


class RemoteFiles:
    """Sends files to a board and fetches others; the agent there manages them (`edlab.agent.store`)."""

    def __init__(self, link: Link, call: Call, limit_gb: float, rsync: bool) -> None:
        """`limit_gb` is for all files there; the oldest are removed first. `rsync`: whether the board has it."""
        self._link = link
        self._call = call
        self._limit_bytes = limit_gb * 1e9
        self._rsync = rsync and shutil.which("rsync") is not None
        self._folders: dict[str, str] = {}  # by key; files of this run stay while its agent runs
        self._fetched = 0

    def put(self, files: Sequence[Path]) -> list[str]:
        """The paths on the board of these files, in one folder. Files that are already there are not sent.

        Raises `StorageError` if the board's disk is full, `DeviceError` if the link breaks, `AgentError` if this run
        alone needs more than the limit.
        """
        key = content_key(files)
        if key not in self._folders:
            self._folders[key] = self._send(key, files)
        return [f"{self._folders[key]}/{file.name}" for file in files]

    def outbox(self, path: Path) -> str:
        """A path on the board for a file that `get` will copy to `path`; it is removed when the agent ends."""
        self._fetched += 1
        return f"{self._call(messages.SCRATCH, Nothing()).folder}/{self._fetched}-{path.name}"

    def get(self, remote: str, to: Path) -> None:
        """Copy a file of the board to `to`, completely or not at all."""
        mark = f"edlab {secrets.token_hex(8)}"  # output before it is from the login shell
        process = self._link.start(f"echo; echo {shlex.quote(mark)}; exec env LC_ALL=C cat {shlex.quote(remote)}")
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        assert process.stderr is not None
        part = to.with_name(to.name + ".part")
        try:
            with process.stdout as stream, open(part, "wb") as out:
                reached = any(line.rstrip() == mark.encode() for line in stream)
                shutil.copyfileobj(stream, out)
            output = process.stderr.read().decode(errors="replace")
            if process.wait() != 0 or not reached:
                raise self._failure(f"cannot fetch {remote}", process.returncode, output)
            part.rename(to)
        finally:
            process.kill()
            process.wait()
            part.unlink(missing_ok=True)

    def _send(self, key: str, files: Sequence[Path]) -> str:
        sizes = {file.name: file.stat().st_size for file in files}
        digests = {file.name: _sha256(file) for file in files}
        for attempt in range(_ATTEMPTS):
            expected: Expected = self._call(messages.EXPECT, Expect(key, sizes, digests, self._limit_bytes))
            if expected.folder:
                return expected.folder
            remote = [f"{expected.part}/{file.name}" for file in files]
            if self._rsync and attempt == 0:
                if not all(self._send_by_rsync(*pair) for pair in zip(files, remote, strict=True)):
                    continue
            else:
                for file, path in zip(files, remote, strict=True):
                    self._send_by_pipe(file, path, expected.present[file.name])
            accepted: Accepted = self._call(messages.ACCEPT, Accept(key, digests))
            if accepted.folder:
                return accepted.folder
        names = ", ".join(sizes)
        raise DeviceError(
            f"{names} was damaged on its way to {self._link.host}",
            hint="check the board's disk and memory; ssh itself detects damaged packets",
        )

    def _send_by_rsync(self, file: Path, remote: str) -> bool:
        """Complete a file there. If that fails, the pipe is tried next, and reports the error."""
        host = f"[{self._link.host}]" if ":" in self._link.host else self._link.host
        shell = shlex.join(self._link.client("no"))
        # --protect-args: no shell parses the path; --ignore-times: existing files are compared by content
        options = ["--inplace", "--ignore-times", "--protect-args", f"--timeout={_RSYNC_SILENCE_S}", f"--rsh={shell}"]
        done = subprocess.run(
            ["rsync", *options, "--", str(file.resolve()), f"{host}:{remote}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
        )
        return done.returncode == 0

    def _send_by_pipe(self, file: Path, remote: str, present: int) -> None:
        with open(file, "rb", buffering=0) as source:
            source.seek(present)
            done = self._link.run(f"exec env LC_ALL=C cat >> {shlex.quote(remote)}", source, timeout_s=None)
        if done.returncode != 0:
            output = done.stderr.decode(errors="replace")
            raise self._failure(f"cannot send {file.name}", done.returncode, output)

    def _failure(self, message: str, code: int, output: str) -> DeviceError | StorageError:
        """The error of a command on the board."""
        if code == FAILED:
            return self._link.failure(output)
        last = (output.strip().splitlines() or [f"exit code {code}"])[-1]
        if any(text in output for text in _NO_ROOM):
            return StorageError(
                f"{message}: {self._link.host}: {last}", hint="free space on the board's disk", log=output
            )
        return DeviceError(f"{message}: {self._link.host}: {last}", hint=f"check `{self._link.login}`", log=output)


def _sha256(file: Path) -> str:
    stat = file.stat()
    return _sha256_of(file, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256_of(file: Path, size: int, changed_ns: int) -> str:
    """Computed once in this process: every phase of every run needs it, for data sets of gigabytes."""
    return sha256_files([file])
