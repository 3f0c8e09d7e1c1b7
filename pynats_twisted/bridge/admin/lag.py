"""How late the reactor is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import Gauge
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL: Final = 1.0
"""Seconds between two measurements."""


class ReactorLag:
    """Measures once a second how late the reactor runs a timed call. Whatever blocks the reactor shows here.

    :param reactor: the reactor to measure.
    :param gauge: gets each measurement, in seconds.
    """

    def __init__(self, reactor: IReactorTime, gauge: Gauge) -> None:
        self._reactor = reactor
        self._gauge = gauge
        self._due = 0.0
        self._last = 0.0
        self._call: IDelayedCall | None = None

    @property
    def seconds(self) -> float:
        """The lag: the last measurement, or how overdue the next one is, whichever is more."""
        overdue = self._reactor.seconds() - self._due if self._call is not None else 0.0
        return max(self._last, overdue, 0.0)

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._reactor.seconds() + INTERVAL
        self._call = self._reactor.callLater(INTERVAL, self._measure)

    def stop(self) -> None:
        """Measure no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _measure(self) -> None:
        self._last = max(0.0, self._reactor.seconds() - self._due)
        self._gauge.set(self._last)
        self.start()
