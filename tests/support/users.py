"""Do things as other users of this machine, whose rights the kernel then checks.

Users are plain numbers. They may read everything, because this Python and checkout may lie where
other users can't look (CAP_DAC_READ_SEARCH); what they may write is theirs alone.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

LAB = 54_300
"""The group that Alice and Bob are in, and Carol is not."""
_KEEP_CAPABILITIES, _AMBIENT, _RAISE, _READ_ALL = 8, 47, 2, 2


@dataclass(frozen=True)
class User:
    """A user with a group of the same number, and perhaps another."""

    number: int
    groups: tuple[int, ...] = ()

    def start(
        self,
        act: Callable[[], object],
        umask: int = 0o002,
        before: Callable[[], object] = lambda: None,
    ) -> int:
        """Begin to do it in a process of this user, and `before` it something as root.

        Returns the process's id.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            before()
            self._become()
            os.umask(umask)
            outcome = act()
            status = outcome if isinstance(outcome, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def does(
        self,
        act: Callable[[], object],
        umask: int = 0o002,
        before: Callable[[], object] = lambda: None,
    ) -> int:
        """Do it in a process of this user; return the exit status, which `act` may return."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(act, umask, before), 0)[1])

    def _become(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0))
        os.setgroups(self.groups)
        os.setresgid(self.number, self.number, self.number)
        os.setresuid(self.number, self.number, self.number)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        # Effective, permitted and inheritable, of the first 32 and of the other capabilities.
        sets = (ctypes.c_uint32 * 6)(*[1 << _READ_ALL] * 3, 0, 0, 0)
        _check(libc.capset(header, sets))
        # For the processes that it starts.
        _check(libc.prctl(_AMBIENT, _RAISE, _READ_ALL, 0, 0))
        os.environ["HOME"] = "/nonexistent"


ALICE = User(54_301, (LAB,))
BOB = User(54_302, (LAB,))
CAROL = User(54_303)


def shared_folder() -> Iterator[Path]:
    """Give a folder as a lab has it: all of its group write, and what is made is the group's."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as several users")
    # Not in pytest's own, which other users can't enter.
    top = Path(tempfile.mkdtemp(prefix="mixbench-lab-"))
    try:
        if ALICE.does(lambda: 0):
            pytest.skip("no right to mount, nor to act as a user who may read everything")
        top.chmod(0o755)
        folder = top / "lab"
        folder.mkdir()
        os.chown(folder, 0, LAB)
        folder.chmod(0o2775)
        yield folder
    finally:
        shutil.rmtree(top)


def read_only_what_is_allowed() -> None:
    """Have this process of a user read no more than that user may."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(libc.capset(header, (ctypes.c_uint32 * 6)()))


def hide_processes_of_others() -> None:
    """Mount /proc for this process as many clusters do; OSError where it may not mount."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private_to_it = 0x20000, 1 << 18 | 1 << 14
    _check(libc.unshare(new_namespace))
    _check(libc.mount(b"none", b"/", None, private_to_it, None))
    _check(libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2"))


def private(top: Path) -> list[str]:
    """What the group can't use below a shared folder: paths and their mode and group."""
    found = []
    for path in top.rglob("*"):
        info = path.lstat()
        wanted = 0o2070 if path.is_dir() else 0o060
        if info.st_gid != LAB or info.st_mode & wanted != wanted:
            found.append(f"{path.relative_to(top)}: {info.st_mode:o}, group {info.st_gid}")
    return found


def _check(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
