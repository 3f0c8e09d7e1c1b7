"""Every -ERR that servers write, and what it means."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol.server_errors import classify, unquote

#: Each text with its error, and what is to be expected after it: that the server closes, that connecting again makes sense,
#: and that it counts as an authentication error.
TEXTS: list[tuple[str, type[errors.ServerError], bool, bool, bool]] = [
    ("Unknown Protocol Operation", errors.UnknownProtocolOperationError, True, True, False),
    ("Parser Error", errors.UnknownProtocolOperationError, True, True, False),
    ("Authorization Violation", errors.AuthorizationViolationError, True, True, True),
    ("Authentication Timeout", errors.AuthenticationTimeoutError, True, True, True),
    ("Authorization Timeout", errors.AuthenticationTimeoutError, True, True, True),
    ("User Authentication Expired", errors.AuthenticationExpiredError, True, True, True),
    ("User Authentication Revoked", errors.AuthenticationRevokedError, True, True, True),
    ("Account Authentication Expired", errors.AccountAuthenticationExpiredError, True, True, True),
    ("Failed Account Registration", errors.AccountRegistrationError, True, True, True),
    ("maximum connections exceeded", errors.MaxConnectionsExceededError, True, True, False),
    ("maximum account active connections exceeded", errors.MaxAccountConnectionsExceededError, True, True, False),
    ("Connection throttling is active. Please try again later.", errors.ConnectionThrottledError, True, True, False),
    ("maximum subscriptions exceeded", errors.MaxSubscriptionsExceededError, False, True, False),
    ("Maximum Payload Violation", errors.MaxPayloadViolationError, True, True, False),
    ("maximum control line exceeded", errors.MaxControlLineExceededError, True, True, False),
    ('Permissions Violation for Publish to "S"', errors.PermissionsViolationError, False, True, False),
    ('Permissions Violation for Publish with Reply of "R"', errors.PermissionsViolationError, False, True, False),
    ('Permissions Violation for Subscription to "S"', errors.PermissionsViolationError, False, True, False),
    ('Permissions Violation for Subscription to "S" using queue "Q"', errors.PermissionsViolationError, False, True, False),
    ('Permissions Violation for Subscription to "S" (sid "7")', errors.PermissionsViolationError, False, True, False),
    ('Permissions Violation for Subscription to "S", too many tokens', errors.PermissionsViolationError, False, True, False),
    ("Invalid Subject", errors.ServerInvalidSubjectError, False, True, False),
    ("Invalid Publish Subject", errors.InvalidPublishSubjectError, False, True, False),
    ("Stale Connection", errors.StaleConnectionError, True, True, False),
    ("invalid client protocol", errors.ConnectRefusedError, True, False, False),
    ("Invalid Client Protocol", errors.ConnectRefusedError, True, False, False),
    ("no responders requires headers support", errors.ConnectRefusedError, True, False, False),
    ("Secure Connection - TLS Required", errors.SecureConnectionRequiredError, True, True, False),
    ("attempted to connect to route port", errors.WrongPortError, True, False, False),
    ("attempted to connect to gateway port", errors.WrongPortError, True, False, False),
    ("attempted to connect to leaf node port", errors.WrongPortError, True, False, False),
    ("wrong port", errors.WrongPortError, True, False, False),
    ("Invalid Subscription", errors.UnknownServerError, False, True, False),
    ('Unable to lookup account "A"', errors.UnknownServerError, False, True, False),
    ('No route for account "A"', errors.UnknownServerError, False, True, False),
    ("Slow Consumer", errors.UnknownServerError, False, True, False),
    ("something new", errors.UnknownServerError, False, True, False),
    ("permissions violation of a new kind", errors.UnknownServerError, False, True, False),
    ("", errors.UnknownServerError, False, True, False),
]

#: Permission violations with what they name: operation, subject, queue, sid.
PERMISSIONS: list[tuple[str, tuple[str, str, str | None, int | None]]] = [
    ('Publish to "a.b"', ("publish", "a.b", None, None)),
    ('Publish with Reply of "_INBOX.x"', ("publish with reply", "_INBOX.x", None, None)),
    ('Subscription to "a.>"', ("subscription", "a.>", None, None)),
    ('Subscription to "a" using queue "q"', ("subscription", "a", "q", None)),
    ('Subscription to "a" (sid "17")', ("subscription", "a", None, 17)),
    ('Subscription to "a" using queue "q" (sid "17")', ("subscription", "a", "q", 17)),
    ('Subscription to "a.b", too many tokens', ("subscription", "a.b", None, None)),
    ('Subscription to "a" (sid "x")', ("subscription", "a", None, None)),
    ('Subscription to "a" (sid "99999999999999999999999")', ("subscription", "a", None, None)),
    (r'Publish to "a\"b\\c"', ("publish", 'a"b\\c', None, None)),
    (r'Publish to "\x80\xff"', ("publish", "\udc80\udcff", None, None)),
    (r'Publish to "a\rb\x00\a\v\x7f"', ("publish", "a\rb\0\a\v\x7f", None, None)),
    (r'Publish to "\u200b\U0001f600é"', ("publish", "\u200b\U0001f600é", None, None)),
    (r'Subscription to "a\" using queue \"b" using queue "q\"(sid \"1\")"', ("subscription", 'a" using queue "b', 'q"(sid "1")', None)),
]


def quoted(raw: bytes) -> str:
    """What Go's %q does to a subject, in its own words here."""
    out = []
    for character in raw.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if character in '"\\':
            out.append("\\" + character)
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 32 or code == 127:
            out.append({7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}.get(code, f"\\x{code:02x}"))
        elif not character.isprintable():
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            out.append(character)
    return "".join(out)


class ClassifyTests(SynchronousTestCase):
    """From a text to an error."""

    def test_every_text(self) -> None:
        """Each text, in any case, is its error, keeps its wording, and says what follows from it."""
        for text, kind, closes, reconnect, auth in TEXTS:
            for written in (text, text.lower(), text.upper()):
                error = classify(written)
                self.assertIs(type(error), kind, written)
                self.assertEqual((error.text, str(error), error.message), (written, written, written))
                self.assertEqual((error.closes, error.reconnect, error.auth), (closes, reconnect, auth), written)
                self.assertIsInstance(error, errors.NatsError)

    def test_every_kind_of_server_error_is_used(self) -> None:
        """No class of the tree of server errors is without a text, but for those that only group others."""
        grouping = {errors.AuthenticationError, errors.CapacityError}
        kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.ServerError)} - {
            errors.ServerError
        }
        self.assertEqual(kinds - grouping - {row[1] for row in TEXTS}, set())

    def test_longer_texts(self) -> None:
        """What a server adds behind a known text does not make it unknown."""
        self.assertIsInstance(classify("Maximum Payload Violation: 5 vs 4"), errors.MaxPayloadViolationError)
        self.assertIsInstance(classify("Stale Connection - client"), errors.StaleConnectionError)

    def test_permissions(self) -> None:
        """A permission violation names its operation, subject, queue and sid, unquoted."""
        for text, expected in PERMISSIONS:
            error = classify("Permissions Violation for " + text)
            assert isinstance(error, errors.PermissionsViolationError), text
            self.assertEqual((error.operation, error.subject, error.queue, error.sid), expected, text)

    @given(st.binary(max_size=20), st.none() | st.binary(max_size=20), st.none() | st.integers(1, 10**9))
    @settings(max_examples=500)
    @example(b'"', b"\\", 1)
    def test_any_subject_comes_back(self, subject: bytes, queue: bytes | None, sid: int | None) -> None:
        """A subject and a queue of any bytes, quoted as servers quote, come back as messages have them."""
        text = f'Permissions Violation for Subscription to "{quoted(subject)}"'
        text += f' using queue "{quoted(queue)}"' if queue is not None else ""
        text += f' (sid "{sid}")' if sid is not None else ""
        error = classify(text)
        assert isinstance(error, errors.PermissionsViolationError), text
        self.assertEqual(error.subject.encode("utf-8", "surrogateescape"), subject)
        self.assertEqual(error.queue.encode("utf-8", "surrogateescape") if error.queue is not None else None, queue)
        self.assertEqual(error.sid, sid)

    @given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b'Permissions Violation for Publish to "' + rest))
    @settings(max_examples=500)
    def test_garbage(self, text: bytes) -> None:
        """Any text whatever is some error."""
        self.assertIsInstance(classify(text.decode("utf-8", "surrogateescape")), errors.ServerError)

    def test_long_texts(self) -> None:
        """A long text that nearly is a permission violation is read without going back over it again and again."""
        for text in ('"' + "\\" * 60_000, '"' + "a" * 60_000, '"a"' + "," * 60_000, '"a" using queue "' + "\\x" * 30_000):
            self.assertIsInstance(classify("Permissions Violation for Publish to " + text), errors.ServerError)


class UnquoteTests(SynchronousTestCase):
    """Undoing Go's %q."""

    def test_escapes(self) -> None:
        """Each escape of Go is its character; an escape that does not exist is what it shows."""
        for text, expected in (
            ("plain", "plain"), (r"\"", '"'), (r"\\", "\\"), (r"\n\r\t", "\n\r\t"), (r"\x41", "A"), (r"\xc3\xa9", "é"), (r"\u00e9", "é"),
            (r"\U0001F600", "\U0001f600"), (r"\U00110000", "?"), (r"\q", "q"), (r"\u12", "u12"), (r"\x1", "x1"), ("\\", "\\"),
            ("a\\", "a\\"),            (r"\\x41", r"\x41"), (r"\ud800", "\udced\udca0\udc80"),
        ):  # fmt: skip
            self.assertEqual(unquote(text), expected, text)
