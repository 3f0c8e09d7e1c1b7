"""Two processes want one lock, again and again, while the server is killed and they themselves are stopped: the server never takes a
write of a holder that was replaced."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from pynats_twisted import errors
from pynats_twisted.keyvalue.config import KeyValueConfig
from tests.support.jetstream import JetStreamTestCase
from tests.support.peers import PeerProcess

# How often the lock is taken, by both together. More of them take longer: LOCK_ROUNDS=1000 some minutes.
ROUNDS = int(os.environ.get("LOCK_ROUNDS", "80"))
BUCKET, LOCK, TTL = "b", "lock", 2.0
LEAST_RESTARTS = 3
ENOUGH = "enough"
FREEZE_EVERY, FREEZE_AT = 100, 10


class Contender:
    """One of the two, in a process of its own. What it writes names its fencing number."""

    def __init__(self, reactor: Any, url: str, name: str, rounds: int) -> None:
        self.reactor = reactor
        self.url = url
        self.name = name
        self.rounds = rounds
        self.counts = Counter[str]()

    async def run(self) -> None:
        """Take the lock and write, so many times at least, and until there was trouble enough."""
        from pynats_twisted import connect

        nc = await connect(self.reactor, self.url, reconnect_wait=0.05, reconnect_wait_max=0.2)
        js = nc.jetstream(timeout=10.0)
        kv = await js.key_value(BUCKET)
        lock = kv.lock(LOCK, ttl=TTL, holder=self.name.encode())
        print("ready", flush=True)
        number = 0
        while self.counts["taken"] < self.rounds or not Path(ENOUGH).exists():
            held = await lock.acquire()
            self.counts["taken"] += 1
            if self.counts["taken"] % FREEZE_EVERY == FREEZE_AT:
                # Nothing here goes on meanwhile, and the lock runs out.
                self.counts["frozen"] += 1
                self.stand_still()
                number += 1
                await self.write_late(kv, f"log.{self.name}.{number}", held.fencing, held.revision, "stale")
            try:
                for _ in range(2):
                    number += 1
                    await held.put(f"log.{self.name}.{number}", b"%d" % held.fencing)
                    self.counts["written"] += 1
                    await deferLater(self.reactor, random.random() * 0.01)
                revision = held.revision
                begun = self.reactor.seconds()
                await held.release()
            except errors.LockLostError:
                # What it writes now may still be taken, as long as nobody else has the lock.
                self.counts["lost"] += 1
                await self.write_late(kv, f"log.{self.name}.{number + 1}", held.fencing, held.revision, "stale")
                number += 1
                continue
            except errors.PublishUnconfirmedError:
                self.counts["unconfirmed"] += 1
                continue
            number += 1
            # Where giving it back took long, it may be that it has not arrived, and the lock has just run out here.
            kind = "late" if self.reactor.seconds() - begun < TTL / 2 else "stale"
            await self.write_late(kv, f"log.{self.name}.{number}", held.fencing, revision, kind)
        Path(f"{self.name}.json").write_text(json.dumps(self.counts))
        await nc.close()

    def stand_still(self) -> None:
        time.sleep(TTL + 0.7)

    async def write_late(self, kv: Any, key: str, fencing: int, revision: int, kind: str) -> None:
        """What a holder would do that was stopped between its last look at its lock and the write: nothing here holds it back.

        :param kind: how it is counted.
        """
        outcome = "stored"
        try:
            await kv.js.publish(
                kv.subjects.write(key),
                b"%d" % fencing,
                msg_id=f"{self.name}.late.{key}",
                expected_last_subject_seq=revision,
                expected_last_subject_seq_subject=kv.subjects.origin(LOCK),
            )
        except errors.WrongLastSequenceError:
            outcome = "refused"
        except errors.PublishUnconfirmedError:
            outcome = "unconfirmed"
        self.counts[f"{kind}_{outcome}"] += 1


def _contender() -> None:
    from twisted.internet.task import react

    react(lambda reactor: Deferred.fromCoroutine(Contender(reactor, sys.argv[1], sys.argv[2], int(sys.argv[3])).run()))


class ContentionTests(JetStreamTestCase):
    """The one thing that a lock is for."""

    timeout = 60 + 2 * ROUNDS

    async def test_fencing(self) -> None:
        """All writes that the server took are in the order of their fencing numbers, and none came when the next holder was there."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        kv = await nc.jetstream().create_key_value(KeyValueConfig(bucket=BUCKET, limit_marker_ttl=1.0))
        folder = Path(self.mktemp())
        folder.mkdir()
        peers = [self.spawn(server.url, name, ROUNDS // 2, folder) for name in ("one", "two")]
        for peer, _ in peers:
            await peer.ready
        restarts, stops = await self.trouble(server, peers, folder / ENOUGH)
        for peer, _ in peers:
            await peer.ended
        await nc.when_connected()
        counts = {name: Counter(json.loads((folder / f"{name}.json").read_text())) for name in ("one", "two")}
        writes = [(msg.seq, int(msg.data)) async for msg in kv.stream.get_batch(subject=f"$KV.{BUCKET}.log.>")]
        self.log.info(
            "{restarts} restarts, {stops} stops, {writes} writes: {counts}",
            restarts=restarts,
            stops=stops,
            writes=len(writes),
            counts=counts,
        )
        fencings = [fencing for _, fencing in writes]
        self.assertEqual(fencings, sorted(fencings), "a write of an older holder came behind one of a newer")
        # The fencing number is the sequence with which the lock was taken.
        for (seq, fencing), (_, following) in pairwise(writes):
            self.assertTrue(fencing < seq and (following == fencing or seq < following), (seq, fencing, following))
        for count in (counts["one"], counts["two"]):
            self.assertGreaterEqual(count["taken"], ROUNDS // 2)
            self.assertEqual(count["late_stored"], 0, "a write of a holder that had given the lock back was stored")
            self.assertGreater(count["late_refused"], 0)
            self.assertGreaterEqual(count["lost"], count["frozen"], "one that stood still did not learn that it had lost the lock")
        self.assertGreaterEqual(len(writes), sum(count["written"] for count in counts.values()))
        self.assertGreaterEqual(restarts, LEAST_RESTARTS)

    async def trouble(self, server: Any, peers: list[tuple[PeerProcess, Any]], enough: Path) -> tuple[int, int]:
        """Kill the server, and stop one of the two for longer than its lock lives, in turns, until they have ended."""
        restarts = stops = 0
        while not all(peer.ended.called for peer, _ in peers):
            await self.sleep(0.4)
            if restarts % 4 == 1 and stops <= restarts // 4:
                peer, process = peers[stops % 2]
                if not peer.ended.called:
                    process.signalProcess(signal.SIGSTOP)
                    await self.sleep(TTL + 0.5)
                    process.signalProcess(signal.SIGCONT)
                    stops += 1
            await server.restart(kill=True, down=0.1)
            restarts += 1
            if restarts >= LEAST_RESTARTS and stops:
                enough.touch()
        return restarts, stops

    def spawn(self, url: str, name: str, rounds: int, folder: Path) -> tuple[PeerProcess, Any]:
        peer = PeerProcess()
        root = str(Path(__file__).resolve().parent.parent.parent)
        command = [sys.executable, "-m", __name__, url, name, str(rounds)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        process = self.reactor.spawnProcess(peer, sys.executable, command, env=environment, path=str(folder))
        self.addCleanup(self.end, peer, process)
        return peer, process

    @staticmethod
    async def end(peer: PeerProcess, process: Any) -> None:
        if not peer.ended.called:
            process.signalProcess("KILL")
        peer.ended.addErrback(lambda _: None)
        await peer.ended


if __name__ == "__main__":
    _contender()
