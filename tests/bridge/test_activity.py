"""What a route did last: its errors, and the hops of its messages."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.activity import MAX_ERRORS, MAX_PREVIEW, Hop, RouteActivity
from pynats_twisted.bridge.config import BridgeSection
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.protocol.headers import Headers


class ActivityTests(SynchronousTestCase):
    """:class:`RouteActivity`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.hops: list[Hop] = []
        self.activity = RouteActivity("crm", self.clock.seconds, log=Logger(observer=self.observe))

    def observe(self, event: dict[str, Any]) -> None:
        self.lines.append(event["log_format"].format(**event))

    def test_errors(self) -> None:
        """The newest error comes first, with its cause, its hint and its time."""
        self.activity.error("timeout", "no answer in 2 s", "is the target up?")
        self.clock.advance(5)
        self.activity.error("status", "answered 500")
        newest, oldest = self.activity.errors
        self.assertEqual((newest.kind, newest.cause, newest.hint, newest.time, newest.count), ("status", "answered 500", "", 5.0, 1))
        self.assertEqual((oldest.kind, oldest.hint, oldest.time), ("timeout", "is the target up?", 0.0))

    def test_repeated_error(self) -> None:
        """An error that comes again is kept once, and counted: a storm of one does not push the others out."""
        self.activity.error("status", "answered 500")
        for _ in range(100):
            self.clock.advance(1)
            self.activity.error("timeout", "no answer", f"hint {self.clock.seconds():g}")
        newest, oldest = self.activity.errors
        self.assertEqual((newest.count, newest.first_time, newest.time, newest.hint), (100, 1.0, 100.0, "hint 100"))
        self.assertEqual(oldest.kind, "status")

    def test_bounded(self) -> None:
        """The last 20 are kept, none of them long."""
        for number in range(50):
            self.activity.error("x", f"{number} " + "y" * 10_000, "z" * 10_000)
        self.assertEqual(len(self.activity.errors), MAX_ERRORS)
        self.assertTrue(self.activity.errors[0].cause.startswith("49 "))
        self.assertEqual({len(error.cause) for error in self.activity.errors} | {len(self.activity.errors[0].hint)}, {500})
        self.activity.forget_errors()
        self.assertEqual(self.activity.errors, [])

    def test_nobody_watches(self) -> None:
        """Without debug and taps nothing is watched, and a hop leaves nothing."""
        self.assertFalse(self.activity.watched)
        self.activity.hop("received", "orders.new")
        self.assertEqual(self.lines, [])

    def test_debug_line(self) -> None:
        """With ``debug`` a hop is one line, without payload and headers, whatever is in its details."""
        self.activity.debug = True
        self.assertTrue(self.activity.watched)
        headers = Headers({"Secret": "s3cret"})
        self.activity.hop("delivered", "orders.new", data=b"pay\nload", headers=headers, seq=17, status=200, ms=1.25, target="a\nb c")
        self.assertEqual(self.lines, ["route crm: delivered orders.new bytes=8 seq=17 status=200 ms=1.2 target='a\\nb c'"])
        self.activity.debug = False
        self.assertFalse(self.activity.watched)

    def test_subject_with_control_characters(self) -> None:
        """A subject that would begin a line of its own does not."""
        self.activity.debug = True
        self.activity.hop("received", "a\rroute x: forged")
        self.assertEqual(self.lines, ["route crm: received 'a\\rroute x: forged' bytes=0"])

    def test_tap(self) -> None:
        """A tap gets each hop with the beginning of its payload, until it is removed; taking it back twice does no harm."""
        self.clock.advance(3)
        self.activity.add_tap(self.hops.append)
        self.activity.hop("received", "a", data=b"x" * 5000, headers=Headers({"A": ["1", "2"]}), attempt=2)
        (hop,) = self.hops
        self.assertEqual((hop.time, hop.step, hop.subject, hop.size, len(hop.data)), (3.0, "received", "a", 5000, MAX_PREVIEW))
        self.assertEqual((hop.headers, hop.details), ((("A", "1"), ("A", "2")), {"attempt": 2}))
        self.assertEqual(self.lines, [], "a tap does not make the log longer")
        self.activity.remove_tap(self.hops.append)
        self.activity.remove_tap(self.hops.append)
        self.assertFalse(self.activity.watched)

    def test_size_without_payload(self) -> None:
        """Where the payload is not at hand its size is told all the same."""
        self.activity.add_tap(self.hops.append)
        self.activity.hop("published", "a", size=77)
        self.assertEqual((self.hops[0].size, self.hops[0].data), (77, b""))


class ContextActivityTests(SynchronousTestCase):
    """:meth:`RouteContext.activity`."""

    def setUp(self) -> None:
        section = BridgeSection(name="edge")
        self.context = RouteContext(reactor=Clock(), bridge=section, metrics=BridgeMetrics("edge", process=False), clients={})

    def test_one_for_each_name(self) -> None:
        """Whoever asks for a route's activity gets the same one; ``debug`` is only changed by who says it."""
        activity = self.context.activity("crm", True)
        self.assertIs(self.context.activity("crm"), activity)
        self.assertTrue(activity.debug)
        self.assertFalse(self.context.activity("crm", False).debug)
        self.assertIsNot(self.context.activity("other"), activity)

    def test_bad_input(self) -> None:
        """Bad input is among the errors of its route."""

        class Route:
            name = "lines"
            type_name = "lines-in"

        self.context.bad_input(Route(), "too-long", "from 192.0.2.1")
        (error,) = self.context.activity("lines").errors
        self.assertEqual((error.kind, error.hint), ("too-long", "from 192.0.2.1"))
