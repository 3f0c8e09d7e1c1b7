"""Reading the responses of webhooks' targets."""

from __future__ import annotations

from email.utils import formatdate

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.webhook_response import MAX_HEAD, MAX_INTERIM, MAX_LINE, ResponseError, ResponseReader

LIMIT = 1000
WHOLE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, True),
    (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
    (b"HTTP/1.1 304 Not Modified\nETag: x\n\n", 304, True),
    (b"HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 500, False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 200, True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", 200, True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: y\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 201, True),
]
BROKEN = [
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 999 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSpace : x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LIMIT + 1),
    b"HTTP/1.1 200 " + b"x" * (MAX_LINE + 1),
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD,
    b"HTTP/1.1 103 X\r\n\r\n" * (MAX_INTERIM + 1),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * MAX_HEAD,
]


class ResponseReaderTests(SynchronousTestCase):
    """:class:`ResponseReader`."""

    def test_whole(self) -> None:
        """Every form of a response is read to its end, whole or byte by byte, and tells whether the connection can be used again."""
        for data, status, keep_alive in WHOLE:
            for size in (len(data), 1):
                reader = ResponseReader(LIMIT)
                for start in range(0, len(data), size):
                    self.assertFalse(reader.is_complete, data)
                    reader.receive(data[start : start + size])
                self.assertEqual((reader.is_complete, reader.status, reader.keep_alive), (True, status, keep_alive), data)

    def test_to_the_end(self) -> None:
        """A body without a length ends with the connection."""
        reader = ResponseReader(LIMIT)
        reader.receive(b"HTTP/1.1 200 OK\r\n\r\nbody")
        self.assertFalse(reader.is_complete)
        reader.receive_end()
        self.assertEqual((reader.is_complete, reader.keep_alive), (True, False))

    def test_broken(self) -> None:
        """What is no response, or too much of one, is an error."""
        for data in BROKEN:
            with self.assertRaises(ResponseError, msg=data[:60]):
                ResponseReader(LIMIT).receive(data)

    def test_breaks_off(self) -> None:
        """The end of the connection in the middle is an error, and the status that came is known."""
        for data, status in (
            (b"", 0),
            (b"HTTP/1.1 200", 0),
            (b"HTTP/1.1 200 OK\r\nA: b", 200),
            (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nx", 500),
        ):
            reader = ResponseReader(LIMIT)
            reader.receive(data)
            with self.assertRaises(ResponseError):
                reader.receive_end()
            self.assertEqual(reader.status, status)

    def test_more_than_asked(self) -> None:
        """Bytes behind the response make the connection unusable: they would be taken for the answer to the next request."""
        reader = ResponseReader(LIMIT)
        reader.receive(WHOLE[0][0] + b"HTTP/1.1 200 OK\r\n")
        self.assertEqual((reader.is_complete, reader.keep_alive), (True, False))
        with self.assertRaises(ResponseError):
            reader.receive(b"x")

    def test_retry_after(self) -> None:
        """``Retry-After`` is read as seconds or as a date; what is neither, or in the past, counts as none."""
        now = 1_700_000_000.0
        for value, expected in (
            (b"120", 120.0),
            (formatdate(now + 60, usegmt=True).encode(), 60.0),
            (formatdate(now - 60, usegmt=True).encode(), 0.0),
            (b"soon", 0.0),
            (b"-5", 0.0),
            (b"\xff", 0.0),
            (b"9" * 40, 0.0),
            (b"Mon, 99 Foo 99999 99:99:99 GMT", 0.0),
        ):
            reader = ResponseReader(LIMIT)
            reader.receive(b"HTTP/1.1 503 X\r\nRetry-After: " + value + b"\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(reader.retry_after(now), expected, value)

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 X\r\n", b"\r\n", b"Content-Length: 5\r\n", b"5\r\n", b"0\r\n\r\n"]),
                st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"Retry-After: 1\r\n", b"\n", b"hello", b":", b"HTTP/1.0 500\r\n"]),
            ),
            max_size=12,
        )
    )
    def test_anything(self, parts: list[bytes]) -> None:
        """Whatever comes, in whatever pieces: the same result, and no other error than the one that it has."""

        def read(pieces: list[bytes]) -> tuple[object, ...]:
            reader = ResponseReader(20)
            try:
                for piece in pieces:
                    if reader.is_complete:
                        break
                    reader.receive(piece)
                else:
                    reader.receive_end()
            except ResponseError:
                return ("error", reader.status)
            return (reader.is_complete, reader.status, reader.retry_after(0.0))

        data = b"".join(parts)
        self.assertEqual(read([data]) if data else read([]), read([data[index : index + 1] for index in range(len(data))]))
