"""A route type of one's own for ``nats-bridge``: ``clock`` publishes the time of day at an interval.

Put this file into a folder ``twisted/plugins`` (without an ``__init__.py``) whose parent of ``twisted`` is on ``sys.path``. The
bridge then knows the route type:

.. code-block:: toml

   [routes.wall-clock]
   type = "clock"
   subject = "clock.berlin"
   interval = "1s"
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from pynats_twisted.bridge.config import RouteConfig
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found
from pynats_twisted.bridge.config_types import PositiveDuration
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.interfaces import IRoute, IRouteFactory
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.client.status import ClientStatus
from pynats_twisted.errors import NatsError, TemplateError

log = Logger()


class ClockConfig(RouteConfig, kw_only=True, frozen=True):
    """The keys of ``type = "clock"``.

    :ivar subject: where the time is published.
    :ivar interval: seconds between two messages.
    """

    subject: str
    interval: PositiveDuration = 1.0

    def find_problems(self) -> Iterable[FieldProblem]:
        """The rules that types cannot express: the subject is valid and has no placeholders."""
        try:
            SubjectTemplate(self.subject).check_names([])
        except TemplateError as error:
            yield FieldProblem("subject", describe_found(self.subject), str(error))


@implementer(IRoute)
class ClockRoute(Service):
    """One ``clock`` route."""

    type_name = "clock"

    def __init__(self, name: str, config: ClockConfig, context: RouteContext) -> None:
        self.name = name
        self.config = config
        self.client = context.client(config.nats)
        self.metrics = context.metrics.route(name, self.type_name)
        self.loop = LoopingCall(self.tick)
        self.loop.clock = context.reactor  # all time comes from the bridge's reactor

    def startService(self) -> None:
        super().startService()
        self.loop.start(self.config.interval, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self.loop.running:
            self.loop.stop()
        return succeed(None)  # nothing is in flight: publish() buffers, and the bridge flushes

    def guarantee(self) -> str:
        return "at most once: the time is published to whoever is subscribed, and not while NATS is disconnected"

    def problems(self) -> list[str]:
        status = self.client.status
        return [] if status is ClientStatus.CONNECTED else [f"nats.{self.config.nats} is {status.value}"]

    def tick(self) -> None:
        if self.client.status is not ClientStatus.CONNECTED:
            self.metrics.dropped("disconnected")  # old times are of no use later
            return
        try:
            self.client.publish(self.config.subject, time.strftime("%H:%M:%S").encode("ascii"))
        except NatsError as error:
            self.metrics.failed("publish")
            log.warn("route {name}: {error}", name=self.name, error=error)
            return
        self.metrics.messages_out.inc()


@implementer(IPlugin, IRouteFactory)
class ClockFactory:
    """Tells the bridge of the route type and makes its routes."""

    type_name = "clock"
    config_type = ClockConfig

    def make_route(self, name: str, config: ClockConfig, context: RouteContext) -> ClockRoute:
        return ClockRoute(name, config, context)


# Plugins are the objects at the top of the module that provide IPlugin; the name is of no matter.
clock = ClockFactory()
