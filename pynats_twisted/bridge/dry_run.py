"""``--dry-run``: whether a configuration would work with the servers, streams and names that are there. It changes nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThreadPool

from pynats_twisted.bridge.check import CheckReport, check_config
from pynats_twisted.bridge.config import BridgeConfig, RouteConfig, read_config
from pynats_twisted.bridge.config_errors import redact_urls
from pynats_twisted.bridge.connections import Connection
from pynats_twisted.bridge.interfaces import IDryRun, IRouteFactory
from pynats_twisted.bridge.permissions import Permissions, ask_permissions
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.client.status import Connected, ConnectFailed
from pynats_twisted.errors import ConfigError, ConsumerNotFoundError, NatsError, StreamNotFoundError

ASK_TIMEOUT: Final = 10.0
"""Seconds that the questions about one route may take."""

Level = Literal["error", "warning", "ok"]


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    :ivar level: ``error``: it would not work; ``warning``: it would, but perhaps not as meant; ``ok``: what is as it should be.
    :ivar path: the section that it is about.
    :ivar text: what it is.
    """

    level: Level
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.path}: {self.text}"


@dataclass(frozen=True)
class DryRunReport:
    """What a dry run found.

    :ivar check: what the check without connections found.
    :ivar findings: what was found with them; empty when the check found something wrong.
    """

    check: CheckReport
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.check.is_ok and not any(finding.level == "error" for finding in self.findings)

    def as_text(self) -> str:
        """The report for people, ending with a line feed."""
        errors = sum(finding.level == "error" for finding in self.findings)
        lines = "".join(f"{finding}\n" for finding in self.findings)
        if not self.check.is_ok:
            return self.check.as_text()
        verdict = f"{errors} thing{'s' if errors != 1 else ''} would not work" if errors else "would work"
        return f"{self.check.as_text()}{lines}{self.check.filename}: {verdict}\n"

    def as_json(self) -> str:
        """The report for programs: that of ``--check=json``, and ``findings`` in it."""
        document = {**json.loads(self.check.as_json()), "ok": self.is_ok, "findings": [asdict(finding) for finding in self.findings]}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def dry_run_file(path: str, reactor: Any, factories: Iterable[IRouteFactory] | None = None) -> Deferred[DryRunReport]:
    """Try the configuration in the file *path*.

    :param reactor: the reactor; it has to run.
    :param factories: the route types to know; by default the built-in ones and those of plugins.
    :returns: fires with the report.
    """

    async def run() -> DryRunReport:
        try:
            config = read_config(path, factories)
        except ConfigError as error:
            return DryRunReport(CheckReport(path, problems=error.problems))
        report = check_config(config, reactor, factories)
        return DryRunReport(report, await DryRun(reactor, config, factories).run() if report.is_ok else [])

    return Deferred.fromCoroutine(run())


class DryRun:
    """One dry run of a configuration that was checked.

    :param reactor: the reactor.
    :param config: the configuration.
    :param factories: the route types.
    """

    def __init__(self, reactor: Any, config: BridgeConfig, factories: Iterable[IRouteFactory] | None = None) -> None:
        self._reactor = reactor
        self._config = config
        # Its connections alone are started, so everything is as it would be in the bridge, and nothing is listened on or read.
        self._service = BridgeService(reactor, config, factories)
        self._findings: list[Finding] = []
        self._permissions: dict[str, Permissions | None] = {}

    async def run(self) -> list[Finding]:
        """Look at everything."""
        connections = self._service.connections
        try:
            for name, connection in connections.items():
                await self._connect(name, connection)
            for name, route in self._config.routes.items():
                await self._look_at(name, route)
        finally:
            for connection in connections.values():
                await connection.stopService()
        return self._findings

    def _found(self, level: Level, path: str, text: str) -> None:
        self._findings.append(Finding(level, path, text))

    # --- connections -------------------------------------------------------------------------------------------

    async def _connect(self, name: str, connection: Connection) -> None:
        section, client = connection.section, connection.client
        count = len(section.servers.split(",")) if isinstance(section.servers, str) else len(section.servers)
        failures: list[ConnectFailed] = []
        tried: Deferred[None] = Deferred()

        def on_event(event: object) -> None:
            if isinstance(event, ConnectFailed):
                failures.append(event)
            # The bridge would go on trying; here each server gets one chance.
            if not tried.called and (isinstance(event, Connected) or len(failures) == count):
                tried.callback(None)

        client.add_listener(on_event)
        connection.startService()
        try:
            await tried.addTimeout(section.connect_timeout * count + 1, self._reactor)
        except TimeoutError:
            # What kept it from connecting is in the attempts, if there was one that ended.
            tried.addErrback(lambda _: None)
        if not client.is_connected:
            own = self._config.server
            if own is not None and section.servers == [own.url]:
                self._found("warning", f"nats.{name}", "the server that the bridge brings along does not run now")
                return
            reason = redact_urls(str(failures[-1].error)) if failures else "no answer"
            self._found("error", f"nats.{name}", f"cannot connect: {reason}")
            return
        info: Any = client.server_info
        permissions = self._permissions[name] = await ask_permissions(client)
        who = f", user {permissions.user or '-'} of account {permissions.account}" if permissions is not None else ""
        jetstream = "" if info.jetstream else ", without JetStream"
        text = f"connected to nats-server {info.version}{jetstream}; payloads of up to {info.max_payload} bytes{who}"
        self._found("ok", f"nats.{name}", text)
        if permissions is None:
            self._found("warning", f"nats.{name}", "the server does not tell what the user may do; permissions were not checked")
            return
        inbox = f"{connection.section.inbox_prefix}.*.*"
        problem = permissions.subscribe.problem(inbox)
        if problem is not None:
            self._found("error", f"nats.{name}", f"answers cannot be received on {inbox}: {problem}; see inbox_prefix")

    # --- routes ------------------------------------------------------------------------------------------------

    async def _look_at(self, name: str, route: RouteConfig) -> None:
        path = f"routes.{name}"
        before = len(self._findings)
        await self._resolve(path, route)
        used = {nats for _, nats in route.nats_names()}
        if all(self._service.connections[nats].is_connected for nats in used):
            self._look_at_permissions(path, route)
            self._look_at_sizes(path, route)
            await Deferred.fromCoroutine(self._ask(path, name, route)).addTimeout(ASK_TIMEOUT, self._reactor, self._too_late(path))
        else:
            self._found("warning", path, "not looked at, as its NATS connection is not there")
        if len(self._findings) == before:
            self._found("ok", path, "nothing is missing")

    def _too_late(self, path: str) -> Any:
        def on_timeout(result: object, timeout: float) -> None:
            self._found("error", path, f"no answers within {timeout:g} s")

        return on_timeout

    def _look_at_permissions(self, path: str, route: RouteConfig) -> None:
        for nats, may_read, pattern in _subjects(route):
            permissions = self._permissions.get(nats)
            if permissions is None:
                continue
            problem = (permissions.subscribe if may_read else permissions.publish).problem(pattern)
            if problem is not None:
                self._found("error", path, f"the user may not {'subscribe' if may_read else 'publish'} to {pattern}: {problem}")

    def _look_at_sizes(self, path: str, route: RouteConfig) -> None:
        info: Any = self._service.connections[route.nats].client.server_info
        for key in ("max_body", "max_length"):
            size = getattr(route, key, None)
            if isinstance(size, int) and info.max_payload and size > info.max_payload:
                self._found("warning", path, f"{key} is {size} bytes, and the server takes payloads of up to {info.max_payload}")

    async def _resolve(self, path: str, route: RouteConfig) -> None:
        url = getattr(route, "url", None)
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or not parts.hostname:
            return
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        try:
            await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), socket.getaddrinfo, parts.hostname, port)
        except OSError as error:
            self._found("error", path, f"the host {parts.hostname} of url cannot be resolved: {error.strerror or error}")

    async def _ask(self, path: str, name: str, route: RouteConfig) -> None:
        own = IDryRun(self._service.routes[name], None)
        try:
            await self._look_at_streams(path, route, own is None)
            for text in await own.dry_run() if own is not None else ():
                self._found("error", path, text)
        except NatsError as error:
            self._found("error", path, f"JetStream does not answer as it should: {error}")

    async def _look_at_streams(self, path: str, route: RouteConfig, all_writes: bool) -> None:
        js = self._service.connections[route.nats].client.jetstream()
        stream_name, consumer_name = getattr(route, "stream", None), getattr(route, "consumer", None)
        if isinstance(stream_name, str) and stream_name:
            try:
                stream = await js.stream(stream_name)
            except StreamNotFoundError:
                self._found("error", path, f"there is no stream {stream_name}")
                return
            if isinstance(consumer_name, str) and consumer_name:
                try:
                    await stream.consumer(consumer_name)
                except ConsumerNotFoundError:
                    self._found("ok", path, f"stream {stream_name} has no consumer {consumer_name} yet; the route would make it")
        is_stored = getattr(route, "confirm", None) == "jetstream"
        for flow in route.flows():
            # What a route that reads a stream writes belongs into a stream too; a route that looks by itself knows better.
            for pattern in flow.writes if is_stored or (stream_name and all_writes) else ():
                await self._look_at_target(path, js, pattern, route)

    async def _look_at_target(self, path: str, js: Any, pattern: str, route: RouteConfig) -> None:
        try:
            config = (await js.stream(await js.stream_name_by_subject(pattern))).config
        except StreamNotFoundError:
            self._found("error", path, f"no stream stores {pattern}")
            return
        limit = getattr(route, "max_body", 0)
        if config.max_msg_size is not None and 0 < config.max_msg_size < limit:
            self._found(
                "warning", path, f"max_body is {limit} bytes, and stream {config.name} takes messages of up to {config.max_msg_size}"
            )


def _subjects(route: RouteConfig) -> Iterator[tuple[str, bool, str]]:
    """What a route reads and writes: the connection, whether it subscribes, and the subjects as a pattern."""
    stream, consumer = getattr(route, "stream", None), getattr(route, "consumer", None)
    for flow in route.flows():
        yield from ((flow.nats, False, pattern) for pattern in flow.writes)
        # What comes from a stream comes as answers to requests.
        if not stream:
            yield from ((flow.read_from or flow.nats, True, pattern) for pattern in flow.reads)
    if stream:
        yield route.nats, False, f"$JS.API.STREAM.INFO.{stream}"
    if stream and consumer:
        for subject in (f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"):
            yield route.nats, False, subject
        yield route.nats, False, f"$JS.ACK.{stream}.{consumer}.>"
