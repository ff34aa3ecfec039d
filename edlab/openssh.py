"""The link to another machine: the system's OpenSSH client, with one shared connection for all commands.

Options are those of ssh_config(5). edlab never asks for a password, and never accepts a host key by itself. The
environment variable EDLAB_SSH_CONFIG names a configuration file to use instead of ~/.ssh/config.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from edlab.errors import ConfigError, DeviceError

CONFIG_VARIABLE = "EDLAB_SSH_CONFIG"
FAILED = 255  # ssh's exit code for its own failures (ssh(1), EXIT STATUS)
ANSWER_S = 60.0  # a small board under load takes many seconds to start Python

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",  # a dead connection ends after 15 s
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",  # forwardings of an interactive login would conflict with it
    "ForwardAgent=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
)
_PERSIST_S = 30
_LONGEST_SOCKET = 104  # bytes of a socket's path: unix(4) of the BSDs and macOS; 108 on Linux, unix(7)
_SOCKET_NAME = 16 + 17  # edlab's name, and the suffix that ssh adds while it creates the socket

# What OpenSSH refuses in a host name since 9.6 (see its release notes), because a ProxyCommand may pass it to a shell.
_REFUSED_IN_HOST = re.compile(r"^-|[\s'\"`$\\;&<>|(){}]|[\x00-\x1f\x7f]|^$")

# What ssh prints -> what is wrong, and how to fix it. {host} is the value of the key {setting} of the configuration,
# {login} the command that logs in there.
_FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed: it was reinstalled, or another machine answers at its address",
        "if you know why: {forget}, then `{login}` once, and compare the fingerprint that it shows",
    ),
    (
        "Host key verification failed|host key is known for",
        "the host key of {host} is unknown here",
        "log in once with `{login}`, and compare the fingerprint that it shows with the board's own",
    ),
    (
        "Permission denied|Too many authentication failures",
        "{host} rejects all of your keys",
        "install a key with `{copy_key}`; if it has a passphrase, load it with `ssh-add`; "
        "check that `{login}` works without a prompt",
    ),
    (
        "Could not resolve hostname",
        "the host {host} is not found",
        "fix {setting}, or add a `Host {host}` with its HostName to ~/.ssh/config",
    ),
    (
        "Connection refused",
        "{host} refuses the connection",
        "start sshd there, and fix HostName and Port in ~/.ssh/config if they belong to another machine",
    ),
    (
        "timed out|No route to host|Network is unreachable|Host is down|not responding",
        "{host} does not answer",
        "check its power and network, and HostName in ~/.ssh/config; then try `{login}`",
    ),
)


class Link:
    """Runs commands on one host. All of this user's links to it share one connection, which closes 30 s after the last
    one.

    A command is a line for the login shell there: quote external text with `shlex.quote`.
    """

    def __init__(self, host: str, setting: str = "device.address") -> None:
        """`setting` is the configuration key that contains the host.

        Raises `ConfigError` for an invalid host name, such as one that ssh would parse as an option.
        """
        if _REFUSED_IN_HOST.search(host):
            raise ConfigError(
                f"{setting}={host!r} is not a valid host name",
                hint="set it to a name that `ssh NAME` reaches: a host name, an address, or a `Host` of ~/.ssh/config",
            )
        self.host = host
        self._setting = setting
        self._config = os.environ.get(CONFIG_VARIABLE, "")
        identity = hashlib.sha256(f"{self._config}\0{host}".encode()).hexdigest()[:16]
        self._socket = _socket_folder() / identity

    @property
    def login(self) -> str:
        """The command with which a person logs in."""
        return shlex.join([*self._ssh(), self.host])

    def run(
        self, command: str, stdin: IO[bytes] | None = None, timeout_s: float | None = ANSWER_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end. Raises `DeviceError` if the host is unreachable, or does not answer in time."""
        with tempfile.TemporaryFile() as stderr:  # a pipe would stay open in the shared connection of older clients
            try:
                done = subprocess.run(
                    [*self.client("auto"), "--", self.host, command],
                    stdin=stdin or subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    timeout=timeout_s,
                    start_new_session=True,  # Ctrl-C must not end the connection that others share
                )
            except FileNotFoundError:
                raise _no_client() from None
            except subprocess.TimeoutExpired:
                raise DeviceError(
                    f"{self.host} did not answer within {timeout_s:g} s",
                    hint=f"check its load and network; `{self.login} true` should return immediately",
                ) from None
            stderr.seek(0)
            done.stderr = stderr.read()
        if done.returncode == FAILED:
            raise self.failure(done.stderr.decode(errors="replace"))
        return done

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command with pipes, in its own process group, without anything that others share."""
        try:
            return subprocess.Popen(
                [*self.client("no"), "--", self.host, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise _no_client() from None

    def client(self, control_master: str) -> list[str]:
        """The client with its options; append `--`, the host and a command.

        `control_master` is "auto" to open the shared connection if there is none, "no" only to use it.
        """
        options = [word for option in (*_OPTIONS, f"ControlPersist={_PERSIST_S}") for word in ("-o", option)]
        # Not as an option, where a path with spaces needs quotes. ssh expands % in it.
        socket = str(self._socket).replace("%", "%%")
        return [*self._ssh(), *options, "-o", f"ControlMaster={control_master}", "-S", socket]

    def is_up(self) -> bool:
        """Whether the shared connection is open."""
        command = [*self.client("no"), "-O", "check", "--", self.host]
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0

    def failure(self, stderr: str) -> DeviceError:
        """The error that explains ssh's own failure."""
        names = {
            "host": self.host,
            "setting": self._setting,
            "login": self.login,
            "copy_key": shlex.join(["ssh-copy-id", *self._own_config(), self.host]),
            "forget": self._forget(stderr),
        }
        for pattern, message, hint in _FAILURES:
            if re.search(pattern, stderr):
                return DeviceError(message.format(**names), hint=hint.format(**names), log=stderr)
        last = (stderr.strip().splitlines() or ["the connection ended"])[-1]
        return DeviceError(
            f"ssh to {self.host} failed: {last}",
            hint=f"check that `{self.login} true` works without a prompt",
            log=stderr,
        )

    def _ssh(self) -> list[str]:
        return ["ssh", *self._own_config()]

    def _own_config(self) -> list[str]:
        return ["-F", self._config] if self._config else []

    def _forget(self, stderr: str) -> str:
        """The command that removes a changed host key, from ssh's message about it."""
        file = re.search(r"Offending \S+ key in (.+):\d+", stderr)
        name = re.search(r"[Hh]ost key for (\S+) has changed", stderr)
        where = ["-f", file.group(1)] if file else []
        return f"`{shlex.join(['ssh-keygen', *where, '-R', name.group(1) if name else self.host])}`"


def _no_client() -> DeviceError:
    return DeviceError("ssh is not installed on this machine", hint="install the OpenSSH client (openssh-client)")


def _socket_folder() -> Path:
    """A folder that only this user can access, with a path short enough for sockets."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime, "edlab")
    if not os.access(runtime, os.W_OK) or len(os.fsencode(folder)) + 1 + _SOCKET_NAME > _LONGEST_SOCKET:
        folder = Path("/tmp", f"edlab-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise DeviceError(
            f"other users can access {folder}, where edlab keeps its ssh connections",
            hint=f"remove it, or restrict it: chmod 700 {folder}",
        )
    return folder
