"""Runs a batch: one call of the handler for many claims, and an outcome for each of them.

If the handler raises an exception for several items, each half is tried again, until the item that causes it is alone
and only that one fails. An exception that only middleware raises fails all items.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from qw.core.errors import Invalid
from qw.core.task.ending import COMPLETED, Completed, HandedBack, Outcome
from qw.core.task.handler_api import Retry, Snooze
from qw.core.task.outcome import class_name, failure_of
from qw.handlers.surroundings import surrounded
from qw.services.execution.attempt import OVERRULING, awaited, converted, executor_done, explained, in_thread, stopped
from qw.services.execution.context import BlockingContext, ItemContext
from qw.services.execution.in_flight import ClaimInFlight, ClaimState, Stop, running_claim

log = logging.getLogger(__name__)

Item: TypeAlias = tuple[ClaimInFlight, Any]  # a claim and its payload, as the handler takes it


class WrongAnswers(Invalid):
    """The function returned something other than one answer per item."""


_OF_ALL = (Retry, Snooze, WrongAnswers)  # errors that concern the whole batch, whatever its items


class BatchAttempt:
    """One attempt of each of *holdings*, which have the same type. *context_of* makes the context of an item."""

    def __init__(self, holdings: Sequence[ClaimInFlight], context_of: Callable[[ClaimInFlight], ItemContext]) -> None:
        handler = holdings[0].handler
        assert handler is not None
        assert handler.batch is not None
        self._handler, self._batch = handler, handler.batch
        self._holdings = holdings
        self._context_of = context_of
        self._contexts: dict[int, ItemContext] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._has_raised = False  # whether the handler raised in its last call

    @property
    def has_logged(self) -> bool:
        return any(context.has_logged for context in self._contexts.values())

    async def outcomes(self) -> list[Outcome]:
        """Run the batch and return the outcomes of the holdings, in their order. Never raises."""
        first = self._holdings[0]
        running_claim.set(first)
        try:
            await self._run_all()
            is_done = all(isinstance(one, Completed) for one in self._outcomes.values())
            if first.in_executor and not is_done and first.stop not in (Stop.DRAIN, Stop.LEASE):
                await executor_done(first)
            return [self._outcomes[holding.claim.fence] for holding in self._holdings]
        except GeneratorExit:
            raise  # the event loop is closed: nothing awaits this attempt
        except BaseException as error:
            log.exception("batch produced no outcomes", extra={"type": self._handler.type})
            failed = failure_of(error, "the outcome of the attempt could not be determined")
            return [self._outcomes.get(holding.claim.fence, failed) for holding in self._holdings]
        finally:
            for holding in self._holdings:
                holding.state = ClaimState.ENDING
            if running_claim.get() is first:
                running_claim.set(None)

    async def _run_all(self) -> None:
        items = []
        for holding in self._holdings:
            try:
                items.append((holding, self._batch.item(holding.claim.payload)))
            except BaseException as error:
                self._outcomes[holding.claim.fence] = await explained(error, self._context(holding))
        if items:
            await self._run(items)

    async def _run(self, items: Sequence[Item]) -> None:
        self._has_raised = False
        try:
            answers = await self._answers(items)
            for (holding, _), answer in zip(items, answers, strict=True):
                self._outcomes[holding.claim.fence] = await self._outcome(holding, answer)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and asyncio.current_task() is not self._holdings[0].task:
                raise
            left = [item for item in items if item[0].claim.fence not in self._outcomes]
            if isinstance(error, asyncio.CancelledError) or any(holding.stop in OVERRULING for holding, _ in left):
                self._stop(left)
            elif len(left) > 1 and self._has_raised and not isinstance(error, _OF_ALL):
                half = len(left) // 2
                await self._run(left[:half])
                await self._run_unless_stopped(left[half:])
            else:
                for holding, _ in left:
                    self._outcomes[holding.claim.fence] = await self._failed(holding, error)

    async def _run_unless_stopped(self, items: Sequence[Item]) -> None:
        going = [item for item in items if item[0].stop is None]
        self._stop([item for item in items if item[0].stop is not None])
        if any(holding.stop in OVERRULING for holding in self._holdings):  # the batch as a whole has been stopped
            self._stop(going)
        elif going:
            await self._run(going)

    def _stop(self, items: Sequence[Item]) -> None:
        """Set the outcomes of a stopped handler. Claims that were not to be stopped themselves are handed back."""
        is_stopped = any(holding.stop is not None for holding in self._holdings)
        for holding, _ in items:
            unharmed = is_stopped and holding.stop is None
            self._outcomes[holding.claim.fence] = HandedBack() if unharmed else stopped(holding)

    async def _answers(self, items: Sequence[Item]) -> Sequence[Any]:
        middleware = self._handler.middleware
        if middleware:
            first = self._context(items[0][0])
            answers = await surrounded(middleware, first, lambda context: self._called(items))
        else:
            answers = await self._called(items)
        if answers is None:
            return [None] * len(items)
        if isinstance(answers, (str, bytes)) or not isinstance(answers, Sequence) or len(answers) != len(items):
            given = f"{len(answers)} answers" if isinstance(answers, (list, tuple)) else f"a {class_name(answers)}"
            raise WrongAnswers(f"the batch returned {given} for {len(items)} items; return one for each, or None")
        return answers

    async def _called(self, items: Sequence[Item]) -> Any:
        try:
            return await self._call(items)
        except BaseException:
            self._has_raised = True
            raise

    async def _call(self, items: Sequence[Item]) -> Any:
        given: list[Any] = [[item for _, item in items]]
        function = self._handler.function
        if self._handler.runs_in_loop:
            if self._batch.takes_contexts:
                given.append([self._context(holding) for holding, _ in items])
            return await function(*given)
        if self._batch.takes_contexts:
            loop = asyncio.get_running_loop()
            given.append([BlockingContext(self._context(holding), loop) for holding, _ in items])
        first = self._holdings[0]
        return await awaited(await in_thread(partial(function, *given), {}, first), first)

    async def _outcome(self, holding: ClaimInFlight, answer: object) -> Outcome:
        if holding.stop is not None and holding.stop in (Stop.TIMEOUT, Stop.EXIT):  # it returned too late
            return stopped(holding)
        if isinstance(answer, BaseException):
            return await self._failed(holding, answer)
        return COMPLETED if answer is None else await converted(answer, holding)

    async def _failed(self, holding: ClaimInFlight, error: BaseException) -> Outcome:
        if holding.stop is Stop.CANCEL:
            return stopped(holding)
        return await explained(error, self._context(holding))

    def _context(self, holding: ClaimInFlight) -> ItemContext:
        fence = holding.claim.fence
        if fence not in self._contexts:
            self._contexts[fence] = self._context_of(holding)
        return self._contexts[fence]
