"""The admin endpoint: what it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted.bridge.reloader import Reloader
from pynats_twisted.errors import ConfigurationError, DisconnectedError, NatsError, NatsTimeoutError, StreamNotFoundError
from tests.bridge.admin_support import CONFIG, WITH_TOKEN, AdminCase
from tests.bridge.route_types import EchoRoute


class PauseTests(AdminCase):
    """Pausing, draining, resuming."""

    def state(self, name: str) -> Any:
        return self.ask(f"/routes/{name}").json["state"]

    def test_route_that_can_pause(self) -> None:
        """A route that can pause by itself is asked to, and to go on."""
        answer = self.do("/routes/hook/pause")
        self.assertEqual((answer.status, answer.json["state"], self.hook.paused, self.hook.running), (200, "paused", True, True))
        self.assertFalse(answer.json["ready"])
        self.assertEqual(self.do("/routes/hook/resume").json["state"], "running")
        self.assertFalse(self.hook.paused)

    def test_route_that_cannot_pause(self) -> None:
        """Any other is stopped; its paths answer 503 meanwhile, and resuming makes it anew."""
        self.assertEqual(self.do("/routes/echo/pause").json["state"], "paused")
        self.assertEqual(self.echo.calls, ["start", "stop"])
        answer = self.connect(8080).send("/echo/1").answer
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "paused", "10"))
        self.assertEqual(self.do("/routes/echo/pause").status, 200, "pausing twice is no error")
        self.assertEqual(self.echo.calls, ["start", "stop"])

        self.assertEqual(self.do("/routes/echo/resume").json["state"], "running")
        renewed: Any = self.bridge.routes["echo"]
        self.assertIsInstance(renewed, EchoRoute)
        self.assertIsNot(renewed, self.echo)
        self.assertEqual(renewed.calls, ["start"])
        self.assertEqual(self.connect(8080).send("/echo/1").answer.status, 404, "the path is the new route's to take")
        self.assertEqual(list(self.bridge.routes), ["echo", "hook"])

    def test_paused_is_no_fault(self) -> None:
        """A route that was paused does not make the bridge unready, but degraded."""
        self.echo.trouble = ["it is broken"]
        self.assertIn("routes.echo: it is broken", self.bridge.problems())
        self.do("/routes/echo/pause")
        self.assertNotIn("routes.echo", " ".join(self.bridge.problems()))
        self.assertIn("routes.echo: paused by request", self.bridge.degraded())

    def test_drain(self) -> None:
        """A drain is answered when nothing is in flight any more; until then the route cannot be resumed."""
        self.echo.stopping = Deferred()
        caller = self.connect().send("/routes/echo/drain", "POST", WITH_TOKEN, {})
        self.assertEqual((caller.answer.status, self.state("echo")), (0, "draining"))
        answer = self.do("/routes/echo/resume")
        self.assertEqual((answer.status, answer.kind), (409, "not-now"))
        self.echo.stopping.callback(None)
        self.assertEqual(caller.answer.json, {"route": "echo", "state": "drained", "complete": True})
        self.assertEqual(self.do("/routes/echo/drain").json["complete"], True, "draining twice is no error")
        self.do("/routes/echo/resume")
        self.assertEqual(self.state("echo"), "running")

    def test_drain_takes_too_long(self) -> None:
        """What is in flight gets as long as ``drain_timeout``, and is cut off then."""
        cancelled: list[Deferred[None]] = []
        self.echo.stopping = Deferred(cancelled.append)
        caller = self.connect().send("/routes/echo/drain", "POST", WITH_TOKEN, {})
        self.reactor.advance(19.9)
        self.assertEqual((caller.answer.status, cancelled), (0, []))
        self.reactor.advance(0.2)
        self.assertEqual((caller.answer.json["complete"], len(cancelled)), (False, 1))
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    def test_drain_of_a_route_that_can_pause(self) -> None:
        """Draining stops it, and resuming makes it anew, not paused."""
        self.do("/routes/hook/pause")
        self.do("/routes/hook/drain")
        self.assertEqual((self.state("hook"), self.hook.running), ("drained", False))
        self.do("/routes/hook/resume")
        self.assertEqual(self.state("hook"), "running")
        self.assertIsNot(self.bridge.routes["hook"], self.hook)

    def test_cannot_be_made_anew(self) -> None:
        """A route that cannot be made anew stays paused, its paths too, and the answer says why."""
        self.do("/routes/echo/pause")

        def refuse(*arguments: object) -> None:
            raise ConfigurationError("the secret is gone")

        self.patch(self.bridge.factories["echo"], "make_route", refuse)
        answer = self.do("/routes/echo/resume")
        self.assertEqual(answer.status, 409)
        self.assertIn("the secret is gone", answer.json["detail"])
        self.assertEqual((self.state("echo"), self.connect(8080).send("/echo/1").answer.status), ("paused", 503))

    def test_unknown_route(self) -> None:
        """A route that is not there cannot be switched."""
        for what in ("pause", "resume", "drain", "dlq/replay"):
            answer = self.do(f"/routes/none/{what}")
            self.assertEqual((answer.status, answer.kind), (404, "unknown-route"), what)

    def test_stopping_bridge(self) -> None:
        """A bridge that stops switches nothing any more; a paused route is not stopped twice."""
        self.do("/routes/echo/pause")
        self.bridge.stopService()
        self.assertEqual(self.echo.calls, ["start", "stop"])
        self.assertEqual((self.do("/routes/echo/resume").status, self.do("/reload").status), (503, 503))


class DeadLetterTests(AdminCase):
    """Dead letters."""

    def test_list(self) -> None:
        """They are listed with what is known of their end; without the token, without their contents."""
        newest, oldest = self.ask("/routes/hook/dlq").json["dead_letters"]
        self.assertEqual((newest["seq"], newest["subject"], newest["error"], newest["attempts"], newest["time"], newest["size"]),
                         (7, "orders.new", "answered 500", 3, 12.5, 8))  # fmt: skip
        self.assertNotIn("preview", newest)
        self.assertEqual(newest["headers"], [["Content-Type", "<redacted>"], ["X-Api-Key", "<redacted>"]])
        self.assertEqual(oldest["seq"], 5)

    def test_contents(self) -> None:
        """With the token the beginning of each is shown, as text or as digits; values of secret headers never are."""
        answer = self.ask("/routes/hook/dlq", headers=WITH_TOKEN).json
        newest, oldest = answer["dead_letters"]
        self.assertTrue(answer["contents"])
        self.assertEqual((newest["preview"], newest["is_text"], newest["is_cut"]), ('{"a": 1}', True, False))
        self.assertEqual(newest["headers"], [["Content-Type", "text/plain"], ["X-Api-Key", "<redacted>"]])
        self.assertEqual((oldest["preview"][:8], oldest["is_text"], oldest["is_cut"], oldest["size"]), ("ff 00 ff", False, True, 1400))

    def test_limit(self) -> None:
        """So many are asked for as the query says, 50 by default; something else is refused."""
        self.ask("/routes/hook/dlq")
        self.assertEqual(len(self.ask("/routes/hook/dlq?limit=1").json["dead_letters"]), 1)
        self.assertEqual(self.hook.calls, [("list", 50), ("list", 1)])
        for limit in ("0", "1001", "-1", "x", "", "1&limit=2", "%FF", "9" * 30):
            answer = self.ask(f"/routes/hook/dlq?limit={limit}")
            self.assertEqual((answer.status, answer.kind), (400, "bad-argument"), limit)

    def test_replay_and_delete(self) -> None:
        """Some of them, or all, are sent again or deleted."""
        self.assertEqual(self.do("/routes/hook/dlq/replay", {"seqs": [7]}).json, {"route": "hook", "replayed": 1, "asked": 1})
        self.assertEqual(self.do("/routes/hook/dlq/replay", {"all": True}).json["replayed"], 2)
        self.assertEqual(self.do("/routes/hook/dlq/delete", {"seqs": [5, 7]}).json["deleted"], 2)
        self.assertEqual(self.do("/routes/hook/dlq/delete", {"all": True}).status, 200)
        self.assertEqual(self.hook.calls, [("replay", [7]), ("replay", None), ("delete", [5, 7]), ("delete", None)])

    def test_which(self) -> None:
        """Nothing is done where it is not said which: all of them is never the default."""
        for body in ({}, {"seqs": []}, {"seqs": [0]}, {"seqs": ["7"]}, {"seqs": [1], "all": True}, {"all": False}, {"every": True}, [7], 7):
            answer = self.do("/routes/hook/dlq/delete", body)
            self.assertEqual((answer.status, answer.kind), (400, "bad-argument"), body)
        self.assertEqual(self.ask("/routes/hook/dlq/delete", "POST", WITH_TOKEN).status, 400)
        self.assertEqual(self.hook.calls, [])

    def test_too_long(self) -> None:
        """A body beyond 64 KiB is refused."""
        self.assertEqual(self.do("/routes/hook/dlq/delete", {"seqs": [123456] * 20_000}).status, 413)

    def test_none_kept(self) -> None:
        """A route that keeps none says so."""
        for answer in (self.ask("/routes/echo/dlq"), self.do("/routes/echo/dlq/replay", {"all": True})):
            self.assertEqual((answer.status, answer.kind), (409, "not-offered"))

    def test_nats_fails(self) -> None:
        """Where NATS fails the answer says how."""
        cases = (
            (StreamNotFoundError("no stream"), 404),
            (NatsTimeoutError("late"), 504),
            (DisconnectedError("lost"), 503),
            (NatsError("odd"), 502),
        )
        for error, status in cases:
            self.hook.error = error
            for answer in (self.ask("/routes/hook/dlq"), self.do("/routes/hook/dlq/replay", {"all": True})):
                self.assertEqual((answer.status, answer.json["detail"]), (status, str(error)))

    def test_route_fails(self) -> None:
        """A route that fails otherwise is logged, and answered with 500."""
        self.hook.error = ValueError("a bug")
        self.assertEqual(self.ask("/routes/hook/dlq").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ConfigurationTests(AdminCase):
    """Checking and reloading."""

    def setUp(self) -> None:
        self.filename = str(Path(self.mktemp()).resolve())
        self.write(CONFIG.format(admin=self.admin))
        super().setUp()
        self.bridge.reloader = Reloader(self.bridge, self.filename)

    def write(self, text: str) -> None:
        Path(self.filename).write_text(text, "utf-8")
        self.text = text

    def test_same(self) -> None:
        """A file that says what runs does not differ, whatever stands in its comments."""
        self.assertFalse(self.ask("/config").json["disk"]["differs"])
        self.write(f"# new\n{self.text}")
        self.assertFalse(self.ask("/config").json["disk"]["differs"])

    def test_differs(self) -> None:
        """One that says something else differs, and it is told in what; a reload takes it over, and then it does not any more."""
        self.assertFalse(self.ask("/config").json["disk"]["differs"])
        self.write(self.text.replace('subject = "echo.me"', 'subject = "echo.you"') + '[routes.more]\ntype = "letters"\n')
        disk = self.ask("/config").json["disk"]
        self.assertEqual((disk["differs"], disk["changed"], disk["added"], disk["removed"]), (True, ["echo"], ["more"], []))
        answer = self.do("/reload")
        self.assertEqual(
            (answer.status, answer.json["changed"], answer.json["added"], answer.json["unchanged"]), (200, ["echo"], ["more"], ["hook"])
        )
        self.assertEqual(self.ask("/routes/echo").json["target"], "echo.you")
        self.assertFalse(self.ask("/config").json["disk"]["differs"])

    def test_unusable(self) -> None:
        """One that cannot be used is told, checked, and refused; what runs goes on."""
        self.write(self.text.replace("subject =", "subjet ="))
        disk = self.ask("/config").json["disk"]
        self.assertTrue(disk["differs"])
        self.assertIn("subjet", " ".join(disk["problems"]))
        report = self.ask("/check", "POST").json
        self.assertFalse(report["ok"])
        self.assertIn("routes.echo.subjet", [problem["path"] for problem in report["problems"]])
        answer = self.do("/reload")
        self.assertEqual((answer.status, answer.kind), (422, "config-refused"))
        self.assertIn("routes.echo.subjet", [problem["path"] for problem in answer.json["problems"]])
        self.assertIs(self.bridge.routes["echo"], self.echo)

    def test_paused_route_is_changed(self) -> None:
        """A reload that changes a paused route lets it run again, in its new form and with its path."""
        self.do("/routes/echo/pause")
        self.write(self.text.replace('subject = "echo.me"', 'subject = "echo.you"'))
        self.assertEqual(self.do("/reload").status, 200)
        self.assertEqual(self.ask("/routes/echo").json["state"], "running")
        self.assertEqual(self.echo.calls, ["start", "stop"])
        self.assertEqual(self.connect(8080).send("/echo/1").answer.status, 404)

    def test_draining_route_is_changed(self) -> None:
        """A reload that changes a route that is being drained does not stop it a second time, and does not cut it off."""
        self.echo.stopping = Deferred()
        caller = self.connect().send("/routes/echo/drain", "POST", WITH_TOKEN, {})
        self.write(self.text.replace('subject = "echo.me"', 'subject = "echo.you"'))
        reload = self.connect().send("/reload", "POST", WITH_TOKEN, {})
        self.echo.stopping.callback(None)
        self.assertEqual((caller.answer.json["complete"], reload.answer.status), (True, 200))
        self.assertEqual((self.echo.calls, self.ask("/routes/echo").json["state"]), (["start", "stop"], "running"))

    def test_paused_route_is_not_changed(self) -> None:
        """A reload leaves a paused route alone that does not differ."""
        self.do("/routes/echo/pause")
        self.write(self.text + '[routes.more]\ntype = "letters"\n')
        self.do("/reload")
        self.assertEqual((self.ask("/routes/echo").json["state"], self.connect(8080).send("/echo/1").answer.status), ("paused", 503))

    def test_check(self) -> None:
        """A file that can be used is checked without a token: nothing changes."""
        report = self.ask("/check", "POST").json
        self.assertEqual((report["ok"], [route["name"] for route in report["routes"]]), (True, ["echo", "hook"]))

    def test_no_file(self) -> None:
        """A bridge that was not made from a file cannot be reloaded."""
        self.bridge.reloader = None
        answer = self.do("/reload")
        self.assertEqual((answer.status, answer.kind), (409, "not-now"))
