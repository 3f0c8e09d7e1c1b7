"""A cache in virtual time: how it finds out what has vanished, and what it does with what it cannot read."""

from __future__ import annotations

from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamConfig, StreamInfo, StreamState
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.keyvalue import Base64ValueCodec, KeyValue, KeyValueCache, KeyValueEntry, Operation, cache
from pynats_twisted.testing.server_frames import PublishFrame
from tests.jetstream.test_ordered import OrderedTestCase


class CacheTestCase(OrderedTestCase):
    """A cache of a bucket ``b``, of which the test is the server."""

    def opened(self, *, codec: Any = None, verify_every: float | None = None, **config: Any) -> None:
        """A cache in which ``a`` and ``b`` were put, at revisions 1 and 2."""
        stream_config = StreamConfig(name="KV_b", subjects=["$KV.b.>"], max_msgs_per_subject=1, **config)
        kv = KeyValue(Stream(self.js, StreamInfo(config=stream_config, state=StreamState())), None, codec)
        opening = kv.cache(verify_every=verify_every)
        self.consumer, _ = self.create(pending=2)
        self.pull = self.one("MSG.NEXT")
        self.sent = 0
        self.send("a", b"MQ==", 1, 1)
        self.assertNoResult(opening)
        self.send("b", b"MQ==", 2, 0)
        self.cache: KeyValueCache = self.successResultOf(opening)
        self.changes: list[KeyValueEntry] = []
        self.cache.add_listener(self.changes.append)

    def send(self, key: str, data: bytes, revision: int, pending: int = 0) -> None:
        """An entry comes."""
        self.sent += 1
        (sid,) = (sid for sid, sub in self.server.peer.session.subscriptions.items() if self.pull.reply.startswith(sub.subject[:-1]))
        reply = f"$JS.ACK.KV_b.{self.consumer}.1.{revision}.{self.sent}.1700000000000000000.{pending}"
        self.server.peer.send(f"MSG $KV.b.{key} {sid} {reply} {len(data)}\r\n".encode() + data + b"\r\n")
        self.network.advance()

    def interrupt(self) -> None:
        """The connection is lost, and all is as it was behind another one."""
        self.reconnect()
        self.network.advance()
        self.consumer, _ = self.create(floor=2)
        self.pull, self.sent = self.one("MSG.NEXT"), 0
        self.find("STREAM.INFO")
        for frame in self.find("CONSUMER.DELETE"):
            self.reply(frame, "consumer_delete", success=True)

    def subjects(self, frame: PublishFrame, *keys: str, last_seq: int = 2) -> None:
        """Tell which keys there are."""
        subjects = {f"$KV.b.{key}": 1 for key in keys}
        state = {"messages": len(keys), "last_seq": last_seq, "subjects": subjects}
        self.reply(frame, "stream_info", config={"name": "KV_b"}, state=state, total=len(keys))
        self.network.advance()

    def asked_within(self, seconds: float) -> list[PublishFrame]:
        """The requests for the subjects of the stream."""
        found: list[PublishFrame] = []
        for _ in range(round(seconds / 0.25)):
            found += [frame for frame in self.find("STREAM.INFO") if b"subjects_filter" in frame.payload]
            if found:
                break
            self.server.peer.publish(self.pull.reply, block=b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\n\r\n" % self.sent)
            self.network.advance(0.25)
        return found

    def close(self) -> None:
        """Stop it, and see that nothing is left."""
        stopped = self.cache.stop()
        for frame in self.find("CONSUMER.DELETE"):
            self.reply(frame, "consumer_delete", success=True)
        self.network.advance()
        self.successResultOf(stopped)
        self.client.close()
        self.network.advance()
        self.assertEqual(self.network.getDelayedCalls(), [])


class VanishingTests(CacheTestCase):
    """Keys that are gone without a word."""

    def test_nothing_is_asked_for_without_need(self) -> None:
        """Where nothing was interrupted, and keys cannot vanish, the server is not asked."""
        self.opened()
        self.assertTrue(self.cache.is_fresh)
        self.assertEqual(self.asked_within(4.0), [])
        self.close()

    def test_after_an_interruption(self) -> None:
        """It asks which keys there are, drops the others, tells the listeners, and only then is it fresh."""
        self.opened()
        self.interrupt()
        (frame,) = self.asked_within(3.0)
        self.assertFalse(self.cache.is_fresh)
        self.subjects(frame, "b")
        self.assertTrue(self.cache.is_fresh)
        self.assertEqual(list(self.cache), ["b"])
        self.assertEqual([(entry.key, entry.operation, entry.revision) for entry in self.changes], [("a", Operation.PURGE, 1)])
        self.assertEqual(self.asked_within(4.0), [])
        self.close()

    def test_what_is_written_meanwhile_stays(self) -> None:
        """A key that was written after the server was asked is not dropped, although the answer does not know it."""
        self.opened()
        self.interrupt()
        (frame,) = self.asked_within(3.0)
        self.send("a", b"MQ==", 3)
        self.send("c", b"MQ==", 4)
        self.subjects(frame, "b")
        self.assertEqual(sorted(self.cache), ["a", "b", "c"])
        self.close()

    def test_a_server_that_is_behind(self) -> None:
        """An answer of a server that does not know the cache's revision yet counts for nothing: it asks again."""
        self.opened()
        self.interrupt()
        (frame,) = self.asked_within(3.0)
        self.subjects(frame, last_seq=1)
        self.assertEqual(sorted(self.cache), ["a", "b"])
        self.assertFalse(self.cache.is_fresh)
        (frame,) = self.asked_within(8.0)
        self.subjects(frame, "a", "b")
        self.assertTrue(self.cache.is_fresh)
        self.close()

    def test_an_error(self) -> None:
        """When it cannot ask, it asks again, some seconds later."""
        self.opened()
        self.interrupt()
        (frame,) = self.asked_within(3.0)
        self.refuse_with(frame, 503, 10008)
        self.network.advance()
        self.assertEqual(self.asked_within(4.0), [])
        (frame,) = self.asked_within(4.0)
        self.subjects(frame, "a", "b")
        self.assertTrue(self.cache.is_fresh)
        self.close()

    def test_where_keys_vanish(self) -> None:
        """In a bucket with TTLs and without markers it asks now and then; with markers it does not."""
        self.patch(cache, "_VERIFY", 2.0)
        asked: list[int] = []
        for config in ({"max_age": 600.0}, {"allow_msg_ttl": True}, {"max_age": 600.0, "subject_delete_marker_ttl": 60.0}):
            self.opened(**config)
            asked.append(len(self.asked_within(6.0)))
            stopping = self.watch(self.cache.stop())
            self.network.advance(20)
            self.successResultOf(stopping)
            self.find("")
        self.assertEqual(asked, [1, 1, 0])

    def test_stop_while_asking(self) -> None:
        """Stopping ends the request that is under way: its answer changes nothing; no delayed call is left."""
        self.opened(verify_every=1.0)
        (frame,) = self.asked_within(4.0)
        self.cache.stop()
        self.subjects(frame)
        self.assertEqual(sorted(self.cache), ["a", "b"])
        self.close()


class ReadingTests(CacheTestCase):
    """Entries that are none."""

    def test_a_value_that_cannot_be_read(self) -> None:
        """A key whose new value the codec cannot read is not in the cache any more: its old value is not its value."""
        logged: list[LogEvent] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            if "leaves out" in str(event.get("log_format")):
                logged.append(event)

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.opened(codec=Base64ValueCodec())
        self.assertEqual(self.cache["a"].value, b"1")
        waiting = self.cache.wait_for(3)
        self.send("a", b"\xff", 3)
        self.successResultOf(waiting)
        self.assertEqual((list(self.cache), self.cache.revision), (["b"], 3))
        self.assertEqual(len(logged), 1)
        self.close()

    def test_the_client_is_closed(self) -> None:
        """With the client it ends without an error, and keeps what it had."""
        self.opened()
        done, waiting = self.cache.done, self.cache.wait_for(9)
        self.client.close()
        self.network.advance()
        self.successResultOf(done)
        self.failureResultOf(waiting, errors.SubscriptionClosedError)
        self.assertEqual((sorted(self.cache), self.cache.is_fresh, self.cache.error), (["a", "b"], False, None))
        self.assertEqual(self.network.getDelayedCalls(), [])
