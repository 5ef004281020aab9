"""The process between qw and one command: it makes sure that no process of the command outlives the attempt.

Run by its path (`python -I -S supervise.py LINK LEASH GRACE LEFT USER WORDS`), with the standard library only.

LINK is one end of a socket pair. The daemon writes to it to stop the command; if its end is closed, the daemon is dead
or must stop the command faster. The supervisor writes a line when the command runs (``started 4711``) and when it has
ended (``exit 3``, ``signal 9``), or ``failed why`` if it could not be started. Then it reports the processes that the
command left behind (``left 4712 (sleep)``), terminates them unless LEFT is ``keep``, and exits. Its end of LINK is
closed by that exit. USER is the name of the command's user, empty for the daemon's own.

WORDS is a file with the program's path and its arguments, the first of which is its name, separated by zero bytes.

LEASH is the descriptor of a file with the deadline of the daemon's lease (`leash.py`), or -1. A daemon that is stopped
or disconnected no longer extends the deadline: when it passes, the supervisor terminates the command without being
asked, and first reports ``expired lease``.

A process group is not enough to find a command's children, since `setsid` leaves it. As a child subreaper
(PR_SET_CHILD_SUBREAPER), the supervisor becomes the parent of every orphan below it, and it waits until it has no
children left. The setting applies to a whole process, so the daemon cannot use it itself. If the supervisor is killed,
the kernel kills the command (PR_SET_PDEATHSIG) and the daemon kills its process group.
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
_LEFTOVER_GRACE = 1.0  # seconds between TERM and KILL for processes left by a finished command
_ORPHAN_GRACE = 0.3  # the same if the daemon died or its lease ends: attempts must not overlap
_GIVE_UP = 2.0  # seconds after KILL, for processes that cannot be killed
_LAST_STEPS = 0.1  # seconds for processes that end right after the command, as readers of its pipes
_BEAT = 1.0
_NOT_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # ignored: sent to all processes of a service


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
    """Reads the daemon's deadline from the file *descriptor*; a negative one means no deadline."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)

    def left(self) -> float:
        """Return the seconds until the command must be terminated."""
        if self._descriptor < 0:
            return float("inf")
        (deadline,) = struct.unpack("d", os.pread(self._descriptor, 8, 0))
        return float(deadline) - time.clock_gettime(self._clock)


def _prctl(option: int, value: int) -> None:
    """Set a process option. Linux only: on other systems, children that leave the process group are not found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wake_on_child() -> int:
    """Return a descriptor that becomes readable when a child ends."""
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
        for stream in (0, 1, 2):  # so that only the command holds the pipes open
            os.dup2(nothing, stream)
        return child
    try:
        os.setsid()
        if user:
            _become(user)  # before PDEATHSIG, which a change of user resets
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for changed in (*_NOT_OURS, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two, which exec keeps
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
    """Wait for *child* to end and return its wait status; None if it must be stopped."""
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
    """Return the processes that the finished command left, after a moment in which they may end by themselves."""
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
    """Whether the daemon wrote something; False if its end is closed."""
    try:
        return bool(os.read(link, 100))
    except OSError:
        return False


def _clear(child: "int | None", link: int, leash: _Leash, wake: int, grace: float) -> "int | None":
    """Terminate *child*, its group and all adopted processes; KILL after *grace* seconds. Return *child*'s status."""
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
    for kill in (os.killpg, os.kill) if group else (os.kill,):  # before its setsid(), a child leads no group
        try:
            kill(pid, signum)
            return
        except OSError:
            pass  # it has ended, or may not be signalled


def _reaped() -> "list[tuple[int, int]]":
    """Return the pid and wait status of the children that ended since the last call."""
    ended = []
    try:
        while (status := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(status)
    except ChildProcessError:
        pass
    return ended


def _children(known: "list[int]") -> "list[int]":
    """Return the pids of the living children; *known* if there is no /proc.

    Only this process reaps them, so none of the pids can be reused in the meantime.
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
    with contextlib.suppress(OSError):  # the daemon is dead; only the cleanup remains
        os.write(link, f"{line}\n".encode(errors="backslashreplace"))


if __name__ == "__main__":
    main()
