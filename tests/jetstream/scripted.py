"""A client in memory whose server answers the JetStream API as a test says."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.testing.server_frames import PublishFrame
from tests.client.support import ClientTestCase

KIND = "io.nats.jetstream.api.v1."


class ScriptedTestCase(ClientTestCase):
    """Each request is taken with :meth:`asked` and answered by hand.

    :ivar js: the context. :cvar api_level: what the server says it has. :cvar options: the client's.
    """

    api_level = 5
    options: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.server.info["api_lvl"] = self.api_level
        self.client, self.peer = self.connected(**self.options)
        self.js: JetStreamContext = self.client.jetstream(timeout=2.0)

    def asked(self) -> PublishFrame:
        """The one request since the last call."""
        self.network.advance()
        (frame,) = self.peer.take(PublishFrame)
        return frame

    def request_of(self, frame: PublishFrame) -> dict[str, Any]:
        """What was asked, or nothing."""
        found: dict[str, Any] = json.loads(frame.payload or b"{}")
        return found

    def answer(self, kind: str, **fields: Any) -> PublishFrame:
        """Answer the one request, and return it."""
        frame = self.asked()
        self.peer.answer(frame, json.dumps({"type": f"{KIND}{kind}_response", **fields}).encode())
        return frame

    def refuse(self, code: int, err_code: int, description: str = "no") -> PublishFrame:
        """Answer the one request with an error, and return it."""
        frame = self.asked()
        error = {"code": code, "err_code": err_code, "description": description}
        self.peer.answer(frame, json.dumps({"type": f"{KIND}any_response", "error": error}).encode())
        return frame

    def error_of(self, waiting: Deferred[Any], kind: type[BaseException]) -> Any:
        """The error, of this kind, with which it failed."""
        return self.failureResultOf(waiting, kind).value
