"""Event streams of bare twisted.web: every line that comes on another port goes to all clients as an event.

Job: nothing. Says ``{port, plain}``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from .job import begin, obey, say

_clients: set[Any] = set()


class Events(Resource):
    """An event stream."""

    isLeaf = True  # noqa: N815 - read by Twisted

    def render_GET(self, request: Any) -> int:  # noqa: N802 - called by Twisted
        request.setHeader("Content-Type", "text/event-stream")
        request.write(b": hello\n\n")
        _clients.add(request)
        request.notifyFinish().addErrback(lambda _: _clients.discard(request))
        return NOT_DONE_YET


class Source(LineOnlyReceiver):
    """Who publishes."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def lineReceived(self, line: bytes) -> None:
        event = b"data: " + line + b"\n\n"
        for client in _clients:
            client.write(event)


def main() -> None:
    """Listen, until the harness is gone."""
    begin()
    real: Any = reactor
    port = real.listenTCP(0, Site(Events(), timeout=None), backlog=500, interface="127.0.0.1")
    plain = real.listenTCP(0, Factory.forProtocol(Source), interface="127.0.0.1")
    say(port=port.getHost().port, plain=plain.getHost().port)
    obey(real, lambda command: None)


if __name__ == "__main__":
    main()
