"""The files of the dashboard."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from pynats_twisted.bridge.problem import Response

if TYPE_CHECKING:
    from pynats_twisted.bridge.http_message import HTTPRequest

FILES: Final = {
    "index.html": b"text/html; charset=utf-8",
    "style.css": b"text/css; charset=utf-8",
    "main.js": b"text/javascript; charset=utf-8",
    "api.js": b"text/javascript; charset=utf-8",
    "dom.js": b"text/javascript; charset=utf-8",
    "overview.js": b"text/javascript; charset=utf-8",
    "drawer.js": b"text/javascript; charset=utf-8",
    "messages.js": b"text/javascript; charset=utf-8",
}

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Dashboard:
    """The page and what belongs to it, read once from the package."""

    def __init__(self) -> None:
        folder = files(__package__).joinpath("dashboard-files")
        self._files = {name: folder.joinpath(name).read_bytes() for name in FILES}

    def page(self, request: HTTPRequest) -> Response:
        """``GET /``."""
        return self._response("index.html")

    def file(self, request: HTTPRequest) -> Response | None:
        """``GET /dashboard/NAME``."""
        name = request.values["name"]
        return self._response(name) if name in self._files else None

    def _response(self, name: str) -> Response:
        return Response(200, [(b"Content-Type", FILES[name]), (b"Content-Security-Policy", _POLICY)], self._files[name])
