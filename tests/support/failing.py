"""What has to fail, and with which error."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

_E = TypeVar("_E", bound=BaseException)


async def failing(waiting: Awaitable[Any], kind: type[_E]) -> _E:
    """The error of this kind with which something fails; another one is raised."""
    try:
        result = await waiting
    except kind as error:
        return error
    raise AssertionError(f"it did not fail with {kind.__name__}, but gave {result!r}")
