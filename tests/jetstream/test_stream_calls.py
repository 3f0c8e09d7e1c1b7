"""Streams by a scripted server: what is asked, in which order, and what becomes of races and of servers that are too old."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import Placement, StreamConfig, StreamInfo, SubjectTransform
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.testing.server_frames import PublishFrame

from .scripted import ScriptedTestCase

CONFIG = StreamConfig(name="S", subjects=["s.*"])
WIRE: dict[str, Any] = {"name": "S", "subjects": ["s.*"], "metadata": {"_nats.level": "5"}}
OLD: dict[str, Any] = {"name": "S", "subjects": ["s.*"]}
TRANSFORMED = replace(CONFIG, subject_transform=SubjectTransform(src="s.*", dest="t.$1"))


def verb(frame: PublishFrame) -> str:
    return frame.subject.split(".")[3]


class MakingTests(ScriptedTestCase):
    """Streams are made and changed."""

    def test_created_meanwhile(self) -> None:
        """When another one made the stream between our two requests, it is changed into what we want."""
        waiting = self.watch(self.js.create_or_update_stream(CONFIG))
        asked = [
            self.refuse(404, 10059),
            self.refuse(400, 10058),
            self.answer("stream_update", config=WIRE),
        ]
        self.assertEqual([verb(frame) for frame in asked], ["UPDATE", "CREATE", "UPDATE"])
        self.assertEqual(self.successResultOf(waiting).name, "S")

    def test_deleted_and_created_all_the_time(self) -> None:
        """Two programs that work against each other are told so in the end."""
        waiting = self.watch(self.js.create_or_update_stream(CONFIG))
        for _ in range(3):
            self.refuse(404, 10059)
            self.refuse(400, 10058)
        self.error_of(waiting, errors.StreamNameInUseError)

    def test_other_refusals_are_final(self) -> None:
        """Any other error is raised at once."""
        waiting = self.watch(self.js.create_or_update_stream(CONFIG))
        self.refuse(500, 10052)
        self.error_of(waiting, errors.ConfigRefusedError)
        waiting = self.watch(self.js.create_or_update_stream(CONFIG))
        self.refuse(404, 10059)
        self.refuse(400, 10065)
        self.error_of(waiting, errors.SubjectOverlapError)

    def test_server_drops_something_of_a_new_stream(self) -> None:
        """A stream that an old server made without its transform is deleted again, and the error names what is missing."""
        waiting = self.watch(self.js.create_stream(TRANSFORMED))
        self.answer("stream_create", config=OLD, did_create=True)
        self.assertEqual(verb(self.answer("stream_delete", success=True)), "DELETE")
        error = self.error_of(waiting, errors.JetStreamApiLevelError)
        self.assertEqual((error.features, "deleted again" in str(error)), (("subject_transform",), True))

    def test_server_drops_something_of_an_older_stream(self) -> None:
        """A stream that was there before is never deleted."""
        calls: list[tuple[Any, str]] = [
            (self.js.create_stream, "create"),
            (self.js.update_stream, "update"),
            (self.stream().update, "update"),
        ]
        for call, kind in calls:
            waiting = self.watch(call(TRANSFORMED))
            self.answer(f"stream_{kind}", config=OLD)
            error = self.error_of(waiting, errors.JetStreamApiLevelError)
            self.assertEqual((error.features, "deleted" in str(error)), (("subject_transform",), False))
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])

    def test_another_one_changed_it_meanwhile(self) -> None:
        """A server of now drops nothing: when its answer has less, somebody else changed the stream, which is no error of ours."""
        waiting = self.watch(self.js.update_stream(TRANSFORMED))
        self.answer("stream_update", config=WIRE)
        self.assertIsNone(self.successResultOf(waiting).config.subject_transform)

    def test_bad_input(self) -> None:
        """Nothing that breaks a rule is sent, and the error names the field or the name."""
        config: Any = {"name": "S"}
        stream = self.stream()
        for call in (self.js.create_stream, self.js.update_stream, self.js.create_or_update_stream, stream.update):
            self.error_of(call(config), errors.InvalidArgumentError)
            self.assertEqual(self.error_of(call(StreamConfig(name="a.b")), errors.JetStreamConfigError).field, "name")
            self.assertEqual(self.error_of(call(StreamConfig(name="S", max_msgs=-5)), errors.JetStreamConfigError).field, "max_msgs")
        self.assertEqual(self.error_of(stream.update(StreamConfig(name="T")), errors.JetStreamConfigError).field, "name")
        for name in ("", "a b", "a.b", "a>", "x" * 256):
            self.error_of(self.js.stream(name), errors.InvalidNameError)
            self.error_of(self.js.delete_stream(name), errors.InvalidNameError)
        self.error_of(self.js.stream_name_by_subject("a b"), errors.InvalidSubjectError)
        self.error_of(stream.info("a b"), errors.JetStreamConfigError)
        self.error_of(stream.delete_msg(0), errors.JetStreamConfigError)
        self.assertRaises(errors.JetStreamConfigError, self.js.streams, "a b")
        self.assertRaises(errors.JetStreamConfigError, self.js.stream_names, "a..b")
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])

    def stream(self) -> Stream:
        return Stream(self.js, StreamInfo(config=CONFIG))


class OldServerTests(ScriptedTestCase):
    """A server that says its level."""

    api_level = 1

    def test_feature_that_the_server_has_not(self) -> None:
        """What is known to be too new for the server is not sent."""
        error = self.error_of(self.js.create_stream(replace(CONFIG, allow_atomic=True)), errors.JetStreamApiLevelError)
        self.assertEqual((error.required, error.available, error.features), (2, 1, ("allow_atomic",)))
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])


class HandleTests(ScriptedTestCase):
    """What a handle asks."""

    def setUp(self) -> None:
        super().setUp()
        self.stream = Stream(self.js, StreamInfo(config=CONFIG))

    def test_requests(self) -> None:
        """Each call is one request, with no field that was not asked for."""
        calls: list[tuple[Any, str, str, dict[str, Any]]] = [
            (lambda: self.stream.delete(), "stream_delete", "STREAM.DELETE.S", {}),
            (lambda: self.stream.purge(), "stream_purge", "STREAM.PURGE.S", {}),
            (lambda: self.stream.purge(seq=5, filter="s.a"), "stream_purge", "STREAM.PURGE.S", {"seq": 5, "filter": "s.a"}),
            (lambda: self.stream.purge(keep=2), "stream_purge", "STREAM.PURGE.S", {"keep": 2}),
            (lambda: self.stream.delete_msg(3), "stream_msg_delete", "STREAM.MSG.DELETE.S", {"seq": 3, "no_erase": True}),
            (lambda: self.stream.secure_delete_msg(3), "stream_msg_delete", "STREAM.MSG.DELETE.S", {"seq": 3}),
            (lambda: self.stream.leader_stepdown(), "stream_leader_stepdown", "STREAM.LEADER.STEPDOWN.S", {}),
            (
                lambda: self.stream.leader_stepdown(Placement(preferred="n1")),
                "stream_leader_stepdown",
                "STREAM.LEADER.STEPDOWN.S",
                {"placement": {"preferred": "n1"}},
            ),
        ]
        for begin, kind, subject, request in calls:
            waiting = self.watch(begin())
            frame = self.answer(kind, success=True, **({"purged": 4} if kind == "stream_purge" else {}))
            self.assertEqual((frame.subject, self.request_of(frame)), (f"$JS.API.{subject}", request))
            self.assertEqual(self.successResultOf(waiting), 4 if kind == "stream_purge" else None)

    def test_messages_through_the_api(self) -> None:
        """Without ``allow_direct`` the leader is asked."""
        message = {"subject": "s.a", "seq": 3, "hdrs": "TkFUUy8xLjANCkE6IDENCg0K", "data": "eA==", "time": "2026-01-02T03:04:05Z"}
        for begin, request in [
            (lambda: self.stream.get_msg(3), {"seq": 3}),
            (lambda: self.stream.get_last_msg("s.a"), {"last_by_subj": "s.a"}),
            (lambda: self.stream.get_next_msg(2, "s.*"), {"seq": 2, "next_by_subj": "s.*"}),
        ]:
            waiting = self.watch(begin())
            frame = self.answer("stream_msg_get", message=message)
            self.assertEqual((frame.subject, self.request_of(frame)), ("$JS.API.STREAM.MSG.GET.S", request))
            msg = self.successResultOf(waiting)
            self.assertEqual((msg.subject, msg.seq, msg.data, msg.headers), ("s.a", 3, b"x", {"A": "1"}))
            self.assertEqual(repr(msg), "<StoredMsg 3 's.a' 1 bytes>")
            self.assertNotEqual(msg, "s.a")
        waiting = self.watch(self.stream.get_msg(3))
        self.refuse(404, 10037)
        self.error_of(waiting, errors.MessageNotFoundError)
        waiting = self.watch(self.stream.get_msg(3))
        self.answer("stream_msg_get", message={"subject": "s.a", "seq": 3})
        self.error_of(waiting, errors.JetStreamDecodeError)

    def test_cancelled(self) -> None:
        """A call that is cancelled leaves no request behind."""
        begin: Any
        for begin in (self.stream.info, self.stream.delete, self.stream.purge, lambda: self.stream.get_msg(1), lambda: self.js.stream("S")):
            waiting = self.watch(begin())
            self.assertEqual(self.client.requests_in_flight, 1)
            waiting.cancel()
            self.error_of(waiting, CancelledError)
            self.assertEqual(self.client.requests_in_flight, 0)

    def test_subjects_that_change_between_pages(self) -> None:
        """An info whose pages end early is what came, and no endless loop."""
        waiting = self.watch(self.stream.info(">"))
        self.answer("stream_info", config=WIRE, state={"subjects": {"s.a": 1, "s.b": 2}}, total=5, limit=2)
        frame = self.answer("stream_info", config=WIRE, state={"subjects": {"s.c": 3}}, total=4, offset=2, limit=2)
        self.assertEqual(self.request_of(frame), {"subjects_filter": ">", "offset": 2})
        self.answer("stream_info", config=WIRE, state={}, total=3, offset=3, limit=2)
        self.assertEqual(self.successResultOf(waiting).state.subjects, {"s.a": 1, "s.b": 2, "s.c": 3})


class ListingTests(ScriptedTestCase):
    """Lists that come in pages."""

    def page(self, names: list[str], total: int, **more: Any) -> dict[str, Any]:
        return self.request_of(self.answer("stream_names", streams=names, total=total, **more))

    def test_pages(self) -> None:
        """Each page begins where the last one ended, and is asked for when it is needed."""
        names = self.js.stream_names("s.>")
        waiting = self.watch(names.__anext__())
        self.assertEqual(self.page(["A", "B"], 3), {"subject": "s.>"})
        self.assertEqual(self.successResultOf(waiting), "A")
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(names.__anext__())), "B")
        self.network.advance(1)
        self.assertEqual(self.peer.take(PublishFrame), [])
        rest = self.watch(names.collect())
        self.assertEqual(self.page(["C"], 3), {"subject": "s.>", "offset": 2})
        self.assertEqual(self.successResultOf(rest), ["C"])
        self.failureResultOf(Deferred.fromCoroutine(names.__anext__()), StopAsyncIteration)

    def test_fewer_than_announced(self) -> None:
        """Streams that are deleted meanwhile do not make it wait for ever."""
        waiting = self.watch(self.js.stream_names().collect())
        self.page(["A"], 3)
        self.page([], 3)
        self.assertEqual(self.successResultOf(waiting), ["A"])

    def test_streams_that_did_not_answer(self) -> None:
        """Streams whose servers are away have their place in a page: the next page begins behind it, and they are named."""
        listing = self.js.streams()
        waiting = self.watch(listing.collect())
        self.answer("stream_list", streams=[{"config": WIRE}], missing=["M"], offline={"O": "too old"}, total=4, limit=3)
        frame = self.answer("stream_list", streams=[{"config": WIRE}], total=4, offset=3, limit=3)
        self.assertEqual(self.request_of(frame), {"offset": 3})
        self.assertEqual([info.config.name for info in self.successResultOf(waiting)], ["S", "S"])
        self.assertEqual((listing.missing, listing.offline), (["M"], {"O": "too old"}))

    def test_awaited_in_a_coroutine(self) -> None:
        """``await`` gives the whole list."""

        async def names() -> list[str]:
            return await self.js.stream_names()

        waiting = self.watch(names())
        self.page(["A"], 1)
        self.assertEqual(self.successResultOf(waiting), ["A"])

    def test_error_and_cancel(self) -> None:
        """What a page is refused with is raised; cancelling leaves nothing behind."""
        waiting = self.watch(self.js.stream_names().collect())
        self.refuse(503, 10008)
        self.error_of(waiting, errors.JetStreamUnavailableError)
        waiting = self.watch(self.js.stream_names().__anext__())
        waiting.cancel()
        self.error_of(waiting, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_stream_of_a_subject(self) -> None:
        """The first stream that stores the subject; none is an error."""
        waiting = self.watch(self.js.stream_name_by_subject("s.a"))
        self.assertEqual(self.page(["A", "B"], 2), {"subject": "s.a"})
        self.assertEqual(self.successResultOf(waiting), "A")
        waiting = self.watch(self.js.stream_name_by_subject("s.a"))
        self.page([], 0)
        self.assertIn("'s.a'", str(self.error_of(waiting, errors.StreamNotFoundError)))
