"""Sending dead letters again: to the target alone, so that nobody else who reads the stream gets them twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from pynats_twisted.bridge.dead_letter_store import DeadLetterStore, origin, original_headers, original_subject
from pynats_twisted.bridge.webhook_client import WebhookClient
from pynats_twisted.bridge.webhook_request import Outgoing, RequestMaker

if TYPE_CHECKING:
    from pynats_twisted.jetstream.stored import StoredMsg
    from pynats_twisted.jetstream.stream import Stream

MAX_REMEMBERED: Final = 10_000
"""Dead letters whose failed replays are remembered."""

_log = Logger()


class Replayer:
    """Sends dead letters of one route again, and deletes those that arrived. The target gets them with the id that they had.

    :param reactor: for the time of the signature.
    :param store: where they are.
    :param client: sends.
    :param requests: makes the requests.
    :param slots: how many are sent at a time.
    """

    def __init__(self, reactor: Any, store: DeadLetterStore, client: WebhookClient, requests: RequestMaker, slots: int) -> None:
        self._reactor = reactor
        self._store = store
        self._client = client
        self._requests = requests
        self._slots = slots
        self._replays: dict[int, int] = {}

    async def replay(self, seqs: Sequence[int] | None) -> int:
        """Send some, or all: how many have arrived. It ends early when the target does not take one: the others would fare no better."""
        stream = await self._store.stream()
        arrived = 0
        batch: list[StoredMsg] = []
        async for letter in self._store.chosen(seqs):
            batch.append(letter)
            if len(batch) >= self._slots:
                done = await self._send(stream, batch)
                arrived += done
                if done < len(batch):
                    return arrived
                batch = []
        return arrived + (await self._send(stream, batch) if batch else 0)

    async def _send(self, stream: Stream, batch: list[StoredMsg]) -> int:
        tasks = [Deferred.fromCoroutine(self._send_one(stream, letter)) for letter in batch]
        done: list[bool] = await gatherResults(tasks, consumeErrors=True)
        return sum(done)

    async def _send_one(self, stream: Stream, letter: StoredMsg) -> bool:
        if len(self._replays) >= MAX_REMEMBERED:
            self._replays.clear()
        replay = self._replays[letter.seq] = self._replays.get(letter.seq, 0) + 1
        stream_name, seq = origin(letter.headers)
        outgoing = Outgoing(
            subject=original_subject(letter.headers),
            headers=original_headers(letter.headers),
            data=letter.data,
            stream=stream_name,
            seq=seq,
            delivered=1,
            replay=replay,
        )
        answer = await self._client.send(self._requests.make(outgoing, self._reactor.seconds()))
        if not answer.is_success:
            _log.info("dead letter {seq} was not taken: {why}", seq=letter.seq, why=answer.error or f"status {answer.status}")
            return False
        self._replays.pop(letter.seq, None)
        await self._store.delete_one(stream, letter.seq)
        return True
