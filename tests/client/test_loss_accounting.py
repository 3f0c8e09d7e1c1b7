"""Publishing over connections that are cut anywhere: order, no repetition, and no more lost than was told."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pynats_twisted.client.status import Disconnected
from pynats_twisted.errors import OutboundBufferFullError

from .support import ClientTestCase

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 60)),
        st.tuples(st.just("turn"), st.just(0)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("stall"), st.booleans()),
        st.tuples(st.just("cut"), st.integers(0, 200_000)),
        st.tuples(st.just("reach"), st.booleans()),
        st.tuples(st.just("force"), st.just(0)),
        st.tuples(st.just("advance"), st.sampled_from([0.05, 1.0])),
    ),
    max_size=25,
)


class LossTests(ClientTestCase):
    @given(STEPS, st.sampled_from([10, 3000]))
    @example([("stall", True), ("publish", 5), ("turn", 0), ("cut", 0)], 10)
    @example([("reach", False), ("cut", 0), ("publish", 5), ("reach", True), ("stall", True), ("advance", 1.0), ("cut", 0)], 10)
    @example([("stall", True), ("publish", 50), ("turn", 0), ("cut", 70_000), ("publish", 50), ("turn", 0)], 3000)
    def test_accounting(self, steps: list[tuple[str, Any]], size: int) -> None:
        """Whatever arrives is in order and whole and comes once; what does not was refused, or told as unconfirmed, or is undelivered."""
        self.setUp()
        client, _ = self.connected(reconnect_buffer_bytes=100_000, max_pending_bytes=400_000, high_water_bytes=50_000)
        taken: list[int] = []
        # What was published since the last loss, and that at the time of each flush.
        current: list[int] = []
        flushed: list[tuple[list[int], Any]] = []
        number = 0
        for step, value in steps:
            peer = self.server.peer
            if step == "publish":
                for _ in range(value):
                    number += 1
                    try:
                        client.publish("a", b"%d " % number + b"x" * size)
                    except OutboundBufferFullError:
                        continue
                    taken.append(number)
                    current.append(number)
            elif step == "turn":
                self.network.advance()
            elif step == "flush":
                flushed.append((list(current), client.flush().addErrback(lambda failure: "failed")))
            elif step == "stall":
                peer.stalled = value
            elif step == "cut" and not peer.wire.ended:
                peer.cut(arriving=value)
                current.clear()
            elif step == "reach":
                (self.network.accept if value else self.network.refuse)("one:4222")
            elif step == "force":
                client.force_reconnect()
                current.clear()
            elif step == "advance":
                self.network.advance(value)
        self.network.accept("one:4222")
        self.network.advance(30)
        self.server.peer.stalled = False
        self.network.advance(30)
        arrived = [int(payload.split(b" ")[0]) for peer in self.server.peers for payload in peer.written()]
        self.assertEqual(arrived, sorted(set(arrived)))
        lost = set(taken) - set(arrived)
        self.assertLessEqual(set(arrived), set(taken))
        self.assertLessEqual(len(lost), sum(event.unconfirmed for event in self.told(Disconnected)))
        for covered, result in flushed:
            if result.called and result.result is None:
                self.assertEqual(lost & set(covered), set(), "a flush covered what was lost")
        self.tearDown()
