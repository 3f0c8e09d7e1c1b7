"""Snapshots by scripted servers: writes between the pages, servers that lag, and what is gone again."""

from __future__ import annotations

from typing import Any

from pynats_twisted import errors
from pynats_twisted.testing.server_frames import PublishFrame
from tests.client.network import NO_RESPONDERS

from .scripted import BucketTestCase


class SnapshotTests(BucketTestCase):
    """Each answer may come from another server, and in between others write."""

    def values(self, waiting: Any) -> dict[str, bytes]:
        snapshot = self.successResultOf(waiting)
        self.revision = snapshot.revision
        return {key: entry.value for key, entry in snapshot.items()}

    def start_of(self, frame: PublishFrame) -> tuple[int, str]:
        request = self.request_of(frame)
        return request["seq"], request["next_by_subj"]

    def test_quiet(self) -> None:
        """Where nobody writes, it is read once more from its last message on, which comes again, and is done."""
        waiting = self.kv.snapshot()
        self.assertEqual(self.keys_of(self.page((3, "a", b"1"), (5, "b", b"2"), up_to=5)), ["$KV.b.>"])
        self.info(5)
        self.assertEqual(self.start_of(self.page((5, "b", b"2"))), (5, "$KV.b.>"))
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"1", "b": b"2"}, 5))

    def test_written_between_the_pages(self) -> None:
        """What was written to keys of the first page while the second one came is read: it begins where the first page looked."""
        waiting = self.kv.snapshot()
        self.page((3, "a", b"1"), (5, "b", b"1"), pending=1, up_to=6)
        # Meanwhile a was written with 7.
        self.page((8, "c", b"2"), up_to=8)
        self.info(8)
        frame = self.page((7, "a", b"2"), (8, "c", b"2"))
        self.assertEqual(self.start_of(frame)[0], 7)
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"2", "b": b"1", "c": b"2"}, 8))

    def test_written_and_overwritten_again(self) -> None:
        """What came while it was read, and what was deleted, is as it was at the last revision."""
        waiting = self.kv.snapshot("*")
        self.page((3, "a", b"1"), (5, "b", b"1"), up_to=5)
        self.info(6)
        frame = self.asked()
        self.message(frame, 6, "a", block="KV-Operation: DEL\r\n", Num_Pending=1, Last_Sequence=0)
        self.message(frame, 7, "c", b"2", Num_Pending=0, Last_Sequence=6)
        self.peer.answer(frame, block=b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 7\r\n\r\n")
        self.assertEqual((self.values(waiting), self.revision), ({"b": b"1", "c": b"2"}, 7))

    def test_server_with_more_behind(self) -> None:
        """As long as the server has more than it sent, what was overwritten may be missing: then it goes on."""
        waiting = self.kv.snapshot()
        self.page((3, "a", b"1"), up_to=3)
        self.info(9)
        self.page((3, "a", b"1"), (5, "b", b"1"), pending=2)
        self.page((8, "a", b"2"), (9, "b", b"2"))
        # That was in two pages, perhaps of two servers.
        self.assertNoResult(waiting)
        self.info(9)
        self.assertEqual(self.start_of(self.page((9, "b", b"2")))[0], 9)
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"2", "b": b"2"}, 9))

    def test_server_that_lags(self) -> None:
        """A server that has not come as far as the one that leads is not believed, until that one has nothing more either."""
        waiting = self.kv.snapshot()
        self.page((3, "a", b"1"), up_to=3)
        self.info(6)
        self.page((3, "a", b"1"))
        frame = self.stored(6, "a")
        self.assertEqual(self.request_of(frame), {"seq": 4, "next_by_subj": "$KV.b.>"})
        self.assertNoResult(waiting)
        self.network.advance(1.0)
        self.info(6)
        self.page((6, "a", b"2"))
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"2"}, 6))

    def test_server_behind_the_first_reading(self) -> None:
        """A server that has not even what was read first is not believed either, when it says that there is nothing."""
        waiting = self.kv.snapshot()
        self.page((3, "a", b"1"), up_to=3)
        self.info(3)
        self.page()
        self.stored(3, "a")
        self.assertNoResult(waiting)
        self.network.advance(1.0)
        self.info(3)
        self.page((3, "a", b"1"))
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"1"}, 3))

    def test_last_one_is_gone(self) -> None:
        """When what was written last has run out since, the server that leads says that there is nothing."""
        waiting = self.kv.snapshot()
        self.page((3, "a", b"1"), (5, "b", b"1"), up_to=5)
        self.info(5)
        self.page()
        self.refuse(404, 10037, "no message found")
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"1", "b": b"1"}, 5))

    def test_other_keys_were_written_last(self) -> None:
        """A snapshot of some keys ends where the server that leads has nothing more of them, whatever else it has."""
        waiting = self.kv.snapshot("a")
        self.page((3, "a", b"1"), up_to=7)
        self.info(9)
        self.assertEqual(self.start_of(self.page((3, "a", b"1"))), (3, "$KV.b.a"))
        frame = self.refuse(404, 10037, "no message found")
        self.assertEqual(self.request_of(frame), {"seq": 4, "next_by_subj": "$KV.b.a"})
        self.assertEqual((self.values(waiting), self.revision), ({"a": b"1"}, 3))

    def test_several_patterns(self) -> None:
        """For several patterns all keys are read that were written meanwhile, and only those taken that match."""
        waiting = self.kv.snapshot("a.*", "b")
        self.assertEqual(self.keys_of(self.page((3, "a.1", b"1"), up_to=3)), ["$KV.b.a.*", "$KV.b.b"])
        self.info(6)
        self.assertEqual(self.start_of(self.page((3, "a.1", b"1"), (4, "x", b"-"), (5, "b", b"2"), (6, "x", b"-"))), (3, "$KV.b.>"))
        self.assertEqual((self.values(waiting), self.revision), ({"a.1": b"1", "b": b"2"}, 6))

    def test_end_of_the_first_page_is_lost(self) -> None:
        """When it is not known how far the first page had looked, everything is read from the beginning."""
        waiting = self.kv.snapshot("a", "b")
        frame = self.asked()
        self.message(frame, 3, "a", b"1", Num_Pending=1, Last_Sequence=0)
        self.network.advance(2.5)
        self.page((4, "b", b"1"), up_to=4)
        self.info(4)
        self.assertEqual(self.start_of(self.page((3, "a", b"1"), (4, "b", b"1")))[0], 1)
        self.assertEqual(self.values(waiting), {"a": b"1", "b": b"1"})

    def test_nothing(self) -> None:
        """Where there is nothing, one question is enough."""
        waiting = self.kv.snapshot()
        self.page()
        self.assertEqual((self.values(waiting), self.revision), ({}, 0))

    def test_faster_than_it_can_be_read(self) -> None:
        """It gives up after a bounded number of tries, and leaves no delayed call."""
        waiting = self.kv.snapshot()
        self.page((1, "a", b"1"), up_to=1)
        for attempt in range(20):
            self.info(attempt + 3)
            self.page((attempt + 1, "a", b"1"))
            self.stored(attempt + 2, "a")
            self.network.advance(1.0)
        error = self.failureResultOf(waiting, errors.SnapshotError).value
        self.assertIn("20 tries", str(error))

    def test_bucket_is_gone(self) -> None:
        """When nobody answers, it is found out whether it is the bucket that is gone."""
        waiting = self.kv.snapshot()
        self.peer.answer(self.asked(), block=NO_RESPONDERS)
        self.refuse(404, 10059, "stream not found")
        self.failureResultOf(waiting, errors.BucketNotFoundError)
        waiting = self.kv.snapshot()
        self.peer.answer(self.asked(), block=NO_RESPONDERS)
        self.info(5)
        self.failureResultOf(waiting, errors.JetStreamNotEnabledError)
