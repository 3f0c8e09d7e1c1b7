"""Direct gets by a scripted server: pages, what is lost on the way, and every way in which they fail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.direct import DirectGet
from pynats_twisted.testing.server_frames import PublishFrame
from tests.client.network import NO_RESPONDERS

from .scripted import ScriptedTestCase

TIME = "2026-01-02T03:04:05.123456789Z"


def stored(seq: int, subject: str = "s.a", block: str = "NATS/1.0\r\n", **more: object) -> bytes:
    """The header block of a reply with a message."""
    added = {"Nats-Stream": "S", "Nats-Subject": subject, "Nats-Sequence": seq, "Nats-Time-Stamp": TIME}
    lines = [f"{name}: {value}\r\n" for name, value in added.items()]
    return (block + "".join([*lines, *(f"Nats-{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())]) + "\r\n").encode()


def end(pending: int, last: int) -> bytes:
    return f"NATS/1.0 204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {last}\r\n\r\n".encode()


class DirectTestCase(ScriptedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.direct: DirectGet = self.js.direct_get("S")

    def page(
        self, seqs: Sequence[int], pending: int, *, subjects: Sequence[str] = (), eob: bool = True, without: Sequence[int] = ()
    ) -> PublishFrame:
        """Answer the one request with messages, and return it."""
        frame = self.asked()
        last = 0
        for index, seq in enumerate(seqs):
            if seq not in without:
                subject = subjects[index] if subjects else "s.a"
                block = stored(seq, subject, Num_Pending=pending + len(seqs) - index - 1, Last_Sequence=last)
                self.peer.answer(frame, b"%d" % seq, block=block)
            last = seq
        if eob:
            self.peer.answer(frame, block=end(pending, last))
        return frame

    def status(self, text: str) -> None:
        self.peer.answer(self.asked(), block=f"NATS/1.0 {text}\r\n\r\n".encode())

    def seqs_of(self, waiting: Deferred[Any]) -> list[int]:
        return [msg.seq for msg in self.successResultOf(waiting)]


class SingleTests(DirectTestCase):
    """One message."""

    def test_last_is_asked_for_by_subject(self) -> None:
        """The last message of a subject is asked for on a subject of its own, which permissions can name; with wildcards in the request."""
        for subject, asked, payload in [
            ("s.a", "$JS.API.DIRECT.GET.S.s.a", b""),
            ("s.*", "$JS.API.DIRECT.GET.S", b'{"last_by_subj":"s.*"}'),
        ]:
            waiting = self.watch(self.direct.get_last_msg(subject))
            frame = self.asked()
            self.assertEqual((frame.subject, frame.payload), (asked, payload))
            self.peer.answer(frame, b"data", block=stored(7))
            msg = self.successResultOf(waiting)
            self.assertEqual((msg.subject, msg.seq, msg.data, msg.raw_headers), ("s.a", 7, b"data", b""))
            self.assertEqual((msg.time, msg.time.nanosecond), (datetime(2026, 1, 2, 3, 4, 5, 123456, timezone.utc), 123456789))

    def test_stored_headers_and_added_ones(self) -> None:
        """The server's headers are taken out again, also where the stored ones have the same names or the block is damaged."""
        for block, raw_headers in [
            ("NATS/1.0\r\n", b""),
            ("NATS/1.0\r\nA: 1\r\nA: 2\r\n", b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n"),
            ("NATS/1.0\r\nNats-Stream: X\r\nNats-Sequence: 1\r\n", b"NATS/1.0\r\nNats-Stream: X\r\nNats-Sequence: 1\r\n\r\n"),
            ("NATS/1.0 404 Gone\r\n", b"NATS/1.0 404 Gone\r\n\r\n"),
            ("NATS/1.0\r\nA: b", b"NATS/1.0\r\nA: b\r\n\r\n"),
        ]:
            waiting = self.watch(self.direct.get_msg(7))
            self.peer.answer(self.asked(), block=stored(7, block=block))
            msg = self.successResultOf(waiting)
            self.assertEqual((msg.seq, msg.raw_headers), (7, raw_headers))

    def test_statuses(self) -> None:
        """Each status is an error of its own, with the server's words."""
        for text, kind in [
            ("404 Message Not Found", errors.MessageNotFoundError),
            ("408 Empty Request", errors.JetStreamBadRequestError),
            ("412 Required Api Level", errors.RequiredApiLevelError),
            ("413 Too Many Results", errors.TooManyResultsError),
            ("429 Too Many Requests", errors.JetStreamTooManyRequestsError),
            ("500 broken", errors.JetStreamUnavailableError),
            ("418 teapot", errors.JetStreamApiError),
        ]:
            waiting = self.watch(self.direct.get_msg(7))
            self.status(text)
            error = self.error_of(waiting, kind)
            self.assertIs(type(error), kind)
            self.assertIn(text.partition(" ")[2], str(error))
            self.assertEqual(str(error.code), text.partition(" ")[0])

    def test_what_is_no_answer(self) -> None:
        """A reply that is neither a message nor a status is an error, and not a message."""
        for block in [
            b"",
            end(0, 1),
            b"NATS/1.0\r\nA: b\r\n\r\n",
            stored(7).replace(b"Sequence: 7", b"Sequence: x"),
            stored(7).replace(TIME.encode(), b"today"),
            stored(7).replace(TIME.encode(), b"0001-01-01T00:00:00Z"),
            stored(7).replace(b"Nats-Subject", b"Nats-Other"),
        ]:
            waiting = self.watch(self.direct.get_msg(7))
            self.peer.answer(self.asked(), b"x", block=block)
            self.error_of(waiting, errors.JetStreamDecodeError)

    def test_nobody_answers(self) -> None:
        """Where nobody listens, the error names what may be the reason."""
        waiting = self.watch(self.direct.get_msg(7))
        self.peer.answer(self.asked(), block=NO_RESPONDERS)
        self.assertIn("allow_direct", str(self.error_of(waiting, errors.JetStreamNotEnabledError)))
        late = self.watch(self.direct.get_msg(7, timeout=0.5))
        self.network.advance(0.5)
        self.error_of(late, errors.RequestTimeoutError)

    def test_bad_input(self) -> None:
        """Nothing that breaks a rule is sent."""
        self.assertRaises(errors.InvalidNameError, self.js.direct_get, "a.b")
        for waiting, kind in [
            (self.direct.get_msg(0), errors.JetStreamConfigError),
            (self.direct.get_msg(-1), errors.JetStreamConfigError),
            (self.direct.get_last_msg(""), errors.InvalidSubjectError),
            (self.direct.get_last_msg("a b"), errors.InvalidSubjectError),
            (self.direct.get_next_msg(1, "a\r\nPUB x 0"), errors.InvalidSubjectError),
        ]:
            self.error_of(waiting, kind)
        wrong_arguments: list[dict[str, Any]] = [
            {"limit": 0},
            {"limit": True},
            {"seq": 0},
            {"page_msgs": 0},
            {"page_bytes": "1"},
            {"timeout": 0},
            {"timeout": float("inf")},
        ]
        for wrong in wrong_arguments:
            self.assertRaises(errors.JetStreamConfigError, self.direct.get_batch, **wrong)
        start = datetime(2026, 1, 1, tzinfo=timezone.utc)
        self.assertRaises(errors.JetStreamConfigError, self.direct.get_batch, seq=1, start_time=start)
        self.assertRaises(errors.InvalidSubjectError, self.direct.get_batch, subject="")
        subjects: Any
        for subjects in ([], "s.a", ["s a"], [""], [1], None):
            self.assertRaises(errors.JetStreamConfigError, self.direct.get_last_msgs_for, subjects)
        self.assertRaises(errors.JetStreamConfigError, self.direct.get_last_msgs_for, ["s"], up_to_seq=1, up_to_time=start)
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])


class BatchTests(DirectTestCase):
    """Messages in sequence, page by page."""

    def test_pages(self) -> None:
        """Each page begins behind the one before, and the next is asked for when that is taken."""
        batch = self.direct.get_batch(5, seq=3, subject="s.>", page_msgs=2, page_bytes=1000)
        waiting = self.watch(batch.collect())
        asked = [self.page([4, 6], 10), self.page([7, 9], 8), self.page([10], 7)]
        common = {"next_by_subj": "s.>", "max_bytes": 1000}
        self.assertEqual(
            [self.request_of(frame) for frame in asked],
            [{"seq": 3, "batch": 2, **common}, {"seq": 7, "batch": 2, **common}, {"seq": 10, "batch": 1, **common}],
        )
        self.assertEqual({frame.subject for frame in asked}, {"$JS.API.DIRECT.GET.S"})
        self.assertEqual([frame.headers["Nats-Required-Api-Level"] for frame in asked], ["1"] * 3)
        self.assertEqual((self.seqs_of(waiting), batch.num_pending), ([4, 6, 7, 9, 10], 7))

    def test_next_page_waits_for_its_reader(self) -> None:
        """Nothing is asked for that nobody takes."""
        batch = self.direct.get_batch(page_msgs=2)
        first = self.watch(batch.__anext__())
        self.page([1, 2], 5)
        self.assertEqual(self.successResultOf(first).seq, 1)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(batch.__anext__())).seq, 2)
        self.network.advance(10)
        self.assertEqual((self.peer.take(PublishFrame), self.client.requests_in_flight), ([], 0))

    def test_end_of_a_page_is_lost(self) -> None:
        """What did not come, with the end of a page, is asked for again."""
        waiting = self.watch(self.direct.get_batch().collect())
        self.page([1, 2], 2, eob=False)
        self.network.advance(2.0)
        self.assertEqual(self.request_of(self.page([3, 4], 0))["seq"], 3)
        self.assertEqual(self.seqs_of(waiting), [1, 2, 3, 4])

    def test_middle_of_a_page_is_lost(self) -> None:
        """Behind a gap nothing is handed out before the gap is filled; nothing comes twice."""
        waiting = self.watch(self.direct.get_batch().collect())
        self.page([1, 2, 3, 4], 0, without=[2, 3])
        self.assertEqual(self.request_of(self.page([2, 3, 4], 0, without=[4]))["seq"], 2)
        self.assertEqual(self.request_of(self.page([4], 0))["seq"], 4)
        self.assertEqual(self.seqs_of(waiting), [1, 2, 3, 4])

    def test_first_of_each_page_is_lost(self) -> None:
        """What cannot be got is an error in the end, and no endless loop."""
        waiting = self.watch(self.direct.get_batch().collect())
        for _ in range(4):
            self.page([1, 2], 0, without=[1])
        self.error_of(waiting, errors.RequestTimeoutError)

    def test_slow_page(self) -> None:
        """A page may take longer than the timeout, as long as messages come."""
        waiting = self.watch(self.direct.get_batch().collect())
        frame = self.asked()
        for seq in range(1, 6):
            self.network.advance(1.5)
            self.peer.answer(frame, block=stored(seq, Num_Pending=5 - seq, Last_Sequence=seq - 1))
        self.peer.answer(frame, block=end(0, 5))
        self.assertEqual(self.seqs_of(waiting), [1, 2, 3, 4, 5])

    def test_server_that_says_nothing(self) -> None:
        """A server that answers nothing at all, as some do on an error, is a timeout, on the first page and on a later one."""
        waiting = self.watch(self.direct.get_batch().collect())
        self.asked()
        self.network.advance(2.0)
        self.error_of(waiting, errors.RequestTimeoutError)
        waiting = self.watch(self.direct.get_batch(timeout=0.5).collect())
        self.page([1], 5)
        self.asked()
        self.network.advance(0.5)
        self.error_of(waiting, errors.RequestTimeoutError)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_end_without_messages(self) -> None:
        """A page that brings nothing ends the batch, or is an error when more was announced."""
        waiting = self.watch(self.direct.get_batch().collect())
        self.page([], 0)
        self.assertEqual(self.seqs_of(waiting), [])
        waiting = self.watch(self.direct.get_batch().collect())
        self.page([], 3)
        self.error_of(waiting, errors.JetStreamUnavailableError)

    def test_nothing_found(self) -> None:
        """No message is no error, at once or behind the first page."""
        batch = self.direct.get_batch()
        waiting = self.watch(batch.collect())
        self.status("404 Message Not Found")
        self.assertEqual((self.seqs_of(waiting), batch.num_pending), ([], 0))
        waiting = self.watch(self.direct.get_batch().collect())
        self.page([1], 1)
        self.status("404 Message Not Found")
        self.assertEqual(self.seqs_of(waiting), [1])

    def test_statuses(self) -> None:
        """Any other status is raised, and nothing comes after it."""
        for text, kind in [
            ("408 Bad Request", errors.JetStreamBadRequestError),
            ("412 Required Api Level", errors.RequiredApiLevelError),
            ("413 Too Many Results", errors.TooManyResultsError),
            ("429 Too Many Requests", errors.JetStreamTooManyRequestsError),
            ("500 broken", errors.JetStreamUnavailableError),
        ]:
            for batch in (self.direct.get_batch(), self.direct.get_last_msgs_for(["s.a", "s.b"])):
                waiting = self.watch(batch.collect())
                self.page([1], 1)
                self.status(text)
                self.assertIs(type(self.error_of(waiting, kind)), kind)
                self.assertEqual(self.successResultOf(batch.collect()), [])

    def test_odd_ends(self) -> None:
        """A page that ends without the numbers that say how to go on is an error."""
        for text in ("204 EOB", "100 Idle Heartbeat", "204 EOB\r\nNats-Num-Pending: x\r\nNats-Last-Sequence: 1"):
            waiting = self.watch(self.direct.get_batch().collect())
            self.page([1], 1)
            self.status(text)
            self.assertIsInstance(self.failureResultOf(waiting).value, errors.JetStreamError)

    def test_old_server(self) -> None:
        """A server that sends one message where many were asked for is too old, and the error says so."""
        for messages in (self.direct.get_batch(), self.direct.get_last_msgs_for(["s.a"])):
            waiting = self.watch(messages.collect())
            self.peer.answer(self.asked(), block=stored(1))
            self.assertEqual(self.error_of(waiting, errors.JetStreamApiLevelError).required, 1)
            self.assertEqual(self.client.requests_in_flight, 0)

    def test_nobody_answers(self) -> None:
        """Where nobody listens, the error names what may be the reason."""
        waiting = self.watch(self.direct.get_batch().collect())
        self.peer.answer(self.asked(), block=NO_RESPONDERS)
        self.assertIn("allow_direct", str(self.error_of(waiting, errors.JetStreamNotEnabledError)))

    def test_cancelled(self) -> None:
        """Whoever stops waiting, or reading, leaves nothing behind; what comes late does not matter."""
        batch = self.direct.get_batch()
        waiting = self.watch(batch.__anext__())
        frame = self.asked()
        waiting.cancel()
        self.error_of(waiting, CancelledError)
        self.assertEqual((self.client.requests_in_flight, self.successResultOf(batch.collect())), (0, []))
        self.peer.answer(frame, block=stored(1, Num_Pending=0, Last_Sequence=0))
        batch = self.direct.get_batch()
        waiting = self.watch(batch.collect())
        self.page([1, 2], 5, eob=False)
        batch.cancel()
        self.assertEqual((self.seqs_of(waiting), self.client.requests_in_flight), ([1, 2], 0))

    def test_client_closed(self) -> None:
        """Closing the client ends the reading with its error."""
        waiting = self.watch(self.direct.get_batch().collect())
        self.page([1], 5, eob=False)
        self.client.close()
        self.network.advance()
        self.error_of(waiting, errors.ConnectionClosedError)


class SmallClientTests(DirectTestCase):
    """A client that lets little wait."""

    options: ClassVar[dict[str, Any]] = {"pending_msgs": 5, "pending_bytes": 1000}

    def test_pages_are_no_larger(self) -> None:
        """More than the client lets wait is not asked for at once: it would be dropped."""
        for messages in (self.direct.get_batch(page_msgs=10), self.direct.get_last_msgs_for(["s.a"], page_msgs=10)):
            waiting = self.watch(messages.collect())
            request = self.request_of(self.page([1], 0))
            self.assertEqual((request["batch"], request["max_bytes"]), (5, 500))
            self.assertEqual(self.seqs_of(waiting), [1])


class LastMessagesTests(DirectTestCase):
    """The last messages of subjects, in parts and pages."""

    def test_parts(self) -> None:
        """A list of more subjects than a server answers for is asked for in parts; each subject is in one of them."""
        subjects = [f"s.{number}" for number in range(2500)]
        waiting = self.watch(self.direct.get_last_msgs_for([*subjects, *subjects], up_to_seq=9).collect())
        parts = []
        for _ in range(3):
            frame = self.page([1], 0, subjects=["s.x"])
            parts.append(self.request_of(frame))
        self.assertEqual([len(part["multi_last"]) for part in parts], [1024, 1024, 452])
        self.assertEqual([subject for part in parts for subject in part["multi_last"]], subjects)
        self.assertEqual([part["up_to_seq"] for part in parts], [9, 9, 9])
        self.assertEqual(self.seqs_of(waiting), [1, 1, 1])

    def test_parts_fit_into_a_message(self) -> None:
        """A part is never larger than what the server takes as a message."""
        self.peer.info(max_payload=10_000)
        self.network.advance()
        subjects = [f"s.{number}." + "x" * 200 for number in range(100)]
        waiting = self.watch(self.direct.get_last_msgs_for(subjects).collect())
        found: list[str] = []
        while len(found) < len(subjects):
            frame = self.asked()
            self.assertLess(len(frame.payload), 6000)
            found += self.request_of(frame)["multi_last"]
            self.peer.answer(frame, block=b"NATS/1.0 404 No Results\r\n\r\n")
        self.assertEqual((found, self.seqs_of(waiting)), (subjects, []))

    def test_pages_of_literal_subjects(self) -> None:
        """A second page asks for the subjects that are still missing."""
        waiting = self.watch(self.direct.get_last_msgs_for(["s.a", "s.b", "s.c"], page_msgs=2).collect())
        self.assertEqual(self.request_of(self.page([3, 5], 1, subjects=["s.b", "s.a"]))["multi_last"], ["s.a", "s.b", "s.c"])
        request = self.request_of(self.page([4], 0, subjects=["s.c"]))
        self.assertEqual((request["multi_last"], "seq" in request), (["s.c"], False))
        self.assertEqual(self.seqs_of(waiting), [3, 5, 4])

    def test_pages_of_wildcards(self) -> None:
        """A second page begins behind the first; a subject that was written to meanwhile does not come again."""
        waiting = self.watch(self.direct.get_last_msgs_for(["s.*"], page_msgs=2).collect())
        self.page([3, 5], 1, subjects=["s.b", "s.a"])
        request = self.request_of(self.page([6, 7], 0, subjects=["s.c", "s.b"]))
        self.assertEqual((request["multi_last"], request["seq"]), (["s.*"], 6))
        self.assertEqual(self.seqs_of(waiting), [3, 5, 6])

    def test_how_far_the_pages_looked(self) -> None:
        """What is known after several pages is how far the one that looked least far did; it is nothing where one does not say."""
        for ups, wanted in (((9, 7), 7), ((7, 9), 7), ((9, 0), 0)):
            messages = self.direct.get_last_msgs_for(["s.a", "s.b"], page_msgs=1)
            waiting = self.watch(messages.collect())
            self.assertIsNone(messages.up_to_seq)
            for seq, subject, pending, up_to in ((3, "s.a", 1, ups[0]), (5, "s.b", 0, ups[1])):
                frame = self.page([seq], pending, subjects=[subject], eob=False)
                ending = end(pending, seq)
                if up_to:
                    ending = ending.removesuffix(b"\r\n") + b"Nats-UpTo-Sequence: %d\r\n\r\n" % up_to
                self.peer.answer(frame, block=ending)
            self.assertEqual((self.seqs_of(waiting), messages.up_to_seq, messages.pages), ([3, 5], wanted, 2))

    def test_how_far_a_list_of_subjects_looked(self) -> None:
        """Where the subjects are asked for first, what came behind that list is not known."""
        messages = self.direct.get_last_msgs_for(["s.*"])
        waiting = self.watch(messages.collect())
        self.status("413 Too Many Results")
        self.answer("stream_info", config={"name": "S"}, state={"subjects": {"s.a": 1}, "last_seq": 6}, total=1, limit=1000)
        frame = self.page([5], 0, subjects=["s.a"], eob=False)
        self.peer.answer(frame, block=end(0, 5).removesuffix(b"\r\n") + b"Nats-UpTo-Sequence: 8\r\n\r\n")
        self.assertEqual((self.seqs_of(waiting), messages.up_to_seq), ([5], 6))

    def test_all_came_and_the_end_was_lost(self) -> None:
        """When every subject has come, no page is asked for any more."""
        waiting = self.watch(self.direct.get_last_msgs_for(["s.a"]).collect())
        self.page([1], 0, eob=False)
        self.network.advance(2.0)
        self.assertEqual(self.seqs_of(waiting), [1])

    def test_wildcards_that_match_too_much(self) -> None:
        """The subjects are asked for, page by page, and then their messages; what is listed beside is not asked for twice."""
        waiting = self.watch(self.direct.get_last_msgs_for(["s.*", "t"]).collect())
        self.status("413 Too Many Results")
        names = [f"s.{number}" for number in range(1500)]
        config = {"name": "S"}
        pages = [names[:1000], names[1000:]]
        for offset, page in ((0, pages[0]), (1000, pages[1])):
            state = {"subjects": dict.fromkeys(page, 1)}
            frame = self.answer("stream_info", config=config, state=state, total=1500, offset=offset, limit=1000)
            self.assertEqual(self.request_of(frame).get("offset", 0), offset)
            self.assertEqual(self.request_of(frame)["subjects_filter"], "s.*")
        parts = [self.request_of(self.page([1], 0, subjects=["s.x"]))["multi_last"] for _ in range(2)]
        self.assertEqual([*parts[0], *parts[1]], [*names, "t"])
        self.assertEqual(self.seqs_of(waiting), [1, 1])

    def test_too_many_while_it_is_read(self) -> None:
        """When the second page is refused because subjects were added, those that came do not come again."""
        waiting = self.watch(self.direct.get_last_msgs_for(["s.*"], page_msgs=1).collect())
        self.page([1], 1, subjects=["s.a"])
        self.status("413 Too Many Results")
        self.answer("stream_info", config={"name": "S"}, state={"subjects": {"s.a": 1, "s.b": 1}}, total=2, limit=1000)
        self.assertEqual(self.request_of(self.page([2], 0, subjects=["s.b"]))["multi_last"], ["s.b"])
        self.assertEqual(self.seqs_of(waiting), [1, 2])

    def test_long_list_with_wildcards(self) -> None:
        """Listed subjects that a wildcard matches are in one part only."""
        subjects = [*(f"s.{number}" for number in range(1024)), "t.x", "s.*"]
        waiting = self.watch(self.direct.get_last_msgs_for(subjects).collect())
        self.assertEqual(self.request_of(self.page([1], 0, subjects=["s.0"]))["multi_last"], ["s.*"])
        self.assertEqual(self.request_of(self.page([2], 0, subjects=["t.x"]))["multi_last"], ["t.x"])
        self.assertEqual(self.seqs_of(waiting), [1, 2])


class OldServerTests(DirectTestCase):
    """A server that says its level, and it is too low."""

    api_level = 0

    def test_nothing_is_sent(self) -> None:
        """Many messages are not asked for from a server that is known to be too old; one is."""
        self.assertEqual(self.error_of(self.direct.get_batch().collect(), errors.JetStreamApiLevelError).available, 0)
        self.error_of(self.direct.get_last_msgs_for(["s"]).collect(), errors.JetStreamApiLevelError)
        waiting = self.watch(self.direct.get_msg(1))
        self.peer.answer(self.asked(), block=stored(1))
        self.assertEqual(self.successResultOf(waiting).seq, 1)
