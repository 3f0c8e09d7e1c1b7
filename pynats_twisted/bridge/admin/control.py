"""What the admin endpoint changes: routes are paused, drained and resumed, and the configuration is checked and taken over."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from pynats_twisted.bridge.admin.describe import Describer
from pynats_twisted.bridge.admin.page import json_response
from pynats_twisted.bridge.admin.problems import CONFIG_REFUSED, NOT_NOW, UNKNOWN_ROUTE
from pynats_twisted.bridge.problem import STOPPING, Response
from pynats_twisted.errors import ConfigError, ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.bridge import AdminBridge
    from pynats_twisted.bridge.http_message import HTTPRequest
    from pynats_twisted.bridge.reloader import Reloader

_log = Logger()


class Control:
    """The pages that change something.

    :param bridge: the bridge.
    :param describer: tells of the routes.
    :param reactor: the reactor.
    """

    def __init__(self, bridge: AdminBridge, describer: Describer, reactor: Any) -> None:
        self._bridge = bridge
        self._describer = describer
        self._reactor = reactor

    # --- routes ------------------------------------------------------------------------------------------------

    def pause(self, request: HTTPRequest) -> Response:
        """``POST /routes/NAME/pause``."""
        refused = self._refuse(request)
        if refused is not None:
            return refused
        name = self._told(request, "pause")
        self._bridge.switches.pause(name)
        return json_response(200, self._describer.route(name))

    def resume(self, request: HTTPRequest) -> Response:
        """``POST /routes/NAME/resume``."""
        refused = self._refuse(request)
        if refused is not None:
            return refused
        name = self._told(request, "resume")
        try:
            self._bridge.switches.resume(name)
        except ConfigurationError as error:
            return request.problem(NOT_NOW, detail=str(error))
        return json_response(200, self._describer.route(name))

    def drain(self, request: HTTPRequest) -> Response | Awaitable[Response]:
        """``POST /routes/NAME/drain``: answered when nothing is in flight any more."""
        refused = self._refuse(request)
        return refused if refused is not None else self._drain(self._told(request, "drain"))

    async def _drain(self, name: str) -> Response:
        is_complete = await self._bridge.switches.drain(name)
        return json_response(200, {"route": name, "state": "drained", "complete": is_complete})

    def _refuse(self, request: HTTPRequest) -> Response | None:
        if request.values["name"] not in self._bridge.routes:
            return request.problem(UNKNOWN_ROUTE)
        return request.problem(STOPPING) if self._bridge.draining else None

    @staticmethod
    def _told(request: HTTPRequest, what: str) -> str:
        name = request.values["name"]
        _log.info("route {route}: {what} asked for by {peer}", route=name, what=what, peer=request.peer)
        return name

    # --- the configuration -------------------------------------------------------------------------------------

    def check(self, request: HTTPRequest) -> Response:
        """``POST /check``: what ``--check`` would say of the configuration's file. It changes nothing."""
        # Late: the check makes a bridge, of which this is a part.
        from pynats_twisted.bridge.check import check_file

        report = check_file(self._bridge.config.filename, self._reactor, self._bridge.factories.values())
        return Response(200, [(b"Content-Type", b"application/json")], report.as_json().encode())

    def reload(self, request: HTTPRequest) -> Response | Awaitable[Response]:
        """``POST /reload``: take over what the configuration's file says."""
        if self._bridge.draining:
            return request.problem(STOPPING)
        if self._bridge.reloader is None:
            return request.problem(NOT_NOW, detail="This bridge has no configuration file.")
        _log.info("reload asked for by {peer}", peer=request.peer)
        return self._reload(request, self._bridge.reloader)

    @staticmethod
    async def _reload(request: HTTPRequest, reloader: Reloader) -> Response:
        try:
            report = await reloader.reload()
        except ConfigError as error:
            return request.problem(CONFIG_REFUSED, problems=[problem.as_dict() for problem in error.problems])
        except ConfigurationError as error:
            return request.problem(CONFIG_REFUSED, detail=str(error), problems=[])
        return json_response(200, report.as_dict())
