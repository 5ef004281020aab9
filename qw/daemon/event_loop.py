"""The event loop of a daemon: code that a handler leaves in it can end that handler's attempt, and nothing else.

asyncio lets SystemExit and KeyboardInterrupt leave the loop wherever they are raised: in a sub-task, a task group, a
callback. That would end the daemon and all other tasks. So callbacks scheduled by a handler's code
are wrapped here; they are recognised by their context, which sub-tasks, timers and threads inherit. Exceptions that
cannot be attributed to a handler (from a protocol or a file descriptor's reader) are logged, and the loop continues.
`asyncio.all_tasks` hands a handler every task of the loop; those of the daemon and the attempts of others ignore its
cancel.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, ClassVar

from qw.core.task.outcome import text_of
from qw.services.execution.in_flight import ClaimInFlight, running_claim

log = logging.getLogger(__name__)

SIGNAL_CHECK_SECONDS = 1.0

in_lifespan: ContextVar[bool] = ContextVar("in_lifespan", default=False)
"""Whether the app's lifespan runs: handlers may cancel the asyncio tasks that it starts."""


class _DaemonTask(asyncio.Task[Any]):
    """A task that no handler may cancel, except its own attempt."""

    __slots__ = ()

    _logged_fence: ClassVar[int | None] = None  # one line per attempt, not one per task

    def cancel(self, msg: Any | None = None) -> bool:
        holding = running_claim.get()
        if holding is None or holding.task is self:
            return super().cancel(msg)
        if holding.claim.fence != _DaemonTask._logged_fence:
            _DaemonTask._logged_fence = holding.claim.fence
            fields = {"task": str(holding.claim.id), "type": holding.claim.type}
            log.error("handler tried to cancel asyncio tasks of the daemon; ignored", extra=fields)
        return False


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* to its end, whatever callbacks raise, and even if code stops the loop."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        is_interrupted = False
        while True:
            try:
                loop.run_until_complete(task)
                return
            except SystemExit as error:
                if task.done():
                    raise
                log.error("callback tried to exit the daemon; ignored", extra={"error": text_of(error)})
            except KeyboardInterrupt:
                if task.done():
                    raise
                is_interrupted = task.cancel()
            except asyncio.CancelledError:
                if is_interrupted:
                    raise KeyboardInterrupt from None
                raise
            except RuntimeError:
                if task.done():
                    raise
                log.error("event loop was stopped; resumed")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        from uvloop import Loop
    except ImportError:
        return guarded(asyncio.SelectorEventLoop)()
    return guarded(Loop)()


_guarded_classes: list[type] = []


def forbid_loops(instead: Callable[..., object]) -> None:
    """Make every guarded loop of this process call *instead* when something is scheduled in it. For forked
    children.
    """
    for loop_class in _guarded_classes:
        for name in ("call_soon", "call_soon_threadsafe", "call_later", "call_at", "stop", "close"):
            setattr(loop_class, name, instead)


def guarded(base: Any) -> Callable[[], asyncio.AbstractEventLoop]:
    """A subclass of the event loop class *base* that contains what handlers raise in callbacks."""

    base_call_soon = base.call_soon

    class GuardedLoop(base):  # type: ignore[misc]
        def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
            if running_claim.get() is not None or in_lifespan.get():
                return super().create_task(coro, **options)  # type: ignore[no-any-return]
            return _DaemonTask(coro, loop=self, **options)

        def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
            if (running_claim.get() if context is None else context.get(running_claim)) is None:
                return base_call_soon(self, callback, *args, context=context)  # once per task: no detour
            callback, args = _guarded(callback, args, context)
            return base_call_soon(self, callback, *args, context=context)

        def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
            callback, args = _guarded(callback, args, context)
            return super().call_soon_threadsafe(callback, *args, context=context)

        def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
            callback, args = _guarded(callback, args, context)
            return super().call_later(delay, callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
            callback, args = _guarded(callback, args, context)
            return super().call_at(when, callback, *args, context=context)

    for name, act in _NOT_FOR_HANDLERS.items():
        setattr(GuardedLoop, name, _refused_to_handlers(getattr(base, name), act))
    _guarded_classes.append(GuardedLoop)
    return GuardedLoop


_NOT_FOR_HANDLERS = {
    "stop": "stop the event loop",
    "shutdown_asyncgens": "close the generators of the event loop",
    "shutdown_default_executor": "shut down the executor of the event loop",
    "set_default_executor": "replace the executor of the event loop",
}


def _refused_to_handlers(method: Callable[..., Any], act: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if running_claim.get() is not None:
            raise RuntimeError(f"a handler must not {act}: the daemon and other tasks run in it")
        return method(*args, **options)

    return call


def _guarded(callback: Any, args: tuple[Any, ...], context: Context | None) -> tuple[Any, tuple[Any, ...]]:
    claim = running_claim.get() if context is None else context.get(running_claim)
    if claim is None or callback is _contained:
        return callback, args
    return _contained, (claim, callback, *args)


def _contained(claim: ClaimInFlight, callback: Callable[..., object], *args: object) -> None:
    try:
        callback(*args)
    except (SystemExit, KeyboardInterrupt) as error:
        text = f"{text_of(error)} in a task or callback that the handler started"
        if not claim.exited(text):
            fields = {"task": str(claim.claim.id), "type": claim.claim.type, "error": text}
            log.error("code left running by an ended attempt tried to exit the daemon", extra=fields)


def on_signals(handlers: dict[signal.Signals, Callable[[], None]]) -> None:
    """Install these handlers for the signals, and install them again if other code replaces them.

    They are Python signal handlers, not the event loop's, so they run even while a handler blocks the loop.
    """
    loop = asyncio.get_running_loop()
    installed: dict[signal.Signals, object] = {}

    def install(number: signal.Signals) -> None:
        signal.signal(number, lambda *_: handlers[number]())
        installed[number] = signal.getsignal(number)

    for number in handlers:
        install(number)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def check() -> None:
        if signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False) != wakeup:
            log.error("signal wake-up descriptor was replaced; restored")
        for number in handlers:
            if signal.getsignal(number) != installed[number]:
                log.error("signal handler was replaced; restored", extra={"signal": number.name})
                install(number)
        loop.call_later(SIGNAL_CHECK_SECONDS, check)

    if wakeup != -1:
        loop.call_later(SIGNAL_CHECK_SECONDS, check)
