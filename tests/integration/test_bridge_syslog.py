"""``syslog`` with a real server and real senders: UDP, TCP and TLS into a stream."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS

from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.testing.certificates import CertificateAuthority
from tests.integration.lines_case import TCP, UDP, LinesCase, Peer

SUBJECT = "logs.{facility}.{severity}.{hostname}.{app}"
ONE = b'<165>1 2003-10-11T22:14:15.003Z web1.example.com orders 8710 ID47 [origin ip="10.0.0.1"] paid'
TWO = b"<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed"


def numbered(first: int, count: int, *, octets: bool = False) -> bytes:
    """Messages with numbers."""
    made = [b"<13>1 - web1 app - - - %d" % index for index in range(first, first + count)]
    return b"".join(b"%d %s" % (len(each), each) if octets else each + b"\n" for each in made)


def texts(messages: list[JsMsg]) -> list[str]:
    """What stored messages say."""
    return [json.loads(msg.data)["message"] for msg in messages]


class SyslogTests(LinesCase):
    """Syslog messages on their way into a stream."""

    route_keys = f'type = "syslog"\nsubject = "{SUBJECT}"\nconfirm = "jetstream"\n'

    async def start(self, keys: str, **stream: Any) -> None:
        """A stream for logs, and a bridge that is ready."""
        await self.start_streams()
        await self.create_stream("LOGS", "logs.>", **stream)
        await self.start_bridge(keys)

    def sender(self) -> socket.socket:
        """A socket that sends datagrams to the route."""
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        sender.connect(("127.0.0.1", self.port))
        return sender

    async def test_udp(self) -> None:
        """Each datagram is a message, of either RFC or unreadable; each has its subject."""
        await self.start(UDP)
        sender = self.sender()
        for data in (ONE, TWO, b"not syslog\xff"):
            sender.send(data)
        await self.until(lambda: self.number("messages_out_total") == 3, what="three messages")
        first, second, third = await self.stored("LOGS")
        self.assertEqual(first.subject, "logs.local4.notice.web1-example-com.orders")
        found = json.loads(first.data)
        self.assertEqual((found["message"], found["structured_data"], found["peer"]), ("paid", {"origin": {"ip": "10.0.0.1"}}, "127.0.0.1"))
        self.assertEqual((first.headers or {})["Content-Type"], "application/json")
        self.assertEqual(second.subject, "logs.auth.crit.mymachine.su")
        self.assertEqual(json.loads(second.data)["procid"], "12")
        self.assertEqual((third.subject, third.data), ("logs.invalid.invalid.invalid.invalid", b"not syslog\xff"))
        self.assertIn("no priority", (third.headers or {})["Nats-Bridge-Invalid"])
        self.assertEqual(self.number("bad_input_total", reason="invalid"), 1)

    async def test_udp_burst(self) -> None:
        """Thousands of datagrams are stored in their order, and none is dropped by the bridge."""
        await self.start(UDP + "window = 1024\n")
        sender = self.sender()
        for index in range(5000):
            sender.send(b"<13>1 - web1 app - - - %d" % index)
            if index % 100 == 99:
                # No faster than it is read: what the kernel has no room for is lost before anybody sees it.
                await self.until(lambda index=index: self.number("messages_in_total") == index + 1, what="the datagrams")  # type: ignore[misc]
        await self.until(lambda: self.number("messages_out_total") == 5000, what="all of them")
        self.assertEqual(texts(await self.stored("LOGS")), [str(index) for index in range(5000)])
        self.assertEqual(self.number("messages_dropped_total", reason="backpressure"), 0)

    async def test_udp_while_the_server_is_away(self) -> None:
        """Datagrams that come while NATS is away are stored when it is back."""
        await self.start(UDP)
        await self.server.kill()
        await self.until(lambda: self.bridge.problems(), what="the problem")
        sender = self.sender()
        for index in range(200):
            sender.send(b"<13>1 - web1 app - - - %d" % index)
        await self.until(lambda: self.number("messages_in_total") == 200, what="the datagrams")
        await self.server.start()
        await self.until(lambda: self.number("messages_out_total") == 200, what="all of them")
        await self.nc.when_connected()
        self.assertEqual(texts(await self.stored("LOGS")), [str(index) for index in range(200)])

    async def test_tcp(self) -> None:
        """Over TCP messages come in lines, or after their length, in whatever pieces."""
        await self.start(TCP)
        peer = await self.peer()
        data = numbered(0, 300) + numbered(300, 300, octets=True) + numbered(600, 300)
        for at in range(0, len(data), 997):
            peer.send(data[at : at + 997])
            await self.sleep(0)
        await self.until(lambda: self.number("messages_out_total") == 900, what="all of them")
        self.assertEqual(texts(await self.stored("LOGS")), [str(index) for index in range(900)])

    async def test_tcp_text_with_line_feeds(self) -> None:
        """A counted message may have many lines; one without its end is read when the connection ends."""
        await self.start(TCP)
        peer = await self.peer()
        counted = b"<13>1 - web1 app - - - one\ntwo"
        peer.send(b"%d %s" % (len(counted), counted) + b"<13>1 - web1 app - - - thr")
        peer.transport.loseConnection()
        await self.until(lambda: self.number("messages_out_total") == 2, what="both")
        messages = await self.stored("LOGS")
        self.assertEqual(texts(messages), ["one\ntwo", "thr"])
        self.assertEqual((messages[1].headers or {})["Nats-Bridge-Partial"], "1")

    async def test_tcp_server_killed_under_load(self) -> None:
        """The server is killed under load: what the bridge has read is stored once, in the end."""
        await self.start(TCP + "window = 64\n")
        peer = await self.peer()
        for outage in range(3):
            peer.send(numbered(outage * 2000, 2000, octets=True))
            await self.until(lambda outage=outage: self.number("messages_out_total") > outage * 2000 + 100, what="some")  # type: ignore[misc]
            if outage < 2:
                await self.server.kill()
                await self.server.start()
        await self.until(lambda: self.number("messages_out_total") == 6000, what="all of them")
        await self.nc.when_connected()
        self.assertEqual(sorted(map(int, texts(await self.stored("LOGS")))), list(range(6000)))

    async def test_tls(self) -> None:
        """Over TLS, with a certificate that the sender verifies; who speaks in the clear gets nothing in."""
        authority = CertificateAuthority()
        files = authority.issue_server(["localhost"]).write(Path(self.mktemp()).resolve(), "syslog")
        await self.start(f'endpoint = "ssl:0:privateKey={files.key}:certKey={files.certificate}:interface=127.0.0.1"\n')
        options = optionsForClientTLS("localhost", Certificate.loadPEM(authority.certificate_pem))
        endpoint = wrapClientTLS(options, HostnameEndpoint(self.reactor, "127.0.0.1", self.port))
        sender: Peer = await connectProtocol(endpoint, Peer())
        self.addCleanup(sender.hang_up)
        sender.send(numbered(0, 500, octets=True))
        await self.until(lambda: self.number("messages_out_total") == 500, what="all of them")
        plain = await self.peer()
        plain.send(numbered(500, 1))
        await plain.ended
        self.assertEqual(texts(await self.stored("LOGS")), [str(index) for index in range(500)])

    async def test_raw(self) -> None:
        """With ``format = "raw"`` the stream has what came."""
        await self.start(UDP + 'format = "raw"\n')
        self.sender().send(ONE)
        await self.until(lambda: self.number("messages_out_total") == 1, what="it")
        (message,) = await self.stored("LOGS")
        self.assertEqual((message.subject, message.data), ("logs.local4.notice.web1-example-com.orders", ONE))

    async def test_too_long(self) -> None:
        """What is too long is cut and marked, over UDP and TCP alike."""
        await self.start(TCP + "max_length = 1000\n")
        peer = await self.peer()
        long = b"<13>1 - web1 app - - - " + b"x" * 5000
        peer.send(long + b"\n%d " % len(long) + long + numbered(7, 1))
        await self.until(lambda: self.number("messages_out_total") == 3, what="three")
        messages = await self.stored("LOGS")
        self.assertEqual([(msg.headers or {}).get("Nats-Bridge-Truncated") for msg in messages], [str(len(long)), str(len(long)), None])
        self.assertEqual([len(text) for text in texts(messages)], [977, 977, 1])

    async def test_allow(self) -> None:
        """Only networks that may send do."""
        await self.start(TCP + 'allow = ["10.0.0.0/8"]\n')
        peer = await self.peer()
        await peer.ended
        self.assertEqual(self.number("bad_input_total", reason="not-allowed"), 1)

    async def test_confirm_server(self) -> None:
        """With ``confirm = "server"`` no stream is needed."""
        await self.start_streams()
        messages: list[Any] = []
        await self.nc.subscribe("logs.>", messages.append)
        self.route_keys = self.route_keys.replace("jetstream", "server")
        await self.start_bridge(UDP)
        self.sender().send(ONE)
        await self.until(lambda: messages, what="the message")
        self.assertEqual(messages[0].subject, "logs.local4.notice.web1-example-com.orders")
