"""Input that nobody thought of, from a seed: pieces that have broken other servers, bytes by chance, and good requests that were bent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote_from_bytes

SECRET = b"It's a Secret to Everybody"

_NASTY = (
    *(bytes([number]) for number in range(33)), *(bytes([char]) for char in b".*>/\\|'\":&+=%\x7f\x85\xff"),
    b"..", b"\r\n", b"\r\n\r\n", b"\r\nPUB fuzz.injected 1\r\nx\r\n", b"\nNats-Rollup: all", b"$JS.API.>", b"$SYS.REQ", b"_INBOX.x", b"%2",
    b"%2e", b"%252e", b"%0d%0aPUB%20x%201", b"%00", b"{id}", b"<script>", b"::", b"\xc0\xae", b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8",
    b"\xe3\x80\x80", b"\xef\xbb\xbf", b"a" * 129, b"\xc3\xbc" * 60, b"Nats-Msg-Id: x", b"a" * 9000, b"fuzz.injected",
)  # fmt: skip
_METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"get", b"PRI", b"", b"PUB")
_NAMES = (
    b"X-Tag", b"x-tag", b"X-Id", b"Content-Type", b"Cookie", b"Authorization", b"traceparent", b"Host", b"Nats-Msg-Id", b"nats-rollup",
    b"Nats-Expected-Last-Sequence", b"Nats-TTL", b"Nats-Schedule", b"Nats-Bridge-Path", b"Nats-Bridge-Remote", b"Connection",
    b"Transfer-Encoding", b"Content-Length", b"Expect", b"Upgrade", b"Origin",
)  # fmt: skip
_VALUES = (b"chunked", b"0", b"5", b"-1", b"+5", b"5, 5", b"100-continue", b"bench", b"chunked, chunked", b"close", b"18446744073709551616")


class Case(NamedTuple):
    """One case: what is sent, and where to (``http``, ``lines``, ``udp``, ``tcp``)."""

    kind: str
    way: str
    data: bytes


class Cases:
    """An endless supply.

    :param seed: the same seed gives the same cases.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: dict[str, Callable[[], Case]] = {
            "paths": self.path, "headers": self.header, "bodies": self.body, "signatures": self.signature, "lines": self.lines,
            "syslog": self.syslog,
        }  # fmt: skip

    def junk(self, most: int = 4) -> bytes:
        """Bytes that mean harm, or nothing."""
        parts = []
        for _ in range(self.random.randint(0, most)):
            chance = self.random.random()
            if chance < 0.7:
                parts.append(self.random.choice(_NASTY))
            elif chance < 0.85:
                parts.append(self.random.randbytes(self.random.randint(0, 8)))
            else:
                parts.append(chr(self.random.choice((65, 0xE9, 0x20AC, 0x1F600, 0x202E))).encode())
        return b"".join(parts)

    def bent(self, data: bytes) -> bytes:
        """Good bytes with a few changes."""
        changed = bytearray(data)
        for _ in range(self.random.randint(0, 3)):
            position = self.random.randint(0, len(changed))
            chance = self.random.random()
            if chance < 0.4:
                changed[position:position] = self.junk(1)
            elif chance < 0.7:
                del changed[position : position + self.random.randint(1, 6)]
            elif position < len(changed):
                changed[position] = self.random.randrange(256)
        return bytes(changed)

    def request(self, method: bytes, target: bytes, headers: bytes, body: bytes) -> bytes:
        """A request whose frame is right."""
        head = b"%b %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%bContent-Length: %d\r\n\r\n" % (method, target, headers, len(body))
        return head + body

    def path(self) -> Case:
        """A path and a query."""
        parts = []
        for _ in range(2):
            junk = self.junk()
            parts.append(self.random.choice((b"7", quote_from_bytes(junk, safe="").encode(), junk.replace(b"\r", b"").replace(b"\n", b""))))
        target = b"/fuzz/" + parts[0] + self.random.choice((b"", b"?q=" + parts[1], b"/" + parts[1], b"#" + parts[1]))
        return Case("paths", "http", self.request(self.random.choice(_METHODS), target, b"", b""))

    def header(self) -> Case:
        """Headers."""
        lines = []
        for _ in range(self.random.randint(1, 6)):
            name = self.random.choice(_NAMES) if self.random.random() < 0.85 else self.junk(2)
            value = self.random.choice(_VALUES) if self.random.random() < 0.4 else self.junk(3)
            colon = self.random.choice((b": ", b":", b" : ", b":\t"))
            lines.append(name + colon + value + self.random.choice((b"\r\n", b"\r\n", b"\n", b"\r\n ")))
        return Case("headers", "http", self.request(b"POST", b"/take/7", b"".join(lines), b"body"))

    def body(self) -> Case:
        """A body, with a length or in chunks, that is as it says or not."""
        junk = self.junk(6)
        if self.random.random() < 0.5:
            head = b"POST /take/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunks = (
                b"3\r\nabc\r\n", b"0\r\n\r\n", b"3;x=y\r\nabc\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"\r\n",
                b"%x\r\n%b\r\n" % (len(junk), junk),
            )  # fmt: skip
            return Case("bodies", "http", head + b"".join(self.random.choice(chunks) for _ in range(self.random.randint(1, 5))))
        return Case("bodies", "http", self.bent(self.request(b"POST", b"/take/7", b"", junk)))

    def signature(self) -> Case:
        """A signed request; most are bent somewhere, a few are good."""
        body = self.junk(3)
        digest = hmac.digest(SECRET, body, hashlib.sha256)
        written = digest.hex().encode()
        if self.random.random() < 0.1:
            return Case("signatures", "http", self.request(b"POST", b"/signed", b"X-Hub-Signature-256: sha256=" + written + b"\r\n", body))
        forms = (
            b"sha256=" + written, b"sha1=" + written, written, b"sha256=" + base64.b64encode(digest), b"sha256=" + written.upper()[:-1],
            b"sha256=", b"", b"sha256=" + b"0" * 64, b"v1," + base64.b64encode(digest),
        )  # fmt: skip
        value = self.bent(self.random.choice(forms)).replace(b"\r", b"").replace(b"\n", b"")
        lines = b"X-Hub-Signature-256: " + value + b"\r\n"
        if self.random.random() < 0.2:
            lines *= 2
        body = self.bent(body) if self.random.random() < 0.5 else body + b"!"
        return Case("signatures", "http", self.request(b"POST", b"/signed", lines, body))

    def lines(self) -> Case:
        """Lines, among them too long and unfinished ones."""
        found = b"\n".join(self.junk(5) for _ in range(self.random.randint(1, 4)))
        return Case("lines", "lines", found + self.random.choice((b"\n", b"\r\n", b"")))

    def syslog(self) -> Case:
        """Syslog messages, as datagrams and in frames."""
        good = self.random.choice(
            (
                b'<165>1 2026-10-11T22:14:15.003Z host.example evntslog 1 ID47 [a@32473 iut="3" b="\\"x\\]"] text',
                b"<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed",
                b"<13>1 - - - - - -",
                b"<%d>1 - %b %b - %b - x" % (self.random.randint(0, 999), self.junk(1)[:200], self.junk(1)[:200], self.junk(1)[:60]),
                self.junk(3),
            )
        )
        data = self.bent(good)
        if self.random.random() < 0.5:
            return Case("syslog", "udp", data[:60_000])
        counted = b"%d %b" % (len(data), data)
        frame = self.random.choice((counted, data + b"\n", b"%d %b" % (len(data) + 3, data), b"999999999999 x", b"-1 x"))
        return Case("syslog", "tcp", frame)
