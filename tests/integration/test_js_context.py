"""The JetStream context with real servers."""

from __future__ import annotations

from pynats_twisted import errors
from pynats_twisted.jetstream.api import ConsumerConfig, ConsumerInfo, CreateConsumerRequest, StreamConfig, StreamInfo
from pynats_twisted.protocol.subjects import LiteralSubject
from tests.support.jetstream import JetStreamTestCase


class ContextTests(JetStreamTestCase):
    """What every call of the API has in common."""

    async def test_account(self) -> None:
        """The first call that a program may make."""
        nc = await self.jetstream()
        info = await nc.jetstream().account_info()
        self.assertEqual(info.streams, 0)

    async def test_errors_have_their_class(self) -> None:
        """What the server refuses is raised as the error of its code."""
        nc = await self.jetstream()
        js = nc.jetstream()
        await self.assertFailure(js.call(StreamInfo, js.prefix.stream_info("missing")), errors.StreamNotFoundError)

    async def test_nobody_answers(self) -> None:
        """A server without JetStream, and a domain that is not there, are told apart from a slow server."""
        nc = await self.connect(await self.start_server())
        await self.assertFailure(nc.jetstream().account_info(), errors.JetStreamNotEnabledError)
        nc = await self.jetstream()
        await self.assertFailure(nc.jetstream(domain="elsewhere").account_info(), errors.JetStreamNotEnabledError)

    async def test_custom_inbox_prefix(self) -> None:
        """The answers come to inboxes below the client's own prefix."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server, inbox_prefix="_MINE.inbox")
        watcher = await self.connect(server)
        seen: list[str] = []
        await watcher.subscribe("_MINE.inbox.>", lambda msg: seen.append(msg.subject))
        await nc.jetstream().account_info()
        await self.until(lambda: bool(seen))
        self.assertTrue(nc.new_inbox().startswith("_MINE.inbox."))

    async def test_filter_with_a_wildcard_is_part_of_the_subject(self) -> None:
        """A consumer is made on a subject with its filter, wildcards and all, so that permissions can be given by it."""
        nc = await self.jetstream()
        js = nc.jetstream()
        await js.call(StreamInfo, js.prefix.stream_create("orders"), StreamConfig(name="orders", subjects=["orders.>"]))
        config = ConsumerConfig(name="new", durable="new", filter_subject="orders.*.new.>")
        request = CreateConsumerRequest(stream_name="orders", config=config)
        subject = js.prefix.consumer_create("orders", "new", "orders.*.new.>")
        self.assertTrue(subject.endswith(".orders.*.new.>"))
        info = await js.call(ConsumerInfo, subject, request)
        self.assertEqual(info.config.filter_subject, "orders.*.new.>")

    async def test_only_literal_subjects_may_have_wildcards(self) -> None:
        """What users publish to still may not, also behind a request of ours to the same subject."""
        nc = await self.jetstream()
        subject = "some.*.subject"
        await self.assertFailure(nc.request(LiteralSubject(subject)), errors.NoRespondersError)
        for wrong in (subject, "some.>"):
            self.assertRaises(errors.InvalidSubjectError, nc.publish, wrong)
        for wrong in ("a b", "a\r\nPING", "a..b", ""):
            self.assertRaises(errors.InvalidSubjectError, nc.publish, LiteralSubject(wrong))

    async def test_api_level(self) -> None:
        """A level that the server has not is found before anything is sent; behind a domain, the server is told what is needed."""
        nc = await self.jetstream()
        js = nc.jetstream()
        request = StreamConfig(name="counters", subjects=["count.>"], allow_msg_counter=True)
        self.assertEqual(js.check_level(request), 2)
        await js.call(StreamInfo, js.prefix.stream_create("counters"), request)

    async def test_timeout_must_be_positive(self) -> None:
        """A context that could never get an answer is refused."""
        nc = await self.jetstream()
        for wrong in (0, -1, float("nan"), float("inf"), "5", True):
            self.assertRaises(errors.InvalidArgumentError, nc.jetstream, timeout=wrong)
