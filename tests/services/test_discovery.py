"""Who is there, what it is, and what it has done."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    InvalidArgumentError,
    InvalidSubjectError,
    ServiceNotFoundError,
)
from pynats_twisted.services import Ping, ServiceDiscovery, Stats
from pynats_twisted.services import answers as reading
from pynats_twisted.services.answers import MAX_FAULTS

from .fakes import FakesTestCase, info, ping


class DiscoveryTestCase(FakesTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.discovery = ServiceDiscovery(self.client)

    def ids(self, found: list[Ping]) -> list[str]:
        return [each.id for each in found]


class QuestionTests(DiscoveryTestCase):
    """PING, INFO and STATS of all services, of a name, and of one instance."""

    def test_all_of_a_name_or_one(self) -> None:
        """Each question goes to its own subject, and its answers come as its type."""
        self.listen("$SRV.PING", ping("1"), ping("2", "bills"))
        self.listen("$SRV.INFO.orders", info(self.endpoint("add")))
        self.listen("$SRV.STATS.orders.1", Stats(name="orders", id="1", version="1.0.0", started=datetime.now(timezone.utc)))
        self.assertEqual(self.network.run(self.discovery.ping().collect()), [ping("1"), ping("2", "bills")])
        self.assertEqual(self.network.run(self.discovery.info("orders").collect()), [info(self.endpoint("add"))])
        self.assertEqual([each.id for each in self.network.run(self.discovery.stats("orders", "1").collect())], ["1"])
        self.assertEqual([subject for subject, _ in self.asked], ["$SRV.PING", "$SRV.INFO.orders", "$SRV.STATS.orders.1"])

    def test_another_prefix(self) -> None:
        """Services of another account are asked where they are imported to."""
        self.listen("north.srv.PING.orders", ping("1"))
        self.assertEqual(self.ids(self.network.run(ServiceDiscovery(self.client, prefix="north.srv").ping("orders").collect())), ["1"])

    def test_wrong_arguments(self) -> None:
        """What breaks a rule is refused when it is called, and nothing is asked."""
        ask = self.discovery.ping
        self.assertRaises(InvalidSubjectError, ServiceDiscovery, self.client, prefix="a b")
        self.assertRaises(InvalidArgumentError, ask, "a.b")
        self.assertRaises(InvalidArgumentError, ask, None, "1")
        self.assertRaises(InvalidArgumentError, ask, max_answers=0)
        self.assertRaises(ConfigurationError, ask, timeout=-1.0)
        self.assertRaises(ConfigurationError, ask, stall=0.0)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_a_closed_client(self) -> None:
        """A client that was closed asks nothing, and says so."""
        self.network.run(self.client.close())
        self.assertRaises(ConnectionClosedError, self.discovery.ping)


class AnswerTests(DiscoveryTestCase):
    """Reading the answers, and when they end."""

    def test_nobody_is_there(self) -> None:
        """Where no service is, there is at once no answer, and no error."""
        answers = self.discovery.ping()
        begun = self.network.seconds()
        self.assertEqual((self.network.run(answers.collect()), answers.reason), ([], "no_responders"))
        self.assertEqual(self.network.seconds(), begun)

    def test_stall(self) -> None:
        """The answers end when none came for the stall time, and not before: a slow instance is seen."""
        self.listen("$SRV.PING", ping("1"), ping("2"), ping("3"), delay=0.4)
        begun = self.network.seconds()
        answers = self.discovery.ping(stall=0.5)
        self.assertEqual(self.ids(self.network.run(answers.collect())), ["1", "2", "3"])
        self.assertEqual((answers.reason, round(self.network.seconds() - begun, 6)), ("stall", 1.7))

    def test_timeout(self) -> None:
        """Without a stall time, the answers end at the timeout."""
        self.listen("$SRV.PING", ping("1"), ping("2"), delay=0.75)
        answers = self.discovery.ping(stall=None, timeout=1.0)
        self.assertEqual(self.ids(self.network.run(answers.collect())), ["1"])
        self.assertEqual(answers.reason, "timeout")

    def test_enough_answers(self) -> None:
        """A number of answers ends them at once, and one instance is enough where one was asked."""
        self.listen("$SRV.PING", ping("1"), ping("2"), ping("3"), delay=0.1)
        answers = self.discovery.ping(max_answers=2)
        self.assertEqual(self.ids(self.network.run(answers.collect())), ["1", "2"])
        self.assertEqual((answers.reason, self.client.requests_in_flight), ("max_answers", 0))
        answers = self.discovery.ping(max_answers=2)
        self.network.advance(0.2)
        # Nobody has taken any yet.
        self.assertEqual((answers.reason, self.client.requests_in_flight), ("max_answers", 0))
        self.listen("$SRV.PING.orders.1", ping("1"))
        begun = self.network.seconds()
        self.assertEqual(self.ids(self.network.run(self.discovery.ping("orders", "1").collect())), ["1"])
        self.assertEqual(self.network.seconds(), begun)

    def test_an_instance_counts_once(self) -> None:
        """An instance that answers on two ways is one, and the same id of another service is another instance."""
        self.listen("$SRV.PING", ping("1"), ping("1"), ping("1", "bills"), ping("2"))
        answers = self.discovery.ping(max_answers=3)
        self.assertEqual(
            [(each.name, each.id) for each in self.network.run(answers.collect())], [("orders", "1"), ("bills", "1"), ("orders", "2")]
        )

    def test_one_after_the_other(self) -> None:
        """``async for`` hands out each answer as it comes; those that nobody took are still there."""
        self.listen("$SRV.PING", ping("1"), ping("2"), ping("3"), delay=0.1)
        seen: list[tuple[str, float]] = []

        async def read() -> None:
            async for answer in answers:
                seen.append((answer.id, round(self.network.seconds() - begun, 6)))
                if len(seen) == 2:
                    break

        begun = self.network.seconds()
        answers = self.discovery.ping()
        self.network.run(read())
        self.assertEqual(seen, [("1", 0.1), ("2", 0.2)])
        self.network.advance(0.1)
        self.assertEqual(self.ids(self.network.run(answers.collect())), ["3"])

    def test_how_long_it_took(self) -> None:
        """``rtt`` is the time until the answer came, however late somebody takes it."""
        self.listen("$SRV.PING", ping("1"), ping("2"), delay=0.25)
        answers = self.discovery.ping()
        self.network.advance(5.0)
        self.assertEqual([round(each.rtt, 6) for each in self.network.run(answers.collect())], [0.25, 0.5])

    def test_what_cannot_be_read(self) -> None:
        """Answers that are none are left out and told of, the first 100 in full; the others come."""
        self.listen("$SRV.PING", *[b"{}"] * (MAX_FAULTS + 5), ping("1"))
        answers = self.discovery.ping()
        self.assertEqual(self.ids(self.network.run(answers.collect())), ["1"])
        self.assertEqual((len(answers.faults), answers.num_faults), (MAX_FAULTS, MAX_FAULTS + 5))

    def test_cancelling(self) -> None:
        """A question that is cancelled is over for the client too, and who waits for an answer is told that there is none."""
        self.listen("$SRV.PING", ping("1"), delay=1.0)
        answers = self.discovery.ping()
        waiting = answers.collect()
        answers.cancel()
        self.assertEqual((self.successResultOf(waiting), answers.reason, self.client.requests_in_flight), ([], "cancelled", 0))
        waiting = self.discovery.ping().collect()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_the_client_closes(self) -> None:
        """Who waits for answers learns that the client was closed."""
        self.listen("$SRV.PING", ping("1"), delay=1.0)
        answers = self.discovery.ping()
        waiting = answers.collect()
        self.network.run(self.client.close())
        self.failureResultOf(waiting, ConnectionClosedError)
        self.assertEqual(answers.reason, "error")


class BoundTests(DiscoveryTestCase):
    """Answers that nobody takes."""

    def options(self) -> dict[str, int]:
        return {"pending_msgs": 2}

    def test_bound(self) -> None:
        """No more of them wait than the client's option allows; the others are dropped and counted."""
        self.listen("$SRV.PING", *[ping(str(number)) for number in range(5)])
        answers = self.discovery.ping()
        self.network.advance(3.0)
        self.assertEqual((self.ids(self.network.run(answers.collect())), answers.dropped), (["0", "1"], 3))


class InstanceBoundTests(DiscoveryTestCase):
    """More instances than there can be."""

    def test_bound(self) -> None:
        """No more instances are told apart than a bound says, however fast they are taken; by default 100,000."""
        self.assertEqual(reading.MAX_INSTANCES, 100_000)
        self.patch(reading, "MAX_INSTANCES", 3)
        self.listen("$SRV.PING", *[ping(str(number)) for number in range(5)])
        found = self.discovery.ping()
        self.assertEqual((self.ids(self.network.run(found.collect())), found.dropped), (["0", "1", "2"], 2))


class ByteBoundTests(DiscoveryTestCase):
    """Answers that nobody takes, and that are large."""

    def options(self) -> dict[str, int]:
        return {"pending_bytes": 250}

    def test_bound(self) -> None:
        """Bytes count as well, until the answer is taken."""
        self.listen("$SRV.PING", *[ping(str(number)) for number in range(6)], delay=0.1)
        answers = self.discovery.ping()
        self.network.advance(0.35)
        self.assertEqual(answers.dropped, 1)

        async def take() -> str:
            async for answer in answers:
                return answer.id
            return "none"

        self.assertEqual([self.network.run(take()) for _ in range(2)], ["0", "1"])
        self.network.advance(0.3)
        self.assertEqual((self.ids(self.network.run(answers.collect())), answers.dropped), (["3", "4"], 2))


class ByNameTests(DiscoveryTestCase):
    """One service, by its name."""

    def test_find(self) -> None:
        """The first instance that answers says what the service is; where none does, that is an error with the name."""
        self.listen("$SRV.INFO.orders", info(self.endpoint("add"), id="7"), info(id="8"))
        self.assertEqual(self.network.run(self.discovery.find("orders")).id, "7")
        error = self.assertRaises(ServiceNotFoundError, self.network.run, self.discovery.find("bills"))
        self.assertEqual((error.name, "'bills'" in str(error)), ("bills", True))

    def test_wait_for_what_comes_later(self) -> None:
        """It waits until there are enough instances at one time, and gives them."""
        waiting = self.discovery.wait_for("orders", 2)
        self.network.advance(0.3)
        first = self.listen("$SRV.PING.orders", ping("1"))
        self.network.advance(3.0)
        self.assertNoResult(waiting)
        # The first one goes: its answer of before does not count.
        first.unsubscribe()
        self.listen("$SRV.PING.orders", ping("2"))
        self.network.advance(3.0)
        self.assertNoResult(waiting)
        self.listen("$SRV.PING.orders", ping("3"))
        self.network.advance(3.0)
        self.assertEqual(sorted(self.ids(self.successResultOf(waiting))), ["2", "3"])

    def test_at_once(self) -> None:
        """Where the service is there already, no time passes."""
        self.listen("$SRV.PING.orders", ping("1"))
        begun = self.network.seconds()
        self.assertEqual(self.ids(self.network.run(self.discovery.wait_for("orders"))), ["1"])
        self.assertEqual(self.network.seconds(), begun)

    def test_too_few(self) -> None:
        """When the time is over, the error says how many there were; it asked about once in a second."""
        self.listen("$SRV.PING.orders", ping("1"))
        begun = self.network.seconds()
        error = self.assertRaises(ServiceNotFoundError, self.network.run, self.discovery.wait_for("orders", 2, timeout=20.0))
        self.assertIn("1 of 2 instances of service 'orders'", str(error))
        self.assertEqual(self.network.seconds() - begun, 20.0)
        self.assertTrue(12 <= len(self.asked) <= 25, self.asked)

    def test_one_that_is_silent(self) -> None:
        """An instance that does not answer cannot make it wait longer than was said."""
        self.listen("$SRV.PING.orders")
        begun = self.network.seconds()
        self.assertRaises(ServiceNotFoundError, self.network.run, self.discovery.wait_for("orders", timeout=1.0))
        self.assertEqual(self.network.seconds() - begun, 1.0)

    def test_wrong_arguments(self) -> None:
        """What breaks a rule is an error, and nothing is asked."""
        for waiting in (self.discovery.wait_for("a.b"), self.discovery.wait_for("a", 0), self.discovery.wait_for("a", timeout=-1.0)):
            self.assertRegex(str(self.failureResultOf(waiting).value), "'a.b'|instances=0|timeout=-1.0")

    def test_cancelling(self) -> None:
        """Cancelling leaves nothing: neither while it asks nor between two times."""
        self.listen("$SRV.PING.orders", ping("1"))
        for seconds in (0.1, 0.52):
            waiting: Deferred[list[Ping]] = self.discovery.wait_for("orders", 2)
            self.network.advance(seconds)
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            self.assertEqual(self.client.requests_in_flight, 0)


class ReconnectTests(DiscoveryTestCase):
    """A lost connection."""

    def options(self) -> dict[str, bool]:
        return {"fail_requests_on_disconnect": True}

    def test_waiting_goes_on(self) -> None:
        """Waiting for a service outlives a lost connection, also where the option fails requests then."""
        self.listen("$SRV.PING.orders", ping("1"))
        waiting = self.discovery.wait_for("orders", 2, timeout=60.0)
        self.network.advance(0.1)
        self.network.cut("127.0.0.1:4222")
        self.network.advance(10.0)
        self.assertNoResult(waiting)
        self.listen("$SRV.PING.orders", ping("2"))
        self.network.advance(10.0)
        self.assertEqual(sorted(self.ids(self.successResultOf(waiting))), ["1", "2"])
