"""The parts of the HTTP routes by themselves: paths, headers, credentials, rates, origins."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.auth import Authenticator
from pynats_twisted.bridge.cors import Cors
from pynats_twisted.bridge.headers import RequestHeaders, ResponseHeaders, new_traceparent, spelling
from pynats_twisted.bridge.limits import TokenBucket, parse_rate, retry_after
from pynats_twisted.bridge.paths import PathTable, PathTemplate, conflict, parse_query, split_path
from pynats_twisted.bridge.problem import FORBIDDEN, NO_RESPONDERS, UNAUTHORIZED, Response
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.errors import ConfigurationError, InvalidArgumentError, TemplateValueError
from pynats_twisted.protocol.headers import Headers


class PathTests(SynchronousTestCase):
    """Path templates."""

    def test_bad_templates(self) -> None:
        """Every template that breaks a rule is refused, and named."""
        for text in (
            "", "orders", "/a//b", "/a/", "/a/{}", "/a/{b", "/a/x{b}", "/a/{b}/{b}", "/a b", "/a?b", "/a#b", "/%zz", "/\u00fc", "/.",
            "/a/..", "/{1}", "/{a.b}", "/" + "a/" * 64 + "a",
        ):  # fmt: skip
            error = self.assertRaises(ConfigurationError, PathTemplate, text)
            self.assertIn(text[:20], str(error))

    def test_match(self) -> None:
        """A placeholder takes one whole segment, and literals are compared decoded."""
        template = PathTemplate("/a/{x}/%7Eme/{y-z}")
        self.assertEqual(template.names, ("x", "y-z"))
        self.assertEqual(template.match(split_path(b"/a/1/~me/%2F")), {"x": "1", "y-z": "/"})
        for raw in (b"/a/1/~me", b"/a/1/~me/2/3", b"/A/1/~me/2", b"/a/1/me/2", b"/a/1%2F~me/2"):
            self.assertIsNone(template.match(split_path(raw)), raw)
        self.assertEqual(PathTemplate("/").match(split_path(b"/")), {})

    def test_conflict(self) -> None:
        """Two templates conflict when a path fits both, unless they are the same path with other methods."""
        for first, second, expected in (
            ("/a/{x}", "/a/{y}", True),
            ("/a/{x}", "/a/b", True),
            ("/{x}/b", "/a/{y}", True),
            ("/a/b", "/a/c", False),
            ("/a/{x}", "/b/{x}", False),
            ("/a/{x}", "/a/{x}/b", False),
            ("/%61", "/a", True),
        ):
            self.assertEqual(conflict(PathTemplate(first), ["GET"], PathTemplate(second), ["GET", "PUT"]), expected, (first, second))
        self.assertFalse(conflict(PathTemplate("/a/{x}"), ["GET"], PathTemplate("/a/{y}"), ["PUT"]))
        self.assertTrue(conflict(PathTemplate("/a/{x}"), ["GET"], PathTemplate("/a/b"), ["PUT"]))

    def test_table(self) -> None:
        """What was added is found and what was removed is not."""
        table: PathTable[str] = PathTable()
        table.add(PathTemplate("/a/{x}"), ["GET"], "first")
        table.add(PathTemplate("/a/{y}"), ["PUT"], "second")
        found = table.find(["a", "1"], "PUT")
        assert found is not None
        self.assertEqual((found.target, found.values), ("second", {"y": "1"}))
        table.remove("second")
        self.assertIsNone(table.find(["a", "1"], "PUT"))
        self.assertEqual((table.allowed(["a", "1"]), len(table)), (["GET"], 1))

    def test_query(self) -> None:
        """Parameters are decoded once; a plus is a space; bad encoding is an error."""
        self.assertEqual(parse_query(b"a=1&a=%2B+2&b&&c=d=e&%C3%A9=%252F"), {"a": ["1", "+ 2"], "b": [""], "c": ["d=e"], "\u00e9": ["%2F"]})
        for raw in (b"a=%", b"%zz=1", b"a=%ff"):
            self.assertRaises(TemplateValueError, parse_query, raw)

    @given(st.binary(max_size=60))
    def test_whatever_the_path_it_is_one_token(self, raw: bytes) -> None:
        """A value from a path becomes exactly one token of the subject, or is refused."""
        template = SubjectTemplate("svc.{x}.end")
        try:
            values = PathTemplate("/{x}").match(split_path(b"/" + raw))
            if values is None:
                return
            subject = template.expand(values)
        except InvalidArgumentError:
            return
        self.assertEqual((subject.count("."), subject.split(".")[0], subject.split(".")[2]), (2, "svc", "end"))
        self.assertNotRegex(subject, r"[\s*>\x00-\x1f\x7f]")


class HeaderTests(SynchronousTestCase):
    """Headers both ways."""

    def test_spelling(self) -> None:
        """Names have one spelling whatever the sender wrote."""
        for name, expected in (("content-TYPE", "Content-Type"), ("etag", "ETag"), ("TraceParent", "traceparent"), ("x-a_b", "X-A_b")):
            self.assertEqual(spelling(name), expected)

    def test_what_no_list_allows(self) -> None:
        """Credentials, headers of the connection and those of NATS cannot be listed."""
        for name in ("Authorization", "cookie", "Nats-Msg-Id", "nats-anything", "Connection", "TE", "host", "a:b", "", "a\r\nb"):
            self.assertRaises(ConfigurationError, RequestHeaders, [name])
        for name in ("Content-Length", "date", "Nats-Service-Error", "transfer-encoding", "upgrade", "a b"):
            self.assertRaises(ConfigurationError, ResponseHeaders, [name])

    def test_bytes_that_are_not_utf_8_return_unchanged(self) -> None:
        """What a service put into a header comes out as it was."""
        headers = Headers._of_wire({"X-Tag": [b"\xff\xc3\xa9".decode("utf-8", "surrogateescape")]})
        self.assertEqual(ResponseHeaders(["x-tag"]).to_http(headers), [(b"X-Tag", b"\xff\xc3\xa9")])

    def test_new_traceparents_differ(self) -> None:
        """A trace that the bridge starts has ids of its own."""
        self.assertNotEqual(new_traceparent(), new_traceparent())


class AuthTests(SynchronousTestCase):
    """Credentials."""

    def test_user(self) -> None:
        """Who was let in by a password has a name; who came with a token has none."""
        user = Authenticator(bearer=["tok-1"], basic={"\u00fc": "p:q"}).user
        self.assertEqual(user([b"Basic " + base64.b64encode("\u00fc:p:q".encode())]), "\u00fc")
        self.assertEqual((user([b"Bearer tok-1"]), user([])), ("", ""))

    def test_values(self) -> None:
        """One header with a known scheme, or 401; a wrong secret is 403."""
        check = Authenticator(bearer=["tok-1"], basic={"u": "p"}).check
        for values, expected in (
            ([], UNAUTHORIZED),
            ([b""], UNAUTHORIZED),
            ([b"Bearer tok-1", b"Bearer tok-1"], UNAUTHORIZED),
            ([b"Digest x"], UNAUTHORIZED),
            ([b"Bearer  tok-1"], None),
            ([b"BEARER tok-1"], None),
            ([b"Bearer tok-1 "], UNAUTHORIZED),
            ([b"Bearer tok-"], FORBIDDEN),
            ([b"Bearer tok-11"], FORBIDDEN),
            ([b"Basic dTpw"], None),
            ([b"Basic dTpx"], FORBIDDEN),
            ([b"Basic dTp"], FORBIDDEN),
            ([b"Basic \xff"], UNAUTHORIZED),
        ):
            self.assertIs(check(values), expected, values)

    def test_unusable(self) -> None:
        """Settings that let nobody in, or that cannot work, are refused."""
        settings: tuple[dict[str, Any], ...] = (
            {},
            {"bearer": [""]},
            {"basic": {"u": ""}},
            {"basic": {"a:b": "p"}},
            {"bearer": ["t"], "realm": 'a"b'},
        )
        for keys in settings:
            self.assertRaises(ConfigurationError, Authenticator, **keys)

    def test_repr_shows_no_secret(self) -> None:
        """It can be logged."""
        self.assertEqual(repr(Authenticator(bearer=["tok"], basic={"u": "pass"})), "<Authenticator 1 tokens, 1 users>")


class RateTests(SynchronousTestCase):
    """Rates."""

    def test_parse(self) -> None:
        """A rate is a number per second, minute or hour."""
        self.assertEqual([parse_rate(text) for text in ("100/s", " 600 / m", "1800/h")], [100, 10, 0.5])
        for text in ("", "0/s", "1.5/s", "10", "10/d", "-1/s", "1/s/s", "9999999999/s"):
            self.assertRaises(ConfigurationError, parse_rate, text)

    def test_bucket(self) -> None:
        """A burst passes, then the average; the wait that is told is enough."""
        clock = Clock()
        bucket = TokenBucket(10.0, clock.seconds, burst=3)
        self.assertEqual([bucket.take() for _ in range(3)], [0, 0, 0])
        wait = bucket.take()
        self.assertAlmostEqual(wait, 0.1)
        clock.advance(wait)
        self.assertEqual(bucket.take(), 0)
        self.assertGreater(bucket.take(), 0)
        clock.advance(1000)
        self.assertEqual([bool(bucket.take()) for _ in range(4)], [False, False, False, True])

    def test_average_over_time(self) -> None:
        """Over ten seconds of asking all the time, as many pass as the rate says."""
        clock = Clock()
        bucket = TokenBucket(7.0, clock.seconds, burst=2)
        passed = 0
        for _ in range(1000):
            passed += bucket.take() == 0
            clock.advance(0.01)
        self.assertIn(passed, (69, 70, 71))

    def test_clock_set_back(self) -> None:
        """A clock that is set back neither gives nor takes tokens."""
        now = [100.0]
        bucket = TokenBucket(1.0, lambda: now[0], burst=1)
        self.assertEqual(bucket.take(), 0)
        now[0] = 50.0
        self.assertAlmostEqual(bucket.take(), 1)
        now[0] = 51.0
        self.assertEqual(bucket.take(), 0)

    def test_settings(self) -> None:
        """Rates and bursts are more than nothing; waits are whole seconds."""
        self.assertRaises(ConfigurationError, TokenBucket, 0, Clock().seconds)
        self.assertRaises(ConfigurationError, TokenBucket, 1, Clock().seconds, 0)
        self.assertEqual([retry_after(wait) for wait in (0.01, 1.0, 1.01)], ["1", "1", "2"])


class CorsTests(SynchronousTestCase):
    """Origins."""

    def test_settings(self) -> None:
        """Origins are written as browsers send them."""
        for origins in ([], ["*", "https://a"], ["https://a/"], ["HTTPS://a"], ["a"], ["null"], ["https://a b"]):
            self.assertRaises(ConfigurationError, Cors, origins, methods=["GET"])
        for origin in ("https://a.example:8443", "http://[::1]:8080", "http://localhost", "*"):
            Cors([origin], methods=["GET"])

    def test_any_origin(self) -> None:
        """With a star, every page may read, and caches need not tell them apart."""
        cors = Cors(["*"], methods=["GET"])
        self.assertEqual(cors.headers({b"origin": [b"https://x"]}), [(b"Access-Control-Allow-Origin", b"*")])
        self.assertEqual(cors.headers({}), [])
        self.assertEqual(cors.headers({b"origin": [b"a", b"b"]}), [])


class ProblemTests(SynchronousTestCase):
    """Problems."""

    def test_response(self) -> None:
        """A problem is JSON with a URN as its type; a status of its own is in both places."""
        response = NO_RESPONDERS.response("r", "id", status=599, detail="d", headers=[(b"Retry-After", b"1")], more=1)
        self.assertEqual((response.status, response.kind), (599, "nats-no-responders"))
        self.assertEqual(
            response.body,
            b'{"type":"urn:nats-bridge:nats-no-responders","title":"No service answers at the moment; nothing was executed.",'
            b'"status":599,"detail":"d","route":"r","request_id":"id","more":1}',
        )
        self.assertEqual(response.headers, [(b"Content-Type", b"application/problem+json"), (b"Retry-After", b"1")])
        self.assertEqual(repr(Response(200, [], b"abc")), "<Response 200 3 bytes>")
