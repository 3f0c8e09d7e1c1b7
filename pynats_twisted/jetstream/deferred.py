"""Coroutines as Deferreds: what our methods are inside, and what users get."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

_P = ParamSpec("_P")
_T = TypeVar("_T")


def deferred(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """Make a coroutine function one that begins at once and returns a Deferred, for ``await``, ``yield`` and callbacks alike.

    Cancelling the Deferred cancels what the coroutine waits for.
    """

    @wraps(function)
    def begin(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return begin
