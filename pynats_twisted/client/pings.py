"""The PINGs of a connection: who waits for which PONG, and which publishes it confirms."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class Pings:
    """PONGs come in the order of their PINGs.

    :param confirmed: publishes, counted since the client began, of which it is known that no PONG need confirm them.
    :ivar confirmed: publishes up to the last PING that was answered.
    :ivar silent: the connection's own PINGs since the last PONG.
    """

    __slots__ = ("_under_way", "confirmed", "silent")

    def __init__(self, confirmed: int) -> None:
        self.confirmed = confirmed
        self.silent = 0
        self._under_way: deque[tuple[Deferred[None] | None, int]] = deque()

    def sent(self, waiter: Deferred[None] | None, accepted: int) -> None:
        """A PING was sent behind ``accepted`` publishes; ``waiter`` fires at its PONG."""
        self._under_way.append((waiter, accepted))

    def answered(self) -> None:
        """A PONG came."""
        self.silent = 0
        waiter, self.confirmed = self._under_way.popleft()
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    def lost(self, error: Callable[[], BaseException]) -> None:
        """No PONG will come any more."""
        under_way, self._under_way = self._under_way, deque()
        for waiter, _ in under_way:
            if waiter is not None and not waiter.called:
                waiter.errback(error())

    def restart(self, confirmed: int) -> None:
        """Count anew: what was published so far was confirmed elsewhere."""
        self.confirmed = confirmed
        self._under_way = deque((waiter, confirmed) for waiter, _ in self._under_way)
