"""What differs between two configurations, in terms of what has to be stopped and started for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pynats_twisted.bridge.config import BridgeConfig
from pynats_twisted.bridge.config_errors import ConfigError, Problem, describe_found
from pynats_twisted.bridge.config_types import Secret


@dataclass
class Changes:
    """What becomes of the sections of one kind, by their names, in the order of the configurations.

    :ivar added: new ones.
    :ivar changed: those that differ.
    :ivar removed: those that are gone.
    :ivar unchanged: those that stay as they are.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    @property
    def starting(self) -> list[str]:
        """Those to be made anew."""
        return [*self.changed, *self.added]

    @property
    def leaving(self) -> list[str]:
        """Those whose present form is to be stopped."""
        return [*self.changed, *self.removed]


class Difference:
    """From one configuration to another.

    A route is changed also when a connection or a listener that it uses is replaced. Secrets count by their values: a file with
    another secret in it changes a route. Those of connections are read anew at each connect, so there only their source counts.

    :param old: what runs.
    :param new: what is to run.
    :raises ConfigError: something differs that cannot change while the bridge runs.

    :ivar nats: the connections.
    :ivar listen: the listeners; one with other limits and the same endpoint is unchanged, as it takes them over.
    :ivar routes: the routes.
    :ivar admin: whether ``[admin]`` differs.
    """

    def __init__(self, old: BridgeConfig, new: BridgeConfig) -> None:
        self._check_fixed(old, new)
        self.nats = _changes(
            {name: essence(section, without=("required",), values=False) for name, section in old.nats.items()},
            {name: essence(section, without=("required",), values=False) for name, section in new.nats.items()},
        )
        self.listen = _changes(
            {name: section.endpoint for name, section in old.listen.items()},
            {name: section.endpoint for name, section in new.listen.items()},
        )
        self.routes = _changes(
            {name: essence(route) for name, route in old.routes.items()}, {name: essence(route) for name, route in new.routes.items()}
        )
        # What [bridge] says of loops is known to every route.
        everything = essence(old.bridge, without=("drain_timeout",)) != essence(new.bridge, without=("drain_timeout",))
        self._follow_parts(new, everything)
        self.admin = essence(old.admin) != essence(new.admin)

    @staticmethod
    def _check_fixed(old: BridgeConfig, new: BridgeConfig) -> None:
        fixed: dict[str, tuple[Any, Any]] = {
            "bridge.name": (old.bridge.name, new.bridge.name),
            "bridge.log": (old.bridge.log, new.bridge.log),
            "server": (essence(old.server), essence(new.server)),
        }
        problems = [
            Problem(
                new.filename,
                0,
                path,
                describe_found(wanted),
                f"{describe_found(running)}, as long as the bridge runs; restart it for another one",
            )
            for path, (running, wanted) in fixed.items()
            if running != wanted
        ]
        if problems:
            raise ConfigError(problems)

    def _follow_parts(self, new: BridgeConfig, everything: bool) -> None:
        nats, listen = set(self.nats.changed), set(self.listen.changed)
        for name in list(self.routes.unchanged):
            route = new.routes[name]
            uses_nats = {used for _, used in route.nats_names()}
            uses_listen = {binding.listen for binding in route.http_bindings()}
            if everything or uses_nats & nats or uses_listen & listen:
                self.routes.unchanged.remove(name)
                self.routes.changed.append(name)


def say_the_same(one: BridgeConfig, other: BridgeConfig) -> bool:
    """Whether two configurations have the same settings, wherever they were read from."""
    kinds = ("bridge", "admin", "server", "nats", "listen", "routes")
    return all(essence(getattr(one, kind)) == essence(getattr(other, kind)) for kind in kinds)


def essence(value: Any, *, without: tuple[str, ...] = (), values: bool = True) -> Any:
    """What of a part of a configuration counts when two are compared; equal when the parts mean the same.

    :param without: fields of *value* that do not count.
    :param values: compare the values of secrets, not only where they come from. The result must not be shown to anybody.
    """
    if isinstance(value, msgspec.Struct):
        fields = [info.name for info in msgspec.structs.fields(value) if info.name not in without]
        return type(value), *((name, essence(getattr(value, name), values=values)) for name in fields)
    if isinstance(value, Secret):
        is_literal = value.env is None and value.file is None
        return type(value), value.env, value.file, value.value if values or is_literal else None
    if isinstance(value, Mapping):
        return tuple((key, essence(item, values=values)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(essence(item, values=values) for item in value)
    return value


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    changes = Changes(removed=[name for name in old if name not in new])
    for name, section in new.items():
        if name not in old:
            changes.added.append(name)
        elif old[name] == section:
            changes.unchanged.append(name)
        else:
            changes.changed.append(name)
    return changes
