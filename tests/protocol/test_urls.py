"""The rules of server URLs, and of what servers gossip."""

from __future__ import annotations

import string
from ipaddress import IPv6Address
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import ConfigurationError, InvalidURLError, MixedSchemesError
from pynats_twisted.protocol.urls import (
    DEFAULT_PORTS,
    ServerURL,
    check_schemes,
    is_ip_address,
    join_host_port,
    parse_gossip,
    parse_servers,
    parse_url,
)

quickly = settings(max_examples=150, deadline=None, database=None)

labels = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=12)
names = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda name: not name.replace(".", "").isdigit())
ipv4s = st.ip_addresses(v=4).map(str)
ipv6s = st.ip_addresses(v=6).map(str)
hosts = st.one_of(names, ipv4s, ipv6s)
ports = st.integers(1, 65535)
# Any text that UTF-8 can hold.
secrets = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
path_texts = st.text(string.ascii_letters + string.digits + "-._~/%?=&+", max_size=30).map("/".__add__)


class URLFormTests(SynchronousTestCase):
    """What may be written for a server."""

    def check(self, text: str, url: str, **parts: object) -> None:
        """``text`` is read as ``url``, with these parts."""
        parsed = parse_url(text)
        self.assertEqual(parsed.url, url)
        self.assertEqual({name: getattr(parsed, name) for name in parts}, parts)

    def test_every_way_to_write_host_and_port(self) -> None:
        """A host alone, with an empty port, with a port and with a scheme are all understood; the port is 4222 if none is given."""
        for text in ("demo", "demo:", "demo:4222", "nats://demo", "nats://demo:", "nats://demo:4222", "nats://demo:4222/", " demo "):
            self.check(text, "nats://demo:4222", scheme="nats", host="demo", port=4222, path="")
        self.check("demo:1", "nats://demo:1", port=1)
        self.check("demo:65535", "nats://demo:65535", port=65535)

    def test_each_scheme_has_its_default_port(self) -> None:
        """``nats`` and ``tls`` have port 4222, ``ws`` 80, ``wss`` 443."""
        self.assertEqual(parse_url("nats://h").port, 4222)
        self.assertEqual(parse_url("tls://h").port, 4222)
        self.assertEqual(parse_url("ws://h").port, 80)
        self.assertEqual(parse_url("wss://h").port, 443)

    def test_scheme_and_host_in_any_case(self) -> None:
        """Scheme and host do not depend on the case of their letters."""
        self.check("TLS://Demo.Example", "tls://demo.example:4222", scheme="tls", host="demo.example")

    def test_ip_addresses(self) -> None:
        """IPv4 addresses stand as they are, IPv6 addresses in brackets, and both come out in their usual form."""
        self.check("127.0.0.1:4223", "nats://127.0.0.1:4223", host="127.0.0.1", port=4223)
        self.check("[::1]:4222", "nats://[::1]:4222", host="::1")
        self.check("nats://[2001:DB8:0::1]", "nats://[2001:db8::1]:4222", host="2001:db8::1", host_port="[2001:db8::1]:4222")
        self.check("[fe80::1%25eth0]:", "nats://[fe80::1%eth0]:4222", host="fe80::1%eth0")

    def test_name_in_unicode(self) -> None:
        """An internationalised host name is left for the resolver."""
        self.check("nats://Bücher.example", "nats://bücher.example:4222", host="bücher.example")

    def test_final_dot(self) -> None:
        """A final dot (a complete name in DNS) is kept."""
        self.check("demo.example.", "nats://demo.example.:4222", host="demo.example.")

    def test_user_and_password(self) -> None:
        """User and password are percent-decoded."""
        self.check("nats://me:p%40ss%3A%2F%C3%BC@h", "nats://h:4222", user="me", password="p@ss:/ü", token=None)

    def test_user_without_password_is_a_token(self) -> None:
        """What stands alone before the ``@`` is a token."""
        self.check("s3%2Ccr%2Bet@h:1", "nats://h:1", user=None, password=None, token="s3,cr+et")

    def test_empty_password_is_not_a_token(self) -> None:
        """With a colon and nothing behind it the password is empty."""
        self.check("me:@h", "nats://h:4222", user="me", password="", token=None)

    def test_websocket_path_and_query(self) -> None:
        """A WebSocket URL keeps path and query for the HTTP request; the displayed URL has no query."""
        self.check("ws://h", "ws://h:80", path="/")
        self.check("wss://h/nats?key=1", "wss://h:443/nats", path="/nats?key=1")
        self.check("ws://h?key=1", "ws://h:80", path="/?key=1")

    def test_unix_socket(self) -> None:
        """A UNIX socket has a path, which is percent-decoded, and neither host nor port."""
        self.check("unix:///run/nats%20a.sock", "unix:///run/nats%20a.sock", scheme="unix", host="", port=0, path="/run/nats a.sock")
        self.check("unix://me:pw@/run/s", "unix:///run/s", user="me", password="pw", host_port="/run/s")

    @quickly
    @given(
        st.sampled_from(["nats", "tls", "ws", "wss"]),
        hosts,
        ports,
        st.one_of(st.none(), secrets.filter(bool)),
        st.one_of(st.none(), secrets),
    )
    def test_round_trip(self, scheme: str, host: str, port: int, user: str | None, password: str | None) -> None:
        """Whatever host, port, user and password are written into a URL by the rules, they are read from it, and are not in its repr."""
        info = "" if user is None else quote(user, safe="") + ("" if password is None else ":" + quote(password, safe="")) + "@"
        parsed = parse_url(f"{scheme}://{info}{join_host_port(host, port)}")
        self.assertEqual((parsed.scheme, parsed.port), (scheme, port))
        self.assertEqual(parsed.host, str(IPv6Address(host)) if ":" in host else host)
        if password is None:
            self.assertEqual((parsed.user, parsed.password, parsed.token), (None, None, user))
        elif user is not None:
            self.assertEqual((parsed.user, parsed.password, parsed.token), (user, password, None))
        # The displayed URL is a URL of the same server.
        again = parse_url(parsed.url)
        self.assertEqual((again.scheme, again.address), (scheme, parsed.address))
        self.assertEqual(parse_url(parsed.url).url, parsed.url)
        self.assertEqual((again.user, again.password, again.token), (None, None, None))

    @quickly
    @given(st.sampled_from(["ws", "wss"]), path_texts)
    def test_round_trip_of_websocket_paths(self, scheme: str, path: str) -> None:
        """The path and query of a WebSocket URL come back as they were written."""
        self.assertEqual(parse_url(f"{scheme}://h{path}").path, path)

    @quickly
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map("/".__add__))
    def test_round_trip_of_socket_paths(self, path: str) -> None:
        """Any path of a UNIX socket can be written, and the displayed URL is a URL of the same socket."""
        parsed = parse_url("unix://" + quote(path))
        self.assertEqual(parsed.path, path)
        self.assertEqual(parse_url(parsed.url), parsed)


class WrongURLTests(SynchronousTestCase):
    """What is refused, with which words, and what the words must not contain."""

    def refused(self, text: str, rule: str) -> str:
        """``text`` is refused because of ``rule``; gives the whole text of the error."""
        error = self.assertRaises(InvalidURLError, parse_url, text)
        self.assertIn(rule, str(error))
        self.assertIsNone(error.__context__)
        return str(error)

    def test_the_error_names_the_url(self) -> None:
        """The text of an error names the URL and its rule."""
        self.assertEqual(
            self.refused("nats://demo:70000", "port"), "server URL 'nats://demo:70000': the port must be a number from 1 to 65535"
        )

    def test_the_error_leaves_out_the_credentials(self) -> None:
        """Of a URL with credentials an error shows what stands around them."""
        self.assertIn("'tls://…@h!:1/p'", self.refused("tls://user:sesame@h!:1/p", "host"))

    def test_unknown_scheme(self) -> None:
        """A scheme that is not one of ours is refused, and ours are listed."""
        for text in ("http://h", "nats+tls://h", "://h", "mailto:://h"):
            self.refused(text, "the scheme must be one of nats, tls, ws, wss, unix")

    def test_bad_port(self) -> None:
        """A port is a decimal number from 1 to 65535, in ASCII digits, without a sign."""
        for port in ("0", "65536", "-1", "+1", "1e3", "4222x", "\u0664\u0662", "123456", "00000000080"):
            self.refused(f"nats://h:{port}", "the port must be a number from 1 to 65535")

    def test_empty_host(self) -> None:
        """There must be a host."""
        for text in ("nats://", "nats://:4222", ":4222", "me:pw@", "nats:///", "wss:///path"):
            self.refused(text, "the host is empty")
        self.refused("  ", "it is empty")

    def test_impossible_host(self) -> None:
        """A host is a name of letters, digits, hyphens and underscores, an IPv4 address, or a bracketed IPv6 address."""
        for host in (
            "a..b",
            ".a",
            "a!b",
            "a%20b",
            "x" * 64,
            ".".join(["abcdefgh"] * 30),
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "[]",
            "bü!",
            "ü..b",
            "a*",
        ):
            self.refused(f"nats://{host}", "the host must be a name, an IPv4 address, or an IPv6 address in brackets")

    def test_four_numbers_that_are_no_address(self) -> None:
        """Four numbers with dots are an IPv4 address or an error, never a name, and never octal."""
        for host in ("256.1.1.1", "1.2.3.010", "1.2.3.1234"):
            self.refused(host, "an IPv4 address")

    def test_ipv6_address_without_brackets(self) -> None:
        """An IPv6 address without brackets is refused with the right spelling."""
        self.refused("::1", "[::1]:4222")
        self.refused("nats://2001:db8::1:4222", "must be in brackets")

    def test_white_space_and_control_characters(self) -> None:
        """Nothing that could break a line or hide in one is taken anywhere in a URL."""
        for bad in (" ", "\t", "\r", "\n", "\0", "\x7f", "\x85", "\xa0", "\u2028", "\u200b", "\ud800"):
            for text in (f"nats://a{bad}b", f"nats://u:p{bad}w@h", f"ws://h/a{bad}b", f"na{bad}ts://h", f"nats://h:42{bad}22"):
                self.refused(text, "white space and control characters must be percent-encoded")

    def test_path_query_and_fragment_where_they_mean_nothing(self) -> None:
        """Only WebSocket servers have a path, nobody has a fragment, a socket has no query."""
        self.refused("nats://h/path", "only WebSocket servers (ws, wss) have a path")
        self.refused("tls://h?a=b", "only WebSocket servers (ws, wss) have a path")
        self.refused("ws://h/a#b", "fragment")
        self.refused("unix:///a?b", "query")
        self.refused("ws://h/ü", "ASCII")

    def test_socket_paths(self) -> None:
        """A UNIX socket has an absolute path and no host."""
        self.refused("unix://host/path", "no host")
        self.refused("unix://", "absolute path")
        self.refused("unix:///", "absolute path")
        self.refused("unix:///a%00b", "absolute path")

    def test_user_info(self) -> None:
        """User info is not empty, has correct percent encoding, and is UTF-8."""
        self.refused("nats://@h", "the user or token before '@' is empty")
        self.refused("nats://:pw@h", "the user or token before '@' is empty")
        self.refused("nats://u:50%@h", "'%' in the password must be followed by two hexadecimal digits")
        self.refused("nats://%zz@h", "'%' in the token must be followed by two hexadecimal digits")
        self.refused("nats://u:%ff@h", "the password is not UTF-8")

    def test_slash_in_a_password(self) -> None:
        """A password with a bare slash, question mark or hash would be read as a path: it is refused, with the reason."""
        for bad in "/?#":
            for scheme in ("nats", "ws"):
                shown = self.refused(f"{scheme}://u:12{bad}34@h", "must be percent-encoded")
                self.assertNotIn("34", shown)

    def test_too_long(self) -> None:
        """A URL has at most 8192 characters, and an error shows only its beginning."""
        shown = self.refused("nats://" + "h" * 8192, "longer than 8192 characters")
        self.assertLess(len(shown), 250)

    def test_not_a_text(self) -> None:
        """A URL is a str."""
        self.assertRaises(InvalidURLError, parse_url, b"nats://h")

    def test_forgotten_host(self) -> None:
        """``user:password`` without a host reads as ``host:port``: the error does not show what should be the port."""
        self.assertEqual(
            self.refused("nats://user:sesame", "port"), "server URL 'nats://user:…': the port must be a number from 1 to 65535"
        )

    def test_query_is_not_shown(self) -> None:
        """A query may hold a key for a proxy: errors do not show it."""
        self.assertNotIn("sesame", self.refused("ws://h!/p?key=sesame", "host"))

    def test_no_error_shows_a_secret(self) -> None:
        """Wherever a URL with credentials is wrong, and however it is wrong, the error shows none of them."""
        for info in (
            "user:sesame",
            "sesame",
            "user:sesame%zz",
            "user:ses/sesame",
            "user:ses?sesame",
            "user:ses@sesame",
            "u:sesame#1",
            "u:://sesame",
        ):
            for scheme in ("", "nats://", "tls://", "ws://", "http://", "sesame://", "://"):
                for place in ("h!", "h:x", "", "h:0", "h/p#", "[h", "h:1:2", "h /", "h\n", "h?x", "unix"):
                    self.hidden(f"{scheme}{info}@{place}")

    def test_comma_in_a_password(self) -> None:
        """A password with a bare comma is cut in two by the list: whatever is wrong with the halves, the error shows neither."""
        for text in ("nats://u:sesame,x@h:x", "nats://u:x,sesame@h!", "nats://u:12,h!,sesame@h", "nats://u:x@sesame!,x@h", "u:sesame,b@h"):
            error = self.assertRaises(InvalidURLError, parse_servers, text)
            self.assertNotIn("sesame", str(error))
            self.assertIn("of the list", str(error))

    @quickly
    @given(st.text(max_size=40), st.sampled_from(["", "nats://", "wss://", "bogus://"]), st.text(max_size=12))
    def test_no_error_shows_any_secret(self, junk: str, scheme: str, place: str) -> None:
        """No text before an ``@``, encoded or not, gets into an error or its context."""
        self.hidden(f"{scheme}{junk}sesame{junk}@{place}")

    def hidden(self, text: str) -> None:
        """No error about ``text`` has the word ``sesame`` in it or in what it carries along."""
        for parse in (parse_url, parse_servers):
            try:
                parse(text)
            except ConfigurationError as error:
                self.assertNotIn("sesame", f"{error} {error!r} {error.args}")
                self.assertIsNone(error.__context__)


class ServerListTests(SynchronousTestCase):
    """Several servers at once."""

    def urls(self, servers: str | list[str]) -> list[str]:
        return [url.url for url in parse_servers(servers)]

    def test_comma_list(self) -> None:
        """Commas separate servers; spaces around them, and commas too many, do not matter; the order stays."""
        self.assertEqual(self.urls("b, nats://a:1 ,,[::1],"), ["nats://b:4222", "nats://a:1", "nats://[::1]:4222"])

    def test_sequence(self) -> None:
        """A sequence of texts, each of which may be a list with commas, is taken too."""
        self.assertEqual(self.urls(["b", "a,c"]), ["nats://b:4222", "nats://a:4222", "nats://c:4222"])

    def test_repeated_server(self) -> None:
        """A server that is given twice counts once."""
        self.assertEqual(self.urls("a,b,nats://A:4222"), ["nats://a:4222", "nats://b:4222"])

    def test_contradiction(self) -> None:
        """One address with two schemes, or with two users, is an error that shows no credentials."""
        for text in ("nats://a,tls://a", "u:sesame@a,u:other@a"):
            error = self.assertRaises(InvalidURLError, parse_servers, text)
            self.assertEqual(str(error), "server a:4222 is given twice, with different schemes or credentials")

    def test_same_host_with_several_websocket_paths(self) -> None:
        """Behind one proxy several WebSocket servers can have one address and different paths."""
        self.assertEqual(self.urls("ws://a/x,ws://a/y"), ["ws://a:80/x", "ws://a:80/y"])

    def test_no_server(self) -> None:
        """There must be a server, and no element of a sequence may be empty."""
        for servers in ("", " , ", []):
            self.assertRaises(ConfigurationError, parse_servers, servers)
        self.assertRaises(InvalidURLError, parse_servers, ["a", ""])

    def test_wrong_types(self) -> None:
        """Bytes, numbers and sequences of them are refused by their type, not read letter by letter."""
        for servers in (b"nats://h", 4222, None, [b"nats://h"], ["a", None]):
            error = self.assertRaises(ConfigurationError, parse_servers, servers)
            self.assertIn("str", str(error))
        self.assertIn("not bytes", str(self.assertRaises(ConfigurationError, parse_servers, b"nats://h")))

    def test_mixed_schemes(self) -> None:
        """WebSocket servers cannot be mixed with others; the error names the schemes."""
        for text in ("ws://a,nats://b", "wss://a,tls://b", "a,ws://b", "unix:///a,ws://b"):
            error = self.assertRaises(MixedSchemesError, parse_servers, text)
            self.assertIn("ws", str(error))

    def test_schemes_that_go_together(self) -> None:
        """``nats``, ``tls`` and ``unix`` go together, and so do ``ws`` and ``wss``."""
        self.assertEqual(len(parse_servers("nats://a,tls://b,unix:///c")), 3)
        self.assertEqual(len(parse_servers("ws://a,wss://b")), 2)
        check_schemes([])


class GossipTests(SynchronousTestCase):
    """Entries of INFO's ``connect_urls``."""

    def test_host_and_port(self) -> None:
        """IPv4, bracketed IPv6 and names with a port are taken, in the form in which they are compared."""
        self.assertEqual(parse_gossip("10.0.0.1:4222"), ("10.0.0.1", 4222))
        self.assertEqual(parse_gossip("[2001:DB8::0:1]:4223"), ("2001:db8::1", 4223))
        self.assertEqual(parse_gossip("N1.Example:1"), ("n1.example", 1))

    def test_anything_else_is_refused(self) -> None:
        """A scheme, user info, a path, a missing or impossible port, a wildcard address or a control character: nothing is taken."""
        for entry in (
            "", "h", "h:", ":4222", "h:0", "h:65536", "h:99999", "nats://h:1", "u:p@h:1", "h:1/", "h:1?x", "h:1\n", " h:1", "h :1",
            "h:1,i:2", "::1:4222", "[::1]", "[::1%eth0]:1", "[zz]:1", "[:::]:1", "0.0.0.0:4222", "[::]:4222", "256.1.1.1:1",
            "a..b:1", "ü:1", "h:\u0661", "h\0:1", "x" * 64 + ":1", "h:4222:4222",
        ):  # fmt: skip
            self.assertIsNone(parse_gossip(entry), entry)

    @quickly
    @given(hosts.filter(lambda host: host not in ("0.0.0.0", "::")), ports)
    def test_round_trip(self, host: str, port: int) -> None:
        """Every address that a server can have is read as it is written."""
        self.assertEqual(parse_gossip(join_host_port(host, port)), (host, port))

    @quickly
    @given(st.text(max_size=40))
    def test_any_text(self, entry: str) -> None:
        """Whatever comes, it is refused or is a plain host and port that can be written back."""
        place = parse_gossip(entry)
        if place is not None:
            self.assertEqual(parse_gossip(join_host_port(*place)), place)


class ServerURLTests(SynchronousTestCase):
    """How a parsed URL shows itself."""

    def test_repr_and_str_have_no_credentials(self) -> None:
        """Neither repr nor str shows user, password, token or query."""
        for text in ("nats://me:sesame@h", "sesame@h", "wss://h/p?k=sesame"):
            parsed = parse_url(text)
            self.assertNotIn("sesame", f"{parsed!r} {parsed} {parsed.url} {parsed.host_port}")
        self.assertEqual(repr(parse_url("me:sesame@h")), "<ServerURL nats://h:4222>")

    def test_defaults(self) -> None:
        """The table of default ports is the table of schemes."""
        self.assertEqual(list(DEFAULT_PORTS), ["nats", "tls", "ws", "wss", "unix"])
        self.assertEqual(ServerURL(scheme="nats", host="h", port=1).address, ("h", 1, ""))

    def test_is_ip_address(self) -> None:
        """Addresses are told from names."""
        self.assertEqual(
            [is_ip_address(host) for host in ("1.2.3.4", "::1", "h", "1.2.3.4.example", "1.2.3")], [True, True, False, False, False]
        )
