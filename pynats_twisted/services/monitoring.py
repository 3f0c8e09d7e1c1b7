"""The answers to PING, INFO and STATS: of all services, of those of a name, and of one instance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .api import Answer, control_subject, encode

if TYPE_CHECKING:
    from ..client.client import NatsClient
    from ..client.subscription import Subscription
    from ..protocol.message import Msg
    from .service import Service


class Monitoring:
    """The nine subscriptions of one service instance that discovery and monitoring ask. They are in no queue group: each instance answers.

    :ivar subscriptions: them. :raises NatsError: what ``subscribe`` raises.
    """

    def __init__(self, client: NatsClient, service: Service) -> None:
        self._may_answer = service.may_answer
        answers: dict[str, Callable[[], Answer]] = {"PING": service.ping, "INFO": service.info, "STATS": service.stats}
        self.subscriptions: list[Subscription] = [
            client.subscribe(control_subject(verb, *asked, prefix=service.config.prefix), partial(self._answer, answer))
            for verb, answer in answers.items()
            for asked in ((), (service.name,), (service.name, service.id))
        ]

    def _answer(self, answer: Callable[[], Answer], msg: Msg) -> None:
        if msg.reply and self._may_answer(msg.reply):
            msg.respond(encode(answer()))

    def leave(self) -> None:
        """Answer no more, at once."""
        for subscription in self.subscriptions:
            subscription.unsubscribe()
