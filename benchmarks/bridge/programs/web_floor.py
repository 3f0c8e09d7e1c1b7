"""What bare twisted.web does with the same load, and nothing behind it.

Job: ``mode``: ``echo`` answers with the body, ``accept`` with 202 and a line of JSON. Says ``{port}``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from .job import begin, obey, say

_JSON = b'{"stream":"BENCH","seq":123456,"duplicate":false}'


class Echo(Resource):
    """The body comes back."""

    isLeaf = True  # noqa: N815 - read by Twisted

    def render_POST(self, request: Any) -> bytes:  # noqa: N802 - called by Twisted
        body: bytes = request.content.read()
        return body


class Accept(Resource):
    """Every body is taken."""

    isLeaf = True  # noqa: N815 - read by Twisted

    def render_POST(self, request: Any) -> bytes:  # noqa: N802 - called by Twisted
        request.content.read()
        request.setResponseCode(202)
        return _JSON


def main() -> None:
    """Listen, until the harness is gone."""
    job = begin()
    real: Any = reactor
    port = real.listenTCP(0, Site(Echo() if job["mode"] == "echo" else Accept()), interface="127.0.0.1")
    say(port=port.getHost().port)
    obey(real, lambda command: None)


if __name__ == "__main__":
    main()
