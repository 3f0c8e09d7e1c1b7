"""The live tap of a route: hops of its messages as they happen, so many a second, without what is secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pynats_twisted.bridge.limits import TokenBucket

if TYPE_CHECKING:
    from pynats_twisted.bridge.activity import Hop

DEFAULT_RATE: Final = 10
"""Hops a second that a tap shows."""

MAX_RATE: Final = 100

MAX_SHOWN: Final = 256
"""Bytes of a payload that a tap shows."""

REDACTED: Final = "<redacted>"

_SECRET = re.compile(r"auth|cookie|token|secret|password|passwd|credential|signature|api-?key|session|jwt", re.IGNORECASE)


class Tap:
    """Takes the hops of a route and passes some of them on.

    :param seconds: the clock.
    :param send: gets each hop that is shown, as plain values; false says that it was not taken.
    :param rate: how many a second at most. What is left out is counted, and told with the next one that is shown.
    :param contents: show payloads and the values of headers.
    """

    def __init__(self, seconds: Callable[[], float], send: Callable[[dict[str, Any]], bool], *, rate: int, contents: bool) -> None:
        self._bucket = TokenBucket(rate, seconds)
        self._send = send
        self._contents = contents
        self._left_out = 0

    def __call__(self, hop: Hop) -> None:
        """A message made a hop."""
        if self._bucket.take() or not self._send(self._shown(hop)):
            self._left_out += 1
        else:
            self._left_out = 0

    def _shown(self, hop: Hop) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "time": hop.time,
            "step": hop.step,
            "subject": hop.subject,
            "size": hop.size,
            "details": dict(hop.details),
            "headers": [[name, value if self._contents and not is_secret(name) else REDACTED] for name, value in hop.headers],
            "left_out": self._left_out,
        }
        if self._contents:
            shown |= preview(hop.data, hop.size, MAX_SHOWN)
        return shown


def is_secret(name: str) -> bool:
    """Whether the value of a header of this name is never shown."""
    return _SECRET.search(name) is not None


def preview(data: bytes, size: int, limit: int) -> dict[str, Any]:
    """The beginning of a payload as a text: ``preview``, ``is_text`` and ``is_cut``. What is no text is written as hexadecimal digits."""
    shown = data[:limit]
    text = _as_text(shown, is_cut=size > len(shown))
    if text is None:
        few = limit // 4
        return {"preview": shown[:few].hex(" "), "is_text": False, "is_cut": size > few}
    return {"preview": text, "is_text": True, "is_cut": size > len(shown)}


def _as_text(data: bytes, *, is_cut: bool) -> str | None:
    # A cut may go through a character, which has four bytes at most.
    for missing in range(4 if is_cut else 1):
        try:
            text = data[: len(data) - missing].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return text if "\x00" not in text else None
    return None
