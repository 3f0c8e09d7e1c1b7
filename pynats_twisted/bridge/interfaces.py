"""The interfaces between the bridge and its routes: what a route type of your own has to offer."""

from __future__ import annotations

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
