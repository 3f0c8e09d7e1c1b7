"""The base of tests that speak the JetStream API with real servers, by hand: request and answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pynats_twisted import NatsClient
from pynats_twisted.jetstream.api import (
    ApiObject,
    ApiPrefix,
    ConsumerAction,
    ConsumerConfig,
    ConsumerInfo,
    CreateConsumerRequest,
    StreamConfig,
    StreamInfo,
    decode,
    encode,
)
from pynats_twisted.jetstream.api.fields import table_of
from tests.support.integration import IntegrationTestCase

_T = TypeVar("_T", bound=ApiObject)
Headers = Mapping[str, str] | None

PREFIX = ApiPrefix()


def unknown_in(value: object, path: str = "") -> Iterator[str]:
    """The places in an answer where something is unknown."""
    if isinstance(value, ApiObject):
        yield from (f"{path}.{key}" for key in value.unknown)
        for spec in table_of(type(value)).specs:
            yield from unknown_in(getattr(value, spec.name), f"{path}.{spec.name}")
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from unknown_in(item, f"{path}.{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from unknown_in(item, f"{path}.{key}")
    elif type(value).__name__ == "UnknownValue":
        yield f"{path}={value}"


def is_pattern(subject: str) -> bool:
    return "*" in subject or ">" in subject


class JetStreamTestCase(IntegrationTestCase):
    """A test with servers that have JetStream."""

    async def jetstream(self, **options: Any) -> NatsClient:
        """A client of a server of its own."""
        return await self.connect(await self.start_server(jetstream=True, **options))

    async def ask(self, nc: NatsClient, kind: type[_T], subject: str, request: ApiObject | bytes = b"", headers: Headers = None) -> _T:
        """The answer, in which nothing may be unknown."""
        payload = request if isinstance(request, bytes) else encode(request)
        answer = decode(kind, (await nc.request(subject, payload, headers)).data)
        self.assertEqual(list(unknown_in(answer)), [])
        return answer

    async def create_stream(self, nc: NatsClient, config: StreamConfig) -> StreamInfo:
        return await self.ask(nc, StreamInfo, PREFIX.stream_create(config.name), config)

    async def create_consumer(self, nc: NatsClient, stream: str, config: ConsumerConfig, action: str = "") -> ConsumerInfo:
        request = CreateConsumerRequest(stream_name=stream, config=config, action=ConsumerAction(action))
        # The client publishes to no subject with wildcards; the filter in the request's subject is for permissions only.
        filter_subject = "" if is_pattern(config.filter_subject) else config.filter_subject
        subject = PREFIX.consumer_create(stream, config.durable or config.name, filter_subject)
        return await self.ask(nc, ConsumerInfo, subject, request)
