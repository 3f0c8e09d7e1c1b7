"""From a TOML text to a :class:`~pynats_twisted.bridge.config.BridgeConfig`, or to everything that is wrong with it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

import msgspec

from pynats_twisted.bridge.config import (
    NAME_RULE,
    AdminSection,
    BridgeConfig,
    BridgeSection,
    ListenSection,
    NatsSection,
    RouteConfig,
    Section,
    ServerSection,
    is_name,
)
from pynats_twisted.bridge.config_convert import RawProblem, convert_section
from pynats_twisted.bridge.config_errors import ConfigError, Problem, describe_found, describe_kind, near_miss
from pynats_twisted.bridge.config_lines import Path, find_lines, line_of
from pynats_twisted.bridge.config_rules import Rules
from pynats_twisted.bridge.interfaces import IRouteFactory

# Since Python 3.11 the parser is in the standard library.
tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

SectionT = TypeVar("SectionT", bound=Section)

_SECTIONS = ("bridge", "admin", "server", "nats", "listen", "routes")
_TOML_LINE = re.compile(r"line (\d+)")


class Loader:
    """Reads one text.

    :param text: the TOML text.
    :param filename: its name in messages; relative paths in the text start at its directory.
    :param factories: the route types by name.
    """

    def __init__(self, text: str, filename: str, factories: Mapping[str, IRouteFactory]) -> None:
        self._text = text
        self._filename = filename
        self._directory = os.path.dirname(os.path.abspath(filename))
        self._factories = factories
        self._problems: list[RawProblem] = []

    def load(self) -> BridgeConfig:
        """The configuration.

        :raises ConfigError: with everything that is wrong.
        """
        document = self._parse()
        for key in document:
            if key not in _SECTIONS:
                self._problem((key,), "an unknown section", ", ".join(_SECTIONS), near_miss(key, _SECTIONS))
        bridge = self._single(document, "bridge", BridgeSection)
        admin = self._single(document, "admin", AdminSection) if "admin" in document else None
        server = self._single(document, "server", ServerSection) if "server" in document else None
        if server is not None and not server.embedded:
            server = None
        nats = self._named(document, "nats", NatsSection)
        if server is not None:
            # Who has a server of his own means it.
            nats = {name: self._at_home(section, _table(document, "nats")[name], server) for name, section in nats.items()}
        listen = self._named(document, "listen", ListenSection)
        routes = self._routes(document)
        if "nats" not in document:
            nats = {"default": NatsSection() if server is None else NatsSection(servers=[server.url])}
        rules = Rules(
            bridge=bridge,
            admin=admin,
            server=server,
            nats=nats,
            listen=listen,
            routes=routes,
            # A name that is there with something wrong in it is not unknown.
            nats_names=set(_table(document, "nats")) | set(nats),
            listen_names=set(_table(document, "listen")),
        )
        self._problems.extend(rules.problems())
        lines = find_lines(self._text)
        if self._problems or bridge is None:
            raise ConfigError(sorted(self._located(self._problems, lines), key=lambda problem: problem.line))
        return BridgeConfig(
            filename=self._filename,
            bridge=bridge,
            admin=admin,
            server=server,
            nats=nats,
            listen=listen,
            routes=routes,
            warnings=self._located(list(rules.warnings()), lines),
        )

    def _parse(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            match = _TOML_LINE.search(str(error))
            # The only other place that the parser names is the end.
            line = int(match[1]) if match else self._text.rstrip().count("\n") + 1
            raise ConfigError([Problem(self._filename, line, "", f"a syntax error: {error}", "TOML 1.0")]) from None
        except RecursionError:
            raise ConfigError([Problem(self._filename, 0, "", "arrays or tables nested too deeply", "TOML 1.0")]) from None
        return document

    def _problem(self, path: Path, found: str, allowed: str, suggestion: str = "") -> None:
        self._problems.append(RawProblem(path, found, allowed, suggestion))

    def _located(self, problems: list[RawProblem], lines: Mapping[Path, int]) -> list[Problem]:
        return [
            Problem(
                file=self._filename,
                line=line_of(lines, problem.path),
                path=".".join(_quote_key(str(key)) for key in problem.path),
                found=problem.found,
                allowed=problem.allowed,
                suggestion=problem.suggestion,
            )
            for problem in problems
        ]

    def _single(self, document: Mapping[str, Any], name: str, section: type[SectionT]) -> SectionT | None:
        return convert_section(document.get(name, {}), section, (name,), self._problems, self._directory)

    def _named(self, document: Mapping[str, Any], kind: str, section: type[SectionT]) -> dict[str, SectionT]:
        converted: dict[str, SectionT] = {}
        for name, table in self._tables(document, kind):
            made = convert_section(table, section, (kind, name), self._problems, self._directory)
            if made is not None:
                converted[name] = made
        return converted

    @staticmethod
    def _at_home(section: NatsSection, table: Mapping[str, Any], server: ServerSection) -> NatsSection:
        return section if "servers" in table else msgspec.structs.replace(section, servers=[server.url])

    def _tables(self, document: Mapping[str, Any], kind: str) -> list[tuple[str, Any]]:
        tables = document.get(kind, {})
        if not isinstance(tables, dict):
            self._problem((kind,), describe_kind(tables), f"tables [{kind}.NAME]")
            return []
        for name in tables:
            if not is_name(name):
                self._problem((kind, name), f"the name {describe_found(name)}", NAME_RULE)
        return list(tables.items())

    def _routes(self, document: Mapping[str, Any]) -> dict[str, RouteConfig]:
        converted: dict[str, RouteConfig] = {}
        for name, table in self._tables(document, "routes"):
            path = ("routes", name)
            if not isinstance(table, dict):
                self._problem(path, describe_kind(table), "a table [routes.NAME]")
                continue
            factory = self._factory(table, path)
            if factory is None:
                continue
            made: RouteConfig | None = convert_section(table, factory.config_type, path, self._problems, self._directory)
            if made is not None:
                converted[name] = made
        return converted

    def _factory(self, table: Mapping[str, Any], path: Path) -> Any:
        type_name = table.get("type")
        factory = self._factories.get(type_name) if isinstance(type_name, str) else None
        if factory is None:
            found = describe_found(type_name) if "type" in table else "nothing, but the key is needed"
            allowed = ", ".join(f'"{known}"' for known in sorted(self._factories))
            close = near_miss(type_name, self._factories)
            self._problem((*path, "type"), found, allowed, f'"{close}"' if close else "")
        return factory


def _table(document: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    table = document.get(kind)
    return table if isinstance(table, dict) else {}


def _quote_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key, re.ASCII) else describe_found(key)
