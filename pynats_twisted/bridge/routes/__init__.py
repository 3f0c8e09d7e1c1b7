"""The route types: those that come with the bridge, and those that plugins add.

The modules of the built-in types are imported when they are asked for, so that ``--help`` does not load them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from twisted.plugin import getPlugins
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from pynats_twisted.bridge.config import RouteConfig
from pynats_twisted.bridge.interfaces import IRouteFactory
from pynats_twisted.errors import ConfigurationError

_BUILTIN_MODULES = ("http_request", "http_publish", "lines_in", "syslog", "webhook", "sse")
_TYPE_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)


def builtin_factories() -> list[IRouteFactory]:
    """The route types of the bridge itself. Each module of this package has its own as ``factory``."""
    return [import_module(f"{__name__}.{module}").factory for module in _BUILTIN_MODULES]


def plugin_factories() -> list[IRouteFactory]:
    """The route types that plugins offer: objects in ``twisted/plugins`` modules that provide :class:`IRouteFactory`."""
    return list(getPlugins(IRouteFactory))


def all_factories() -> dict[str, IRouteFactory]:
    """Every route type by its name.

    :raises ConfigurationError: a plugin is not what the interface says, or two offer the same type.
    """
    return index_factories([*builtin_factories(), *plugin_factories()])


def index_factories(factories: Iterable[Any]) -> dict[str, IRouteFactory]:
    """*factories* by their type names, each checked.

    :raises ConfigurationError: one is not what the interface says, or two offer the same type.
    """
    by_name: dict[str, IRouteFactory] = {}
    for factory in factories:
        _check(factory)
        other = by_name.setdefault(factory.type_name, factory)
        if other is not factory:
            raise ConfigurationError(f"route type {factory.type_name!r} is offered twice: by {other!r} and by {factory!r}")
    return by_name


def _check(factory: Any) -> None:
    try:
        verifyObject(IRouteFactory, factory)
    except Invalid as error:
        raise ConfigurationError(f"{factory!r} is no route type: {error}") from error
    type_name, config_type = factory.type_name, factory.config_type
    if not isinstance(type_name, str) or _TYPE_NAME.fullmatch(type_name) is None:
        raise ConfigurationError(f"{factory!r}: type_name {type_name!r} is not made of lower case letters, digits and '-'")
    if not (isinstance(config_type, type) and issubclass(config_type, RouteConfig)):
        raise ConfigurationError(f"{factory!r}: config_type {config_type!r} is no subclass of RouteConfig")
