"""Asking for a consumer: with its filter in the subject, and with a look at what the server made of it (ADR-34)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ConsumerNotFoundError, InvalidArgumentError, JetStreamApiLevelError, JetStreamConfigError
from ..protocol.subjects import random_token
from .api import ConsumerAction, ConsumerConfig, ConsumerInfo, CreateConsumerRequest, SuccessResponse

if TYPE_CHECKING:
    from .context import JetStreamContext


async def ask_for_consumer(
    js: JetStreamContext, stream: str, config: ConsumerConfig, action: ConsumerAction = ConsumerAction.CREATE_OR_UPDATE
) -> ConsumerInfo:
    """Make or change a consumer.

    One without a name gets one here: a server that is asked again, because its answer was lost, makes no second one then.

    :raises JetStreamApiLevelError: the server is too old for ``filter_subjects`` and made the consumer without them. It was deleted
        again, unless it may have been there before.
    """
    if not isinstance(config, ConsumerConfig):
        raise InvalidArgumentError(f"config is a {type(config).__name__}, not a ConsumerConfig")
    name = config.durable or config.name
    if not name:
        if action is ConsumerAction.UPDATE:
            raise JetStreamConfigError("name", name, "must say which consumer is to be updated")
        name = random_token()
        config = replace(config, name=name)
    # Before the subject is made of it: so that a broken rule has the name of its field.
    config.validate()
    request = CreateConsumerRequest(stream_name=stream, config=config, action=action)
    # An old server knows no actions either: only asking before tells whether the consumer is new.
    is_new = bool(config.filter_subjects) and _may_be_old(js) and not await _exists(js, stream, name)
    info = await js.call(ConsumerInfo, js.prefix.consumer_create(stream, name, config.filter_subject), request)
    if set(config.filter_subjects) - set(info.config.filter_subjects or (info.config.filter_subject,)):
        if is_new:
            await js.call(SuccessResponse, js.prefix.consumer_delete(stream, name))
        left = "was deleted again" if is_new else "is there without them"
        text = f"filter_subjects: the server dropped them, it is older than 2.10; consumer {name!r} {left}"
        raise JetStreamApiLevelError(text, features=["filter_subjects"])
    return info


def _may_be_old(js: JetStreamContext) -> bool:
    """Whether the server that is asked may be one before 2.11, the first with an API level."""
    info = js.client.server_info
    return info is None or info.api_lvl < 1 or js.prefix.prefix != "$JS.API"


async def _exists(js: JetStreamContext, stream: str, name: str) -> bool:
    try:
        await js.call(ConsumerInfo, js.prefix.consumer_info(stream, name))
    except ConsumerNotFoundError:
        return False
    return True
