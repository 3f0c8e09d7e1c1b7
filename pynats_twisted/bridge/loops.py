"""Against messages that go in circles: each message carries the names of the bridges that it passed, in ``Nats-Bridge-Path``.

A bridge adds its name when it brings a message into NATS. What has passed it before, or has passed too many bridges, it does not bring
in again. Reading from NATS is never refused: what one route of a bridge published, another route of it may well deliver.

The way out of NATS matters too. A route that hands messages to another program (a webhook) gives it the path, so that a bridge which
gets them by HTTP continues it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pynats_twisted.bridge.config import is_name

if TYPE_CHECKING:
    from pynats_twisted.bridge.config import BridgeSection
    from pynats_twisted.protocol.headers import Headers

PATH_HEADER: Final = "Nats-Bridge-Path"
"""Names of bridges, separated by commas, in the order in which a message passed them.

``http-request`` has used the same header for the path of the URL before: that is a value of its own, starts with ``/``, and is no
name of a bridge.
"""

MAX_NAMES_READ: Final = 512
"""More names of one message are not looked at: they are too many by any setting."""


class LoopGuard:
    """Judges and continues the paths of messages for one bridge.

    :param bridge_name: the name of this bridge.
    :param max_hops: how many bridges a message may pass, this one included.
    :param allow_loops: let messages through that have passed this bridge before, until *max_hops* ends it.

    :ivar own: the path of a message that starts here.
    """

    __slots__ = ("_allow_loops", "_max_hops", "own")

    def __init__(self, bridge_name: str, max_hops: int = 8, *, allow_loops: bool = False) -> None:
        self.own = bridge_name
        self._max_hops = max_hops
        self._allow_loops = allow_loops

    @classmethod
    def of(cls, section: BridgeSection) -> LoopGuard:
        """The guard that ``[bridge]`` asks for."""
        return cls(section.name, section.max_hops, allow_loops=section.allow_loops)

    def path_for(self, headers: Headers | None) -> str | None:
        """The path for a message that is to be published because of another one.

        :param headers: the headers of the message that came; None for one without.
        :returns: the value for :data:`PATH_HEADER`, or None: the message went in a circle, or too far. Then it is to be dropped, and
            counted in ``loops_dropped``.
        """
        # An empty Headers is the common case.
        return self.path_after(headers.get_all(PATH_HEADER, ignore_case=True)) if headers else self.own

    def path_after(self, values: Iterable[str | bytes]) -> str | None:
        """The same as :meth:`path_for` for the values of the header, as they stand in an HTTP request."""
        if not values:
            return self.own
        names = passed(values)
        if len(names) >= self._max_hops or (self.own in names and not self._allow_loops):
            return None
        return ",".join([*names, self.own])

    def path_out(self, headers: Headers | None) -> str:
        """The path to hand to another program with a message that leaves NATS; this bridge is its last name.

        Nothing is refused here: only what comes back is in a circle.
        """
        names = passed(headers.get_all(PATH_HEADER, ignore_case=True)) if headers else []
        if names[-1:] != [self.own]:
            names.append(self.own)
        return ",".join(names)


def passed(values: Iterable[str | bytes]) -> list[str]:
    """The names of bridges in values of :data:`PATH_HEADER`. What cannot be one is left out: anybody may have written it."""
    names: list[str] = []
    for value in values:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if not text.startswith("/"):
            names += filter(is_name, map(str.strip, text.split(",", MAX_NAMES_READ)))
    return names[:MAX_NAMES_READ]
