"""``twist nats-bridge`` and ``nats-bridge``: the options, and the service that they ask for."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn, Protocol

from twisted.application.service import IService
from twisted.logger import jsonFileLogObserver, textFileLogObserver
from twisted.python import usage

from pynats_twisted.bridge.log_format import json_observer

EX_CONFIG = 78
"""The exit code for a configuration that cannot be used (``sysexits.h``)."""

LOG_OBSERVERS: dict[str, Any] = {"text": textFileLogObserver, "json": json_observer}
"""What writes the log, by the name of the format."""


class CanBeCutShort(Protocol):
    """A service whose stop can be ended before its time is over."""

    def cut_short(self) -> None: ...


class Options(usage.Options):
    """What may be written after ``twist nats-bridge``."""

    synopsis = "[--config FILE [--watch] | --demo] [--check | --dry-run | --print-config | --schema]"
    longdesc = "Carries HTTP requests and lines of text into NATS, and the answers back, as a configuration file says."

    optParameters: ClassVar = [  # noqa: N815
        ["config", "c", None, "The configuration, a TOML file."],
        ["check-format", None, "text", "How --check and --dry-run report: text or json; --check=json is the same."],
    ]
    optFlags: ClassVar = [  # noqa: N815
        ["check", None, "Check the configuration without connecting to anything; exit with 0 when it can be used, else with 78."],
        ["dry-run", None, "Check it with the servers as well, listening on nothing and changing nothing; exit with 0, 1 or 78."],
        ["print-config", None, "Print the configuration with all defaults and without secrets, and exit."],
        ["schema", None, "Print the JSON Schema of the configuration, and exit."],
        ["watch", None, "Read the configuration again when its file has changed, as SIGHUP does."],
        ["demo", None, "Run a NATS server and a bridge for trying out, and print commands to try."],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})  # noqa: N815

    def parseOptions(self, options: Sequence[str] | None = None) -> None:  # noqa: N802
        """Parse; ``--check=json`` and ``--dry-run=json`` are written out first, as an option either takes a value or not."""
        given = sys.argv[1:] if options is None else options
        written_out: list[str] = []
        for argument in given:
            if argument.startswith(("--check=", "--dry-run=")):
                option, _, report_format = argument.partition("=")
                written_out += [option, "--check-format", report_format]
            else:
                written_out.append(argument)
        super().parseOptions(written_out)

    def postOptions(self) -> None:
        """Check that the options go together.

        :raises UsageError: they do not.
        """
        if self["check-format"] not in ("text", "json"):
            raise usage.UsageError(f"--check={self['check-format']}: the formats are text and json")
        modes = [f"--{name}" for name in ("check", "dry-run", "print-config", "schema", "demo") if self[name]]
        if len(modes) > 1:
            raise usage.UsageError(f"{' and '.join(modes)} do not go together")
        if self["watch"] and modes:
            raise usage.UsageError(f"--watch and {modes[0]} do not go together")
        needs_config = modes not in (["--schema"], ["--demo"])
        if needs_config and self["config"] is None:
            raise usage.UsageError("--config is missing: the path of a configuration file (or --demo)")
        if not needs_config and self["config"] is not None:
            raise usage.UsageError(f"{modes[0]} takes no --config")

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        from pynats_twisted import __version__

        sys.stdout.write(f"nats-bridge (pynats-twisted) {__version__}\n")
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """The service that the options ask for. Options that only print do so here and end the process.

    :raises SystemExit: with 0 after printing, with 78 when the configuration cannot be used.
    """
    if options["schema"]:
        _print_schema()
    if options["demo"]:
        from pynats_twisted.bridge.demo import make_demo_service

        return make_demo_service(_reactor(options))
    if options["check"]:
        _check(options)
    if options["dry-run"]:
        _dry_run(options)
    if options["print-config"]:
        _print_config(options)
    return _make_bridge(options)


def main() -> None:
    """The console script ``nats-bridge``, which does the same as ``twist nats-bridge``."""
    from pynats_twisted.bridge.script import run

    run(sys.argv[1:])


def _make_bridge(options: Options) -> IService:
    from pynats_twisted.bridge.config import read_config
    from pynats_twisted.bridge.reloader import Reloader
    from pynats_twisted.bridge.service import BridgeService
    from pynats_twisted.errors import ConfigurationError

    try:
        config = read_config(options["config"])
        service = BridgeService(_reactor(options), config)
    except ConfigurationError as error:
        _fail(error)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    _choose_log_format(options, config.bridge.log)
    cut_short_on_second_signal(_reactor(options), service)
    service.reloader = Reloader(service, options["config"])
    service.reloader.reload_on_sighup(_reactor(options))
    if options["watch"]:
        service.reloader.reload_on_change(_reactor(options))
    return service


def _check(options: Options) -> NoReturn:
    from pynats_twisted.bridge.check import check_file
    from pynats_twisted.errors import ConfigurationError

    try:
        report = check_file(options["config"], _reactor(options))
    except ConfigurationError as error:
        _fail(error)
    sys.stdout.write(report.as_json() if options["check-format"] == "json" else report.as_text())
    raise SystemExit(0 if report.is_ok else EX_CONFIG)


def _dry_run(options: Options) -> NoReturn:
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from pynats_twisted.bridge.dry_run import dry_run_file
    from pynats_twisted.errors import ConfigurationError

    async def run(reactor: Any) -> None:
        try:
            report = await dry_run_file(options["config"], reactor)
        except ConfigurationError as error:
            _fail(error)
        sys.stdout.write(report.as_json() if options["check-format"] == "json" else report.as_text())
        sys.stdout.flush()
        raise SystemExit(0 if report.is_ok else 1 if report.check.is_ok else EX_CONFIG)

    # The reactor of twist runs only when there is a service, and this ends before there is one.
    react(lambda reactor: Deferred.fromCoroutine(run(reactor)), _reactor=_reactor(options))
    raise AssertionError("react() ends the process")


def _print_config(options: Options) -> NoReturn:
    from pynats_twisted.bridge.config import read_config
    from pynats_twisted.bridge.config_output import format_config
    from pynats_twisted.errors import ConfigurationError

    try:
        config = read_config(options["config"])
    except ConfigurationError as error:
        _fail(error)
    sys.stdout.write(format_config(config))
    raise SystemExit(0)


def _print_schema() -> NoReturn:
    import json

    from pynats_twisted.bridge.config_output import json_schema
    from pynats_twisted.bridge.routes import all_factories
    from pynats_twisted.errors import ConfigurationError

    try:
        schema = json_schema(all_factories())
    except ConfigurationError as error:
        _fail(error)
    sys.stdout.write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
    raise SystemExit(0)


def _fail(error: Exception) -> NoReturn:
    sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
    raise SystemExit(EX_CONFIG) from None


def _holders(options: usage.Options) -> tuple[dict[str, Any], ...]:
    """Where a setting of the process may stand: in the options of the console script, or in those of ``twist``."""
    return (options, options.parent or {})


def _reactor(options: usage.Options) -> Any:
    """The reactor that ``twist`` or the console script installed; under ``twistd``, which tells nobody, the global one."""
    for holder in _holders(options):
        found = holder.get("reactor")
        if found is not None and not isinstance(found, str):
            return found
    from twisted.internet import reactor

    return reactor


def _choose_log_format(options: usage.Options, log_format: str | None) -> None:
    """Let ``[bridge] log`` win over the guess of ``twist``, which goes by whether it writes to a terminal; its JSON becomes ours."""
    # Under twistd, which has its own options for logging, there is no such key.
    for holder in _holders(options):
        if "fileLogObserverFactory" in holder:
            if log_format is not None:
                holder["fileLogObserverFactory"] = LOG_OBSERVERS[log_format]
            elif holder["fileLogObserverFactory"] is jsonFileLogObserver:
                holder["fileLogObserverFactory"] = json_observer


def cut_short_on_second_signal(reactor: Any, service: CanBeCutShort) -> None:
    """Make SIGINT and SIGTERM end a stop, once the first of them began it."""

    def install() -> None:
        # Only the main thread may do this; a reactor elsewhere got no signals to begin with.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: reactor.callFromThread(service.cut_short))

    reactor.addSystemEventTrigger("before", "shutdown", install)
