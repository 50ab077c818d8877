"""Makes Linux look like Windows to EdgeRec's modules, as far as names go: put this folder on PYTHONPATH.

What they import lacks the modules and names that only POSIX systems have, folders cannot be opened, sys.platform is
"win32" and os.name "nt". Other packages, which choose by the real system, see that one. Paths, file locking, what an
open file forbids, encodings and processes are still Linux's.
"""

from __future__ import annotations

import builtins
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

OWN = ("edgerec", "edgerec_export", "edgerec_bench", "edgerec_devices")
MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
OS_NAMES = (
    *("chown", "ctermid", "fchmod", "fchown", "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getloadavg"),
    *("getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown", "lockf", "major", "mkfifo", "mknod"),
    *("nice", "openpty", "pathconf", "posix_fadvise", "posix_fallocate", "pread", "pwrite", "sched_getaffinity"),
    *("sched_setaffinity", "sched_yield", "sendfile", "setegid", "seteuid", "setgid", "setpgid", "setpriority"),
    *("setsid", "setuid", "statvfs", "sync", "sysconf", "tcgetpgrp", "ttyname", "uname", "wait3", "wait4"),
    *("O_ASYNC", "O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_DSYNC", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH"),
    *("POSIX_FADV_DONTNEED", "WCOREDUMP", "WIFEXITED", "WIFSIGNALED", "WTERMSIG", "EX_OK", "F_LOCK", "RTLD_NOW"),
)
SIGNALS = (
    *("SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGIO", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT"),
    *("SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pause", "pthread_kill", "setitimer", "sigwait"),
)


class _Seen(ModuleType):
    """A module without some of its names, and with some of its own."""

    def __init__(self, real: ModuleType, absent: Sequence[str] = (), **own: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(own)
        self._real, self._absent = real, frozenset(absent)

    def __getattr__(self, name: str) -> Any:
        if name in self._absent:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._real, name)


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    by = str((globals or {}).get("__package__") or (globals or {}).get("__name__") or "")
    if level == 0 and by.partition(".")[0] in OWN:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in SEEN:
            return SEEN[name]
    return _real_import(name, globals, locals, fromlist or (), level)


def _open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if dir_fd is None and pathlib.Path(os.fsdecode(path)).is_dir():
        raise PermissionError(13, "Permission denied", path)
    return _os_open(path, flags, mode, dir_fd=dir_fd)


def _popen(process: subprocess.Popen[Any], *words: Any, preexec_fn: Any = None, **options: Any) -> None:
    if preexec_fn is not None:
        raise ValueError("preexec_fn is not supported on Windows platforms")
    _popen_init(process, *words, **options)


_os_open, _popen_init, _real_import = os.open, subprocess.Popen.__init__, builtins.__import__
SEEN: dict[str, ModuleType] = {
    "os": _Seen(os, OS_NAMES, name="nt", open=_open),
    "sys": _Seen(sys, platform="win32"),
    "signal": _Seen(signal, SIGNALS),
    "socket": _Seen(socket, ("AF_UNIX",)),
    "select": _Seen(select, ("poll", "epoll")),
}
subprocess.Popen.__init__ = _popen  # type: ignore[method-assign,assignment]
os.environ.setdefault("LOCALAPPDATA", tempfile.gettempdir())
builtins.__import__ = _import
