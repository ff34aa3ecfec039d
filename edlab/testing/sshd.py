"""A simulated board: an sshd on a loopback port, with its own keys, home folder, PATH and locks.

    with LoopbackBoard(folder) as board:
        os.environ["EDLAB_SSH_CONFIG"] = str(board.config)   # `ssh -F CONFIG board` reaches it

For tests over ssh. It runs as the current user, does not need root, and uses neither ~/.ssh nor the system's sshd.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from edlab.agent.locks import FOLDER_VARIABLE

_START_S = 10.0
_SYSTEM_PROGRAMS = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/lib/openssh",
    "/usr/lib/ssh",
    "/usr/libexec/openssh",
    "/usr/libexec",
)
_PRIVILEGE_SEPARATION = Path("/run/sshd")  # created by the system's service; sshd as root needs it


def missing() -> str:
    """What is missing on this machine to run one; empty if nothing is."""
    programs = [name for name in ("ssh", "ssh-keygen") if not shutil.which(name)]
    return ", ".join(programs + ([] if _find("sshd") else ["sshd"]))


class LoopbackBoard:
    """`host` is a name in the ssh configuration file `config`; `home` is the home folder of a login there."""

    host = "board"

    def __init__(self, folder: Path) -> None:
        """`folder` must be empty, or not exist."""
        self.folder = folder
        self.home = folder / "home"
        self.locks = folder / "locks"  # instead of this machine's
        self.config = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self.port = _free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True, exist_ok=True)
        self.locks.mkdir(exist_ok=True)
        self.new_key("host_key")
        self.new_key("user_key")
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.trust()
        self.write_shell()
        self.write_config(self.port)
        self._write_server_config()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def new_key(self, name: str) -> None:
        """Generate the key `name` again: host_key or user_key."""
        for file in (self.folder / name, self.folder / f"{name}.pub"):
            file.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)

    def trust(self, port: int | None = None) -> None:
        """Trust the current host key, at this port (None: the board's own)."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{port or self.port} {kind} {key}\n")

    def start(self) -> None:
        """Run sshd until `stop`."""
        if os.geteuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        command = [
            str(_find("sshd")),
            "-D",
            "-f",
            str(self.folder / "sshd_config"),
            "-E",
            str(self.folder / "sshd.log"),
        ]
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while not _answers(self.port):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("sshd does not start: " + (self.folder / "sshd.log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """End sshd and every connection to it."""
        if self._server is not None:
            connections = self.connections()
            self._server.terminate()
            self._server.wait()
            for process in connections:
                kill(process)
            self._server = None

    def connections(self) -> list[psutil.Process]:
        """The sshd processes, one per connection."""
        assert self._server is not None
        found = psutil.Process(self._server.pid).children(recursive=True)
        return [process for process in found if process.name().startswith("sshd")]

    def processes(self) -> list[psutil.Process]:
        """The processes on the board: all whose command line names its folder, except sshd's own and its clients."""
        mark = str(self.home)
        found = []
        for process in psutil.process_iter(["cmdline", "name", "status"]):
            command = " ".join(process.info["cmdline"] or [])
            if mark in command and process.info["name"] not in ("ssh", "sshd", "sshd-session"):
                found.append(process)
        return found

    def write_shell(self, *, path: str | None = None, prints: str = "") -> None:
        """The login shell, which runs each command there. `path` is its PATH, `prints` its first output."""
        lines = [
            "#!/bin/sh",
            f"export PATH={shlex.quote(path or os.environ['PATH'])}",
            'cd "$HOME"',
            f"printf %s {shlex.quote(prints)}",
            'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"',
        ]
        shell = self.folder / "shell"
        shell.write_text("\n".join(lines) + "\n")
        shell.chmod(0o755)

    def write_config(self, port: int) -> None:
        """The configuration of the client, which reaches the board on this loopback port."""
        self.config.write_text(
            f"""
            Host {self.host}
                HostName 127.0.0.1
                Port {port}
                User {getpass.getuser()}
                IdentityFile "{self.folder / "user_key"}"
                IdentitiesOnly yes
                IdentityAgent none
                UserKnownHostsFile "{self.known_hosts}"
                GlobalKnownHostsFile none
            """
        )

    def _write_server_config(self) -> None:
        (self.folder / "sshd_config").write_text(
            f"""
            ListenAddress 127.0.0.1
            Port {self.port}
            HostKey "{self.folder / "host_key"}"
            AuthorizedKeysFile "{self.folder / "authorized_keys"}"
            SetEnv "HOME={self.home}" "{FOLDER_VARIABLE}={self.locks}"
            ForceCommand "{self.folder / "shell"}"
            Subsystem sftp {_find("sftp-server") or "internal-sftp"}
            PidFile none
            StrictModes no
            UsePAM no
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            """
        )


def kill(process: psutil.Process) -> None:
    """End a process immediately; nothing if it has already exited."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _find(program: str) -> str | None:
    """The absolute path of a system program, which may be in different places."""
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *_SYSTEM_PROGRAMS]))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
