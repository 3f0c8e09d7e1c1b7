"""The route type ``syslog``: messages of RFC 5424 and RFC 3164 over UDP, TCP and TLS to NATS subjects."""

from __future__ import annotations

from typing import Any

from pynats_twisted.bridge.lines_guarantee import guarantee
from pynats_twisted.bridge.lines_route import LinesFactory, LinesRoute
from pynats_twisted.bridge.syslog_config import SyslogConfig
from pynats_twisted.bridge.syslog_messages import RawSyslogMessages, SyslogMessages


class SyslogRoute(LinesRoute):
    """A ``syslog`` route. See :class:`~pynats_twisted.bridge.syslog_config.SyslogConfig` for its keys."""

    type_name = "syslog"
    config: SyslogConfig

    def _line_settings(self) -> dict[str, Any]:
        lines = RawSyslogMessages if self.config.format == "raw" else SyslogMessages
        return {"framing": self.config.framing_settings(), "lines": lines}

    def guarantee(self) -> str:
        """The effective delivery guarantee in words."""
        return guarantee(self.config)

    def _examples(self, port: int | str) -> list[tuple[str, str]]:
        if self.config.kind == "udp":
            return [("send a message", f"logger --server 127.0.0.1 --port {port} --udp --rfc5424 hello")]
        if self.config.endpoint.startswith(("tcp:", "tcp6:")):
            return [("send a message", f"logger --server 127.0.0.1 --port {port} --tcp --octet-count --rfc5424 hello")]
        return []


factory = LinesFactory(SyslogRoute, SyslogConfig)
