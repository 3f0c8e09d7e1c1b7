"""What the metrics of the routes say about now: rates of the last minute, quantiles, counts by reason."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase

    from pynats_twisted.bridge.metrics import BridgeMetrics

HISTORY: Final = 60
"""Seconds of rates that are kept."""

BUCKETS_EVERY: Final = 5
"""Seconds between two looks at the histograms; quantiles are of the last minute."""

Buckets = tuple[tuple[float, float], ...]


class Recorder:
    """Looks at the counters once a second.

    :param metrics: the metrics of the bridge.
    """

    def __init__(self, metrics: BridgeMetrics) -> None:
        self._metrics = metrics
        self._totals: dict[str, float] = {}
        self._rates: dict[str, deque[float]] = {}
        self._buckets: deque[dict[str, Buckets]] = deque(maxlen=HISTORY // BUCKETS_EVERY + 1)
        self._ticks = 0

    def tick(self) -> None:
        """A second has passed."""
        totals = _by_route(self._metrics.messages_in)
        for name, total in totals.items():
            rates = self._rates.get(name)
            if rates is None:
                rates = self._rates[name] = deque(maxlen=HISTORY)
            rates.append(max(0.0, total - self._totals.get(name, 0.0)))
        for name in self._totals.keys() - totals.keys():
            del self._rates[name]
        self._totals = totals
        if self._ticks % BUCKETS_EVERY == 0:
            self._buckets.append(self._latency_buckets())
        self._ticks += 1

    def history(self, name: str) -> list[float]:
        """Messages of a route in each of the last 60 seconds, the oldest first."""
        return list(self._rates.get(name, ()))

    def _latency_buckets(self) -> dict[str, Buckets]:
        found: dict[str, list[tuple[float, float]]] = {}
        for sample in _samples(self._metrics.latency):
            if sample.name.endswith("_bucket"):
                found.setdefault(sample.labels["route"], []).append((float(sample.labels["le"]), sample.value))
        return {name: tuple(buckets) for name, buckets in found.items()}

    def numbers(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The numbers of the routes with these names, each as plain values."""
        metrics = self._metrics
        found: dict[str, dict[str, Any]] = {name: {} for name in names}
        single: dict[str, MetricWrapperBase] = {
            "in": metrics.messages_in,
            "out": metrics.messages_out,
            "in_flight": metrics.in_flight,
            "connections": metrics.connections,
            "retries": metrics.retries,
            "dead": metrics.dlq,
            "duplicates": metrics.duplicates,
            "loops": metrics.loops_dropped,
            "clients": metrics.sse_clients,
            "slow_clients": metrics.slow_clients,
            "lag_messages": metrics.consumer_lag_messages,
            "lag_seconds": metrics.consumer_lag_seconds,
            "ack_pending": metrics.consumer_ack_pending_ratio,
            "up": metrics.route_up,
        }
        for key, metric in single.items():
            for name, value in _by_route(metric).items():
                if name in found:
                    found[name][key] = _plain(value)
        by_reason = {"failed": metrics.messages_failed, "dropped": metrics.messages_dropped, "bad_input": metrics.bad_input}
        for key, counter in by_reason.items():
            for name, reasons in _by_reason(counter).items():
                if name in found:
                    found[name][key] = reasons
        latency = self._latency_buckets()
        before = self._buckets[0] if self._buckets else {}
        for name, row in found.items():
            rates = self._rates.get(name)
            # Over three seconds, so that a number can be read.
            recent = list(rates)[-3:] if rates else []
            row["rate"] = round(sum(recent) / len(recent), 2) if recent else 0
            row["p50"], row["p99"] = quantiles(latency.get(name, ()), before.get(name, ()), (0.5, 0.99))
        return found


def quantiles(now: Buckets, before: Buckets, wanted: Sequence[float]) -> list[float | None]:
    """Quantiles of what was observed between two looks at a histogram, in seconds; None when nothing was.

    Within a bucket the values count as evenly spread. What is above the last bound counts as that bound.

    :param now: the bounds of the buckets, rising, the last one infinite, with the number of values up to each.
    :param before: the same earlier; empty for the beginning.
    """
    earlier = dict(before)
    counts = [(bound, count - earlier.get(bound, 0.0)) for bound, count in now]
    total = counts[-1][1] if counts else 0.0
    if total <= 0:
        return [None] * len(wanted)
    found: list[float | None] = []
    for quantile in wanted:
        rank = quantile * total
        lower, below = 0.0, 0.0
        for bound, count in counts:
            if count >= rank:
                if math.isinf(bound):
                    found.append(lower)
                else:
                    found.append(round(lower + (bound - lower) * (rank - below) / (count - below), 6))
                break
            lower, below = bound, count
    return found


def _samples(metric: MetricWrapperBase) -> Iterable[Any]:
    for family in metric.collect():
        yield from family.samples


def _by_route(metric: MetricWrapperBase) -> dict[str, float]:
    return {sample.labels["route"]: sample.value for sample in _samples(metric) if not sample.name.endswith("_created")}


def _by_reason(metric: MetricWrapperBase) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for sample in _samples(metric):
        if not sample.name.endswith("_created") and sample.value:
            found.setdefault(sample.labels["route"], {})[sample.labels["reason"]] = _plain(sample.value)
    return found


def _plain(value: float) -> float:
    """JSON has no infinities; and a count is a whole number."""
    if not math.isfinite(value):
        return 0
    return int(value) if value == int(value) else round(value, 6)
