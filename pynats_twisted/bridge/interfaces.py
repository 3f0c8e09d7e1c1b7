"""The interfaces between the bridge and its routes: what a route type of your own has to offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import IService
from zope.interface import Attribute, Interface


class IRoute(IService):
    """One route of the configuration, as a service of the bridge.

    The bridge makes all routes first and starts them afterwards. ``startService`` must not wait: a route whose NATS
    connection is down, or whose listener cannot be bound yet, starts all the same and says so in :meth:`problems`.
    ``stopService`` stops taking input at once, and its Deferred fires when the messages in flight were answered or given back.
    The bridge bounds the wait by its ``drain_timeout``.
    """

    name = Attribute("The route's name: NAME of ``[routes.NAME]``. The service's name too.")

    type_name = Attribute("The route's type as the configuration writes it, for example ``http-request``.")

    def guarantee() -> str:
        """The effective delivery guarantee in words, for people (``--check`` and the admin pages print it).

        It may be asked before the route was started, and does no I/O.
        """

    def problems() -> list[str]:
        """What keeps the route from working at the moment, one sentence each; an empty list says that it is ready."""


@dataclass(frozen=True)
class RouteDescription:
    """A route in words, for people.

    :ivar source: where messages come from, for example ``POST /hooks/github``.
    :ivar target: where they go, for example ``hooks.github.*``.
    :ivar state: what else is to be known just now, as words by name: ``{"breaker": "open"}``.
    :ivar commands: commands to try the route with, each as what it shows and the command.
    """

    source: str
    target: str
    state: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[tuple[str, str]] = ()


class IDescribed(Interface):
    """A route that says more of itself than its guarantee."""

    def describe() -> RouteDescription:
        """The route in words, as it is just now. It may be asked before the route was started, and does no I/O."""


class IDegradable(Interface):
    """A route that can work without everything being as it should."""

    def degraded() -> list[str]:
        """What is not as it should be, while the route itself works, one sentence each. The bridge stays ready, and says it."""


class IPausable(Interface):
    """A route that can be told to take nothing for a while."""

    paused = Attribute("Whether the route was told to pause, or has paused by itself.")

    def pause() -> None:
        """Take nothing more from the source; what is in flight is finished. Pausing twice is no error."""

    def resume() -> None:
        """Go on. No error where it was not paused."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that a route gave up.

    :ivar seq: its sequence among the dead letters.
    :ivar subject: the subject that it had.
    :ivar error: why it was given up.
    :ivar attempts: how often it was tried.
    :ivar time: when it was given up, in seconds since the epoch.
    :ivar data: its payload.
    :ivar headers: its own headers, without those that tell of its end.
    """

    seq: int
    subject: str
    error: str
    attempts: int
    time: float
    data: bytes
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)


class IDeadLetters(Interface):
    """A route that keeps what it gave up. All of these return Deferreds, and fail with a ``NatsError`` where NATS does."""

    def dead_letters(limit: int) -> Any:  # noqa: N805
        """The newest of them, at most so many: a Deferred of a list of :class:`DeadLetter`."""

    def replay_dead_letters(seqs: Sequence[int] | None) -> Any:  # noqa: N805
        """Send them again to where they were going, and delete each that has arrived: a Deferred of how many.

        :param seqs: which ones; None for all.
        """

    def delete_dead_letters(seqs: Sequence[int] | None) -> Any:  # noqa: N805
        """Delete them: a Deferred of how many. Parameters as of :meth:`replay_dead_letters`."""


class IRouteFactory(Interface):
    """A route type. The bridge finds those of users as plugins (``twisted.plugin.getPlugins(IRouteFactory)``).

    A plugin object provides ``twisted.plugin.IPlugin`` as well, and stands in a module of a ``twisted/plugins`` directory
    on ``sys.path``.
    """

    type_name = Attribute("The value of ``type`` that chooses this factory: lower case letters, digits and ``-``.")

    config_type = Attribute(
        "A subclass of :class:`pynats_twisted.bridge.config.RouteConfig` (a ``msgspec.Struct``): the keys that the route takes."
    )

    def make_route(name: str, config: Any, context: Any) -> IRoute:  # noqa: N805
        """A route, not started.

        Making it opens, connects and binds nothing: ``--check`` makes every route and starts none.

        :param name: NAME of ``[routes.NAME]``.
        :param config: an instance of ``config_type``, valid by all its rules.
        :param context: the :class:`pynats_twisted.bridge.context.RouteContext`: reactor, NATS clients, listeners, metrics.
        """


class IDryRun(Interface):
    """A route that can look, before it is started, whether it would work."""

    def dry_run() -> Any:
        """What would keep the route from working, one sentence each: a Deferred of a list of texts.

        ``--dry-run`` calls it for a route that was made and not started; its NATS client is connected. It changes nothing anywhere, and
        listens on nothing.
        """
