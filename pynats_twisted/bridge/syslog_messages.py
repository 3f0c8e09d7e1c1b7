"""From syslog messages to NATS messages: the subject of each, and its JSON."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import ClassVar, Final

from msgspec.json import Encoder

from pynats_twisted.bridge.lines_messages import LineSettings, PeerMessages
from pynats_twisted.bridge.subjects import MAX_VALUE_BYTES
from pynats_twisted.bridge.syslog_parse import SyslogMessage, UnreadableError, parse
from pynats_twisted.bridge.window import Message
from pynats_twisted.errors import TemplateValueError

INVALID_HEADER: Final = "Nats-Bridge-Invalid"
CONTENT_TYPE: Final = "Content-Type"

NO_VALUE: Final = "-"
"""The token for what a message does not say, as syslog itself writes it."""

INVALID: Final = "invalid"
"""The token for everything of a message that cannot be read."""

MAX_KNOWN_SUBJECTS: Final = 1024
"""Subjects of one peer that are remembered."""

# Anything else, and a dot above all, would be more than a token, or no readable one.
_NOT_IN_A_TOKEN = re.compile(r"[^A-Za-z0-9_%+@~=/-]")

_encode = Encoder().encode


class SyslogMessages(PeerMessages):
    """The peer of a ``syslog`` route.

    :raises TemplateValueError: its address cannot be a token of the subject.
    """

    is_raw: ClassVar[bool] = False

    def __init__(self, settings: LineSettings, peer: str | None) -> None:
        super().__init__(settings, peer)
        names = settings.subject.names
        self._has_host, self._has_app, self._has_id = "hostname" in names, "app" in names, "msgid" in names
        self._subjects: dict[tuple[str, ...], str] = {}
        self._invalid_subject = self._expand(INVALID, INVALID, INVALID, INVALID, INVALID)
        self._json_headers = self._headers.copy()
        self._json_headers[CONTENT_TYPE] = "application/json"

    def _make(self, frames: list[bytes]) -> list[Message]:
        now = datetime.fromtimestamp(self.settings.reactor.seconds(), timezone.utc)
        received = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        year, month = now.year, now.month
        raw, plain = self.is_raw, self._headers if self.is_raw else self._json_headers
        made: list[Message] = []
        for frame in frames:
            headers = plain if frame.__class__ is bytes else self._marked(frame, plain)
            try:
                message = parse(frame, year=year, month=month)
            except UnreadableError as error:
                made.append(self._invalid(frame, str(error)))
                continue
            subject = self._subject_of(message)
            if raw:
                made.append(Message(subject, frame, headers))
                continue
            message.peer = self.peer
            message.received = received
            made.append(Message(subject, _encode(message), headers))
        return made

    def _invalid(self, frame: bytes, reason: str) -> Message:
        self.report("invalid", reason)
        headers = self._marked(frame, self._headers)
        headers[INVALID_HEADER] = reason
        return Message(self._invalid_subject, frame, headers)

    def _subject_of(self, message: SyslogMessage) -> str:
        host = message.hostname if self._has_host else None
        app = message.app if self._has_app else None
        msgid = message.msgid if self._has_id else None
        key = (message.facility, message.severity, host or "", app or "", msgid or "")
        subject = self._subjects.get(key)
        if subject is None:
            if len(self._subjects) >= MAX_KNOWN_SUBJECTS:
                self._subjects.clear()
            # RFC 3164 has the host's address stand for its name.
            tokens = [token(host) if host else self.token or NO_VALUE, token(app), token(msgid)]
            try:
                subject = self._expand(message.facility, message.severity, *tokens)
            except TemplateValueError:
                # All tokens are good ones: together they are too long.
                subject = self._invalid_subject
            self._subjects[key] = subject
        return subject

    def _expand(self, facility: str, severity: str, hostname: str, app: str, msgid: str) -> str:
        values = {"facility": facility, "severity": severity, "hostname": hostname, "app": app, "msgid": msgid}
        if self.token is not None:
            values["peer"] = self.token
        return self.settings.subject.expand(values)


class RawSyslogMessages(SyslogMessages):
    """The same for ``format = "raw"``: messages stay as they came."""

    is_raw = True


def token(value: str | None) -> str:
    """A value of a message as one token of a subject: what no token can have becomes ``-``."""
    return _NOT_IN_A_TOKEN.sub("-", value[:MAX_VALUE_BYTES]) if value else NO_VALUE
