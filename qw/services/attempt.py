"""One attempt: from a claim to an outcome. Whatever a handler does, an outcome comes back."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson

from qw.core.duration import MAX_DURATION
from qw.core.errors import Invalid
from qw.core.task.ending import Cancelled, Completed, Failed, HandedBack, Outcome, Snoozed
from qw.core.task.handler_api import Failure, Reject, Retry, Snooze
from qw.core.task.payload import MAX_RESULT, Json, clean, clean_error
from qw.handlers import Handler, HandlerKind
from qw.services.context import AttemptContext, BlockingContext
from qw.services.in_flight import ClaimInFlight, ClaimState, Stop

_OF_THE_LOOP = (StopIteration, asyncio.CancelledError)  # a future cannot carry these from a thread as they are


async def attempt(holding: ClaimInFlight, context: AttemptContext) -> Outcome:
    """Run the handler once and say what came out. Never raises; the holding's ``stop`` explains a cancellation."""
    handler = holding.handler
    assert handler is not None
    try:
        try:
            if handler.kind is HandlerKind.ASYNC:
                result = await handler.function(**handler.arguments(context))
            else:
                result = await _off_the_loop(handler, context, holding)
        finally:
            holding.state = (
                ClaimState.ENDING
            )  # from here on nobody can tell it to stop, so that its outcome is not lost
    except asyncio.CancelledError:
        return _stopped(holding)
    except Snooze as snooze:
        delay = max(timedelta(0), min(snooze.delay, MAX_DURATION))
        return Snoozed(delay=delay, reason=clean_error(snooze.reason) or "snoozed")
    except Reject as reject:
        return Failed(error=_text(reject), names=("Reject",), final=True)
    except Retry as retry:
        return Failed(error=_text(retry), names=_names(retry), after=retry.after)
    except GeneratorExit:
        raise
    except BaseException as error:  # libraries raise some of their own, a panic in Rust for one
        if holding.stop is Stop.TIMEOUT:  # it turned its cancellation into an error of its own
            return _stopped(holding)
        if not isinstance(error, Failure):
            await _log_traceback(context, error)
        return Failed(error=_text(error), names=_names(error))
    if holding.stop is Stop.TIMEOUT:  # a thread that came back too late
        return _stopped(holding)
    return _completed(result)


async def _off_the_loop(handler: Handler, context: AttemptContext, holding: ClaimInFlight) -> object:
    if inspect.iscoroutinefunction(handler.function):  # one that minds its own process
        return await handler.function(**handler.arguments(context))
    if handler.kind is HandlerKind.THREAD:
        loop = asyncio.get_running_loop()
        arguments = handler.arguments(BlockingContext(context, loop))
        return await _in_thread(handler.function, arguments, holding)
    from qw.handlers.process import run_in_process

    return await run_in_process(handler.function, handler.arguments(context))


async def _in_thread(function: Callable[..., object], arguments: dict[str, Any], holding: ClaimInFlight) -> object:
    """Run *function* in a thread of its own. A thread cannot be stopped: it keeps slot and claim until it returns."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()

    def settle(result: object, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = function(**arguments)
        except BaseException as raised:
            error = RuntimeError(type(raised).__name__) if isinstance(raised, _OF_THE_LOOP) else raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=f"qw {holding.claim.type}", daemon=True).start()
    while True:
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if holding.stop not in (Stop.TIMEOUT, Stop.CANCEL):
                raise  # the daemon goes, or the lease is gone: nobody waits for it


def _completed(result: object) -> Outcome:
    if result is None:
        return Completed()
    try:
        value: Json = clean(result)
    except (Invalid, RecursionError) as error:
        return Failed(error=str(error) or "the result is nested too deeply", names=("Invalid",), final=True)
    size = len(orjson.dumps(value))
    if size > MAX_RESULT:
        text = (
            f"the result has {size:,} bytes; at most {MAX_RESULT:,} are stored; keep it elsewhere, return a reference"
        )
        return Failed(error=text, names=("ResultTooLarge",), final=True)
    return Completed(result=value)


def _stopped(holding: ClaimInFlight) -> Outcome:
    match holding.stop:
        case Stop.TIMEOUT:
            return Failed(error=holding.stop_reason, names=("TimeoutError",), outcome="timed_out")
        case Stop.CANCEL:
            return Cancelled(reason=holding.stop_reason or "cancelled")
        case Stop.LEASE | Stop.DRAIN:
            return HandedBack()
        case None:
            return Failed(error="the handler cancelled itself", names=("CancelledError",))


def _text(error: BaseException) -> str:
    try:
        return clean_error(str(error)) or type(error).__name__
    except Exception:  # one that cannot say what it is
        return type(error).__name__


def _names(error: BaseException) -> tuple[str, ...]:
    return tuple(kind.__name__ for kind in type(error).__mro__ if kind is not object)


async def _log_traceback(context: AttemptContext, error: BaseException) -> None:
    try:
        await context.log("".join(traceback.format_exception(error)), level="ERROR")
    except Exception:  # the outcome matters more than its log
        return
