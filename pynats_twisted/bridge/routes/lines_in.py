"""The route type ``lines-in``: lines of text, or other framed records, from TCP, UNIX sockets and UDP to NATS subjects."""

from __future__ import annotations

from typing import Any

from pynats_twisted.bridge.lines_config import LinesInConfig
from pynats_twisted.bridge.lines_guarantee import guarantee
from pynats_twisted.bridge.lines_messages import Lines
from pynats_twisted.bridge.lines_route import LinesFactory, LinesRoute


class LinesInRoute(LinesRoute):
    """A ``lines-in`` route. See :class:`~pynats_twisted.bridge.lines_config.LinesInConfig` for its keys."""

    type_name = "lines-in"
    config: LinesInConfig

    def _line_settings(self) -> dict[str, Any]:
        config = self.config
        reply = config.reply
        return {
            "framing": config.framing_settings(),
            "lines": Lines,
            "reply_ok": reply.ok.encode() if reply is not None else b"",
            "reply_error": reply.error.encode() if reply is not None else b"",
            "idle_flush": config.idle_flush,
        }

    def guarantee(self) -> str:
        """The effective delivery guarantee in words."""
        reply = self.config.reply
        return guarantee(self.config, reply.ok if reply is not None else "")

    def _examples(self, port: int | str) -> list[tuple[str, str]]:
        if self.config.effective_framing not in ("newline", "datagram"):
            return []
        if self.config.kind == "udp":
            return [("send a datagram", f"printf 'hello' | nc -u -w 1 127.0.0.1 {port}")]
        where = f"-U {port}" if self.config.is_unix else f"127.0.0.1 {port}"
        return [("send a line", f"printf 'hello\\n' | nc -w 1 {where}")]


factory = LinesFactory(LinesInRoute, LinesInConfig)
