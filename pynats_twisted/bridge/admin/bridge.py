"""What the admin endpoint needs of a bridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pynats_twisted.bridge.config import BridgeConfig
    from pynats_twisted.bridge.connections import Connection
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.interfaces import IRoute, IRouteFactory
    from pynats_twisted.bridge.metrics import BridgeMetrics
    from pynats_twisted.bridge.reloader import Reloader
    from pynats_twisted.bridge.switches import RouteSwitches


class AdminBridge(Protocol):
    """A bridge; :class:`~pynats_twisted.bridge.service.BridgeService` is one."""

    config: BridgeConfig
    context: RouteContext
    metrics: BridgeMetrics
    switches: RouteSwitches
    reloader: Reloader | None

    @property
    def routes(self) -> Mapping[str, IRoute]:
        """The routes by name."""

    @property
    def connections(self) -> Mapping[str, Connection]:
        """The NATS connections by name."""

    @property
    def listeners(self) -> Mapping[str, HTTPListener]:
        """The HTTP listeners by name."""

    @property
    def factories(self) -> Mapping[str, IRouteFactory]:
        """The route types by name."""

    @property
    def draining(self) -> bool:
        """Whether it was told to stop."""

    def problems(self) -> list[str]:
        """What keeps the bridge from doing its work."""

    def degraded(self) -> list[str]:
        """What does not work although the bridge as a whole does."""
