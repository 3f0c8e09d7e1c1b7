"""The base of tests that watch the keys of a bucket."""

from __future__ import annotations

from typing import Any

from pynats_twisted import NatsClient, errors
from pynats_twisted.keyvalue import KeyValue, KeyValueConfig, KeyValueEntry, KeyWatcher
from tests.support.jetstream import JetStreamTestCase

Seen = tuple[str, Any, int]


def seen(entries: list[KeyValueEntry | None]) -> list[Seen | None]:
    """What counts of each: key, value or operation, revision."""
    return [None if each is None else (each.key, each.operation if each.is_deleted else each.value, each.revision) for each in entries]


class WatchedBucketTestCase(JetStreamTestCase):
    """A bucket ``b``."""

    async def bucket(self, nc: NatsClient | None = None, **config: Any) -> KeyValue:
        self.js = (nc or await self.jetstream()).jetstream()
        kv = await self.js.create_key_value(KeyValueConfig(bucket="b", **config))
        # The inbox of all acks stays.
        await self.assertFailure(self.js.publish("$KV.b.a", expected_last_seq=99), errors.WrongLastSequenceError)
        self.kept = [each.subject for each in self.js.client.subscriptions]
        return kv

    async def assert_nothing_left(self) -> None:
        """There is no consumer, and nobody is subscribed for one."""
        self.assertEqual(await self.js.consumer_names("KV_b"), [])
        self.assertEqual([each.subject for each in self.js.client.subscriptions], self.kept)

    async def take(self, watcher: KeyWatcher, count: int) -> list[Seen | None]:
        """The next ones."""
        return seen([await watcher.next(timeout=15) for _ in range(count)])
