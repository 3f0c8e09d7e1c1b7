"""Requests of the blocking client."""

from __future__ import annotations

from pynats_twisted import errors

from .support import BlockingTestCase, Peer


class RequestTests(BlockingTestCase):
    """request()."""

    def answer(self, payload: bytes = b"answer", *, delay: float = 0.0) -> None:
        """Let the server's only service answer what is published to ``q``."""

        def on_line(peer: Peer, line: str) -> None:
            if line.split()[:2] in (["PUB", "q"], ["HPUB", "q"]):
                reply = self.server.published[-1].reply
                self.machine.at(delay, lambda: self.server.publish(reply, payload))

        self.server.on_line = on_line

    def setUp(self) -> None:
        super().setUp()
        self.server.served.add("q")

    def test_reply(self) -> None:
        """request() returns the reply; one inbox serves all requests."""
        nc = self.connect()
        self.answer()
        self.assertEqual([nc.request("q", b"1", headers={"A": "b"}).data for _ in range(3)], [b"answer"] * 3)
        self.assertEqual(len([line for line in self.server.peer.lines if line.startswith("SUB")]), 1)
        self.assertEqual(len({each.reply for each in self.server.published}), 3)

    def test_no_responders(self) -> None:
        """Where nobody listens that is an error at once, with the subject."""
        nc = self.connect()
        begun = self.machine.time
        error = self.assertRaises(errors.NoRespondersError, nc.request, "nobody")
        self.assertEqual((error.subject, self.machine.time), ("nobody", begun))

    def test_no_reply(self) -> None:
        """Without a reply request() ends after its time, and a late reply is counted and given to nobody."""
        nc = self.connect()
        begun = self.machine.time
        self.assertRaises(errors.RequestTimeoutError, nc.request, "q", timeout=2.0)
        self.assertEqual(self.machine.time - begun, 2.0)
        late = self.server.published[-1].reply
        self.answer()
        self.server.publish(late, b"late")
        self.assertEqual(nc.request("q").data, b"answer")
        self.assertEqual(nc.stats.late_replies, 1)

    def test_default_time(self) -> None:
        """The time is the option request_timeout where the call gives none."""
        nc = self.connect(request_timeout=0.5)
        begun = self.machine.time
        self.assertRaises(errors.RequestTimeoutError, nc.request, "q")
        self.assertEqual(self.machine.time - begun, 0.5)

    def test_denied(self) -> None:
        """A request whose subject is denied fails at once."""
        nc = self.connect()
        self.server.denied.add("secret")
        begun = self.machine.time
        self.assertRaises(errors.PermissionsViolationError, nc.request, "secret")
        self.assertEqual(self.machine.time, begun)

    def test_denied_inbox(self) -> None:
        """A client that may not subscribe to its inbox is told so, and the next request tries again."""
        nc = self.connect(inbox_prefix="mine")
        self.answer()
        self.server.on_line, answer = (
            lambda peer, line: (
                peer.send(b"-ERR 'Permissions Violation for Subscription to \"" + line.split()[1].encode() + b"\"'\r\n")
                if line.startswith("SUB mine")
                else None
            ),
            self.server.on_line,
        )
        error = self.assertRaises(errors.PermissionsViolationError, nc.request, "q")
        self.assertEqual(error.operation, "subscription")
        self.server.on_line = answer
        self.assertEqual(nc.request("q").data, b"answer")
        self.server.peer.close()
        nc.process(timeout=1.0)
        self.assertEqual(nc.request("q").data, b"answer")
        self.assertEqual(len(self.server.peer.subscriptions), 1)

    def test_lost_connection(self) -> None:
        """A request waits on over a reconnect: its reply may still come."""
        nc = self.connect()
        self.server.on_line = lambda peer, line: peer.close() if line.startswith("PUB q") else None
        reply = []
        self.machine.at(1.0, lambda: self.server.publish(self.server.published[-1].reply, b"over there"))
        reply.append(nc.request("q", timeout=5.0).data)
        self.assertEqual(reply, [b"over there"])
        self.assertEqual(nc.stats.reconnects, 1)

    def test_lost_connection_that_fails_requests(self) -> None:
        """With fail_requests_on_disconnect it fails instead."""
        nc = self.connect(fail_requests_on_disconnect=True)
        self.server.on_line = lambda peer, line: peer.close() if line.startswith("PUB q") else None
        self.assertRaises(errors.DisconnectedError, nc.request, "q", timeout=5.0)

    def test_without_a_connection(self) -> None:
        """A request without a connection waits for one; where none comes, the error says why."""
        nc = self.connect(reconnect_wait=0.5, reconnect_jitter=0.0)
        self.answer()
        self.server.mode = "refuse"
        self.server.peer.close()
        error = self.assertRaises(errors.RequestTimeoutError, nc.request, "q", timeout=1.0)
        self.assertIn("refused", str(error))
        self.server.mode = "accept"
        self.assertEqual(nc.request("q", timeout=5.0).data, b"answer")

    def test_reply_by_a_rewritten_subject(self) -> None:
        """A reply whose subject a mapping rewrote is taken for that of the one request under way."""
        nc = self.connect()

        def on_line(peer: Peer, line: str) -> None:
            if line.startswith("PUB q"):
                sid = next(sid for sid, (pattern, _) in peer.subscriptions.items() if pattern.startswith("_INBOX"))
                peer.send(b"MSG other %d 2\r\nok\r\n" % sid)

        self.server.on_line = on_line
        self.assertEqual(nc.request("q").data, b"ok")

    def test_many_replies(self) -> None:
        """Several replies come to an inbox of one's own."""
        nc = self.connect()
        inbox = nc.new_inbox()
        sub = nc.subscribe(inbox, max_msgs=2)
        nc.publish("q", reply=inbox)
        nc.flush()
        for number in range(3):
            self.server.publish(inbox, b"%d" % number)
        self.assertEqual([msg.data for msg in sub], [b"0", b"1"])

    def test_closed_meanwhile(self) -> None:
        """A client that gives up while a request waits ends it."""
        nc = self.connect(allow_reconnect=False)
        self.server.on_line = lambda peer, line: peer.close() if line.startswith("PUB q") else None
        with self.assertLogs("pynats_twisted.blocking", "ERROR"):
            self.assertRaises(errors.ConnectionClosedError, nc.request, "q")
