"""What a route did last, for people: its errors, and the hops of its messages while somebody watches.

A route takes its :class:`RouteActivity` once, from :meth:`pynats_twisted.bridge.context.RouteContext.activity`, and keeps it::

    self._activity = context.activity(name, config.debug)
    ...
    self._activity.error("target-status", "https://crm.example answered 503", "the target is overloaded; it is tried again")
    if self._activity.watched:
        self._activity.hop("delivered", msg.subject, data=msg.data, headers=msg.headers, seq=17, attempt=2, status=200, ms=12.5)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

if TYPE_CHECKING:
    from pynats_twisted.protocol.headers import Headers

MAX_ERRORS: Final = 20
"""Errors that are kept for each route. One that comes again is kept once, and counted."""

MAX_TEXT_CHARS: Final = 500
"""Longer causes, hints and subjects are cut."""

MAX_PREVIEW: Final = 1024
"""Bytes of a payload that a hop keeps."""

MAX_HEADERS: Final = 50
"""Header values that a hop keeps."""

Tap = Callable[["Hop"], None]
Detail = str | int | float


@dataclass
class RouteError:
    """Something that went wrong in a route.

    :ivar kind: a short fixed word, such as ``target-status``.
    :ivar cause: what happened, in words.
    :ivar hint: what can be done about it, or where to look; may be empty.
    :ivar time: when it happened last, in seconds since the epoch.
    :ivar first_time: when it happened first.
    :ivar count: how often it happened.
    """

    kind: str
    cause: str
    hint: str
    time: float
    first_time: float
    count: int = 1


@dataclass(frozen=True)
class Hop:
    """A step of a message on its way through a route.

    :ivar time: when, in seconds since the epoch.
    :ivar step: what happened: ``received``, ``published``, ``delivered``, ``failed``, …
    :ivar subject: the message's subject.
    :ivar size: the bytes of its payload.
    :ivar data: the first 1,024 of them.
    :ivar headers: its headers, name and value.
    :ivar details: more, by name: ``seq``, ``attempt``, ``target``, ``status``, ``ms``, …
    """

    time: float
    step: str
    subject: str = ""
    size: int = 0
    data: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    details: Mapping[str, Detail] = field(default_factory=dict)


class RouteActivity:
    """The activity of one route. It outlives the route: where a reload replaces the route, the new one goes on with it.

    :param name: the route's name.
    :param seconds: the clock.
    :param debug: whether each hop is logged.
    :param log: where.

    :ivar watched: whether anybody wants to know of hops. Ask before :meth:`hop`, so that nothing is made for nobody.
    """

    __slots__ = ("_debug", "_errors", "_log", "_seconds", "_taps", "name", "watched")

    def __init__(self, name: str, seconds: Callable[[], float], *, debug: bool = False, log: Logger | None = None) -> None:
        self.name = name
        self._seconds = seconds
        self._debug = debug
        self._log = log if log is not None else Logger()
        self._errors: dict[tuple[str, str], RouteError] = {}
        self._taps: list[Tap] = []
        self.watched = debug

    @property
    def debug(self) -> bool:
        """Whether each hop is logged: ``debug`` of the route."""
        return self._debug

    @debug.setter
    def debug(self, is_on: bool) -> None:
        self._debug = is_on
        self._set_watched()

    def _set_watched(self) -> None:
        self.watched = self._debug or bool(self._taps)

    # --- errors ------------------------------------------------------------------------------------------------

    @property
    def errors(self) -> list[RouteError]:
        """The errors of last, at most 20, the newest first."""
        return list(reversed(self._errors.values()))

    def error(self, kind: str, cause: str, hint: str = "") -> None:
        """Something went wrong. It is kept for the admin pages; logging and counting it are the route's own business.

        :param kind: a short fixed word, such as ``target-status``.
        :param cause: what happened, in a sentence. Subjects and addresses may be in it; payloads and secrets never.
        :param hint: what can be done about it. The hint of the last time counts.
        """
        now = self._seconds()
        cause = _cut(cause)
        error = self._errors.pop((kind, cause), None)
        if error is None:
            error = RouteError(kind, cause, _cut(hint), now, now, 0)
            if len(self._errors) >= MAX_ERRORS:
                del self._errors[next(iter(self._errors))]
        error.time = now
        error.hint = _cut(hint)
        error.count += 1
        self._errors[kind, cause] = error

    def forget_errors(self) -> None:
        """Keep none of the errors so far."""
        self._errors.clear()

    # --- hops --------------------------------------------------------------------------------------------------

    def hop(
        self,
        step: str,
        subject: str = "",
        *,
        data: bytes = b"",
        headers: Headers | None = None,
        size: int | None = None,
        **details: Detail,
    ) -> None:
        """A message made a step. With ``debug`` it is one line in the log, without payload and headers; each tap gets it too.

        :param step: what happened, one word such as ``received``, ``published``, ``delivered``, ``retried``, ``failed``.
        :param subject: the message's subject.
        :param data: its payload.
        :param headers: its headers.
        :param size: the bytes of the payload, where *data* is not at hand.
        :param details: more, by name: ``seq``, ``attempt``, ``target``, ``status``, ``ms``, ``request_id``, …
        """
        if not self.watched:
            return
        size = len(data) if size is None else size
        if self._debug:
            shown = "".join(f" {name}={_shown(value)}" for name, value in details.items())
            self._log.info(
                "route {route}: {step} {subject} bytes={size}{shown}",
                route=self.name, step=step, subject=_shown(subject) or "-", size=size, shown=shown, details=details,
            )  # fmt: skip
        if self._taps:
            pairs: Any = headers.multi_items() if headers is not None else ()
            kept = tuple((name, _cut(value)) for name, value in list(pairs)[:MAX_HEADERS])
            hop = Hop(self._seconds(), step, _cut(subject), size, bytes(data[:MAX_PREVIEW]), kept, details)
            for tap in list(self._taps):
                tap(hop)

    def add_tap(self, tap: Tap) -> None:
        """Call *tap* with each :class:`Hop` from now on. It must be quick, and must not raise."""
        self._taps.append(tap)
        self._set_watched()

    def remove_tap(self, tap: Tap) -> None:
        """Call *tap* no more; nothing happens where it is not known."""
        if tap in self._taps:
            self._taps.remove(tap)
            self._set_watched()


def _shown(value: Detail) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = _cut(str(value))
    # One hop is one line, whatever a peer put into a value.
    return text if text.isprintable() and " " not in text else ascii(text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else f"{text[: MAX_TEXT_CHARS - 1]}…"
