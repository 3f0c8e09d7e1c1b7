"""``async for`` over a pull consumer, in virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.messages import Messages
from tests.jetstream.pull_peer import PullTestCase


class MessagesTests(PullTestCase):
    """What the iteration gives, and how it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.got: list[bytes] = []

    def begin(self, **options: Any) -> Messages:
        messages = self.consumer.messages(**options)
        self.network.advance()
        return messages

    def read(self, messages: Messages, count: int = 10**6) -> Deferred[None]:
        """Take so many messages, ack them, and stop reading."""

        async def loop() -> None:
            async for msg in messages:
                self.got.append(msg.data)
                await msg.ack()
                if len(self.got) >= count:
                    return

        return Deferred.fromCoroutine(loop())

    def take(self, messages: Messages) -> Deferred[JsMsg]:
        return Deferred.fromCoroutine(messages.__anext__())

    def test_messages(self) -> None:
        """Each comes once and in order, whether they come one by one or many at a time, and is acked."""
        messages = self.begin()
        self.read(messages)
        self.deliver(b"a")
        self.deliver(b"b", b"c", b"d")
        self.network.advance(1.0)
        self.deliver(b"e", b"f")
        self.assertEqual(self.got, [b"a", b"b", b"c", b"d", b"e", b"f"])
        self.assertEqual(self.acks(), [(number, b"+ACK") for number in range(1, 7)])
        self.network.run(messages.drain())

    def test_refill_as_they_are_taken(self) -> None:
        """What nobody takes is not followed by more: the memory is bounded by ``max_messages``."""
        messages = self.begin(max_messages=10)
        self.assertEqual([pull["batch"] for pull in self.pulls()], [10])
        self.deliver(*[b"x"] * 10)
        self.assertEqual((self.pulls(), messages.pending), ([], 10))
        self.successResultOf(self.read(messages, 4))
        self.assertEqual(self.pulls(), [])
        self.successResultOf(self.read(messages, 5))
        self.assertEqual([pull["batch"] for pull in self.pulls()], [5])
        messages.stop()

    def test_several_readers(self) -> None:
        """Several may wait at once: each gets a message, in their order; one that is cancelled takes none."""
        messages = self.begin()
        first, second, third = self.take(messages), self.take(messages), self.take(messages)
        second.addErrback(lambda failure: None)
        second.cancel()
        self.deliver(b"a", b"b", b"c")
        self.assertEqual((self.successResultOf(first).data, self.successResultOf(third).data), (b"a", b"b"))
        self.assertEqual(self.successResultOf(self.take(messages)).data, b"c")
        messages.stop()

    def test_stop(self) -> None:
        """Who waits is told; what waits is given back; nothing stays subscribed."""
        messages = self.begin()
        reader = self.read(messages)
        self.deliver(b"a")
        messages.stop()
        self.network.advance(0.1)
        self.successResultOf(reader)
        self.successResultOf(messages.done)
        self.assertEqual((self.got, self.inboxes()), ([b"a"], []))

    def test_stop_with_messages_waiting(self) -> None:
        """They are given back at once, and the iteration ends without them."""
        messages = self.begin()
        self.deliver(b"a", b"b")
        messages.stop()
        self.assertEqual(self.acks(), [(1, b"-NAK"), (2, b"-NAK")])
        self.successResultOf(self.read(messages))
        self.assertEqual(self.got, [])

    def test_drain(self) -> None:
        """The iteration gives what is here, and then ends; so does the drain."""
        messages = self.begin()
        self.deliver(b"a", b"b")
        drained = messages.drain()
        self.network.advance(0.1)
        self.assertNoResult(drained)
        self.successResultOf(self.read(messages))
        self.network.advance(0.1)
        self.successResultOf(drained)
        self.assertEqual((self.got, self.acks()), ([b"a", b"b"], [(1, b"+ACK"), (2, b"+ACK")]))

    def test_async_with(self) -> None:
        """Leaving the block stops it, also in the middle of the loop."""

        async def program() -> None:
            async with self.consumer.messages() as messages:
                async for msg in messages:
                    self.got.append(msg.data)
                    await msg.ack()
                    break

        running = Deferred.fromCoroutine(program())
        self.deliver(b"a", b"b")
        self.network.advance(0.1)
        self.successResultOf(running)
        self.assertEqual((self.got, self.inboxes()), ([b"a"], []))
        self.assertEqual(self.acks(), [(1, b"+ACK"), (2, b"-NAK")])

    def test_stop_after(self) -> None:
        """The iteration ends by itself."""
        messages = self.begin(stop_after=3)
        reader = self.read(messages)
        self.deliver(b"a", b"b", b"c")
        self.network.advance(0.1)
        self.successResultOf(reader)
        self.successResultOf(messages.done)

    def test_expired_in_the_buffer(self) -> None:
        """What waited for longer than ``ack_wait`` is passed over and counted: the server delivers it again."""
        messages = self.begin(max_messages=4, stop_after=4)
        self.deliver(b"a", b"b", b"x", b"y")
        self.network.advance(30.0)
        self.assertEqual(self.pulls(), [])
        reader = self.read(messages)
        self.assertEqual((self.got, messages.expired), ([], 4))
        # They do not count for ``stop_after`` either.
        self.assertEqual([pull["batch"] for pull in self.pulls()], [4])
        self.deliver(b"c")
        self.assertEqual(self.got, [b"c"])
        messages.stop()
        self.successResultOf(reader)

    def test_consumer_is_deleted(self) -> None:
        """The iteration gives what is here, raises the reason once, and is over then."""
        messages = self.begin()
        self.deliver(b"a")
        self.status("409 Consumer Deleted")
        reader = self.read(messages)
        self.failureResultOf(reader, errors.ConsumerDeletedError)
        self.assertEqual(self.got, [b"a"])
        self.successResultOf(self.read(messages))
        self.network.advance(0.1)
        self.failureResultOf(messages.done, errors.ConsumerDeletedError)

    def test_who_waits_is_told_of_the_end(self) -> None:
        """Whoever waits for a message when the consumer is deleted gets the reason."""
        messages = self.begin()
        waiting = self.take(messages)
        self.status("409 Consumer Deleted")
        self.failureResultOf(waiting, errors.ConsumerDeletedError)

    def test_reconnect(self) -> None:
        """The iteration goes on over a loss of the connection."""
        messages = self.begin()
        reader = self.read(messages)
        self.deliver(b"a")
        self.cut()
        self.deliver(b"b")
        self.assertEqual(self.got, [b"a", b"b"])
        messages.stop()
        self.network.advance(0.1)
        self.successResultOf(reader)

    def test_client_is_closed(self) -> None:
        """The end of the client, when it is wanted, ends the iteration without an error."""
        messages = self.begin()
        reader = self.read(messages)
        self.network.run(self.client.close())
        self.successResultOf(reader)

    def test_drain_of_the_client(self) -> None:
        """The client's own drain waits until what is here was taken."""
        messages = self.begin()
        self.deliver(b"a", b"b")
        drained = self.client.drain()
        self.network.advance(0.1)
        self.assertNoResult(drained)
        reader = self.read(messages)
        self.network.advance(0.1)
        self.successResultOf(drained)
        self.successResultOf(reader)
        self.assertEqual((self.got, self.acks()), ([b"a", b"b"], [(1, b"+ACK"), (2, b"+ACK")]))
