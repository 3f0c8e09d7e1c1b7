"""``--check``: whether a configuration can be used, and what each of its routes promises, without connecting to anything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from pynats_twisted.bridge.config import BridgeConfig, read_config
from pynats_twisted.bridge.config_errors import Problem
from pynats_twisted.bridge.flow_graph import Feed, FlowGraph
from pynats_twisted.bridge.interfaces import IRouteFactory
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.errors import ConfigError, ConfigurationError


@dataclass(frozen=True)
class CheckedRoute:
    """What is known of a route before it runs.

    :ivar name: its name.
    :ivar type: its route type.
    :ivar guarantee: what it promises, in words.
    """

    name: str
    type: str
    guarantee: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    :ivar filename: the configuration's file.
    :ivar problems: what is wrong; the configuration can be used when there is nothing.
    :ivar warnings: what works, but probably not as meant.
    :ivar routes: the routes; empty when something is wrong.
    :ivar feeds: which route publishes what another one reads.
    """

    filename: str
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    routes: list[CheckedRoute] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_text(self) -> str:
        """The report for people, ending with a line feed."""
        lines = [f"error: {problem}" for problem in self.problems]
        lines += [f"warning: {warning}" for warning in self.warnings]
        for route in self.routes:
            lines += [f"route {route.name} ({route.type})", f"    {route.guarantee}"]
            lines += [f"    {feed}" for feed in self.feeds if feed.writer == route.name]
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        lines.append(f"{self.filename}: {count if self.problems else 'valid'}")
        return "\n".join(lines) + "\n"

    def as_json(self) -> str:
        """The report for programs: an object with ``file``, ``ok``, ``problems``, ``warnings``, ``routes`` and ``feeds``."""
        document: dict[str, Any] = {
            "file": self.filename,
            "ok": self.is_ok,
            "problems": [problem.as_dict() for problem in self.problems],
            "warnings": [warning.as_dict() for warning in self.warnings],
            "routes": [asdict(route) for route in self.routes],
            "feeds": [feed._asdict() for feed in self.feeds],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def check_file(path: str, reactor: Any, factories: Iterable[IRouteFactory] | None = None) -> CheckReport:
    """Check the configuration in the file *path*. Nothing is opened but the file and those that it names.

    :param reactor: given to the parts of the bridge, which are made and not started.
    :param factories: the route types to know; by default the built-in ones and those of plugins.
    """
    try:
        return check_config(read_config(path, factories), reactor, factories)
    except ConfigError as error:
        return CheckReport(path, problems=error.problems)


def check_config(config: BridgeConfig, reactor: Any, factories: Iterable[IRouteFactory] | None = None) -> CheckReport:
    """Check a configuration that was read without problems: make its routes, start none, ask each for its guarantee."""
    try:
        service = BridgeService(reactor, config, factories)
    except ConfigError as error:
        return CheckReport(config.filename, problems=error.problems, warnings=config.warnings)
    except ConfigurationError as error:
        problem = Problem(config.filename, 0, "", "sections that do not fit together", str(error))
        return CheckReport(config.filename, problems=[problem], warnings=config.warnings)
    routes = [CheckedRoute(name, config.routes[name].type, route.guarantee()) for name, route in service.routes.items()]
    feeds = list(FlowGraph(config.routes, config.nats).feeds())
    return CheckReport(config.filename, warnings=config.warnings, routes=routes, feeds=feeds)
