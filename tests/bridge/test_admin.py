"""The admin endpoint: what it tells, and whom."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.admin import AdminService
from pynats_twisted.bridge.admin.describe import described_by_config, http_command, line_command
from pynats_twisted.bridge.admin.static import FILES
from pynats_twisted.bridge.config import AdminSection, HTTPBinding
from pynats_twisted.bridge.config_convert import convert_section
from tests.bridge.admin_support import TOKEN, WITH_TOKEN, AdminCase
from tests.bridge.route_types import EchoConfig


class TellTests(AdminCase):
    """What is told."""

    def test_listens_on_loopback(self) -> None:
        """Without an address, only this machine can ask."""
        addresses = [(port, interface) for port, _, _, interface in self.reactor.tcpServers]
        self.assertIn((8223, "127.0.0.1"), addresses)

    def test_health(self) -> None:
        """A process whose reactor is in time is well."""
        for _ in range(3):
            self.reactor.advance(1)
        answer = self.ask("/healthz")
        self.assertEqual(answer.status, 200)
        self.assertEqual((answer.json["status"], answer.json["uptime_seconds"], answer.json["reactor_lag_seconds"]), ("ok", 3.0, 0.0))
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_ill(self) -> None:
        """A reactor that was blocked for 5 s makes the process ill, until it is in time again; the lag is a metric."""
        self.reactor.advance(1 + 5.5)
        answer = self.ask("/healthz")
        self.assertEqual(answer.status, 503)
        self.assertIn("5.5 s late", answer.json["reasons"][0])
        self.assertEqual(self.bridge.metrics.registry.get_sample_value("nats_bridge_reactor_lag_seconds"), 5.5)
        self.reactor.advance(1)
        self.assertEqual(self.ask("/healthz").status, 200)

    def test_ready(self) -> None:
        """A bridge without problems is ready."""
        self.patch(self.bridge, "problems", list)
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.json), (200, {"status": "ready", "bridge": "edge", "reasons": [], "degraded": []}))
        self.assertEqual(answer.headers["content-type"], "application/json")

    def test_unready(self) -> None:
        """One with problems is not, and says why."""
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.json["status"], answer.json["reasons"]), (503, "unready", ["nats.default is connecting"]))

    def test_degraded(self) -> None:
        """What does not keep it from its work does not make it unready, but is told."""
        self.patch(self.bridge, "problems", list)
        self.hook.half = ["the target is slow"]
        answer = self.ask("/readyz")
        self.assertEqual(
            (answer.status, answer.json["status"], answer.json["degraded"]), (200, "degraded", ["routes.hook: the target is slow"])
        )

    def test_metrics(self) -> None:
        """Metrics are in Prometheus' text format, or OpenMetrics on demand."""
        self.bridge.metrics.route("echo", "echo").messages_in.inc(7)
        answer = self.ask("/metrics")
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(b'nats_bridge_messages_in_total{route="echo",type="echo"} 7.0\n', answer.body)
        answer = self.ask("/metrics", headers={"Accept": "application/openmetrics-text"})
        self.assertTrue(answer.headers["content-type"].startswith("application/openmetrics-text"))

    def test_routes(self) -> None:
        """Each route says what it is, from where to where it goes, what it promises, and how it is."""
        self.hook.half = ["slow"]
        echo, hook = self.ask("/routes").json["routes"]
        self.assertEqual((echo["name"], echo["type"], echo["source"], echo["target"]), ("echo", "echo", "GET /echo/{id}", "echo.me"))
        self.assertEqual((echo["ready"], echo["problems"]), (False, ["nats.default is connecting"]))
        self.assertEqual(echo["commands"][0][1], "curl -i http://127.0.0.1:8080/echo/x")
        self.assertEqual(
            (hook["source"], hook["target"], hook["words"]), ("ORDERS: orders.>", "POST http://crm.example/", {"breaker": "closed"})
        )
        self.assertEqual((hook["degraded"], hook["guarantee"], hook["state"]), (["slow"], "At least once.", "running"))
        self.assertEqual([one["can"]["dead_letters"] for one in (echo, hook)], [False, True])

    def test_route(self) -> None:
        """One route tells its configuration, its numbers and its last errors besides."""
        self.bridge.context.activity("echo").error("timeout", "no answer", "look there")
        self.bridge.metrics.route("echo", "echo").failed("timeout", 3)
        found = self.ask("/routes/echo").json
        self.assertEqual((found["config"]["subject"], found["config"]["timeout"]), ("echo.me", "2s"))
        self.assertEqual([(error["kind"], error["cause"], error["hint"], error["count"]) for error in found["errors"]],
                         [("timeout", "no answer", "look there", 1)])  # fmt: skip
        self.assertEqual(found["numbers"]["failed"], {"timeout": 3})
        self.assertEqual((self.ask("/routes/none").status, self.ask("/routes/none").kind), (404, "unknown-route"))

    def test_route_without_words(self) -> None:
        """A route that fails to describe itself is shown by its configuration, and its failure is logged once."""
        self.hook.is_mute = True
        self.assertEqual(self.ask("/routes/hook").json["source"], "")
        self.ask("/routes/hook")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_config(self) -> None:
        """The configuration is told with all defaults and without secrets."""
        answer = self.ask("/config")
        config = answer.json["config"]
        self.assertEqual((config["admin"]["token"], config["bridge"]["max_hops"]), ("<redacted>", 8))
        text = self.ask("/config?format=toml")
        self.assertEqual(text.headers["content-type"], "application/toml; charset=utf-8")
        self.assertIn(b"[routes.echo]\n", text.body)
        for secret in (TOKEN.encode(), b"p4ss"):
            self.assertNotIn(secret, answer.body + text.body)

    def test_head(self) -> None:
        """HEAD gives the status without a body."""
        answer = self.ask("/readyz", "HEAD")
        self.assertEqual((answer.status, answer.body), (503, b""))

    def test_encoded_path(self) -> None:
        """A path that is percent-encoded is the same path."""
        self.assertEqual(self.ask("/%68ealthz").status, 200)

    def test_dashboard(self) -> None:
        """The root is the dashboard; it and its files are there, and nothing may come from elsewhere or frame it."""
        answer = self.ask("/")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
        self.assertEqual(answer.headers["x-frame-options"], "DENY")
        page = answer.body.decode()
        for name in ("style.css", "main.js"):
            self.assertIn(f'"dashboard/{name}"', page)
            self.assertEqual(self.ask(f"/dashboard/{name}").status, 200)
        folder = files("pynats_twisted.bridge.admin").joinpath("dashboard-files")
        self.assertEqual({file.name for file in folder.iterdir()}, set(FILES), "every file is offered")
        self.assertEqual(self.ask("/dashboard/other.js").status, 404)
        self.assertEqual(self.ask("/dashboard/..%2F__init__.py").status, 404)

    def test_cannot_listen(self) -> None:
        """A port that is taken keeps the service from starting."""

        def taken(*args: Any, **kwargs: Any) -> Any:
            raise CannotListenError("127.0.0.1", 8223, OSError("in use"))

        self.reactor.listenTCP = taken
        self.assertRaises(CannotListenError, AdminService(self.reactor, AdminSection(), self.bridge).startService)

    def test_stop(self) -> None:
        """A stop leaves no timer behind."""
        admin = self.bridge.admin
        assert admin is not None
        before = set(self.reactor.getDelayedCalls())
        service = AdminService(self.reactor, AdminSection(), self.bridge)
        service.startService()
        self.assertGreater(set(self.reactor.getDelayedCalls()), before)
        self.successResultOf(service.stopService())
        self.assertEqual(set(self.reactor.getDelayedCalls()), before)


class GuardTests(AdminCase):
    """Who may do what."""

    CHANGES = (
        "/routes/echo/pause",
        "/routes/echo/resume",
        "/routes/echo/drain",
        "/routes/hook/dlq/replay",
        "/routes/hook/dlq/delete",
        "/reload",
    )

    def test_without_token(self) -> None:
        """Nothing is changed by whoever does not bring the token."""
        for path in self.CHANGES:
            answer = self.ask(path, "POST", body={"all": True})
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, 'Bearer realm="nats-bridge admin"'), path)
            self.assertEqual(self.ask(path, "POST", {"Authorization": "Bearer wrong"}, {"all": True}).status, 403, path)
        self.assertEqual((self.echo.calls, self.hook.calls, self.hook.paused), (["start"], [], False))

    def test_methods(self) -> None:
        """What changes something is not done by a link or an image: it takes POST; and what tells takes nothing else than GET."""
        for path in self.CHANGES:
            self.assertEqual(self.ask(path, "GET", WITH_TOKEN).status, 405, path)
        for path in ("/routes", "/config", "/", "/events"):
            self.assertEqual(self.ask(path, "POST", WITH_TOKEN, {}).status, 405, path)

    def test_no_other_origin(self) -> None:
        """A page of another origin gets no leave: neither by a preflight request nor by a header."""
        preflight = {
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        answer = self.ask("/reload", "OPTIONS", preflight)
        self.assertEqual(answer.status, 405)
        for found in (answer, self.ask("/routes", headers={"Origin": "https://evil.example"})):
            self.assertEqual([name for name in found.headers if name.startswith("access-control")], [])

    def test_names(self) -> None:
        """On loopback it is asked for by an address or as localhost: a foreign name that leads here gets nothing."""
        for host in ("localhost", "localhost:8223", "127.0.0.1:8223", "[::1]:8223", "LOCALHOST."):
            self.assertEqual(self.ask("/healthz", host=host).status, 200, host)
        for host in ("evil.example", "evil.example:8223", "127.0.0.1.evil.example", "x"):
            answer = self.ask("/healthz", host=host)
            self.assertEqual((answer.status, answer.kind), (421, "misdirected"), host)
        self.assertEqual(self.ask("/reload", "POST", WITH_TOKEN, {}, host="evil.example").status, 421)

    def test_wrong_token_where_none_is_needed(self) -> None:
        """A token that was sent has to be right also where none is needed."""
        self.assertEqual(self.ask("/routes", headers={"Authorization": "Bearer wrong"}).status, 403)
        self.assertEqual(self.ask("/routes", headers=WITH_TOKEN).status, 200)


class ReadOnlyTests(AdminCase):
    """An endpoint without a token."""

    admin = 'hosts = ["bridge.internal"]'

    def test_nothing_can_be_changed(self) -> None:
        """Whatever is brought, the answer says that there is no token."""
        for headers in ({}, WITH_TOKEN, {"Authorization": "Bearer "}):
            answer = self.ask("/routes/hook/pause", "POST", headers, {})
            self.assertEqual((answer.status, answer.kind), (403, "read-only"))
        self.assertFalse(self.hook.paused)

    def test_no_contents(self) -> None:
        """Nobody sees the contents of messages."""
        answer = self.ask("/routes/hook/dlq")
        self.assertEqual((answer.status, answer.json["contents"]), (200, False))
        self.assertNotIn(b'\\"a\\"', answer.body)

    def test_name_of_a_proxy(self) -> None:
        """A name of ``hosts`` is answered too."""
        self.assertEqual(self.ask("/healthz", host="Bridge.internal").status, 200)
        self.assertEqual(self.ask("/healthz", host="other.internal").status, 421)


class OpenTests(AdminCase):
    """An endpoint on all interfaces."""

    admin = 'listen = "tcp:8223"'

    def test_any_name(self) -> None:
        """It may be asked for by any name: which ones lead to it is not known."""
        self.assertEqual(self.ask("/healthz", host="bridge-7.pods.example:8223").status, 200)


class DescribeTests(SynchronousTestCase):
    """What a configuration says of a route."""

    def described(self, **keys: Any) -> Any:
        config: Any = convert_section({"type": "echo", **keys}, EchoConfig, ("routes", "x"), [])
        return described_by_config(config, {})

    def test_endpoint(self) -> None:
        """A route that listens by itself is tried with nc."""
        found = self.described(subject="a.b", endpoint="tcp:9000:interface=127.0.0.1")
        self.assertEqual((found.source, found.target), ("tcp:9000:interface=127.0.0.1", "a.b"))
        self.assertEqual([command for _, command in found.commands], ["echo hello | nc -w 1 127.0.0.1 9000", "nats sub a.b"])

    def test_nothing_known(self) -> None:
        """A route of which nothing is known but its subject has no command but to listen there."""
        self.assertEqual([command for _, command in self.described(subject="a.>").commands], ["nats sub 'a.>'"])

    def test_http_commands(self) -> None:
        """Commands fit method and authentication, and are quoted for a shell."""
        self.assertEqual(http_command(HTTPBinding("l", "/a/{b}", ("POST", "PUT")), {}, False), "curl -i -d hello http://127.0.0.1/a/x")
        self.assertEqual(
            http_command(HTTPBinding("l", "/a'b", ("PUT",)), {}, True),
            "curl -i -X PUT -d hello -H \"Authorization: Bearer $TOKEN\" 'http://127.0.0.1/a'\\''b'",
        )

    def test_line_commands(self) -> None:
        """There is a command for TCP and UDP with a fixed port, and for nothing else."""
        self.assertEqual(line_command("udp:514"), "echo hello | nc -u -w 1 127.0.0.1 514")
        for endpoint in ("unix:/run/x", "tcp:0", "client:tcp:127.0.0.1:9000"):
            self.assertEqual(line_command(endpoint), "", endpoint)
