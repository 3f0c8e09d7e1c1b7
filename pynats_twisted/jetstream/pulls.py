"""The books of whoever pulls all the time: what was asked for, what has come, what is to be asked next. No I/O and no clock.

What was asked for and has not come, and what has come and waits here to be handed out, are together never more than the plan says:
that bounds the memory. When they are less than half of that, more is asked for (ADR-37).

Messages do not say which pull they answer; a server that has several deals them out among these in turn. So messages are counted
against all of them, and only a status, which comes to the pull's own reply subject, is about one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .pull_statuses import PullStatus, StatusKind

#: Asks for so many messages where only bytes were to be the bound.
UNCOUNTED = 1_000_000

# How much longer than the server is given to end a pull it is waited for that to be heard.
_GRACE = 1.0
# Pulls that may still be open at the server ask together for no more than about three times what may be outstanding. Older ones are done.
_KEPT = 4
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 10.0
# Time is looked at so many times in a heartbeat.
_TICKS = 8
# The heartbeat of the pull after a reset, where the plan's is not shorter.
_TRIAL = 1.0
_EVER = 1 << 62


@dataclass(frozen=True, kw_only=True)
class PullPlan:
    """How much is asked for, and how.

    :ivar max_messages: that are asked for or wait here at most; :ivar max_bytes: the same in bytes, 0 for no bound.
    :ivar low_messages: more is asked for at this number or below; :ivar low_bytes: the same in bytes.
    :ivar expires: seconds that a pull may wait at the server; :ivar heartbeat: seconds between the server's signs of life.
    :ivar stop_after: no more messages than this, in all; 0 for no bound.
    """

    max_messages: int
    max_bytes: int
    low_messages: int
    low_bytes: int
    expires: float
    heartbeat: float
    stop_after: int = 0


class Pull(NamedTuple):
    """What is to be asked of the server now.

    :ivar token: stands at the end of the reply subject.
    :ivar heartbeat: seconds.
    """

    token: int
    messages: int
    bytes: int
    heartbeat: float


class _Open(NamedTuple):
    messages: int
    bytes: int
    due: float


class Pulls:
    """The books of one consumption.

    The first pull after a reset is a trial: it has a short heartbeat, so that it is soon noticed when it was lost as well, as happens while
    the servers agree who leads the consumer. Each trial in a row is given twice the time, up to the heartbeat of the plan.

    The two counters that each message changes are public, so that it can be done where the message comes by: ``open`` less one, ``arrived``
    one more, and then ``open + held <= low`` says that :meth:`wanted` should be asked.

    :ivar open: messages that were asked for and have not come; :ivar open_bytes: the same in bytes.
    :ivar held: messages that have come and wait here; :ivar held_bytes: the same in bytes.
    :ivar arrived: messages that have come so far.
    :ivar low: the bound at which more is to be asked for.
    :ivar paused: nothing is to be asked for.
    """

    __slots__ = (
        "_budget",
        "_heard",
        "_live",
        "_plan",
        "_retry_at",
        "_seen",
        "_tick",
        "_token",
        "_too_small",
        "_too_small_at",
        "_trial",
        "_trial_heartbeat",
        "_trial_until",
        "_tries",
        "_wait",
        "arrived",
        "held",
        "held_bytes",
        "low",
        "open",
        "open_bytes",
        "paused",
    )

    def __init__(self, plan: PullPlan, now: float) -> None:
        self._plan = plan
        self.low = plan.low_messages
        self.open = self.open_bytes = 0
        self.held = self.held_bytes = 0
        self.arrived = 0
        self.paused = False
        # Messages that may still be asked for.
        self._budget = plan.stop_after or _EVER
        self._token = 0
        # The pulls that the server may still have, the oldest first.
        self._live: dict[int, _Open] = {}
        self._heard = now
        self._seen = 0
        self._tick = now
        self._retry_at = now
        self._wait = _FIRST_WAIT
        # Bytes that the next message does not fit into, less than all there may be; and how many had arrived when that was found.
        self._too_small = self._too_small_at = 0
        # The next pull is a trial; the token of the last one that was, its heartbeat, and how many messages have to have arrived for it to
        # be answered in full.
        self._tries = 0
        self._trial = 0
        self._trial_heartbeat = plan.heartbeat
        self._trial_until = 0

    @property
    def is_low(self) -> bool:
        """More is to be asked for."""
        if self.open + self.held <= self.low:
            return True
        plan = self._plan
        return plan.max_bytes > 0 and self.open_bytes + self.held_bytes <= plan.low_bytes

    # --- asking ----------------------------------------------------------------------------------------------

    def wanted(self, now: float) -> Pull | None:
        """The next pull, which counts as asked for; None when nothing is to be asked for now."""
        if self.paused or now < self._retry_at:
            return None
        plan = self._plan
        self._level()
        if not self.is_low:
            return None
        messages = min(plan.max_messages - self.open - self.held, self._budget)
        size = 0
        if plan.max_bytes:
            size = plan.max_bytes - self.open_bytes - self.held_bytes
            if size <= 0 or (size <= self._too_small and self.arrived == self._too_small_at):
                # There is no room, or none that is larger than what the next message did not fit into. A pull that is still open gets
                # it, or is refused as well; then there is more room.
                return None
        if messages <= 0:
            return None
        if not self.open:
            # It is from now on that a sign of life can be expected.
            self._heard = now
        self._token += 1
        heartbeat = plan.heartbeat
        if self._tries and not self._live and self.arrived == self._seen:
            heartbeat = self._trial_heartbeat = min(heartbeat, _TRIAL * 2 ** (self._tries - 1))
            self._trial = self._token
            self._trial_until = self.arrived + messages
        self._live[self._token] = _Open(messages, size, now + plan.expires + max(_GRACE, 2 * plan.heartbeat))
        self._forget_old()
        self.open += messages
        self.open_bytes += size
        self._budget -= messages
        return Pull(self._token, messages, size, heartbeat)

    def _level(self) -> None:
        """Make of the counters what can be true."""
        if self._plan.max_bytes and self.open_bytes <= 0:
            # A server ends a pull whose bytes are used up to the last one, and does not say so.
            self._give_back(self.open)
            self.open_bytes = 0
            self._live.clear()
        if self.open <= 0:
            # More may have come than was asked for: what was asked for before a reset.
            self.open = self.open_bytes = 0
            self._live.clear()

    def _give_back(self, messages: int) -> None:
        """So many of those that were asked for will not come."""
        messages = max(0, min(messages, self.open))
        self.open -= messages
        self._budget += messages

    def _forget_old(self) -> None:
        """A pull that was answered in full leaves no trace: those that are certainly done are forgotten here."""
        live = self._live
        bound = _KEPT * self._plan.max_messages
        if len(live) > _KEPT and (total := sum(pull.messages for pull in live.values())) > bound:
            for token in list(live):
                total -= live[token].messages
                if total < bound:
                    break
                del live[token]

    # --- what comes ------------------------------------------------------------------------------------------

    def has_arrived(self, size: int) -> None:
        """A message has come."""
        self.open -= 1
        self.open_bytes -= size
        self.arrived += 1

    def hold(self, size: int) -> None:
        """It waits here."""
        self.held += 1
        self.held_bytes += size

    def release(self, size: int) -> None:
        """It waits no longer."""
        self.held -= 1
        self.held_bytes -= size

    def replace(self) -> None:
        """A message that has come does not count for ``stop_after``: another one may be asked for in its place."""
        self._budget += 1

    def answered(self, token: int, status: PullStatus, now: float) -> bool:
        """A status has come for a pull. False when that pull is over already, and the status means nothing any more."""
        pull = self._live.get(token)
        if pull is None:
            return False
        self._heard = now
        self._tries = 0
        if status.kind is StatusKind.HEARTBEAT:
            return True
        del self._live[token]
        # A status that names no rest has refused the whole.
        self._give_back(pull.messages if status.pending_messages is None else status.pending_messages)
        self.open_bytes = max(0, self.open_bytes - (pull.bytes if status.pending_bytes is None else status.pending_bytes))
        self._limit_by_live()
        if status.kind is StatusKind.ENDED or status.kind is StatusKind.WRONG_PIN:
            self._wait = _FIRST_WAIT
        elif status.kind is StatusKind.TOO_LARGE:
            if not self.open and pull.bytes >= self._plan.max_bytes and status.pending_bytes == pull.bytes:
                # All there is room for was offered, and the message is larger: asking again at once would end the same way.
                self._wait_longer(now)
            elif pull.bytes < self._plan.max_bytes:
                self._too_small = max(pull.bytes, self._too_small if self._too_small_at == self.arrived else 0)
                self._too_small_at = self.arrived
        else:
            self._wait_longer(now)
        return True

    def not_sent(self, pull: Pull, now: float) -> None:
        """A pull could not be sent."""
        if self._live.pop(pull.token, None) is not None:
            self._give_back(pull.messages)
            self.open_bytes = max(0, self.open_bytes - pull.bytes)
            self._limit_by_live()
            self._wait_longer(now)

    def _limit_by_live(self) -> None:
        """No more can be open than the pulls asked for that the server may still have."""
        live = self._live.values()
        most = sum(pull.messages for pull in live)
        if self.open > most:
            self._give_back(self.open - most)
        if self._plan.max_bytes:
            self.open_bytes = min(self.open_bytes, sum(pull.bytes for pull in live))

    def _wait_longer(self, now: float) -> None:
        self._retry_at = now + self._wait
        self._wait = min(self._wait * 2, _LONGEST_WAIT)

    # --- time, and the way to the server ---------------------------------------------------------------------

    def reset(self, now: float) -> None:
        """No pull is open any more, whatever the server did with them: their statuses mean nothing from now on."""
        self._give_back(self.open)
        self.open = self.open_bytes = 0
        if self._live or not self._tries:
            # More than ten would be longer than any heartbeat.
            self._tries = min(self._tries + 1, 10)
        self._live.clear()
        self._too_small = 0
        self._heard = self._retry_at = now
        self._seen = self.arrived

    def wait(self, now: float) -> float:
        """Seconds until :meth:`check` is due."""
        tick = self._heartbeat() / _TICKS
        return min(tick, self._retry_at - now) if now < self._retry_at else tick

    def check(self, now: float) -> bool:
        """Look at the time, now and then. True when nothing has come for two heartbeats although it was to: :meth:`reset` is due."""
        if self.arrived != self._seen:
            # When it came is not known; not before the last look.
            self._seen = self.arrived
            self._heard = max(self._heard, self._tick)
            self._wait = _FIRST_WAIT
            self._tries = 0
        self._tick = now
        over = [token for token, pull in self._live.items() if pull.due <= now]
        if over:
            for token in over:
                del self._live[token]
            self._limit_by_live()
        if self.paused or self.open <= 0:
            self._heard = now
            return False
        return now - self._heard >= 2 * self._heartbeat()

    def _heartbeat(self) -> float:
        """How often a sign of life is due: as often as the trial asked for it, as long as that cannot have been answered in full."""
        return self._trial_heartbeat if self._trial in self._live and self.arrived < self._trial_until else self._plan.heartbeat
