"""Coroutines that mostly end without waiting: begun without a Deferred, which costs more than most of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from inspect import iscoroutine, isgenerator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_LATER: Any = object()


def begin(coroutine: Coroutine[Any, Any, Any]) -> Suspended | None:
    """Run a coroutine to where it first has to wait, in a context of its own. What it raises is raised here.

    Nobody can cancel it; apart from that it is run as by ``Deferred.fromCoroutine``.

    :returns: None when it is over, or what is left of it: :meth:`Suspended.go_on` has to be called then.
    """
    context = copy_context()
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return None
    return Suspended(coroutine, context, awaited)


class Suspended:
    """A coroutine that has begun and waits for something, usually a Deferred."""

    __slots__ = ("_at_once", "_awaited", "_context", "_coroutine", "_ended", "_result")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context, awaited: Any) -> None:
        self._coroutine = coroutine
        self._context = context
        self._awaited = awaited
        self._result: Any = _LATER
        # Whether a Deferred that fires is one that has fired before it was waited for.
        self._at_once = False
        self._ended: Callable[[Failure | None], None] | None = None

    def go_on(self, ended: Callable[[Failure | None], None]) -> None:
        """Step it whenever what it waits for is there.

        :param ended: called once, in the end, perhaps at once: with None, or with what the coroutine raised.
        """
        self._ended = ended
        awaited, self._awaited = self._awaited, None
        result = self._wait_for(awaited)
        if result is not _LATER:
            self._step(result)

    def _wait_for(self, awaited: Any) -> Any:
        """The result of what the coroutine awaits, or _LATER when it is not there yet."""
        if awaited.__class__ is not Deferred and not isinstance(awaited, Deferred):
            if not iscoroutine(awaited) and not isgenerator(awaited):
                # As Twisted does: what is no Deferred is given back as it is.
                return awaited
            inner: Any = awaited
            awaited = Deferred.fromCoroutine(inner)
        self._at_once = True
        awaited.addBoth(self._fired)
        self._at_once = False
        result, self._result = self._result, _LATER
        return result

    def _fired(self, result: Any) -> None:
        if self._at_once:
            # No recursion: a coroutine may await very many of these in a row.
            self._result = result
        else:
            self._step(result)

    def _step(self, result: Any) -> None:
        run, coroutine = self._context.run, self._coroutine
        failure: Failure | None = None
        try:
            while result is not _LATER:
                step = run(result.throwExceptionIntoGenerator, coroutine) if isinstance(result, Failure) else run(coroutine.send, result)
                result = self._wait_for(step)
        except StopIteration:
            pass
        except BaseException:  # noqa: BLE001 - the coroutine's own; it is passed on
            failure = Failure()
        else:
            return
        assert self._ended is not None
        self._ended(failure)
