"""Subscriptions without handlers: taking messages, limits, confirmation, and all ways in which they end."""

from __future__ import annotations

import gc
from collections import deque
from typing import Any

from twisted.internet.defer import CancelledError

from pynats_twisted.client.status import ServerErrorEvent
from pynats_twisted.client.waiting import OneShot, Waiters
from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    ConnectionDrainingError,
    DisconnectedError,
    InvalidQueueError,
    InvalidSubjectError,
    InvalidSubscriptionError,
    MaxSubscriptionsExceededError,
    NextMessageTimeoutError,
    PermissionsViolationError,
    SubscriptionClosedError,
)
from pynats_twisted.protocol.message import Msg
from pynats_twisted.testing.server_frames import PingFrame, SubscribeFrame, UnsubscribeFrame

from .support import ClientTestCase

DENIED = 'Permissions Violation for Subscription to "a"'


class SubscriptionTestCase(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client, self.peer = self.connected()

    def subscribed(self, subject: str = "a", **options: Any) -> Any:
        """A subscription that the server has."""
        sub = self.client.subscribe(subject, **options)
        self.network.advance()
        return sub


class NextTests(SubscriptionTestCase):
    def test_waiting_or_not(self) -> None:
        """``next()`` gives what waits at once, and else what comes, to several takers in their order."""
        sub = self.subscribed()
        self.peer.publish("a", b"1")
        self.assertEqual((sub.pending_msgs, sub.pending_bytes), (1, 2))
        self.assertEqual(self.successResultOf(sub.next()).data, b"1")
        takers = [self.watch(sub.next()) for _ in range(2)]
        self.peer.publish("a", b"2", b"3", b"4")
        self.assertEqual([self.successResultOf(taker).data for taker in takers], [b"2", b"3"])
        self.assertEqual((sub.pending_msgs, sub.delivered), (1, 4))

    def test_timeout(self) -> None:
        """A taker who waited in vain gets an error; the next message is for the next taker."""
        sub = self.subscribed()
        taker = self.watch(sub.next(timeout=1.5))
        self.network.advance(1.5)
        error = self.failureResultOf(taker, NextMessageTimeoutError).value
        self.assertIsInstance(error, TimeoutError)
        self.assertIn("'a'", str(error))
        self.peer.publish("a", b"1")
        self.assertEqual(self.successResultOf(sub.next(timeout=1.0)).data, b"1")
        self.assertEqual(self.network.getDelayedCalls()[1:], [])

    def test_in_time(self) -> None:
        """A message in time leaves no timer behind."""
        sub = self.subscribed()
        taker = self.watch(sub.next(timeout=1.5))
        timers = len(self.network.getDelayedCalls())
        self.peer.publish("a", b"1")
        self.successResultOf(taker)
        self.assertEqual(len(self.network.getDelayedCalls()), timers - 1)

    def test_cancelled(self) -> None:
        """Cancelling loses no message."""
        sub = self.subscribed()
        first, second = sub.next(), self.watch(sub.next())
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.peer.publish("a", b"1")
        self.assertEqual(self.successResultOf(second).data, b"1")

    def test_bad_timeouts(self) -> None:
        """A time limit that is none is refused, and takes no message away."""
        sub = self.subscribed()
        for timeout in (-1, "1", float("nan"), True):
            self.assertRaises(ConfigurationError, sub.next, timeout=timeout)
            self.assertRaises(ConfigurationError, sub.drain, timeout=timeout)
        self.peer.publish("a", b"1")
        self.assertEqual(self.successResultOf(sub.next(timeout=0)).data, b"1")

    def test_with_a_handler(self) -> None:
        """Where a handler takes the messages there is nothing else to take them."""
        sub = self.subscribed(handler=print)
        self.assertRaises(SubscriptionClosedError, sub.next)
        self.assertRaises(SubscriptionClosedError, sub.__aiter__)

    def test_takers_at_the_end(self) -> None:
        """The end is told to all who wait, also when one of them cancels another one then."""
        sub = self.subscribed()
        takers = [self.watch(sub.next()) for _ in range(4)]
        takers[0].addErrback(lambda failure: takers[2].cancel())
        sub.unsubscribe()
        for taker in (takers[1], takers[3]):
            self.failureResultOf(taker, SubscriptionClosedError)
        self.failureResultOf(takers[2], CancelledError)
        self.failureResultOf(sub.next(), SubscriptionClosedError)


class IterationTests(SubscriptionTestCase):
    async def collect(self, sub: Any) -> list[bytes]:
        return [msg.data async for msg in sub]

    def test_unsubscribe(self) -> None:
        """``async for`` gives what waits and what comes, and ends when the subscription does."""
        sub = self.subscribed()
        self.peer.publish("a", b"1", b"2")
        done = self.watch(self.collect(sub))
        self.peer.publish("a", b"3")
        sub.unsubscribe()
        self.assertEqual(self.successResultOf(done), [b"1", b"2", b"3"])
        self.assertEqual(self.successResultOf(self.watch(self.collect(sub))), [])

    def test_limit(self) -> None:
        """The last message of a limit is given before the end."""
        sub = self.subscribed(max_msgs=3)
        self.peer.publish("a", b"1", b"2", b"3", b"4")
        self.assertEqual((sub.closed, sub.pending_msgs), (False, 3))
        self.assertEqual(self.successResultOf(self.watch(self.collect(sub))), [b"1", b"2", b"3"])
        self.assertTrue(sub.closed)

    def test_close(self) -> None:
        """A client that is closed on purpose ends it quietly."""
        done = self.watch(self.collect(self.subscribed()))
        self.client.close()
        self.network.advance()
        self.assertEqual(self.successResultOf(done), [])

    def test_close_with_messages(self) -> None:
        """What came before the client was closed can still be taken."""
        sub = self.subscribed()
        self.peer.publish("a", b"1", b"2")
        self.client.close()
        self.network.advance()
        self.assertEqual(self.successResultOf(self.watch(self.collect(sub))), [b"1", b"2"])
        self.assertTrue(sub.closed)

    def test_error(self) -> None:
        """An error that ends it is raised, once, behind the messages that came before it."""
        for waiting in (True, False):
            sub = self.subscribed()
            self.peer.publish("a", b"1")
            iterator = sub.__aiter__()
            self.successResultOf(self.watch(self.one(iterator)))
            if waiting:
                taker = self.watch(self.one(iterator))
                self.peer.error(DENIED)
            else:
                self.peer.error(DENIED)
                taker = self.watch(self.one(iterator))
            self.failureResultOf(taker, PermissionsViolationError)
            self.assertEqual(self.successResultOf(self.watch(self.collect(sub))), [])

    def test_error_after_a_cancelled_taker(self) -> None:
        """Giving up in the loop is no end: the error that ends it later is still raised."""
        sub = self.subscribed()
        taker = self.watch(self.collect(sub))
        taker.cancel()
        self.failureResultOf(taker, CancelledError)
        self.peer.error(DENIED)
        self.failureResultOf(self.watch(self.collect(sub)), PermissionsViolationError)

    async def one(self, iterator: Any) -> Any:
        return await iterator.__anext__()

    def test_broken_off(self) -> None:
        """Leaving the loop loses no message, and leaves nobody waiting."""

        async def first(sub: Any) -> bytes:
            async for msg in sub:
                return bytes(msg.data)
            return b""

        sub = self.subscribed()
        done = self.watch(first(sub))
        self.peer.publish("a", b"1", b"2")
        self.assertEqual(self.successResultOf(done), b"1")
        self.assertEqual(self.successResultOf(sub.next()).data, b"2")

    def test_cancelled(self) -> None:
        """A coroutine that is cancelled in the loop takes no message with it."""
        sub = self.subscribed()
        done = self.watch(self.collect(sub))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.peer.publish("a", b"1")
        self.assertEqual(sub.pending_msgs, 1)


class RunTests(SubscriptionTestCase):
    """Messages that are handed over together, as they are when one read brings several for one subscription."""

    def run_of(self, sub: Any, *payloads: bytes) -> None:
        sub._deliver_run([Msg("a", sub.sid, "", payload) for payload in payloads])

    async def collect(self, sub: Any, into: list[bytes]) -> None:
        async for msg in sub:
            into += [msg.data]

    def test_one_taker(self) -> None:
        """``async for`` gets all of them, and waits once."""
        sub = self.subscribed()
        got: list[bytes] = []
        self.watch(self.collect(sub, got))
        for _ in range(2):
            self.run_of(sub, b"1", b"2", b"3")
            self.run_of(sub, b"4")
        self.assertEqual(got, [b"1", b"2", b"3", b"4"] * 2)
        self.assertEqual((sub.pending_msgs, sub.pending_bytes), (0, 0))
        sub.unsubscribe()

    def test_several_takers(self) -> None:
        """Takers get them in turn, in the order in which they wait; who comes back stands behind the others."""
        sub = self.subscribed()
        got: list[list[bytes]] = [[], []]
        for each in got:
            self.watch(self.collect(sub, each))
        taker = self.watch(sub.next())
        self.run_of(sub, *[b"%d" % number for number in range(7)])
        self.assertEqual(got, [[b"0", b"3", b"5"], [b"1", b"4", b"6"]])
        self.assertEqual(self.successResultOf(taker).data, b"2")
        sub.unsubscribe()

    def test_more_than_the_bounds(self) -> None:
        """A taker that keeps up loses none, although the bounds are smaller than what comes at once."""
        for options in (
            {"pending_msgs": 2},
            {"pending_bytes": 5},
            {"pending_msgs": 1, "overflow": "error"},
            {"pending_msgs": 1, "overflow": "drop-old"},
        ):
            sub = self.subscribed(**options)
            got: list[bytes] = []
            self.watch(self.collect(sub, got))
            self.run_of(sub, *[b"%d" % number for number in range(9)])
            self.assertEqual((got, sub.dropped, sub.error), ([b"%d" % number for number in range(9)], 0, None))
            sub.unsubscribe()

    def test_bounds(self) -> None:
        """Where nobody takes, the bounds hold in there as well."""
        sub = self.subscribed(pending_msgs=3)
        self.run_of(sub, *[b"%d" % number for number in range(9)])
        self.assertEqual((sub.pending_msgs, sub.dropped), (3, 6))
        old = self.subscribed(pending_msgs=3, overflow="drop-old")
        self.run_of(old, *[b"%d" % number for number in range(9)])
        self.assertEqual([self.successResultOf(old.next()).data for _ in range(3)], [b"6", b"7", b"8"])
        ending = self.subscribed(pending_msgs=3, overflow="error")
        self.run_of(ending, *[b"%d" % number for number in range(9)])
        self.assertEqual((ending.pending_msgs, ending.dropped), (3, 1))

    def test_ended_by_a_taker(self) -> None:
        """A taker that ends the subscription in between gets no more."""
        for options in ({}, {"pending_msgs": 2}):
            sub = self.subscribed(**options)
            got: list[bytes] = []

            async def first(sub: Any = sub, got: list[bytes] = got) -> None:
                async for msg in sub:
                    got.append(msg.data)
                    sub.unsubscribe()

            self.successResultOf(self.watch_after(first(), sub))
            self.assertEqual((got, sub.closed, sub.pending_msgs), ([b"0"], True, 0))

    def watch_after(self, coroutine: Any, sub: Any) -> Any:
        watched = self.watch(coroutine)
        self.run_of(sub, *[b"%d" % number for number in range(5)])
        return watched

    def test_ended(self) -> None:
        """One that has ended takes none."""
        sub = self.subscribed()
        sub.unsubscribe()
        self.run_of(sub, b"1", b"2")
        self.assertEqual(sub.pending_msgs, 0)

    def test_cancelled_taker(self) -> None:
        """A taker that cancels another one in between takes nothing from anybody."""
        sub = self.subscribed()
        first, second = self.watch(sub.next()), self.watch(sub.next())
        first.addCallback(lambda msg: second.cancel())
        self.run_of(sub, b"1", b"2")
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.successResultOf(sub.next()).data, b"2")


class SizeTests(SubscriptionTestCase):
    def test_idle(self) -> None:
        """A subscription that waits for messages for its handler owns nothing but itself: there may be very many."""
        sub = self.subscribed(handler=print)
        self.peer.publish("a", b"1")
        self.assertFalse(hasattr(sub, "__dict__"))
        owned = [each for each in gc.get_referents(sub) if isinstance(each, (deque, list, set, OneShot, Waiters))]
        self.assertEqual(owned, [])

    def test_confirmed(self) -> None:
        """Having been confirmed costs nothing either."""
        subs = [self.subscribed() for _ in range(2)]
        results = [self.watch(sub.confirmed()) for sub in subs]
        self.network.advance()
        self.assertEqual([self.successResultOf(result) for result in results], subs)
        self.assertIs(subs[0]._confirmation, subs[1]._confirmation)
        self.successResultOf(subs[0].confirmed())
        subs[0].unsubscribe()
        self.successResultOf(subs[0].confirmed())


class EndTests(SubscriptionTestCase):
    def test_unsubscribe(self) -> None:
        """After ``unsubscribe()`` nothing comes, and what waited is dropped. Doing it again does nothing."""
        sub = self.subscribed()
        closed = [self.watch(sub.when_closed())]
        self.peer.publish("a", b"1")
        sub.unsubscribe()
        sub.unsubscribe()
        closed.append(sub.when_closed())
        self.network.advance()
        self.assertEqual([frame.limit for frame in self.peer.take(UnsubscribeFrame)], [0])
        self.assertEqual([self.successResultOf(each) for each in closed], [None, None])
        self.peer.send(b"MSG a 1 1\r\nx\r\n")
        self.assertEqual((sub.pending_msgs, sub.closed, self.client.subscriptions), (0, True, ()))

    def test_unknown_sid(self) -> None:
        """A message for nobody is dropped and counted."""
        self.peer.send(b"MSG a 77 1\r\nx\r\n")
        self.assertEqual(self.client.core.unknown_sid_msgs, 1)

    def test_ids(self) -> None:
        """An id is used once in a client's life."""
        ids = []
        for _ in range(3):
            sub = self.subscribed()
            ids.append(sub.sid)
            sub.unsubscribe()
            self.server.peer.cut()
            self.network.advance(1)
        self.assertEqual(ids, [1, 2, 3])

    def test_limit_later(self) -> None:
        """A limit counts from the subscription's beginning."""
        sub = self.subscribed()
        self.peer.publish("a", b"1", b"2")
        sub.unsubscribe(4)
        self.network.advance()
        self.assertEqual([frame.limit for frame in self.peer.take(UnsubscribeFrame)], [4])
        self.peer.publish("a", b"3", b"4", b"5")
        self.assertEqual([self.successResultOf(sub.next()).data for _ in range(4)], [b"1", b"2", b"3", b"4"])
        self.assertTrue(sub.closed)
        self.assertEqual(self.client._subscriptions.ending, set())
        self.failureResultOf(sub.next(), SubscriptionClosedError)

    def test_limit_that_was_reached(self) -> None:
        """A limit that was reached before ends it at once, and the server is told so without a number."""
        sub = self.subscribed()
        self.peer.publish("a", b"1", b"2")
        sub.unsubscribe(2)
        self.network.advance()
        self.assertEqual([frame.limit for frame in self.peer.take(UnsubscribeFrame)], [0])
        self.assertEqual(self.client.subscriptions, ())
        self.assertEqual([self.successResultOf(sub.next()).data for _ in range(2)], [b"1", b"2"])
        self.assertTrue(sub.closed)

    def test_unsubscribe_behind_a_limit(self) -> None:
        """What waits behind a limit that was reached can be dropped."""
        sub = self.subscribed(max_msgs=2)
        self.peer.publish("a", b"1", b"2")
        sub.unsubscribe()
        self.assertEqual((sub.closed, sub.pending_msgs), (True, 0))

    def test_bad_limits(self) -> None:
        """A limit that is no number of messages is refused, and changes nothing."""
        sub = self.subscribed()
        for limit in (0, -1, True, "5", 1.5):
            self.assertRaises(InvalidSubscriptionError, sub.unsubscribe, limit)
            self.assertRaises(InvalidSubscriptionError, self.client.subscribe, "b", max_msgs=limit)
        self.network.advance()
        self.assertEqual((self.peer.take(UnsubscribeFrame), self.client.subscriptions), ([], (sub,)))

    def test_bad_names(self) -> None:
        """Names that cannot be sent are refused, and nothing is written."""
        self.peer.take()
        for subject in ("", "a b", "a\r\nPING", "a..b", ".a", "a.", "a.>.b", "a\t", None):
            self.assertRaises(InvalidSubjectError, self.client.subscribe, subject)
        for queue in ("", "a b", "a\r\nPING", "\t", 5):
            self.assertRaises(InvalidQueueError, self.client.subscribe, "a", queue=queue)
        self.network.advance()
        self.assertEqual((self.peer.frames, self.client.subscriptions), ([], ()))

    def test_closed_client(self) -> None:
        """The end of the client is the end of its subscriptions; new ones are refused."""
        sub = self.subscribed()
        taker, closed = self.watch(sub.next()), self.watch(sub.when_closed())
        self.client.close()
        self.assertRaises(ConnectionClosedError, self.client.subscribe, "b")
        self.network.advance()
        self.failureResultOf(taker, ConnectionClosedError)
        self.successResultOf(closed)
        self.failureResultOf(sub.next(), ConnectionClosedError)
        self.assertRaises(ConnectionClosedError, self.client.subscribe, "b")

    def test_draining_client(self) -> None:
        """A client that drains takes no new ones."""
        self.watch(self.client.drain())
        self.assertRaises(ConnectionDrainingError, self.client.subscribe, "b")
        self.network.advance()


class ConfirmationTests(SubscriptionTestCase):
    def test_confirmed(self) -> None:
        """``await subscription`` is over when the server has answered behind the SUB, and gives the subscription."""
        self.server.answer_pings = False

        async def subscribe() -> Any:
            return await self.client.subscribe("a")

        done = self.watch(subscribe())
        self.network.advance()
        self.assertEqual([type(frame) for frame in self.peer.take()], [SubscribeFrame, PingFrame])
        self.assertNoResult(done)
        self.peer.send(b"PONG\r\n")
        sub = self.successResultOf(done)
        self.assertIs(self.successResultOf(sub.confirmed()), sub)
        self.network.advance()
        self.assertEqual(self.peer.frames, [])

    def test_denied(self) -> None:
        """A denied permission is raised there, ends that subscription and no other, and is told to listeners."""
        self.deny_next(DENIED)
        other, sub = self.client.subscribe("b"), self.client.subscribe("a")
        results = [self.watch(each.confirmed()) for each in (other, sub)]
        self.network.advance()
        self.successResultOf(results[0])
        error = self.failureResultOf(results[1], PermissionsViolationError).value
        self.assertEqual((error.operation, error.subject), ("subscription", "a"))
        self.assertEqual((sub.closed, sub.error, other.closed), (True, error, False))
        self.assertEqual(self.told(ServerErrorEvent), [ServerErrorEvent(error)])
        self.failureResultOf(sub.confirmed(), PermissionsViolationError)
        self.failureResultOf(sub.next(), PermissionsViolationError)
        self.assertTrue(self.client.is_connected)
        self.assertEqual([text for text in self.logged() if "Permissions" in text], [])
        self.peer.cut()
        self.network.advance()
        self.assertEqual(self.server.peer.subscribed(), ["b"])

    def deny_next(self, text: str, subject: str = "a") -> None:
        def deny(session: Any, frame: Any) -> None:
            if isinstance(frame, SubscribeFrame) and frame.subject == subject:
                session.error(text)

        self.server.interceptor = deny

    def test_denied_and_nobody_waits(self) -> None:
        """Where nobody waits for it, the log has it."""
        self.deny_next(DENIED)
        sub = self.client.subscribe("a", print)
        self.network.advance()
        self.assertIsInstance(sub.error, PermissionsViolationError)
        self.assertEqual(len([text for text in self.logged() if "Permissions Violation" in text]), 1)

    def test_denied_for_a_queue(self) -> None:
        """A denial that names a queue group ends the members of that group only."""
        plain, member = self.subscribed(), self.subscribed(queue="q")
        self.peer.error(DENIED + ' using queue "q"')
        self.assertEqual((plain.closed, member.closed), (False, True))

    def test_denied_by_id(self) -> None:
        """A denial that names an id ends the one that has it."""
        subs = [self.subscribed(), self.subscribed()]
        self.peer.error(DENIED + ' (sid "2")')
        self.assertEqual([sub.closed for sub in subs], [False, True])

    def test_denied_twice_the_same(self) -> None:
        """A denial without an id is for all to that subject."""
        subs = [self.subscribed(), self.subscribed(), self.subscribed("b")]
        self.peer.error(DENIED)
        self.assertEqual([sub.closed for sub in subs], [True, True, False])

    def test_denied_with_messages_waiting(self) -> None:
        """What came before the permission was taken away can still be taken."""
        sub = self.subscribed()
        self.peer.publish("a", b"1")
        self.peer.error(DENIED + ' (sid "1")')
        self.assertEqual(self.successResultOf(sub.next()).data, b"1")
        self.failureResultOf(sub.next(), PermissionsViolationError)

    def test_texts_that_name_nobody(self) -> None:
        """Where one subscription alone waits for its confirmation, an error that names none is about that."""
        for text, error in (("maximum subscriptions exceeded", MaxSubscriptionsExceededError), ("Invalid Subject", InvalidSubjectError)):
            self.deny_next(text)
            sub = self.client.subscribe("a")
            result = self.watch(sub.confirmed())
            self.network.advance()
            self.failureResultOf(result, error)
            self.assertTrue(sub.closed)
            # Should it have been about another one, the server would go on sending.
            self.assertEqual([frame.sid for frame in self.peer.take(UnsubscribeFrame)], [str(sub.sid)])

    def test_texts_that_may_mean_several(self) -> None:
        """Where several wait, nobody is blamed; it is logged and told."""
        self.deny_next("maximum subscriptions exceeded")
        subs = [self.client.subscribe("a"), self.client.subscribe("b")]
        results = [self.watch(sub.confirmed()) for sub in subs]
        self.network.advance()
        self.assertEqual([self.successResultOf(result) for result in results], subs)
        self.assertEqual(len(self.told(ServerErrorEvent)), 1)
        self.assertTrue([text for text in self.logged() if "maximum subscriptions exceeded" in text])

    def test_disconnected(self) -> None:
        """Without a connection it waits for the next one; so it does when the connection is lost before the answer."""
        self.network.refuse("one:4222")
        self.server.answer_pings = False
        early = self.client.subscribe("a")
        results = [self.watch(early.confirmed())]
        self.network.advance()
        self.peer.cut()
        self.network.advance()
        late = self.client.subscribe("b")
        results.append(self.watch(late.confirmed()))
        self.network.accept("one:4222")
        self.network.advance(1)
        for result in results:
            self.assertNoResult(result)
        self.server.peer.send(b"PONG\r\n")
        self.network.advance()
        self.server.peer.send(b"PONG\r\n")
        self.assertEqual([self.successResultOf(result) for result in results], [early, late])

    def test_ended_before(self) -> None:
        """One that ends, or whose client does, before it is confirmed says so."""
        self.server.answer_pings = False
        first, second = self.client.subscribe("a"), self.client.subscribe("b")
        results = [self.watch(first.confirmed()), self.watch(second.confirmed())]
        first.unsubscribe()
        self.failureResultOf(results[0], SubscriptionClosedError)
        self.client.close()
        self.network.advance()
        self.failureResultOf(results[1], ConnectionClosedError)

    def test_cancelled(self) -> None:
        """Whoever gives up waiting changes nothing for the subscription, nor for others who wait."""
        sub = self.client.subscribe("a")
        first, second = sub.confirmed(), self.watch(sub.confirmed())
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.network.advance()
        self.successResultOf(second)
        self.assertFalse(sub.closed)

    def test_flush_while_disconnected(self) -> None:
        """A flush does not wait for the next connection: it could not tell what of the lost one has arrived."""
        self.network.refuse("one:4222")
        self.peer.cut()
        self.failureResultOf(self.client.flush(), DisconnectedError)
