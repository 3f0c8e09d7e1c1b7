"""Which routes feed each other inside NATS, found from the configuration alone: circles, and who reads what others publish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pynats_twisted.bridge.config import Flow, NatsSection, RouteConfig
from pynats_twisted.bridge.config_types import Secret


class Feed(NamedTuple):
    """A route publishes what another one reads.

    :ivar writer: the name of the route that publishes.
    :ivar reader: the name of the route that reads; it may be the same.
    :ivar written: the subjects that the first publishes to, as a pattern.
    :ivar read: the subjects that the second reads, as a pattern.
    """

    writer: str
    reader: str
    written: str
    read: str

    def __str__(self) -> str:
        what = self.written if self.written == self.read else f"{self.written} (read as {self.read})"
        return f"routes.{self.writer} publishes {what}, which routes.{self.reader} reads"


class FlowGraph:
    """The routes of a configuration, and what flows between them.

    :param routes: the routes by name, in the order of the configuration.
    :param nats: the connections by name. Two of them to the same servers with the same credentials are one.
    """

    def __init__(self, routes: Mapping[str, RouteConfig], nats: Mapping[str, NatsSection]) -> None:
        systems = {name: _system(section) for name, section in nats.items()}
        flows = {name: list(route.flows()) for name, route in routes.items()}
        readers = {name: mine for name, mine in flows.items() if any(flow.reads for flow in mine)}
        self._feeds: dict[str, dict[str, Feed]] = {name: {} for name in flows}
        for writer, mine in flows.items():
            for reader, theirs in readers.items():
                feed = _feed(writer, mine, reader, theirs, systems)
                if feed is not None:
                    self._feeds[writer][reader] = feed

    def feeds(self) -> Iterator[Feed]:
        """Every pair of routes of which one reads what the other publishes."""
        for readers in self._feeds.values():
            yield from readers.values()

    def circles(self) -> list[list[Feed]]:
        """Circles, each as the feeds that close it: the shortest one through each route that is in one, each circle once."""
        found: dict[frozenset[str], list[Feed]] = {}
        for name in self._feeds:
            circle = self._shortest(name)
            if circle:
                found.setdefault(frozenset(feed.writer for feed in circle), circle)
        return list(found.values())

    def _shortest(self, start: str) -> list[Feed]:
        """The shortest way from a route back to itself; empty where there is none."""
        ways: dict[str, list[Feed]] = {start: []}
        waiting = [start]
        for name in waiting:
            for reader, feed in self._feeds[name].items():
                way = [*ways[name], feed]
                if reader == start:
                    return way
                if reader not in ways:
                    ways[reader] = way
                    waiting.append(reader)
        return []


def patterns_meet(one: str, other: str) -> bool:
    """Whether there is a subject that both patterns match."""
    ours, theirs = one.split("."), other.split(".")
    for our, their in zip(ours, theirs, strict=False):
        if ">" in (our, their):
            return True
        if our != their and "*" not in (our, their):
            return False
    return len(ours) == len(theirs)


def _feed(writer: str, flows: list[Flow], reader: str, theirs: list[Flow], systems: Mapping[str, object]) -> Feed | None:
    for ours in flows:
        for their in theirs:
            source = their.read_from or their.nats
            if source != ours.nats and (source not in systems or systems.get(ours.nats) != systems[source]):
                continue
            for written in ours.writes:
                for read in their.reads:
                    if patterns_meet(written, read):
                        return Feed(writer, reader, written, read)
    return None


def _system(section: NatsSection) -> object:
    """What two connections to the same account have in common."""
    servers = section.servers.split(",") if isinstance(section.servers, str) else section.servers
    secrets = (section.creds, section.nkey, section.password, section.token)
    return frozenset(url.strip() for url in servers), section.user, *map(_identity, secrets)


def _identity(secret: Secret | None) -> object:
    if secret is None:
        return None
    if secret.env is not None or secret.file is not None:
        return secret.env, secret.file
    # A literal value is in memory anyhow, and no longer than the configuration.
    return secret.value
