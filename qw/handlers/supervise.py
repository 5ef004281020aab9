"""The process between qw and one command: it sees to it that nothing of the command outlives the attempt.

Run by its path (`python -I -S supervise.py LINK LEASH GRACE LEFT USER WORDS`), with the standard library
only. LINK is one end of a socket pair. The daemon asks us to stop by writing to it; its closing means that the daemon
is dead, or in a hurry. We write a line to it when the command runs (``started 4711``), and one when it has ended
(``exit 3``, ``signal 9``, ``failed why``); then we name what it left running (``left 4712 (sleep)``), end that unless
LEFT is ``keep``, and go. Our end closes last. USER is the name of the command's user, empty for the daemon's own.

WORDS is a file with the program and its arguments, one of which is its name, with a zero byte between them.

LEASH is a file that holds the deadline of the daemon's lease (`leash.py`), or -1. A daemon that is stopped or cut off
extends it no more: when it passes we end the command without being asked, and say so first (``expired lease``).

A process group alone does not hold a command's children: `setsid` leaves it. Here every orphan below us is handed to
us by the kernel (PR_SET_CHILD_SUBREAPER, which acts on a whole process: so it cannot be the daemon's), and we go on
until there is no child left. Should we be killed ourselves, the kernel kills the command (PR_SET_PDEATHSIG) and the
daemon its group.
"""

import contextlib
import ctypes
import os
import pwd
import select
import signal
import struct
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LEFTOVER_GRACE = 1.0  # what a finished command left running gets between TERM and KILL
_ORPHAN_GRACE = 0.3  # the same when the daemon died or its lease ends: two must not run at once
_GIVE_UP = 2.0  # after KILL, for what we may not kill or the kernel cannot end
_LAST_STEPS = 0.1  # for what ends by itself right after the command, such as the readers of its pipes
_BEAT = 1.0
_NOT_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # sent to all processes of a service; we listen to the link


def main() -> None:
    link, leash, grace = int(sys.argv[1]), _Leash(int(sys.argv[2])), float(sys.argv[3])
    keeps, user, (executable, *argv) = sys.argv[4] == "keep", sys.argv[5], _words(int(sys.argv[6]))
    os.set_inheritable(link, False)
    os.set_blocking(link, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake = _wake_on_child()
    child = _start(executable, argv, link, user)
    _tell(link, f"started {child}")
    status = _watch(child, link, leash, wake)
    if status is not None:
        _report(link, status)
        left = _left(wake)
        if left:
            _tell(link, "left " + ", ".join(f"{pid} ({_name(pid)})" for pid in left))
        if left and not keeps:
            _clear(None, link, leash, wake, _LEFTOVER_GRACE)
    else:
        if leash.left() <= 0:
            _tell(link, "expired lease")
        status = _clear(child, link, leash, wake, grace if _said(link) else _ORPHAN_GRACE)
        _report(link, status)
    os._exit(0)


def _words(descriptor: int) -> list[bytes]:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().split(b"\0")


class _Leash:
    """The daemon's deadline in *descriptor*, which has none when that is negative."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)

    def left(self) -> float:
        """Seconds until the command must be terminated."""
        if self._descriptor < 0:
            return float("inf")
        (deadline,) = struct.unpack("d", os.pread(self._descriptor, 8, 0))
        return float(deadline) - time.clock_gettime(self._clock)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere escaped children of a command are not found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    wake, trigger = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(trigger, False)
    signal.set_wakeup_fd(trigger, warn_on_full_buffer=False)
    for caught in (signal.SIGCHLD, *_NOT_OURS):
        signal.signal(caught, lambda signum, frame: None)
    return wake


def _start(executable: bytes, argv: list[bytes], link: int, user: str) -> int:
    child = os.fork()
    if child:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # only the command may hold the pipes open
            os.dup2(nothing, stream)
        return child
    try:
        os.setsid()
        if user:
            _become(user)  # first: the kernel forgets the next when a process changes its user
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for changed in (*_NOT_OURS, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two, for programs too
            signal.signal(changed, signal.SIG_DFL)
        os.execv(executable, argv)  # noqa: S606 (whoever wants a shell names it)
    except OSError as error:
        _tell(link, f"failed cannot run {os.fsdecode(executable)}: {error.strerror}")
    finally:
        os._exit(127)


def _become(name: str) -> None:
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def _watch(child: int, link: int, leash: _Leash, wake: int) -> "int | None":
    """The wait status of *child*, or None when we are to stop it."""
    parent = os.getppid()
    while True:
        readable = select.select([link, wake], [], [], max(0.0, min(_BEAT, leash.left())))[0]
        if wake in readable:
            os.read(wake, 4096)
        for pid, status in _reaped():
            if pid == child:
                return status
        if link in readable or os.getppid() != parent or leash.left() <= 0:
            return None


def _left(wake: int) -> "list[int]":
    """What the finished command left running, after a moment in which it may end by itself."""
    deadline = time.monotonic() + _LAST_STEPS
    while True:
        _reaped()
        left, seconds = _children([]), deadline - time.monotonic()
        if not left or seconds <= 0:
            return left
        if select.select([wake], [], [], seconds)[0]:
            os.read(wake, 4096)


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as name:
            return name.read().strip().replace("\n", " ")
    except OSError:
        return "?"


def _said(link: int) -> bool:
    """Whether the daemon wrote something; False when its end is closed."""
    try:
        return bool(os.read(link, 100))
    except OSError:
        return False


def _clear(child: "int | None", link: int, leash: _Leash, wake: int, grace: float) -> "int | None":
    """End *child*, its group and all we adopted: TERM, then KILL after *grace* seconds. The status of *child*."""
    deadline, status, told = time.monotonic() + grace, None, set()
    links = [link]
    while True:
        for pid, ended in _reaped():
            status = ended if pid == child else status
        ours = _children([child] if child and status is None else [])
        now = time.monotonic()
        deadline = min(deadline, now + max(0.0, leash.left()) + _ORPHAN_GRACE)
        if not ours or now > deadline + _GIVE_UP:
            return status
        final = now >= deadline
        for pid in ours:
            if final or pid not in told:
                told.add(pid)
                _send(pid, signal.SIGKILL if final else signal.SIGTERM, group=pid == child)
        readable = select.select([*links, wake], [], [], 0.02 if final else min(0.05, deadline - now))[0]
        if wake in readable:
            os.read(wake, 4096)
        if links and link in readable and not _said(link):
            links, deadline = [], min(deadline, now + _ORPHAN_GRACE)


def _send(pid: int, signum: int, *, group: bool) -> None:
    for kill in (os.killpg, os.kill) if group else (os.kill,):  # in its first moment a child leads no group yet
        try:
            kill(pid, signum)
            return
        except OSError:
            pass  # gone, or not ours to signal


def _reaped() -> "list[tuple[int, int]]":
    """Children that ended since the last call, with their wait status."""
    ended = []
    try:
        while (status := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(status)
    except ChildProcessError:
        pass
    return ended


def _children(known: "list[int]") -> "list[int]":
    """Our living children; *known* where there is no /proc to ask.

    We are their only reaper, so that none of these numbers can come to mean another process.
    """
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children") as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:
        pass
    try:
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == me]
    except OSError:
        return known


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _report(link: int, status: "int | None") -> None:
    if status is not None:
        code = os.waitstatus_to_exitcode(status)
        _tell(link, f"exit {code}" if code >= 0 else f"signal {-code}")


def _tell(link: int, line: str) -> None:
    with contextlib.suppress(OSError):  # the daemon is gone; we only clean up
        os.write(link, f"{line}\n".encode(errors="backslashreplace"))


if __name__ == "__main__":
    main()
