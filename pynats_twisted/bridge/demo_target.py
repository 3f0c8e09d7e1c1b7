"""The target of the demo's webhooks: an HTTP server that fails a lot, so that there is something to see."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.web.http import OK
from twisted.web.resource import Resource
from twisted.web.server import Site

ERROR_PART: Final = 0.3
"""The part of the requests that are answered with 500."""

GONE_EVERY: Final = 20
"""One order of so many is unwanted: 500 at first, and 410 from then on. The first one is."""

OUTAGE: Final = (4.0, 5.0, 30.0)
"""Seconds: when the target is down for the first time, for how long, and from the beginning of one outage to that of the next."""

_ORDER = re.compile(rb'"order": *([0-9]{1,9})')


class FailingTarget(Resource):
    """What a target should not be.

    :param seconds: the clock.
    :param chance: 0 <= number < 1, by chance.
    """

    isLeaf = True  # noqa: N815 - read by Twisted

    def __init__(self, seconds: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        super().__init__()
        self._seconds = seconds
        self._chance = chance
        self._started_at = seconds()

    @property
    def is_down(self) -> bool:
        """Whether it takes nothing just now."""
        first, length, period = OUTAGE
        age = self._seconds() - self._started_at - first
        return age >= 0 and age % period < length

    def status_for(self, body: bytes, attempt: int, is_replay: bool = False) -> int:
        """The answer to a message.

        :param body: its payload.
        :param attempt: how often it was delivered, from 1.
        :param is_replay: whether it was a dead letter; what was wrong with it is mended by then.
        """
        order = _ORDER.search(body)
        if self.is_down:
            return 503
        if is_replay:
            return 204
        if order is not None and int(order[1]) % GONE_EVERY == 1:
            return 500 if attempt == 1 else 410
        return 500 if self._chance() < ERROR_PART else 204

    def render_POST(self, request: Any) -> bytes:  # noqa: N802 - called by Twisted
        """Answer a request."""
        delivered = request.getHeader(b"nats-delivered") or b""
        attempt = int(delivered) if delivered.isdigit() else 1
        status = self.status_for(request.content.read(), attempt, request.getHeader(b"nats-bridge-replay") is not None)
        request.setResponseCode(status)
        return b"" if status == 204 else b"The target of the demo answers %d to show what the bridge does then.\n" % status

    def render_GET(self, request: Any) -> bytes:  # noqa: N802 - called by Twisted
        """Tell people who come by what this is."""
        request.setResponseCode(OK)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"Webhooks come here by POST.\n"


class _QuietSite(Site):
    """Writes no access log: what happens is to be seen at the bridge."""

    noisy = False

    def log(self, request: Any) -> None:
        """A request was answered."""


class TargetServer:
    """The target on a port of loopback.

    :param reactor: the reactor.
    :param target: what answers.
    """

    def __init__(self, reactor: Any, target: FailingTarget) -> None:
        self._reactor = reactor
        self._site = _QuietSite(target)
        self._port: Any = None

    def listen(self, wanted: int) -> int:
        """Listen on the port *wanted*, or on another one where it is taken. The port is returned."""
        try:
            self._port = self._reactor.listenTCP(wanted, self._site, interface="127.0.0.1")
        except CannotListenError:
            self._port = self._reactor.listenTCP(0, self._site, interface="127.0.0.1")
        port: int = self._port.getHost().port
        return port

    def stop(self) -> Deferred[Any]:
        """Close it."""
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)
