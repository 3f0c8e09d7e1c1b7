"""The route type ``lines-in``, with a NATS client, peers and time in memory."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.framing import COUNTED, DELIMITERS, PREFIXES
from pynats_twisted.bridge.interfaces import IDescribed, IPausable, IRoute, IRouteFactory
from pynats_twisted.bridge.lines_config import LinesInConfig, LinesReply
from pynats_twisted.bridge.lines_peers import CLOSE_TIMEOUT
from pynats_twisted.bridge.routes.lines_in import factory
from pynats_twisted.errors import ConfigurationError, MessageExceedsMaximumError, NoStreamResponseError
from tests.bridge.lines_fakes import LinesBench, Peer

REPLY = LinesReply(ok="OK\n", error="NO\n")


def problems(**keys: Any) -> dict[str, tuple[str, str]]:
    """What is wrong with a configuration, as (found, allowed) by key."""
    keys = {"type": "lines-in", "endpoint": "tcp:9000", "subject": "a.b", **keys}
    return {problem.key: (problem.found, problem.allowed) for problem in LinesInConfig(**keys).find_problems()}


class ConfigTests(SynchronousTestCase):
    """What a ``[routes.NAME]`` with ``type = "lines-in"`` may say."""

    def test_defaults(self) -> None:
        """Endpoint and subject are enough."""
        self.assertEqual(problems(), {})
        config = LinesInConfig(type="lines-in", endpoint="tcp:9000", subject="a.b")
        self.assertEqual((config.confirm, config.effective_framing, config.window, config.max_length), ("server", "newline", 256, 65536))
        self.assertEqual(config.framing_settings().on_too_long, "close")

    def test_endpoints(self) -> None:
        """Every kind of endpoint is understood."""
        for endpoint in (
            "tcp:9000",
            "tcp:0:interface=127.0.0.1",
            "tcp6:9000",
            "unix:/run/lines.sock",
            "client:tcp:device.lan:4001",
            "client:unix:/run/device.sock",
            "client:tls:device.lan:4001",
            "udp:5514",
            "udp:0:interface=127.0.0.1",
            r"udp:5514:interface=\:\:1",
        ):
            self.assertEqual(problems(endpoint=endpoint), {}, endpoint)

    def test_bad_endpoints(self) -> None:
        """One that is not is refused, with the rule."""
        for endpoint in (
            "",
            "tcp",
            "tcp:99999",
            "tcp:x",
            "udp:",
            "udp:5514:interface=localhost",
            "udp:5514:reuse=1",
            "udp:70000",
            "client:",
            "client:tcp:x",
            "carrier:pigeon",
        ):
            found = problems(endpoint=endpoint)
            self.assertEqual(list(found), ["endpoint"], endpoint)
            self.assertIn("udp:PORT", found["endpoint"][1])

    def test_jetstream(self) -> None:
        """What is for streams is refused where lines are confirmed otherwise."""
        self.assertEqual(problems(confirm="jetstream", retry_for=10.0, message_ids=False), {})
        self.assertEqual(sorted(problems(retry_for=10.0, message_ids=False)), ["message_ids", "retry_for"])
        config = LinesInConfig(type="lines-in", endpoint="tcp:9000", subject="a.b", confirm="jetstream")
        self.assertEqual(config.effective_retry_for, inf)
        config = LinesInConfig(type="lines-in", endpoint="udp:9000", subject="a.b", confirm="jetstream")
        self.assertEqual(config.effective_retry_for, 5.0)

    def test_framings_that_do_not_fit(self) -> None:
        """Framings that make no sense for the endpoint are refused."""
        self.assertIn("framing", problems(framing="lines"))
        self.assertIn("framing", problems(framing="datagram"))
        self.assertIn("idle_flush", problems(framing="idle"))
        self.assertEqual(problems(framing="idle", idle_flush=0.3), {})
        self.assertIn("framing", problems(endpoint="udp:1", framing="idle"))
        self.assertEqual(problems(endpoint="udp:1", framing="newline"), {})

    def test_udp_has_no_connections(self) -> None:
        """Keys about connections are refused for UDP."""
        found = problems(endpoint="udp:1", on_too_long="close", reply=REPLY, timeout=5.0, idle_flush=1.0)
        self.assertEqual(sorted(found), ["idle_flush", "on_too_long", "reply", "timeout"])
        config = LinesInConfig(type="lines-in", endpoint="udp:1", subject="a.b")
        self.assertEqual((config.effective_framing, config.framing_settings().on_too_long), ("datagram", "truncate"))

    def test_subject(self) -> None:
        """The subject is a template of one placeholder, and must not be what a peer could abuse."""
        for subject in ("$SYS.x", "a.*", "a b", "{peer}.a", "a.{name}", "a.{query:x}"):
            self.assertIn("subject", problems(subject=subject), subject)
        self.assertEqual(problems(subject="a.{peer}"), {})
        self.assertIn("subject", problems(subject="a.{peer}", endpoint="unix:/x"))

    def test_allow(self) -> None:
        """The allow list has networks, and only where addresses mean something."""
        self.assertEqual(problems(allow=["10.0.0.0/8", "::1", "192.168.1.7/24"]), {})
        self.assertEqual(list(problems(allow=["10.0.0.0/8", "lan"])), ["allow.1"])
        self.assertIn("allow", problems(allow=["::1"], endpoint="unix:/x"))
        self.assertIn("allow", problems(allow=["::1"], endpoint="client:tcp:x:1"))

    def test_reply(self) -> None:
        """A reply says something, and not too much."""
        self.assertEqual([problem.key for problem in LinesReply().find_problems()], [""])
        self.assertEqual([problem.key for problem in LinesReply(ok="x" * 2000).find_problems()], ["ok"])

    def test_factory(self) -> None:
        """The route type and its routes are what the interfaces say."""
        verifyObject(IRouteFactory, factory)
        bench = LinesBench(start=False)
        verifyObject(IRoute, factory.make_route("made", bench.config, bench.context))
        bad = LinesInConfig(type="lines-in", endpoint="carrier:pigeon", subject="a")
        self.assertIn("pigeon", str(self.assertRaises(ConfigurationError, factory.make_route, "made", bad, bench.context)))

    def test_guarantees(self) -> None:
        """The guarantee is said in words, and differs where it differs."""

        def words(**keys: Any) -> str:
            return LinesBench(start=False, **keys).route.guarantee()

        self.assertTrue(words(endpoint="udp:1").startswith("At most once. UDP"))
        self.assertTrue(words(confirm="none").startswith("At most once."))
        self.assertIn("although its peer was told 'OK\\n'", words(confirm="none", reply=REPLY))
        self.assertTrue(words(reply=REPLY).startswith("At least once up to the NATS server, for a peer that sends again"))
        self.assertIn("The peer gets no answer", words())
        self.assertIn("stores nothing", words())
        self.assertTrue(words(confirm="jetstream", reply=REPLY).startswith("At least once into a stream, for a peer that sends again"))
        self.assertIn("as long as the bridge runs; the stream stores it once", words(confirm="jetstream"))
        self.assertIn("for 30 s, and refused then", words(confirm="jetstream", retry_for=30.0))
        self.assertIn("may store it twice", words(confirm="jetstream", message_ids=False))
        self.assertIn("What no stream has stored after 5 s", words(confirm="jetstream", endpoint="udp:1"))


class DocumentationTests(SynchronousTestCase):
    """The page about lines."""

    def setUp(self) -> None:
        self.page = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "bridge-lines.rst").read_text("utf-8")

    def test_configuration(self) -> None:
        """The configuration on the page can be used."""
        (block,) = re.findall(r"code-block:: toml\n\n((?:   .*\n|\n)+)", self.page)
        config = load_config(re.sub("^   ", "", block, flags=re.MULTILINE), "page", [factory])
        self.assertEqual(config.routes["scale"].reply.ok, "OK\n")

    def test_framings(self) -> None:
        """Every framing stands in the table."""
        table = re.findall(r"^   \* - ``(.+)``$", self.page, flags=re.MULTILINE)
        listed = {name for entry in table for name in entry.split("``, ``")}
        self.assertEqual({*DELIMITERS, *PREFIXES, *COUNTED, "idle", "datagram", "delimiter:HEX"} - listed, set())


class LinesTests(SynchronousTestCase):
    """Lines of one peer."""

    def test_lines_become_messages(self) -> None:
        """Each line is a message on the subject, with the header against loops."""
        bench = LinesBench()
        bench.peer().sends(b"one\ntwo\r\nthr")
        self.assertEqual(
            bench.client.published,
            [("plant.lines", b"one", {"Nats-Bridge-Path": "edge"}), ("plant.lines", b"two", {"Nats-Bridge-Path": "edge"})],
        )
        self.assertEqual(bench.number("connections"), 1)

    def test_partial_line_at_the_end(self) -> None:
        """A last line without its end is published with a header that says so, and counted."""
        bench = LinesBench()
        peer = bench.peer()
        peer.sends(b"thr")
        peer.leaves()
        ((_, payload, headers),) = bench.client.published
        self.assertEqual((payload, headers["Nats-Bridge-Partial"]), (b"thr", "1"))
        self.assertEqual(bench.number("bad_input_total", reason="partial"), 1)
        self.assertEqual(bench.number("connections"), 0)

    def test_truncated_line(self) -> None:
        """A line that is too long is cut, with a header that has its length."""
        bench = LinesBench(max_length=5, on_too_long="truncate")
        bench.peer().sends(b"123456789\nok\n")
        (_, payload, headers), (_, other, other_headers) = bench.client.published
        self.assertEqual((payload, headers["Nats-Bridge-Truncated"]), (b"12345", "9"))
        self.assertEqual((other, list(other_headers)), (b"ok", ["Nats-Bridge-Path"]))
        self.assertEqual(bench.number("bad_input_total", reason="too-long"), 1)

    def test_dropped_line(self) -> None:
        """With ``drop`` the line is counted and left out."""
        bench = LinesBench(max_length=5, on_too_long="drop", skip_empty=True)
        bench.peer().sends(b"123456789\n\nok\n")
        self.assertEqual(bench.client.payloads, [b"ok"])
        self.assertEqual(bench.number("messages_dropped_total", reason="too-long"), 1)
        self.assertEqual(bench.number("messages_dropped_total", reason="empty"), 1)

    def test_too_long_closes(self) -> None:
        """By default a line that is too long closes the connection; what came before it is published."""
        bench = LinesBench(max_length=5)
        peer = bench.peer()
        peer.sends(b"ok\n123456\nnever\n")
        peer.sends(b"never\n")
        self.assertEqual(bench.client.payloads, [b"ok"])
        self.assertTrue(peer.transport.disconnecting)
        peer.leaves()
        self.assertEqual(bench.client.payloads, [b"ok"])
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_bad_framing_closes_and_is_logged_once_a_minute(self) -> None:
        """Bad framing closes the connection, is counted each time, and logged once a minute without what the peer sent."""
        bench = LinesBench(framing="netstring")
        logged: list[dict[str, Any]] = []
        bench.context._log.observer = logged.append
        for _ in range(3):
            peer = bench.peer("10.0.0.7")
            peer.sends(b"secret")
            self.assertTrue(peer.transport.disconnecting)
            peer.leaves()
        self.assertEqual(bench.number("bad_input_total", reason="bad-framing"), 3)
        self.assertEqual(len(logged), 1)
        self.assertIn("10.0.0.7", str(logged[0]))
        self.assertNotIn("secret", str(logged[0]))

    def test_peer_in_the_subject(self) -> None:
        """``{peer}`` is the address of the peer as one token; an IPv4 address in IPv6 clothing is the IPv4 one."""
        bench = LinesBench(subject="plant.{peer}")
        bench.peer("10.0.0.7").sends(b"a\n")
        bench.peer("::ffff:10.0.0.8").sends(b"b\n")
        bench.peer("::1").sends(b"c\n")
        self.assertEqual([subject for subject, _, _ in bench.client.published], ["plant.10-0-0-7", "plant.10-0-0-8", "plant.--1"])

    def test_debug_logs_sizes(self) -> None:
        """With ``debug = true`` each line is logged by size and subject, never with its content."""
        bench = LinesBench(debug=True)
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        bench.peer().sends(b"secret\n")
        self.assertEqual([(event["size"], event["subject"]) for event in logged if "size" in event], [(6, "plant.lines")])
        self.assertNotIn("secret", str(logged))


class SilenceTests(SynchronousTestCase):
    """Time, and peers that are silent."""

    def test_idle_flush(self) -> None:
        """An unfinished line is published after a silence, counted from its last byte."""
        bench = LinesBench(idle_flush=0.3)
        peer = bench.peer()
        peer.sends(b"12.5")
        bench.reactor.advance(0.2)
        peer.sends(b" kg")
        bench.reactor.advance(0.2)
        self.assertEqual(bench.client.published, [])
        bench.reactor.advance(0.1)
        self.assertEqual(bench.client.payloads, [b"12.5 kg"])
        self.assertEqual(bench.client.published[0][2]["Nats-Bridge-Partial"], "1")
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_idle_framing(self) -> None:
        """With ``framing = "idle"`` the silence is the end of a whole message."""
        bench = LinesBench(framing="idle", idle_flush=0.3)
        peer = bench.peer()
        peer.sends(b"a\nb")
        bench.reactor.advance(0.3)
        self.assertEqual(bench.client.published, [("plant.lines", b"a\nb", {"Nats-Bridge-Path": "edge"})])
        peer.sends(b"c")
        bench.reactor.advance(0.3)
        self.assertEqual(bench.client.payloads, [b"a\nb", b"c"])

    def test_no_idle_flush_while_not_reading(self) -> None:
        """While the bridge itself does not read, silence means nothing."""
        bench = LinesBench(idle_flush=0.3)
        peer = bench.peer()
        bench.client.lose()
        peer.sends(b"one\ntw")
        bench.reactor.advance(5)
        bench.client.come_back()
        bench.client.pong_all()
        peer.sends(b"o\n")
        self.assertEqual(bench.client.payloads, [b"one", b"two"])

    def test_timeout(self) -> None:
        """A peer that says nothing for ``timeout`` is closed; one that does is not."""
        bench = LinesBench(timeout=10.0)
        quiet, busy = bench.peer(), bench.peer()
        bench.reactor.advance(6)
        busy.sends(b"x\n")
        bench.reactor.advance(6)
        self.assertTrue(quiet.transport.disconnecting)
        self.assertFalse(busy.transport.disconnecting)
        quiet.leaves()
        bench.reactor.advance(4)
        self.assertTrue(busy.transport.disconnecting)
        busy.leaves()
        self.assertEqual(bench.reactor.getDelayedCalls(), [])
        self.assertEqual(bench.number("bad_input_total", reason="timeout"), 2)


class BackPressureTests(SynchronousTestCase):
    """A peer is read from only as fast as NATS takes its lines."""

    def test_window(self) -> None:
        """With the window full nothing is read, until the server has confirmed enough."""
        bench = LinesBench(window=2)
        peer = bench.peer()
        peer.sends(b"1\n2\n")
        self.assertFalse(peer.transport.is_paused)
        peer.sends(b"3\n")
        self.assertTrue(peer.transport.is_paused)
        self.assertEqual(bench.client.payloads, [b"1", b"2"])
        bench.client.pong()
        self.assertFalse(peer.transport.is_paused)
        self.assertEqual(bench.client.payloads, [b"1", b"2", b"3"])

    def test_nats_down(self) -> None:
        """While NATS is down nothing is read; when it is back everything arrives, in order."""
        bench = LinesBench()
        peer = bench.peer()
        peer.sends(b"1\n")
        bench.client.lose()
        bench.client.published.clear()
        peer.sends(b"2\n")
        self.assertTrue(peer.transport.is_paused)
        self.assertEqual(bench.number("route_up"), 0)
        bench.client.come_back()
        bench.client.pong_all()
        self.assertEqual(bench.client.payloads, [b"1", b"2"])
        self.assertFalse(peer.transport.is_paused)
        self.assertEqual(bench.number("route_up"), 1)

    def test_client_has_enough(self) -> None:
        """With ``confirm = "none"`` the client's high-water mark is what stops the reading."""
        bench = LinesBench(confirm="none")
        peer = bench.peer()
        bench.client.room = room = Deferred()
        peer.sends(b"1\n")
        self.assertTrue(peer.transport.is_paused)
        bench.client.room = None
        room.callback(None)
        self.assertFalse(peer.transport.is_paused)

    def test_peer_that_does_not_take_its_replies(self) -> None:
        """A peer that does not read its replies is not read from."""
        bench = LinesBench(reply=REPLY)
        peer = bench.peer()
        peer.transport.producer.pauseProducing()
        peer.transport.producer.pauseProducing()
        self.assertTrue(peer.transport.is_paused)
        peer.transport.producer.resumeProducing()
        self.assertFalse(peer.transport.is_paused)

    def test_two_reasons_to_pause(self) -> None:
        """Reading goes on when the last reason against it is gone."""
        bench = LinesBench(reply=REPLY, window=1)
        peer = bench.peer()
        peer.sends(b"1\n2\n")
        peer.transport.producer.pauseProducing()
        bench.client.pong()
        self.assertTrue(peer.transport.is_paused)
        peer.transport.producer.resumeProducing()
        self.assertFalse(peer.transport.is_paused)

    def test_lines_of_a_peer_that_left(self) -> None:
        """What a peer sent before it left is still published and confirmed."""
        bench = LinesBench(window=1)
        peer = bench.peer()
        peer.sends(b"1\n2\n3\n")
        peer.leaves()
        bench.client.pong_all()
        self.assertEqual(bench.client.payloads, [b"1", b"2", b"3"])
        self.assertEqual(bench.number("messages_out_total"), 3)


class ReplyTests(SynchronousTestCase):
    """What a peer is told."""

    def test_ok_after_the_confirmation(self) -> None:
        """The reply for a line comes when the server has it, and not before."""
        bench = LinesBench(reply=REPLY)
        peer = bench.peer()
        peer.sends(b"1\n2\n")
        self.assertEqual(peer.got, b"")
        bench.client.pong()
        self.assertEqual(peer.got, b"OK\nOK\n")

    def test_error(self) -> None:
        """A line that the server denies is answered with the error."""
        bench = LinesBench(reply=REPLY)
        peer = bench.peer()
        peer.sends(b"1\n")
        bench.client.deny("plant.lines")
        bench.client.pong()
        bench.reactor.advance(0)
        self.assertEqual(peer.got, b"NO\n")
        self.assertIn("denies publishing", bench.route.problems()[0])

    def test_bad_framing_is_answered_last(self) -> None:
        """Whole lines before bad framing get their replies first; then comes the error, then the close."""
        bench = LinesBench(framing="netstring", reply=REPLY)
        peer = bench.peer()
        peer.sends(b"1:a,1:b,xyz")
        self.assertEqual(peer.got, b"")
        self.assertFalse(peer.transport.disconnecting)
        bench.client.pong()
        self.assertEqual(peer.got, b"OK\nOK\nNO\n")
        self.assertTrue(peer.transport.disconnecting)
        bench.route.stopService()
        self.assertEqual(peer.got, b"")
        peer.leaves()
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_bad_framing_at_once(self) -> None:
        """With nothing to wait for, the error and the close come at once."""
        bench = LinesBench(framing="netstring", reply=REPLY)
        peer = bench.peer()
        peer.sends(b"xyz")
        self.assertEqual(peer.got, b"NO\n")
        self.assertTrue(peer.transport.disconnecting)

    def test_cut_when_it_does_not_close(self) -> None:
        """A peer that does not take its last reply is cut off after a while."""
        bench = LinesBench(framing="netstring", reply=REPLY)
        peer = bench.peer()
        peer.sends(b"xyz")
        bench.reactor.advance(CLOSE_TIMEOUT)
        self.assertTrue(peer.transport.aborted)

    def test_peer_closes_its_side(self) -> None:
        """A peer that closes its side after its lines, as ``nc`` does, still gets every reply; then the connection is closed."""
        bench = LinesBench(reply=REPLY)
        peer = bench.peer()
        peer.sends(b"1\n2")
        peer.protocol.readConnectionLost()
        self.assertFalse(peer.transport.disconnecting)
        bench.client.pong_all()
        self.assertEqual(bench.client.payloads, [b"1", b"2"])
        self.assertEqual(peer.got, b"OK\nOK\n")
        self.assertTrue(peer.transport.disconnecting)
        peer.leaves()
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_peer_closes_its_side_without_replies(self) -> None:
        """Without replies the connection is closed at once."""
        bench = LinesBench()
        peer = bench.peer()
        peer.sends(b"1\n2")
        peer.protocol.readConnectionLost()
        self.assertTrue(peer.transport.disconnecting)
        bench.client.pong_all()
        self.assertEqual(bench.client.payloads, [b"1", b"2"])

    def test_no_reply_to_who_left(self) -> None:
        """Nothing is written to a peer that has gone."""
        bench = LinesBench(reply=REPLY)
        peer = bench.peer()
        peer.sends(b"1\n")
        peer.leaves()
        bench.client.pong()
        self.assertEqual(peer.got, b"")


class WhoMaySendTests(SynchronousTestCase):
    """Peers that are refused."""

    def refused(self, peer: Peer) -> bool:
        return bool(peer.transport.disconnecting)

    def test_allow(self) -> None:
        """Only listed networks may send; others are closed, counted, and nothing of theirs is read."""
        bench = LinesBench(allow=["10.0.0.0/8", "fd00::/8"])
        self.assertFalse(self.refused(bench.peer("10.1.2.3")))
        self.assertFalse(self.refused(bench.peer("fd00::1")))
        self.assertFalse(self.refused(bench.peer("::ffff:10.1.2.3")))
        stranger = bench.peer("192.168.0.1")
        self.assertTrue(self.refused(stranger))
        stranger.sends(b"x\n")
        self.assertTrue(self.refused(bench.peer("fe80::1%eth0")))
        self.assertEqual(bench.client.published, [])
        self.assertEqual(bench.number("bad_input_total", reason="not-allowed"), 2)

    def test_max_connections(self) -> None:
        """More connections than allowed are closed; when one ends there is room again."""
        bench = LinesBench(max_connections=2)
        first, _ = bench.peer(), bench.peer()
        self.assertTrue(self.refused(bench.peer()))
        first.leaves()
        self.assertFalse(self.refused(bench.peer()))
        self.assertEqual(bench.number("bad_input_total", reason="too-many-connections"), 1)

    def test_unconfirmed_lines_of_who_left_count(self) -> None:
        """A peer cannot fill the memory by coming again and again while NATS is down."""
        bench = LinesBench(max_connections=2)
        bench.client.lose()
        for _ in range(2):
            peer = bench.peer()
            peer.sends(b"x\n")
            peer.leaves()
        self.assertTrue(self.refused(bench.peer()))
        bench.client.come_back()
        bench.client.pong_all()
        self.assertFalse(self.refused(bench.peer()))

    def test_unix_peers(self) -> None:
        """Peers over a UNIX socket have no address, and are taken."""
        bench = LinesBench()
        peer = bench.peer(None)
        peer.sends(b"x\n")
        self.assertEqual(bench.client.payloads, [b"x"])


class DatagramTests(SynchronousTestCase):
    """UDP."""

    def bench(self, **keys: Any) -> tuple[LinesBench, Any]:
        bench = LinesBench(endpoint="udp:5514:interface=127.0.0.1", **keys)
        ((port, protocol, size),) = bench.reactor.udp
        self.assertEqual((port.number, port.interface, size), (5514, "127.0.0.1", 65535))
        return bench, protocol

    def test_one_message_each(self) -> None:
        """A datagram is a message, whatever it holds."""
        bench, protocol = self.bench()
        protocol.datagramReceived(b"a\nb", ("10.0.0.7", 1))
        protocol.datagramReceived(b"c", ("10.0.0.8", 1))
        bench.reactor.advance(0)
        self.assertEqual(bench.client.payloads, [b"a\nb", b"c"])

    def test_too_long(self) -> None:
        """A datagram that is too long is cut and marked."""
        bench, protocol = self.bench(max_length=3)
        protocol.datagramReceived(b"12345", ("10.0.0.7", 1))
        bench.reactor.advance(0)
        ((_, payload, headers),) = bench.client.published
        self.assertEqual((payload, headers["Nats-Bridge-Truncated"]), (b"123", "5"))

    def test_lines_in_datagrams(self) -> None:
        """Another framing applies within each datagram; one with bad framing spoils no other."""
        bench, protocol = self.bench(framing="netstring")
        protocol.datagramReceived(b"1:a,1:b,", ("10.0.0.7", 1))
        protocol.datagramReceived(b"1:c,xx", ("10.0.0.7", 1))
        protocol.datagramReceived(b"1:d,", ("10.0.0.7", 1))
        protocol.datagramReceived(b"9:half", ("10.0.0.7", 1))
        protocol.datagramReceived(b"1:e,", ("10.0.0.7", 1))
        bench.reactor.advance(0)
        self.assertEqual(bench.client.payloads, [b"a", b"b", b"c", b"d", b"e"])
        self.assertEqual(bench.number("bad_input_total", reason="bad-framing"), 1)

    def test_allow_and_subject(self) -> None:
        """The allow list and ``{peer}`` work for each datagram."""
        bench, protocol = self.bench(allow=["10.0.0.0/8"], subject="u.{peer}")
        protocol.datagramReceived(b"a", ("10.0.0.7", 1))
        protocol.datagramReceived(b"b", ("192.168.0.1", 1))
        protocol.datagramReceived(b"c", ("10.0.0.8", 1))
        bench.reactor.advance(0)
        self.assertEqual([(subject, data) for subject, data, _ in bench.client.published], [("u.10-0-0-7", b"a"), ("u.10-0-0-8", b"c")])

    def test_oldest_dropped_while_nats_is_down(self) -> None:
        """While NATS is down datagrams wait; beyond the bound the oldest are dropped and counted."""
        bench, protocol = self.bench()
        bench.client.lose()
        for index in range(300):
            protocol.datagramReceived(b"%03d" % index + b"x" * 65000, ("10.0.0.7", 1))
        bench.reactor.advance(0)
        bench.client.come_back()
        bench.client.pong_all()
        dropped = int(bench.number("messages_dropped_total", reason="backpressure"))
        self.assertGreater(dropped, 0)
        self.assertEqual([payload[:3] for payload in bench.client.payloads], [b"%03d" % index for index in range(dropped, 300)])

    def test_stop(self) -> None:
        """A stop closes the port and finishes what came."""
        bench, protocol = self.bench()
        protocol.datagramReceived(b"a", ("10.0.0.7", 1))
        stopped = bench.route.stopService()
        self.assertTrue(bench.reactor.udp[0][0].stopped)
        self.assertEqual(bench.client.payloads, [b"a"])
        self.assertNoResult(stopped)
        bench.client.pong()
        self.successResultOf(stopped)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])


class StreamTests(SynchronousTestCase):
    """``confirm = "jetstream"``."""

    def test_answered_when_stored(self) -> None:
        """A line is answered when a stream has stored it, in the order of the lines."""
        bench = LinesBench(confirm="jetstream", reply=REPLY)
        peer, js = bench.peer(), bench.client.js
        peer.sends(b"one\ntwo\n")
        self.assertEqual([(subject, data) for subject, data, _, _ in js.sent], [("plant.lines", b"one"), ("plant.lines", b"two")])
        self.assertEqual(js.sent[0][2]["Nats-Bridge-Path"], "edge")
        self.assertEqual((peer.got, bench.client.flushes), (b"", []))
        js.waiting.reverse()
        js.ack()
        bench.reactor.advance(0)
        self.assertEqual(peer.got, b"")
        js.ack()
        bench.reactor.advance(0)
        self.assertEqual(peer.got, b"OK\nOK\n")

    def test_too_large_for_the_stream(self) -> None:
        """What no stream will ever take is answered with the error; the lines around it are stored."""
        bench = LinesBench(confirm="jetstream", reply=REPLY)
        peer, js = bench.peer(), bench.client.js
        peer.sends(b"one\ntwo\nthree\n")
        js.ack()
        js.refuse(MessageExceedsMaximumError(400, 10054, "message size exceeds maximum allowed"))
        js.ack()
        bench.reactor.advance(0)
        self.assertEqual(peer.got, b"OK\nNO\nOK\n")
        self.assertEqual(bench.number("messages_failed_total", reason="max-msg-size"), 1)
        self.assertEqual(bench.route.problems(), [])

    def test_no_stream(self) -> None:
        """While no stream takes the lines, their peer is not read from, and the route says why."""
        bench = LinesBench(confirm="jetstream", reply=REPLY, window=2)
        peer, js = bench.peer(), bench.client.js
        peer.sends(b"1\n2\n3\n")
        js.refuse(NoStreamResponseError("plant.lines"), 2)
        bench.reactor.advance(0)
        self.assertTrue(peer.transport.is_paused)
        (problem,) = bench.route.problems()
        self.assertIn("lines are not stored: plant.lines", problem)
        self.assertEqual(bench.metrics.registry.get_sample_value("nats_bridge_route_up", {"route": "r", "type": "lines-in"}), 0.0)
        (error,) = bench.context.activity("r").errors
        self.assertEqual((error.kind, error.hint[:13]), ("no-stream", "make a stream"))
        bench.reactor.advance(0.25)
        js.ack_all(bench.reactor)
        self.assertEqual(peer.got, b"OK\nOK\nOK\n")
        self.assertEqual(bench.route.problems(), [])
        self.assertFalse(peer.transport.is_paused)

    def test_stop(self) -> None:
        """A stop waits for the acks; when it is cut short, the rest is dropped and counted."""
        bench = LinesBench(confirm="jetstream")
        peer = bench.peer()
        peer.sends(b"1\n2\n")
        stopped = bench.route.stopService()
        bench.client.js.ack()
        bench.reactor.advance(0)
        self.assertNoResult(stopped)
        stopped.cancel()
        peer.leaves()
        self.successResultOf(stopped)
        self.assertEqual(bench.number("messages_dropped_total", reason="stopped"), 1)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])


class PauseTests(SynchronousTestCase):
    """A route that is paused and goes on."""

    def test_connections(self) -> None:
        """Nothing is read from connections, new ones included, and nothing is lost; resuming reads again."""
        bench = LinesBench()
        verifyObject(IPausable, bench.route)
        old = bench.peer()
        bench.route.pause()
        new = bench.peer()
        self.assertEqual((old.transport.is_paused, new.transport.is_paused, bench.route.paused), (True, True, True))
        bench.route.pause()
        bench.route.resume()
        self.assertEqual((old.transport.is_paused, new.transport.is_paused, bench.route.paused), (False, False, False))

    def test_a_full_window_stays_a_reason(self) -> None:
        """Resuming does not read from a peer whose window is full."""
        bench = LinesBench(window=1)
        peer = bench.peer()
        bench.route.pause()
        peer.sends(b"1\n2\n")
        bench.route.resume()
        self.assertTrue(peer.transport.is_paused)
        bench.client.pong_all()
        self.assertFalse(peer.transport.is_paused)

    def test_datagrams(self) -> None:
        """Datagrams cannot be held back: they are dropped and counted."""
        bench = LinesBench(endpoint="udp:5514")
        ((_, protocol, _),) = bench.reactor.udp
        bench.route.pause()
        protocol.datagramReceived(b"a", ("10.0.0.7", 1))
        bench.route.resume()
        protocol.datagramReceived(b"b", ("10.0.0.7", 1))
        bench.reactor.advance(0)
        self.assertEqual(bench.client.payloads, [b"b"])
        self.assertEqual(bench.number("messages_dropped_total", reason="paused"), 1)

    def test_description(self) -> None:
        """A route says where lines come from, where they go, and how it is."""
        bench = LinesBench(subject="plant.{peer}")
        verifyObject(IDescribed, bench.route)
        bench.peer()
        bench.route.pause()
        described = bench.route.describe()
        self.assertEqual((described.source, described.target), ("tcp:9000", "plant.*"))
        self.assertEqual(described.state, {"confirm": "server", "connections": "1", "paused": "by request"})
        self.assertIn(("send a line", r"printf 'hello\n' | nc -w 1 127.0.0.1 9000"), described.commands)
        self.assertIn(("see the messages", "nats sub 'plant.*'"), described.commands)

    def test_description_before_the_start(self) -> None:
        """It can be asked at any time."""
        self.assertEqual(LinesBench(start=False).route.describe().commands, [("see the messages", "nats sub 'plant.lines'")])


class LifeTests(SynchronousTestCase):
    """Starting and stopping."""

    def test_ready(self) -> None:
        """A route is ready when it listens."""
        bench = LinesBench(start=False)
        self.assertEqual(bench.route.problems(), ["not started"])
        bench.route.startService()
        self.assertEqual(bench.route.problems(), [])
        self.assertEqual(bench.number("route_up"), 1)

    def test_cannot_listen(self) -> None:
        """A port that is taken is a problem that names it, and is tried again."""
        bench = LinesBench(start=False)
        attempts: list[int] = []
        original = bench.reactor.listenTCP

        def taken(port: int, *args: Any, **kwargs: Any) -> Any:
            attempts.append(port)
            if len(attempts) < 3:
                raise OSError("Address already in use")
            return original(port, *args, **kwargs)

        bench.reactor.listenTCP = taken
        bench.route.startService()
        self.assertIn("tcp:9000 cannot be listened on: Address already in use", bench.route.problems()[0])
        bench.reactor.advance(1)
        bench.reactor.advance(2)
        self.assertEqual(attempts, [9000] * 3)
        self.assertEqual(bench.route.problems(), [])

    def test_stop_drains(self) -> None:
        """A stop reads nothing more, publishes what came, answers it, then closes."""
        bench = LinesBench(reply=REPLY, window=1)
        peer = bench.peer()
        peer.sends(b"1\n2\nhal")
        stopped = bench.route.stopService()
        self.assertTrue(peer.transport.is_paused)
        self.assertFalse(peer.transport.disconnecting)
        bench.client.pong_all()
        self.assertEqual(bench.client.payloads, [b"1", b"2", b"hal"])
        self.assertEqual(peer.got, b"OK\nOK\nOK\n")
        self.assertTrue(peer.transport.disconnecting)
        self.assertNoResult(stopped)
        peer.leaves()
        self.successResultOf(stopped)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])
        self.assertEqual(bench.route.problems(), ["stopped"])

    def test_stop_cut_short(self) -> None:
        """Cancelling a stop drops and counts what is left."""
        bench = LinesBench()
        peer = bench.peer()
        peer.sends(b"1\n2\n")
        bench.client.lose()
        stopped = bench.route.stopService()
        self.assertNoResult(stopped)
        stopped.cancel()
        self.assertTrue(peer.transport.aborted)
        peer.leaves()
        self.successResultOf(stopped)
        self.assertEqual(bench.number("messages_dropped_total", reason="stopped"), 2)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_stop_cut_short_while_closing(self) -> None:
        """Cancelling a stop cuts connections that do not close."""
        bench = LinesBench()
        peer = bench.peer()
        stopped = bench.route.stopService()
        self.assertTrue(peer.transport.disconnecting)
        self.assertFalse(peer.transport.aborted)
        stopped.cancel()
        self.assertTrue(peer.transport.aborted)
        peer.leaves()
        self.successResultOf(stopped)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_stop_while_it_cannot_listen(self) -> None:
        """A stop ends the attempts to listen."""
        bench = LinesBench(start=False)

        def taken(*args: Any, **kwargs: Any) -> Any:
            raise OSError("Address already in use")

        bench.reactor.listenTCP = taken
        bench.route.startService()
        self.successResultOf(bench.route.stopService())
        self.assertEqual(bench.reactor.getDelayedCalls(), [])

    def test_nothing_is_opened_before_start(self) -> None:
        """Making a route opens nothing."""
        bench = LinesBench(start=False)
        self.assertEqual((bench.reactor.tcpServers, bench.reactor.udp, bench.reactor.getDelayedCalls()), ([], [], []))


class DialTests(SynchronousTestCase):
    """``client:`` endpoints."""

    def connect(self, bench: LinesBench) -> Peer:
        """Let the last attempt to connect succeed."""
        return Peer(bench.reactor.tcpClients[-1][2])

    def fail(self, bench: LinesBench) -> None:
        """Let the last attempt to connect fail."""
        bench.reactor.tcpClients[-1][2].clientConnectionFailed(bench.reactor.connectors[-1], Failure(ConnectionRefusedError()))

    def test_dials(self) -> None:
        """The route connects to the device and takes its lines."""
        bench = LinesBench(endpoint="client:tcp:10.0.0.9:4001")
        self.assertEqual(bench.reactor.tcpClients[0][:2], ("10.0.0.9", 4001))
        self.assertIn("not connected to client:tcp:10.0.0.9:4001", bench.route.problems()[0])
        peer = self.connect(bench)
        self.assertEqual(bench.route.problems(), [])
        peer.sends(b"x\n")
        self.assertEqual(bench.client.payloads, [b"x"])

    def test_dials_again(self) -> None:
        """A connection that cannot be made, or ends, is tried again with growing waits, and is a problem meanwhile."""
        bench = LinesBench(endpoint="client:tcp:10.0.0.9:4001")
        for attempt in range(1, 6):
            self.assertEqual(len(bench.reactor.tcpClients), attempt)
            self.fail(bench)
            self.assertIn("cannot be connected to", bench.route.problems()[0])
            bench.reactor.pump([1.0] * 35)
        peer = self.connect(bench)
        self.assertEqual(bench.route.problems(), [])
        peer.leaves()
        self.assertIn("has ended", bench.route.problems()[0])
        before = len(bench.reactor.tcpClients)
        bench.reactor.pump([1.0] * 35)
        self.assertEqual(len(bench.reactor.tcpClients), before + 1)

    def test_stop(self) -> None:
        """A stop ends the connection and the attempts."""
        bench = LinesBench(endpoint="client:tcp:10.0.0.9:4001")
        peer = self.connect(bench)
        stopped = bench.route.stopService()
        self.assertTrue(peer.transport.disconnecting)
        peer.leaves()
        self.successResultOf(stopped)
        bench.reactor.pump([10.0] * 10)
        self.assertEqual(len(bench.reactor.tcpClients), 1)
        self.assertEqual(bench.reactor.getDelayedCalls(), [])
