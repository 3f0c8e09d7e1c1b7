"""A watch of subjects in virtual time: when it says that everything has come, what it asks for, and that it leaves nothing behind."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.api import DeliverPolicy, collide
from pynats_twisted.jetstream.gathering import Gathering
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.subject_watch import SubjectWatch, separate_filters
from pynats_twisted.jetstream.watcher import Watcher
from pynats_twisted.protocol.subjects import matches
from pynats_twisted.testing.server_frames import PublishFrame
from tests.jetstream.test_ordered import OrderedTestCase

TOKENS = st.sampled_from(["a", "b", "*"])
FILTERS = st.builds(
    lambda tokens, tail: ".".join([*tokens, *tail]), st.lists(TOKENS, min_size=1, max_size=3), st.sampled_from([[], [], [">"]])
)
SUBJECTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)


def taken_as(msgs: list[JsMsg | None]) -> list[int | None]:
    """The payloads, which are the sequences."""
    return [None if msg is None else int(msg.data) for msg in msgs]


class WatchTestCase(OrderedTestCase):
    """A watch ``self.subjects`` of all that is on ``s``."""

    def watching(self, pending: int = 0, floor: int = 0, **options: Any) -> tuple[str, PublishFrame]:
        """Begin; the name of the consumer at the server, and the first pull."""
        self.subjects = SubjectWatch(self.js, "S", ["s"], **options)
        ready = self.subjects.ready()
        name, self.config = self.create(floor=floor, pending=pending)
        self.assertIs(self.successResultOf(ready), self.subjects)
        return name, self.one("MSG.NEXT")

    def take(self) -> list[int | None]:
        """What there is."""
        taken: list[int | None] = []
        while True:
            self.network.advance()
            waiting = self.subjects.some()
            if not waiting.called:
                waiting.cancel()
                self.failureResultOf(waiting, CancelledError)
                return taken
            taken += taken_as(self.successResultOf(waiting))

    def finish(self) -> None:
        """Stop it, and see that nothing is left."""
        stopped = self.subjects.stop()
        for frame in self.find("CONSUMER.DELETE"):
            self.reply(frame, "consumer_delete", success=True)
        self.network.advance()
        self.successResultOf(stopped)
        self.assertEqual(list(self.client.subscriptions), [])


class InitialDoneTests(WatchTestCase):
    """None comes once: when everything has come that was stored when it began."""

    def test_nothing_is_stored(self) -> None:
        """None comes at once where nothing matches, and then what is new."""
        name, pull = self.watching()
        self.assertEqual(self.take(), [None])
        self.deliver(pull, name, 1, 7)
        self.assertEqual(self.take(), [7])
        self.finish()

    def test_behind_the_last_that_was_stored(self) -> None:
        """None comes behind the last message of what was stored, in the same breath."""
        name, pull = self.watching(pending=2)
        self.assertEqual(self.take(), [])
        self.deliver(pull, name, 1, 3, 1)
        self.assertEqual(self.take(), [3])
        self.deliver(pull, name, 2, 5, 0)
        self.assertEqual(self.take(), [5, None])
        self.deliver(pull, name, 3, 6, 0)
        self.assertEqual(self.take(), [6])
        self.finish()

    def test_more_is_stored_than_is_read(self) -> None:
        """None comes behind as many messages as were stored, where others never let the number of those that wait fall to 0."""
        name, pull = self.watching(pending=2)
        self.deliver(pull, name, 1, 3, 9)
        self.assertEqual(self.take(), [3])
        self.deliver(pull, name, 2, 5, 9)
        self.deliver(pull, name, 3, 6, 9)
        self.assertEqual(self.take(), [5, None, 6])
        self.finish()

    def test_what_was_stored_is_gone(self) -> None:
        """None comes also when what is still missing was removed at the server meanwhile: it is asked in silence."""
        name, pull = self.watching(pending=2)
        self.deliver(pull, name, 1, 3, 1)
        self.assertEqual(self.take(), [3])
        waiting = self.subjects.next()
        for _ in range(40):
            self.network.advance(0.5)
            asked = self.find("CONSUMER.INFO")
            if asked:
                break
        self.reply(asked[0], "consumer_info", stream_name="S", name=name, delivered={"consumer_seq": 1, "stream_seq": 3}, num_pending=0)
        self.network.advance()
        self.assertIsNone(self.successResultOf(waiting))
        self.finish()

    def test_only_what_is_new(self) -> None:
        """With NEW, None is the first, also where a message was stored before the server had answered."""
        name, pull = self.watching(pending=1, floor=4, deliver_policy=DeliverPolicy.NEW)
        self.deliver(pull, name, 1, 5, 0)
        self.assertEqual(self.take(), [None, 5])
        self.finish()

    def test_a_reset_before_it(self) -> None:
        """A consumer that is lost before None: the next one goes on, and None comes once, behind all that is stored now."""
        name, pull = self.watching(pending=3)
        self.deliver(pull, name, 1, 3, 2)
        self.assertEqual(self.take(), [3])
        self.reconnect()
        self.assertEqual(self.take(), [])
        again, config = self.create(floor=3, pending=4)
        self.assertEqual((config["deliver_policy"], config["opt_start_seq"]), ("by_start_sequence", 4))
        pull = self.one("MSG.NEXT")
        self.assertEqual(self.take(), [])
        for consumer_seq, stream_seq in enumerate((4, 5, 6), 1):
            self.deliver(pull, again, consumer_seq, stream_seq, 9)
        # As many as were missing at first: but the consumer of now has one more that may have been stored then.
        self.assertEqual(self.take(), [4, 5, 6])
        self.deliver(pull, again, 4, 8, 9)
        self.assertEqual(self.take(), [8, None])
        self.finish()

    def test_two_resets_before_it(self) -> None:
        """What a second consumer brought before it was lost too is not counted as what the first one had."""
        name, pull = self.watching(pending=3)
        self.deliver(pull, name, 1, 3, 2)
        self.assertEqual(self.take(), [3])
        self.reconnect()
        again, _ = self.create(floor=3, pending=9)
        pull = self.one("MSG.NEXT")
        for consumer_seq, stream_seq in enumerate((4, 5), 1):
            self.deliver(pull, again, consumer_seq, stream_seq, 9)
        self.reconnect()
        self.assertEqual(self.take(), [4, 5])
        self.create(floor=5)
        self.assertEqual(self.take(), [None])
        self.finish()

    def test_a_reset_before_the_first(self) -> None:
        """A consumer that is lost before any message came is made again as the first one was."""
        self.watching(pending=3)
        self.reconnect()
        _, config = self.create(pending=0)
        self.assertEqual(config["deliver_policy"], "last_per_subject")
        self.assertEqual(self.take(), [None])
        self.finish()

    def test_a_reset_behind_it(self) -> None:
        """None does not come again."""
        name, pull = self.watching(pending=1)
        self.deliver(pull, name, 1, 3)
        self.assertEqual(self.take(), [3, None])
        self.reconnect()
        self.create(floor=3)
        self.assertEqual(self.take(), [])
        self.finish()

    def test_the_deferred(self) -> None:
        """``initial_done`` fires for everybody when None was handed out, also later; and fails when it was stopped before."""
        name, pull = self.watching(pending=1)
        before = self.subjects.initial_done
        self.deliver(pull, name, 1, 3)
        self.network.advance()
        self.assertNoResult(before)
        self.take()
        self.successResultOf(before)
        self.successResultOf(self.subjects.initial_done)
        self.assertTrue(self.subjects.is_initial_done and self.subjects.is_caught_up)
        self.finish()
        self.watching(pending=1)
        before = self.subjects.initial_done
        self.finish()
        self.failureResultOf(before, errors.SubscriptionClosedError)


class AskingTests(WatchTestCase):
    """What the server is asked for."""

    def test_options(self) -> None:
        """The policy, the first sequence and the wish for headers only go to the server."""
        for options, expected in (
            ({}, ("last_per_subject", None, None)),
            ({"deliver_policy": DeliverPolicy.ALL, "headers_only": True}, ("all", None, True)),
            ({"deliver_policy": DeliverPolicy.NEW}, ("new", None, None)),
            ({"start_seq": 7}, ("by_start_sequence", 7, None)),
        ):
            self.watching(**options)
            asked = self.config
            found = asked["deliver_policy"], asked.get("opt_start_seq"), asked.get("headers_only")
            self.assertEqual(found, expected)
            self.finish()

    def test_wrong_values(self) -> None:
        """What breaks a rule is refused before anything is sent."""
        for kind, filters, options in (
            (errors.InvalidArgumentError, ["s"], {"deliver_policy": DeliverPolicy.LAST}),
            (errors.InvalidSubjectError, ["s t"], {}),
            (errors.InvalidArgumentError, ["s"], {"start_seq": 0}),
        ):
            self.assertRaises(kind, SubjectWatch, self.js, "S", filters, **options)
        self.assertRaises(errors.InvalidNameError, SubjectWatch, self.js, "S.T", ["s"])
        self.assertEqual(self.find(""), [])

    def test_no_such_stream(self) -> None:
        """Who waits gets the error of the server, and so does who asks later."""
        self.subjects = SubjectWatch(self.js, "S", ["s"])
        waiting, done = self.subjects.next(), self.subjects.initial_done
        self.refuse_with(self.one("CONSUMER.CREATE"), 404, 10059)
        self.network.advance()
        for each in (waiting, done, self.subjects.next(), self.subjects.ready()):
            self.failureResultOf(each, errors.StreamNotFoundError)

    def test_overlapping_filters(self) -> None:
        """Filters that overlap in part are one for the server, and what matches none of them is left out."""
        self.subjects = SubjectWatch(self.js, "S", ["s.*", "*.t"])
        waiting = self.subjects.some()
        name, config = self.create(pending=1)
        self.assertEqual(config["filter_subject"], "*.*")
        # It comes on the subject ``s``, which neither matches.
        self.deliver(self.one("MSG.NEXT"), name, 1, 1, 0)
        self.network.advance()
        self.assertEqual(self.successResultOf(waiting), [None])
        self.finish()


class EndingTests(WatchTestCase):
    """Nothing is left behind."""

    def test_stop(self) -> None:
        """Who waits is told, loops end, and nothing is handed out any more, not even what had come."""
        name, pull = self.watching(pending=2)
        self.deliver(pull, name, 1, 3, 1)
        self.network.advance()
        self.finish()
        self.failureResultOf(self.subjects.next(), errors.SubscriptionClosedError)
        self.failureResultOf(self.subjects.ready(), errors.SubscriptionClosedError)
        self.failureResultOf(Deferred.fromCoroutine(self.subjects.__anext__()), StopAsyncIteration)
        self.assertEqual(self.find(""), [])

    def test_stop_ends_a_wait(self) -> None:
        """Whoever waits for the next message when it is stopped gets a SubscriptionClosedError."""
        self.watching(pending=2)
        waiting = self.subjects.next()
        self.finish()
        self.failureResultOf(waiting, errors.SubscriptionClosedError)

    def test_time_out_and_cancel(self) -> None:
        """A wait that ends early loses nothing."""
        name, pull = self.watching(pending=1)
        waiting = self.subjects.next(timeout=1.0)
        self.network.advance(1.5)
        self.failureResultOf(waiting, errors.NextMessageTimeoutError)
        waiting = self.subjects.next()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.deliver(pull, name, 1, 3)
        self.assertEqual(self.take(), [3, None])
        self.finish()

    def test_cancelling_a_loop(self) -> None:
        """A loop that is cancelled deletes the consumer."""
        name, _ = self.watching(pending=1)
        waiting = Deferred.fromCoroutine(self.subjects.__anext__())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.one("CONSUMER.DELETE").subject.endswith(name))

    def test_the_client_is_closed(self) -> None:
        """Loops end with the client."""
        self.watching()
        self.assertEqual(self.take(), [None])
        waiting = Deferred.fromCoroutine(self.subjects.__anext__())
        self.client.close()
        self.network.advance()
        self.failureResultOf(waiting, StopAsyncIteration)


class WatcherTests(WatchTestCase):
    """Items that are read of messages."""

    def watcher(self, pending: int) -> tuple[Watcher[int], str, PublishFrame]:
        """One that leaves out even numbers."""
        name, pull = self.watching(pending=pending)

        def read(msg: JsMsg) -> int | None:
            number = int(msg.data)
            if number == 13:
                raise ValueError("13")
            return number if number % 2 else None

        return Watcher(self.subjects, read), name, pull

    def test_items(self) -> None:
        """What is read as None is left out; None from the watch is handed out."""
        items, name, pull = self.watcher(3)
        for number in (1, 2, 3):
            self.deliver(pull, name, number, number, 3 - number)
        self.network.advance()
        self.assertEqual([self.successResultOf(items.next()) for _ in range(3)], [1, 3, None])
        self.assertEqual((items.position, items.is_initial_done, items.resets), (3, True, 0))
        self.finish()

    def test_one_that_cannot_be_read(self) -> None:
        """Its error is raised, and the next one is handed out behind it."""
        items, name, pull = self.watcher(2)
        self.deliver(pull, name, 1, 13, 1)
        self.deliver(pull, name, 2, 15, 0)
        self.network.advance()
        self.failureResultOf(items.next(), ValueError)
        self.assertEqual(self.successResultOf(items.next()), 15)
        self.finish()

    def test_collect(self) -> None:
        """All that is stored, as a list; the consumer is deleted before it is handed out."""
        items, name, pull = self.watcher(2)
        collecting = items.collect()
        self.deliver(pull, name, 1, 1, 1)
        self.deliver(pull, name, 2, 3, 0)
        self.network.advance()
        self.assertNoResult(collecting)
        self.reply(self.one("CONSUMER.DELETE"), "consumer_delete", success=True)
        self.network.advance()
        self.assertEqual(self.successResultOf(collecting), [1, 3])
        self.assertEqual(list(self.client.subscriptions), [])

    def test_cancelling_collect(self) -> None:
        """The consumer is deleted, and who cancels does not wait for that."""
        items, name, _ = self.watcher(2)
        collecting = items.collect()
        collecting.cancel()
        self.failureResultOf(collecting, CancelledError)
        self.assertTrue(self.one("CONSUMER.DELETE").subject.endswith(name))

    def test_consume(self) -> None:
        """A handler gets one item after the other; what it raises, or what cannot be read, is logged and counted."""
        items, name, pull = self.watcher(4)
        seen: list[int | None] = []
        busy: Deferred[None] = Deferred()

        def handle(item: int | None) -> Deferred[None] | None:
            seen.append(item)
            if item == 3:
                raise KeyError(item)
            return busy if item == 1 else None

        context = items.consume(handle)
        for number, seq in enumerate((1, 3, 13, 15), 1):
            self.deliver(pull, name, number, seq, 4 - number)
        self.network.advance()
        self.assertEqual(seen, [1])
        busy.callback(None)
        self.network.advance()
        self.assertEqual(seen, [1, 3, 15, None])
        self.assertEqual([failure.type for failure in self.flushLoggedErrors()], [KeyError, ValueError])
        self.assertEqual(self.client.stats.handler_errors, 2)
        done = context.done
        context.stop()
        self.finish()
        self.successResultOf(done)
        self.assertRaises(errors.InvalidArgumentError, items.consume, None)


class FilterTests(SynchronousTestCase):
    """Filters as the server wants them."""

    def test_examples(self) -> None:
        """What is within another is left out; what overlaps in part becomes one."""
        for given_filters, expected in (
            (["a", "b", "a"], ["a", "b"]),
            (["a.b", "a.*"], ["a.*"]),
            (["a.*", "a.>"], ["a.>"]),
            (["a.*", "*.b"], ["*.*"]),
            (["a.*.>", "*.b"], ["a.*.>", "*.b"]),
            ([">", "a"], [">"]),
            ([], []),
        ):
            self.assertEqual(separate_filters(given_filters), expected)

    @given(st.lists(FILTERS, max_size=6), SUBJECTS)
    def test_all_that_is_wanted(self, filters: list[str], subject: str) -> None:
        """No two overlap, and what one of the given ones matches is matched."""
        found = separate_filters(filters)
        self.assertFalse([(one, other) for one in found for other in found if one is not other and collide(one, other)])
        if any(matches(each, subject) for each in filters):
            self.assertTrue(any(matches(each, subject) for each in found))


class GatheringTests(SynchronousTestCase):
    """A list that is read when it is asked for."""

    def test_read_once(self) -> None:
        """Nothing is read before the first use, and everything once; ``await`` gives the rest of what a loop has left."""
        asked: list[Deferred[list[int]]] = []

        def gather() -> Deferred[list[int]]:
            asked.append(Deferred())
            return asked[-1]

        gathering: Gathering[int] = Gathering(gather)
        self.assertEqual(asked, [])
        first = Deferred.fromCoroutine(gathering.__anext__())
        asked[0].callback([1, 2, 3])
        self.assertEqual(self.successResultOf(first), 1)
        self.assertEqual(self.successResultOf(gathering.collect()), [2, 3])
        self.failureResultOf(Deferred.fromCoroutine(gathering.__anext__()), StopAsyncIteration)
        self.assertEqual(len(asked), 1)
