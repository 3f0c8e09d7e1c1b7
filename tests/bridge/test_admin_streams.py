"""The event streams of the admin endpoint, and what is measured for them."""

from __future__ import annotations

import math
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.activity import Hop
from pynats_twisted.bridge.admin.numbers import Recorder, quantiles
from pynats_twisted.bridge.admin.streams import MAX_STREAMS, SILENCE
from pynats_twisted.bridge.admin.tap import Tap, is_secret, preview
from pynats_twisted.bridge.http_channel import STALL
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.protocol.headers import Headers
from tests.bridge.admin_support import WITH_TOKEN, AdminCase, Caller


class DashboardTests(AdminCase):
    """``/events``."""

    def open(self, path: str = "/events", headers: dict[str, str] | None = None) -> Caller:
        return self.connect().send(path, headers=headers)

    def kinds(self, caller: Caller) -> list[str]:
        return [kind for kind, _ in caller.answer.events()]

    def test_first(self) -> None:
        """It begins with all that is known; then come numbers, once a second."""
        caller = self.open()
        answer = caller.answer
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/event-stream; charset=utf-8"))
        self.assertNotIn("content-length", answer.headers)
        self.assertEqual(self.kinds(caller), ["bridge", "history", "numbers"])
        for _ in range(3):
            self.reactor.advance(1)
        self.assertEqual(self.kinds(caller)[3:], ["numbers"] * 3)
        overview = answer.events()[0][1]
        self.assertEqual([route["name"] for route in overview["routes"]], ["echo", "hook"])
        self.assertEqual((overview["bridge"], overview["status"], overview["has_token"]), ("edge", "unready", True))
        self.assertEqual(
            [(one["name"], one["status"], one["connected"]) for one in overview["connections"]], [("default", "connecting", False)]
        )
        self.assertEqual(overview["listeners"][0]["address"], "http://127.0.0.1:8080")

    def test_changes(self) -> None:
        """What is known is sent again when it has changed, within a second, and only then."""
        caller = self.open()
        self.reactor.advance(1)
        self.hook.pause()
        self.reactor.advance(1)
        self.reactor.advance(1)
        self.assertEqual(self.kinds(caller)[3:], ["numbers", "bridge", "numbers", "numbers"])
        self.assertEqual(
            [content["routes"][1]["state"] for kind, content in caller.answer.events() if kind == "bridge"], ["running", "paused"]
        )

    def test_numbers(self) -> None:
        """Numbers are those of the metrics."""
        metrics = self.bridge.metrics.route("echo", "echo")
        caller = self.open()
        for _ in range(3):
            metrics.messages_in.inc(4)
            metrics.latency.observe(0.0004)
            self.reactor.advance(1)
        metrics.failed("timeout", 2)
        metrics.dropped("paused")
        metrics.consumer_lag_seconds.set(math.inf)
        self.reactor.advance(1)
        _, content = caller.answer.events()[-1]
        echo = content["routes"]["echo"]
        self.assertEqual((echo["in"], echo["failed"], echo["dropped"], echo["lag_seconds"]), (12, {"timeout": 2}, {"paused": 1}, 0))
        self.assertEqual((echo["rate"], echo["p50"]), (2.67, 0.00025))
        self.assertIsNone(content["routes"]["hook"]["p50"])
        self.assertEqual(self.open().answer.events()[1][1]["echo"], [4.0, 4.0, 4.0, 0.0])

    def test_slow_reader(self) -> None:
        """Nothing piles up for a page that does not read; it gets the state of now when it does, and is cut off after 30 s."""
        caller = self.open()
        caller.transport.clear()
        caller.protocol.pauseProducing()
        self.hook.pause()
        for _ in range(5):
            self.reactor.advance(1)
        self.assertEqual(caller.transport.value(), b"")
        caller.protocol.resumeProducing()
        self.reactor.advance(1)
        self.assertEqual(
            [line for line in caller.transport.value().split(b"\n") if line.startswith(b"event")], [b"event: bridge", b"event: numbers"]
        )
        self.assertFalse(caller.transport.disconnected)
        caller.protocol.pauseProducing()
        for _ in range(math.ceil(STALL) + 2):
            self.reactor.advance(1)
        self.assertTrue(caller.transport.disconnected)

    def test_lives_long(self) -> None:
        """A page that reads is not cut off."""
        caller = self.open()
        for _ in range(200):
            self.reactor.advance(1)
        self.assertFalse(caller.transport.disconnecting or caller.transport.disconnected)

    def test_bounded(self) -> None:
        """So many streams may be open, and no more; one that leaves makes room."""
        callers = [self.open("/events" if number % 2 else "/routes/echo/tap") for number in range(MAX_STREAMS)]
        refused = self.open()
        self.assertEqual((refused.answer.status, refused.answer.kind), (503, "too-many-streams"))
        callers[0].leave()
        self.assertEqual(self.open().answer.status, 200)
        self.assertEqual(self.open("/routes/echo/tap").answer.status, 503)

    def test_stop(self) -> None:
        """A bridge that stops tells so, and ends the streams at its end."""
        callers = [self.open(), self.open("/routes/echo/tap")]
        self.echo.stopping = Deferred()
        self.bridge.stopService()
        self.reactor.advance(1)
        self.assertFalse(callers[0].transport.disconnecting)
        self.echo.stopping.callback(None)
        # The connection to NATS, which nobody answers, has as long as drain_timeout.
        self.reactor.advance(20)
        for caller in callers:
            self.assertTrue(caller.transport.disconnecting)
        self.assertIn("the bridge is stopping", callers[0].answer.body.decode())
        self.assertFalse(self.bridge.context.activity("echo").watched)


class TapStreamTests(AdminCase):
    """``/routes/NAME/tap``."""

    def hop(self, step: str = "received", **details: Any) -> None:
        headers = Headers({"Content-Type": "text/plain", "Authorization": "Bearer s3cret"})
        self.bridge.context.activity("echo").hop(step, "echo.me", data=b"hello", headers=headers, **details)

    def test_hops(self) -> None:
        """Hops come as they happen; without the token, without contents."""
        caller = self.connect().send("/routes/echo/tap")
        self.hop(seq=3, ms=1.5)
        (begin, about), (kind, hop) = caller.answer.events()
        self.assertEqual((begin, about, kind), ("tap", {"route": "echo", "rate": 10, "contents": False}, "hop"))
        self.assertEqual((hop["step"], hop["subject"], hop["size"], hop["details"]), ("received", "echo.me", 5, {"seq": 3, "ms": 1.5}))
        self.assertEqual(hop["headers"], [["Content-Type", "<redacted>"], ["Authorization", "<redacted>"]])
        self.assertNotIn("preview", hop)

    def test_contents(self) -> None:
        """With the token contents are shown, but for headers that hold secrets."""
        caller = self.connect().send("/routes/echo/tap", headers=WITH_TOKEN)
        self.hop()
        _, hop = caller.answer.events()[-1]
        self.assertEqual((hop["preview"], hop["headers"]), ("hello", [["Content-Type", "text/plain"], ["Authorization", "<redacted>"]]))
        self.assertEqual(self.connect().send("/routes/echo/tap", headers={"Authorization": "Bearer x"}).answer.status, 403)

    def test_sampled(self) -> None:
        """No more than so many a second are shown, and how many were left out is told."""
        caller = self.connect().send("/routes/echo/tap?rate=2")
        for _ in range(10):
            self.hop()
        self.reactor.advance(1)
        self.hop()
        hops = [hop for kind, hop in caller.answer.events() if kind == "hop"]
        self.assertEqual([hop["left_out"] for hop in hops], [0, 0, 8])

    def test_nobody_watches(self) -> None:
        """When the reader has gone, the route makes nothing for it any more."""
        activity = self.bridge.context.activity("echo")
        caller = self.connect().send("/routes/echo/tap")
        self.assertTrue(activity.watched)
        caller.leave()
        self.assertFalse(activity.watched)

    def test_silence(self) -> None:
        """A route without messages gets a comment now and then, so that both ends see that the other is there."""
        caller = self.connect().send("/routes/echo/tap")
        for _ in range(int(SILENCE) + 1):
            self.reactor.advance(1)
        self.assertEqual(caller.transport.value().count(b"\n: \n\n"), 1)

    def test_refused(self) -> None:
        """A route that is not there has no tap, and a rate is a number up to 100."""
        self.assertEqual(self.connect().send("/routes/none/tap").answer.status, 404)
        for rate in ("0", "101", "x"):
            self.assertEqual(self.connect().send(f"/routes/echo/tap?rate={rate}").answer.status, 400, rate)


class TapTests(SynchronousTestCase):
    """What a tap shows."""

    def test_secret_headers(self) -> None:
        """Values that let somebody in are never shown."""
        for name in ("Authorization", "Cookie", "X-API-Key", "X-Auth-Token", "webhook-signature", "X-Hub-Signature-256", "Session-Id"):
            self.assertTrue(is_secret(name), name)
        for name in ("Content-Type", "traceparent", "Nats-Msg-Id", "X-Request-Id"):
            self.assertFalse(is_secret(name), name)

    def test_preview(self) -> None:
        """The beginning of a text is shown as text, also where the cut goes through a character; all else as digits."""
        self.assertEqual(preview("äöü".encode(), 6, 5), {"preview": "äö", "is_text": True, "is_cut": True})
        self.assertEqual(preview(b"abc", 3, 5), {"preview": "abc", "is_text": True, "is_cut": False})
        self.assertEqual(preview(b"", 0, 5), {"preview": "", "is_text": True, "is_cut": False})
        self.assertEqual(preview(b"\xff\x01", 2, 8), {"preview": "ff 01", "is_text": False, "is_cut": False})
        self.assertEqual(preview(b"a\x00bcdefgh", 9, 8), {"preview": "61 00", "is_text": False, "is_cut": True})

    def test_reader_that_does_not_keep_up(self) -> None:
        """A hop that was not taken counts as left out."""
        taken: list[dict[str, Any]] = []
        is_ready = False

        def send(hop: dict[str, Any]) -> bool:
            if is_ready:
                taken.append(hop)
            return is_ready

        tap = Tap(Clock().seconds, send, rate=10, contents=False)
        tap(Hop(0.0, "received"))
        is_ready = True
        tap(Hop(0.0, "received"))
        self.assertEqual([hop["left_out"] for hop in taken], [1])


class NumbersTests(SynchronousTestCase):
    """What is measured."""

    def test_quantiles(self) -> None:
        """They are of what was observed between two looks, evenly spread in a bucket; above all bounds the last one counts."""
        before = ((0.1, 10.0), (1.0, 20.0), (math.inf, 20.0))
        self.assertEqual(quantiles(before, (), (0.25, 0.5, 0.75)), [0.05, 0.1, 0.55])
        self.assertEqual(quantiles(((0.1, 10.0), (1.0, 30.0), (math.inf, 30.0)), before, (0.5, 0.99)), [0.55, 0.991])
        self.assertEqual(quantiles(((0.1, 10.0), (1.0, 20.0), (math.inf, 40.0)), before, (0.5,)), [1.0])
        self.assertEqual(quantiles(before, before, (0.5, 0.99)), [None, None])
        self.assertEqual(quantiles((), (), (0.5,)), [None])

    def test_last_minute(self) -> None:
        """Quantiles and rates forget what is older than a minute."""
        metrics = BridgeMetrics("edge", process=False)
        recorder = Recorder(metrics)
        recorder.tick()
        route = metrics.route("a", "echo")
        route.latency.observe(9.0)
        route.messages_in.inc(100)
        recorder.tick()
        self.assertGreater(recorder.numbers(["a"])["a"]["p50"], 5)
        for _ in range(70):
            recorder.tick()
        route.latency.observe(0.0001)
        self.assertLess(recorder.numbers(["a"])["a"]["p99"], 0.001)
        self.assertEqual(recorder.history("a"), [0.0] * 60)

    def test_forgotten_route(self) -> None:
        """A route without metrics has zeros where there must be a number, and nothing where there need not."""
        row = Recorder(BridgeMetrics("edge", process=False)).numbers(["new"])["new"]
        self.assertEqual((row["rate"], row["p50"]), (0, None))
        self.assertNotIn("lag_messages", row)
