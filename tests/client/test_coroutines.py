"""Coroutines that are run without a Deferred of their own: each case here ends as it ends under ``Deferred.fromCoroutine``."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from types import coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.client.coroutines import begin

variable: ContextVar[str] = ContextVar("variable", default="outside")


@coroutine
def bare(value: Any) -> Generator[Any, Any, Any]:
    """Awaits something that has no ``__await__``."""
    return (yield value)


async def inner(value: Any) -> str:
    return f"inner {await value}"


class Handle:
    """What a case is run with: the Deferreds that it waits for, and what it has noted."""

    def __init__(self) -> None:
        self.waits = [Deferred[Any]() for _ in range(3)]
        self.noted: list[Any] = []


Case = Callable[[Handle], Coroutine[Any, Any, Any]]


def under_twisted(case: Case) -> tuple[Handle, list[Any]]:
    """Run a case the usual way. Its ends are noted: True, or the error."""
    handle, ends = Handle(), list[Any]()
    Deferred.fromCoroutine(case(handle)).addCallbacks(lambda _: ends.append(True), lambda failure: ends.append(failure.value))
    return handle, ends


def under_ours(case: Case) -> tuple[Handle, list[Any]]:
    """Run a case our way."""
    handle, ends = Handle(), list[Any]()
    try:
        suspended = begin(case(handle))
    except BaseException as error:  # noqa: BLE001 - compared below
        ends.append(error)
    else:
        if suspended is None:
            ends.append(True)
        else:
            suspended.go_on(lambda failure: ends.append(failure.value if failure is not None else True))
    return handle, ends


class SameAsTwistedTests(SynchronousTestCase):
    def both(self, case: Case, *steps: Callable[[Handle], Any]) -> tuple[list[Any], list[Any]]:
        """Run a case both ways, with these steps from outside; everything that is noted after each step is the same. Returns that."""
        runs = [under_twisted(case), under_ours(case)]

        def seen(handle: Handle, ends: list[Any]) -> str:
            return repr((handle.noted, ends, [each.called for each in handle.waits]))

        self.assertEqual(seen(*runs[0]), seen(*runs[1]))
        for step in steps:
            for handle, _ in runs:
                step(handle)
            self.assertEqual(seen(*runs[0]), seen(*runs[1]))
        self.assertEqual(len(runs[1][1]), 1, "it has not ended, or twice")
        return runs[1][0].noted, runs[1][1]

    def test_no_wait(self) -> None:
        """One that waits for nothing is over at once."""

        async def case(handle: Handle) -> None:
            handle.noted.append(1)

        self.assertEqual(self.both(case), ([1], [True]))

    def test_raises_at_once(self) -> None:
        """What it raises before it waits comes out, whatever it is."""
        for error in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration):

            async def case(handle: Handle, error: type[BaseException] = error) -> None:
                raise error("x")

            _, (raised,) = self.both(case)
            self.assertIsInstance(raised, RuntimeError if error is StopIteration else error)

    def test_waits(self) -> None:
        """It goes on with the results of the Deferreds that it awaits, in turn."""

        async def case(handle: Handle) -> None:
            for wait in handle.waits:
                handle.noted.append(await wait)

        steps = [lambda handle, number=number: handle.waits[number].callback(number) for number in range(3)]
        self.assertEqual(self.both(case, *steps), ([0, 1, 2], [True]))

    def test_raises_later(self) -> None:
        """What it raises after it waited comes out, whatever it is, and the Deferred that it waited for is none the worse."""
        for error in (ValueError, SystemExit, GeneratorExit):

            async def case(handle: Handle, error: type[BaseException] = error) -> None:
                await handle.waits[0]
                raise error("x")

            _, (raised,) = self.both(case, lambda handle: handle.waits[0].callback(None))
            self.assertIsInstance(raised, error)

    def test_failures(self) -> None:
        """A Deferred that fails raises in it; it may deal with that and go on, and nothing is reported as unhandled."""

        async def case(handle: Handle) -> None:
            try:
                await handle.waits[0]
            except ZeroDivisionError as error:
                handle.noted.append(str(error))
            await handle.waits[1]

        self.both(
            case,
            lambda handle: handle.waits[0].errback(ZeroDivisionError("first")),
            lambda handle: handle.waits[1].errback(KeyError("second")),
        )
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_fired_before(self) -> None:
        """Deferreds that have fired already, or failed, are no wait."""

        async def case(handle: Handle) -> None:
            handle.noted.append(await succeed(1))
            try:
                await fail(ValueError("x"))
            except ValueError as error:
                handle.noted.append(str(error))

        self.assertEqual(self.both(case), ([1, "x"], [True]))

    def test_yields_of_fired_ones(self) -> None:
        """An awaitable that hands out Deferreds that have fired gets their results, very many in a row as well."""

        async def case(handle: Handle) -> None:
            total = 0
            for _ in range(5000):
                total += await bare(succeed(1))
            try:
                await bare(fail(ValueError("x")))
            except ValueError as error:
                handle.noted.append(str(error))
            handle.noted.append(total)

        self.assertEqual(self.both(case), (["x", 5000], [True]))

    def test_paused(self) -> None:
        """A Deferred that waits for another one is waited for."""

        async def case(handle: Handle) -> None:
            chained = succeed(None).addCallback(lambda _: handle.waits[0])
            handle.noted.append(await chained)

        self.assertEqual(self.both(case, lambda handle: handle.waits[0].callback("late")), (["late"], [True]))

    def test_other_things(self) -> None:
        """What is no Deferred comes back as it is; coroutines and generators are run."""

        async def case(handle: Handle) -> None:
            handle.noted.append(await bare(None))
            handle.noted.append(await bare("text"))
            handle.noted.append(await bare(inner(handle.waits[0])))

            def generator() -> Generator[Any, Any, str]:
                return (yield handle.waits[1])

            handle.noted.append(await bare(generator()))
            handle.noted.append(await inner(handle.waits[2]))

        steps = [lambda handle, number=number: handle.waits[number].callback(number) for number in range(3)]
        self.assertEqual(self.both(case, *steps), ([None, "text", "inner 0", 1, "inner 2"], [True]))

    def test_cancelled_elsewhere(self) -> None:
        """When somebody cancels what it waits for, that is raised in it."""

        async def case(handle: Handle) -> None:
            try:
                await handle.waits[0]
            except CancelledError:
                handle.noted.append("cancelled")

        self.assertEqual(self.both(case, lambda handle: handle.waits[0].cancel()), (["cancelled"], [True]))

    def test_fires_another_one(self) -> None:
        """Two that fire each other's Deferreds do not get into each other's way."""

        async def case(handle: Handle) -> None:
            async def other() -> None:
                await handle.waits[0]
                handle.noted.append("other")
                handle.waits[1].callback(None)

            begun = Deferred.fromCoroutine(other())
            handle.waits[0].callback(None)
            await handle.waits[1]
            await begun
            handle.noted.append("case")

        self.assertEqual(self.both(case), (["other", "case"], [True]))

    def test_context(self) -> None:
        """It has a context of its own, the same one from the beginning to the end."""

        async def case(handle: Handle) -> None:
            token = variable.set("inside")
            await handle.waits[0]
            handle.noted.append(variable.get())
            await bare(succeed(None))
            # A copy of the context would not do for this.
            variable.reset(token)
            handle.noted.append(variable.get())
            variable.set("left behind")

        def step(handle: Handle) -> None:
            self.assertEqual(variable.get(), "outside")
            handle.waits[0].callback(None)
            self.assertEqual(variable.get(), "outside")

        self.assertEqual(self.both(case, step), (["inside", "outside"], [True]))

    def test_context_of_the_beginning(self) -> None:
        """It sees what was set where it was begun, also after a wait."""
        token = variable.set("around")
        self.addCleanup(variable.reset, token)

        async def case(handle: Handle) -> None:
            handle.noted.append(variable.get())
            await handle.waits[0]
            handle.noted.append(variable.get())

        def step(handle: Handle) -> None:
            inner_token = variable.set("elsewhere")
            handle.waits[0].callback(None)
            variable.reset(inner_token)

        self.assertEqual(self.both(case, step), (["around", "around"], [True]))

    def test_inline_callbacks(self) -> None:
        """It may await a generator under ``inlineCallbacks``."""

        @inlineCallbacks
        def old(wait: Deferred[Any]) -> Any:
            result = yield wait
            return f"old {result}"

        async def case(handle: Handle) -> None:
            handle.noted.append(await old(handle.waits[0]))

        self.assertEqual(self.both(case, lambda handle: handle.waits[0].callback(1)), (["old 1"], [True]))


class TracebackTests(SynchronousTestCase):
    def test_names_the_line(self) -> None:
        """A failure after a wait has the traceback of the coroutine, down to where it was raised."""
        wait: Deferred[None] = Deferred()
        failures: list[Failure | None] = []

        async def raising() -> None:
            await wait
            raise ValueError("here")

        async def outer() -> None:
            await raising()

        suspended = begin(outer())
        assert suspended is not None
        suspended.go_on(failures.append)
        wait.callback(None)
        (failure,) = failures
        assert failure is not None
        names = [frame.name for frame in traceback.extract_tb(failure.getTracebackObject())]
        self.assertEqual(names[-2:], ["outer", "raising"])

    def test_nothing_is_left(self) -> None:
        """Who waited leaves nothing in a Deferred that somebody else goes on with."""
        wait: Deferred[int] = Deferred()
        results: list[Any] = []

        async def waiting() -> None:
            await wait

        suspended = begin(waiting())
        assert suspended is not None
        suspended.go_on(lambda failure: None)
        wait.addBoth(results.append)
        wait.errback(ValueError("x"))
        self.assertEqual(results, [None])
        self.assertEqual(self.flushLoggedErrors(), [])
