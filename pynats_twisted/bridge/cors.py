"""Cross-origin resource sharing: which web pages may read the answers of an HTTP route."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pynats_twisted.bridge.problem import Response
from pynats_twisted.errors import ConfigurationError

ORIGIN_RULE: Final = 'origins such as "https://app.example.com" (scheme, host, and a port that is not the usual one), or "*" alone'

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)

Pairs = list[tuple[bytes, bytes]]


def check_origin(origin: str) -> None:
    """Check that *origin* can be in a list of allowed origins.

    :raises ConfigurationError: it is not an origin as browsers send it: lower case, without a path.
    """
    if origin != "*" and _ORIGIN.fullmatch(origin) is None:
        raise ConfigurationError(f"{origin!r} is no origin; allowed: {ORIGIN_RULE}")


class Cors:
    """Answers preflight requests and gives the headers that let a page read an answer.

    :param origins: the origins that may; ``["*"]`` for all (without credentials).
    :param methods: the methods of the route.
    :param request_headers: headers that a page may send.
    :param exposed_headers: headers that a page may read.
    :param max_age: seconds for which a browser may keep the answer to a preflight request.
    :raises ConfigurationError: an origin that is none.
    """

    __slots__ = ("_any", "_exposed", "_origins", "_preflight")

    def __init__(
        self,
        origins: Sequence[str],
        *,
        methods: Sequence[str],
        request_headers: Sequence[str] = (),
        exposed_headers: Sequence[str] = (),
        max_age: int = 600,
    ) -> None:
        for origin in origins:
            check_origin(origin)
        if not origins or ("*" in origins and len(origins) > 1):
            raise ConfigurationError(f"{list(origins)!r} is no list of origins; allowed: {ORIGIN_RULE}")
        self._any = "*" in origins
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._preflight: Pairs = [
            (b"Access-Control-Allow-Methods", ", ".join(methods).encode("ascii")),
            (b"Access-Control-Max-Age", str(max_age).encode("ascii")),
        ]
        if request_headers:
            self._preflight.append((b"Access-Control-Allow-Headers", ", ".join(request_headers).encode("ascii")))
        self._exposed: Pairs = []
        if exposed_headers:
            self._exposed.append((b"Access-Control-Expose-Headers", ", ".join(exposed_headers).encode("ascii")))

    def _allowed(self, headers: Mapping[bytes, Sequence[bytes]]) -> bytes | None:
        origins = headers.get(b"origin", ())
        if len(origins) != 1:
            return None
        if self._any:
            return b"*"
        return origins[0] if origins[0] in self._origins else None

    def headers(self, request_headers: Mapping[bytes, Sequence[bytes]]) -> Pairs:
        """The headers for the answer to a request, an error included."""
        # Without Vary, a cache could give the answer for one origin to another.
        vary: Pairs = [] if self._any else [(b"Vary", b"Origin")]
        origin = self._allowed(request_headers)
        if origin is None:
            return vary
        return [(b"Access-Control-Allow-Origin", origin), *vary, *self._exposed]

    @staticmethod
    def is_preflight(method: str, request_headers: Mapping[bytes, Sequence[bytes]]) -> bool:
        """Whether a request only asks what would be allowed."""
        return method == "OPTIONS" and b"origin" in request_headers and b"access-control-request-method" in request_headers

    def preflight(self, request_headers: Mapping[bytes, Sequence[bytes]]) -> Response | None:
        """The answer to a preflight request, or None when its origin is not allowed."""
        origin = self._allowed(request_headers)
        if origin is None:
            return None
        pairs: Pairs = [(b"Access-Control-Allow-Origin", origin), *self._preflight]
        if not self._any:
            pairs.append((b"Vary", b"Origin"))
        return Response(204, pairs)
