"""What may be said about pulling, checked: how much, how long, and in which priority group."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..errors import InvalidArgumentError
from .api import AckPolicy, ConsumerConfig, NextRequest
from .checks import check_count, check_duration, is_whole
from .pulls import UNCOUNTED, PullPlan

DEFAULT_MESSAGES = 500
DEFAULT_ACK_WAIT = 30.0
# Of a consumption that goes on: shorter pulls are more asking than getting.
_LEAST_EXPIRES = 1.0
_LEAST_HEARTBEAT, _MOST_HEARTBEAT = 0.5, 30.0
# A fetch that waits for so long has a sign of life in between.
_LONG_FETCH = 10.0
_FETCH_HEARTBEAT = 5.0


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """What a pull says in a priority group (ADR-42); empty outside of one.

    :ivar group: its name.
    :ivar min_pending: overflow: messages only when so many wait in the stream.
    :ivar min_ack_pending: overflow: or when so many are delivered and not acked.
    :ivar priority: prioritized: 0 is served first, 9 last.
    """

    group: str = ""
    min_pending: int = 0
    min_ack_pending: int = 0
    priority: int = 0
    request: NextRequest = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("min_pending", "min_ack_pending", "priority"):
            value = getattr(self, name)
            if not is_whole(value, 0):
                raise InvalidArgumentError(f"{name}={value!r} must be a whole number, 0 or more")
            if value and not self.group:
                raise InvalidArgumentError(f"{name}={value!r} means something only in a priority group: group is missing")
        # Made once; every pull is a copy of it.
        request = NextRequest(group=self.group, min_pending=self.min_pending, min_ack_pending=self.min_ack_pending, priority=self.priority)
        request.check_rules()
        object.__setattr__(self, "request", request)

    def ask(self, *, batch: int, max_bytes: int, expires: float, heartbeat: float, pin: str, no_wait: bool = False) -> NextRequest:
        """The request of one pull."""
        return replace(self.request, batch=batch, max_bytes=max_bytes, expires=expires, idle_heartbeat=heartbeat, id=pin, no_wait=no_wait)


def ack_wait_of(config: ConsumerConfig) -> float | None:
    """Seconds after which a message that was not acked is delivered again, the shortest where they differ; None without acks."""
    if config.ack_policy not in (AckPolicy.EXPLICIT, AckPolicy.ALL):
        return None
    if config.backoff:
        return min(config.backoff)
    return config.ack_wait or DEFAULT_ACK_WAIT


def fetch_heartbeat(expires: float, heartbeat: float | None) -> float:
    """The heartbeat of a fetch; 0 for none.

    :raises InvalidArgumentError: it is not a number of seconds, 0 or more, or more than half of ``expires``.
    """
    if heartbeat is None:
        return _FETCH_HEARTBEAT if expires >= _LONG_FETCH else 0.0
    return _check_heartbeat(heartbeat, expires) if heartbeat != 0 else 0.0


def _check_heartbeat(heartbeat: float, expires: float) -> float:
    if check_duration("heartbeat", heartbeat) * 2 > expires:
        raise InvalidArgumentError(f"heartbeat={heartbeat!r} must be at most half of expires, which is {expires:g} s")
    return heartbeat


def plan_pulls(
    config: ConsumerConfig,
    *,
    max_messages: int | None = None,
    max_bytes: int | None = None,
    expires: float = 30.0,
    heartbeat: float | None = None,
    threshold_messages: int | None = None,
    threshold_bytes: int | None = None,
    stop_after: int | None = None,
) -> PullPlan:
    """Check what was given, add what was not, and keep within what the consumer allows.

    :raises InvalidArgumentError: a value breaks a rule; the text names it.
    """
    default = DEFAULT_MESSAGES if max_bytes is None else UNCOUNTED
    messages = default if max_messages is None else check_count("max_messages", max_messages)
    size = 0 if max_bytes is None else check_count("max_bytes", max_bytes)
    expires = check_duration("expires", expires, _LEAST_EXPIRES)
    if heartbeat is not None:
        _check_heartbeat(heartbeat, expires)
    for name, threshold, most in (("threshold_messages", threshold_messages, messages), ("threshold_bytes", threshold_bytes, size)):
        if threshold is not None and check_count(name, threshold) > most:
            raise InvalidArgumentError(f"{name}={threshold!r} must be at most {most}, which is {name.replace('threshold', 'max')}")
    if stop_after is not None:
        check_count("stop_after", stop_after)
    # What the consumer would refuse is not asked for.
    if config.max_batch > 0:
        messages = min(messages, config.max_batch)
    if size and config.max_bytes > 0:
        size = min(size, config.max_bytes)
    if config.max_expires > 0:
        expires = min(expires, config.max_expires)
    if heartbeat is None:
        heartbeat = min(max(expires / 2, _LEAST_HEARTBEAT), _MOST_HEARTBEAT)
    return PullPlan(
        max_messages=messages,
        max_bytes=size,
        low_messages=min((messages + 1) // 2 if threshold_messages is None else threshold_messages, messages - 1),
        low_bytes=min((size + 1) // 2 if threshold_bytes is None else threshold_bytes, max(size - 1, 0)),
        expires=expires,
        heartbeat=min(heartbeat, expires / 2),
        stop_after=stop_after or 0,
    )
