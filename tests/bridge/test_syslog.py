"""The route type ``syslog``, with a NATS client, peers and time in memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.interfaces import IDescribed, IPausable, IRoute, IRouteFactory
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.routes.syslog import SyslogRoute, factory
from pynats_twisted.bridge.syslog_config import SyslogConfig
from pynats_twisted.bridge.syslog_messages import MAX_KNOWN_SUBJECTS
from pynats_twisted.bridge.syslog_parse import FACILITIES, SEVERITIES, SyslogMessage
from pynats_twisted.errors import ConfigurationError
from pynats_twisted.protocol.subjects import check_publish_subject
from tests.bridge.lines_fakes import LinesBench

SUBJECT = "logs.{facility}.{severity}.{hostname}.{app}"
ONE = b"<34>1 2003-10-11T22:14:15.003Z web1.example.com su 17 ID47 - failed"


class SyslogBench(LinesBench):
    """A ``syslog`` route with everything around it in memory."""

    type_name = "syslog"
    config_type = SyslogConfig
    route_type = SyslogRoute

    def __init__(self, **keys: Any) -> None:
        super().__init__(**{"endpoint": "tcp:6514", "subject": SUBJECT, **keys})

    def take(self, *datagrams: bytes, host: str = "10.0.0.7") -> list[tuple[str, bytes, dict[str, str]]]:
        """Datagrams come; gives what is published."""
        ((_, protocol, _),) = self.reactor.udp
        for datagram in datagrams:
            protocol.datagramReceived(datagram, (host, 1))
        self.reactor.advance(0)
        published, self.client.published = self.client.published, []
        self.client.pong_all()
        return published


def problems(**keys: Any) -> list[str]:
    """The keys of a configuration that are wrong."""
    return [problem.key for problem in SyslogConfig(**{"type": "syslog", "endpoint": "udp:5514", "subject": "a.b", **keys}).find_problems()]


class ConfigTests(SynchronousTestCase):
    """What a ``[routes.NAME]`` with ``type = "syslog"`` may say."""

    def test_defaults(self) -> None:
        """Endpoint and subject are enough."""
        self.assertEqual(problems(), [])
        config = SyslogConfig(type="syslog", endpoint="udp:5514", subject="a.b")
        self.assertEqual((config.format, config.confirm, config.framing_settings().framing), ("json", "server", "datagram"))
        self.assertEqual(config.framing_settings().on_too_long, "truncate")
        self.assertEqual(SyslogConfig(type="syslog", endpoint="tcp:1", subject="a.b").framing_settings().framing, "auto")

    def test_refused(self) -> None:
        """What does not fit is named."""
        self.assertEqual(problems(subject="{hostname}.a"), ["subject"])
        self.assertEqual(problems(subject="a.{host}"), ["subject"])
        self.assertEqual(problems(subject="a.{peer}.{facility}.{severity}.{hostname}.{app}.{msgid}"), [])
        self.assertEqual(problems(subject="a.{peer}", endpoint="unix:/x"), ["subject"])
        self.assertEqual(problems(endpoint="client:tcp:10.0.0.1:514"), ["endpoint"])
        self.assertEqual(problems(endpoint="udp:x"), ["endpoint"])
        self.assertEqual(problems(framing="newline"), ["framing"])
        self.assertEqual(problems(framing="newline", endpoint="tcp:1"), [])
        self.assertEqual(problems(on_too_long="close"), ["on_too_long"])
        self.assertEqual(problems(retry_for=1.0), ["retry_for"])
        self.assertEqual(problems(allow=["lan"]), ["allow.0"])

    def test_factory(self) -> None:
        """The route type is a built-in one, and its routes are what the interfaces say."""
        self.assertIn(factory, builtin_factories())
        verifyObject(IRouteFactory, factory)
        bench = SyslogBench(start=False)
        route = factory.make_route("made", bench.config, bench.context)
        for interface in (IRoute, IPausable, IDescribed):
            verifyObject(interface, route)
        bad = SyslogConfig(type="syslog", endpoint="carrier:pigeon", subject="a")
        self.assertIn("pigeon", str(self.assertRaises(ConfigurationError, factory.make_route, "made", bad, bench.context)))

    def test_words(self) -> None:
        """The guarantee and the description are said in words."""
        self.assertTrue(SyslogBench(endpoint="udp:5514", start=False).route.guarantee().startswith("At most once. UDP"))
        bench = SyslogBench(confirm="jetstream")
        self.assertTrue(bench.route.guarantee().startswith("At least once into a stream for every line that the bridge has read"))
        described = bench.route.describe()
        self.assertEqual((described.source, described.target), ("tcp:6514", "logs.*.*.*.*"))
        self.assertIn("logger --server 127.0.0.1 --port 6514 --tcp", described.commands[0][1])


class DocumentationTests(SynchronousTestCase):
    """The page about syslog."""

    def setUp(self) -> None:
        self.page = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "bridge-syslog.rst").read_text("utf-8")

    def test_configuration(self) -> None:
        """The configuration on the page can be used, and makes what the page shows."""
        (block,) = re.findall(r"code-block:: toml\n\n((?:   .*\n|\n)+)", self.page)
        config = load_config(re.sub("^   ", "", block, flags=re.MULTILINE), "page", [factory])
        self.assertEqual(config.routes["syslog"].confirm, "jetstream")
        (shown,) = re.findall(r"code-block:: json\n\n((?:   .*\n|\n)+)", self.page)
        bench = SyslogBench(endpoint="udp:5514", subject=config.routes["syslog"].subject)
        # What the command on the page sends.
        ((subject, payload, _),) = bench.take(b"<165>1 - - orders - - - paid", host="127.0.0.1")
        self.assertEqual(subject, "logs.local4.notice.127-0-0-1.orders")
        made, told = json.loads(payload), json.loads(shown)
        self.assertEqual({**made, "received": ""}, {**told, "received": ""})
        self.assertEqual(len(made["received"]), len(told["received"]))

    def test_members_and_names(self) -> None:
        """Every member, facility and severity stands on the page."""
        for name in (*SyslogMessage.__struct_fields__, *FACILITIES, *SEVERITIES):
            if not name.startswith("local") or name in ("local0", "local7"):
                self.assertIn(f"``{name}``", self.page)


class MessageTests(SynchronousTestCase):
    """What messages become."""

    def test_json(self) -> None:
        """The parts are in the subject, and all of them in the payload, with the peer and the time."""
        bench = SyslogBench(endpoint="udp:5514")
        bench.reactor.advance(1_700_000_000.25)
        ((subject, payload, headers),) = bench.take(ONE)
        self.assertEqual(subject, "logs.auth.crit.web1-example-com.su")
        self.assertEqual(
            json.loads(payload),
            {
                "format": "rfc5424",
                "facility": "auth",
                "severity": "crit",
                "timestamp": "2003-10-11T22:14:15.003Z",
                "hostname": "web1.example.com",
                "app": "su",
                "procid": "17",
                "msgid": "ID47",
                "message": "failed",
                "peer": "10.0.0.7",
                "received": "2023-11-14T22:13:20.250Z",
            },
        )
        self.assertEqual(headers, {"Nats-Bridge-Path": "edge", "Content-Type": "application/json"})

    def test_rfc_3164(self) -> None:
        """The year comes from the clock; without a host its address stands for it."""
        bench = SyslogBench(endpoint="udp:5514")
        bench.reactor.advance(1_700_000_000)
        published = bench.take(b"<13>Nov 14 22:13:19 nas cron[7]: hello", b"<13>hello")
        self.assertEqual([subject for subject, _, _ in published], ["logs.user.notice.nas.cron", "logs.user.notice.10-0-0-7.-"])
        self.assertEqual(json.loads(published[0][1])["timestamp"], "2023-11-14T22:13:19")

    def test_raw(self) -> None:
        """With ``format = "raw"`` a message stays as it came, and has its subject all the same."""
        bench = SyslogBench(endpoint="udp:5514", format="raw")
        ((subject, payload, headers),) = bench.take(ONE)
        self.assertEqual((subject, payload, headers), ("logs.auth.crit.web1-example-com.su", ONE, {"Nats-Bridge-Path": "edge"}))

    def test_invalid(self) -> None:
        """What cannot be read goes to a subject of its own, as it came, with the reason; it is counted, and logged once a minute."""
        bench = SyslogBench(endpoint="udp:5514")
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        published = bench.take(b"secret\xff", b"<34>1 - web1 su - - [x secret")
        self.assertEqual(published[0][:2], ("logs.invalid.invalid.invalid.invalid", b"secret\xff"))
        self.assertEqual(
            [headers for _, _, headers in published],
            [
                {"Nats-Bridge-Path": "edge", "Nats-Bridge-Invalid": "no priority, a number in angle brackets, at its start"},
                {"Nats-Bridge-Path": "edge", "Nats-Bridge-Invalid": "it begins like RFC 5424, and is not"},
            ],
        )
        self.assertEqual(bench.number("bad_input_total", reason="invalid"), 2)
        self.assertEqual(len([event for event in logged if "reason" in event]), 1)
        self.assertNotIn("secret", str(logged))

    def test_truncated(self) -> None:
        """A message that is too long is cut, read and marked."""
        bench = SyslogBench(endpoint="udp:5514", max_length=len(ONE) - 3)
        ((_, payload, headers),) = bench.take(ONE)
        self.assertEqual((json.loads(payload)["message"], headers["Nats-Bridge-Truncated"]), ("fai", str(len(ONE))))

    def test_one_token_each(self) -> None:
        """Dots, wildcards and spaces of a message add no token, and nothing else either."""
        bench = SyslogBench(endpoint="udp:5514")
        ((subject, _, _),) = bench.take(b"<13>1 - a.*.> $SYS.x - - - x")
        self.assertEqual(subject, "logs.user.notice.a----.-SYS-x")

    def test_peer_in_the_subject(self) -> None:
        """The address of the sender is a token as well, also of what cannot be read."""
        bench = SyslogBench(endpoint="udp:5514", subject="logs.{peer}.{severity}")
        self.assertEqual([subject for subject, _, _ in bench.take(ONE, b"x")], ["logs.10-0-0-7.crit", "logs.10-0-0-7.invalid"])
        self.assertEqual(bench.take(ONE, host="fe80::1")[0][0], "logs.fe80--1.crit")

    def test_a_subject_that_is_too_long(self) -> None:
        """Tokens that are too long together make it an invalid subject, and no error."""
        bench = SyslogBench(endpoint="udp:5514", subject="logs." + "x" * 900 + ".{hostname}.{app}")
        ((subject, _, _),) = bench.take(b"<13>1 - " + b"h" * 200 + b" " + b"a" * 200 + b" - - - x")
        self.assertTrue(subject.endswith(".invalid.invalid"))

    def test_memory_is_bounded(self) -> None:
        """A sender that invents hosts does not fill the memory."""
        bench = SyslogBench(endpoint="udp:5514")
        bench.take(*[b"<13>1 - host%d - - - - x" % index for index in range(MAX_KNOWN_SUBJECTS * 2 + 5)])
        ((_, protocol, _),) = bench.reactor.udp
        (known,) = protocol._known.values()
        self.assertLessEqual(len(known[0]._subjects), MAX_KNOWN_SUBJECTS)

    @given(st.lists(st.binary(max_size=80).flatmap(lambda data: st.sampled_from([data, b"<13>" + data, b"<13>1 - " + data])), max_size=5))
    def test_any_datagrams(self, datagrams: list[bytes]) -> None:
        """Whatever comes, each datagram that is not empty is one message to a subject of the template, with headers of ours alone."""
        bench = SyslogBench(endpoint="udp:5514")
        published = bench.take(*datagrams)
        self.assertEqual(len(published), len([each for each in datagrams if each]))
        for subject, _, headers in published:
            check_publish_subject(subject)
            self.assertEqual((subject.split(".")[0], subject.count(".")), ("logs", 4))
            self.assertLessEqual(set(headers), {"Nats-Bridge-Path", "Content-Type", "Nats-Bridge-Invalid"})

    def test_hops(self) -> None:
        """With ``debug = true`` each message is a line in the log, without its text."""
        bench = SyslogBench(endpoint="udp:5514", debug=True)
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        bench.take(ONE)
        steps = [(event["step"], event["subject"]) for event in logged if "step" in event]
        subject = "logs.auth.crit.web1-example-com.su"
        self.assertEqual(steps, [("received", subject), ("confirmed", subject)])
        self.assertNotIn("failed", str([event.get("shown") for event in logged]))


class StreamTests(SynchronousTestCase):
    """Connections."""

    def test_both_framings(self) -> None:
        """Messages after their length and in lines, on one connection."""
        bench = SyslogBench(subject="logs.{app}")
        peer = bench.peer()
        peer.sends(b"<13>1 - - one - - - x\n%d " % len(ONE) + ONE[:20])
        peer.sends(ONE[20:] + b"<13>1 - - two - - - x\n")
        self.assertEqual([subject for subject, _, _ in bench.client.published], ["logs.one", "logs.su", "logs.two"])

    def test_partial(self) -> None:
        """What came of a line before its connection ended is read, and marked."""
        bench = SyslogBench()
        peer = bench.peer()
        peer.sends(ONE[:-3])
        peer.leaves()
        ((_, payload, headers),) = bench.client.published
        self.assertEqual((json.loads(payload)["message"], headers["Nats-Bridge-Partial"]), ("fai", "1"))

    def test_bad_framing(self) -> None:
        """A connection that breaks the framing that the route demands is closed, and counted."""
        bench = SyslogBench(framing="octet-counted")
        peer = bench.peer()
        peer.sends(b"<13>1 - - - - - - x\n")
        self.assertTrue(peer.transport.disconnecting)
        self.assertEqual(bench.number("bad_input_total", reason="bad-framing"), 1)

    def test_window(self) -> None:
        """More than the window holds is not read until the server has confirmed."""
        bench = SyslogBench(window=1)
        peer = bench.peer()
        peer.sends(ONE + b"\n" + ONE + b"\n")
        self.assertTrue(peer.transport.is_paused)
        bench.client.pong_all()
        self.assertEqual((len(bench.client.published), peer.transport.is_paused), (2, False))
