"""The console script ``nats-bridge``: what ``twist`` does, for one service and without looking for plugins first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn, TextIO

from twisted.application.reactors import NoSuchReactor, installReactor
from twisted.internet.error import CannotListenError
from twisted.logger import FilteringLogObserver, InvalidLogLevelError, LogLevel, LogLevelFilterPredicate, globalLogBeginner
from twisted.python import usage

from pynats_twisted.bridge.tap import LOG_OBSERVERS, Options, makeService

EX_USAGE = 64
"""The exit code for options that cannot be used (``sysexits.h``)."""


class ScriptOptions(Options):
    """The options of the bridge, and those of ``twist`` that are about the process."""

    optParameters: ClassVar = [  # noqa: N815
        ["reactor", None, "default", "The name of the reactor: default, asyncio, epoll, poll, select, …"],
        ["log-level", None, "info", "The least level that is logged: debug, info, warn, error, critical."],
        ["log-file", None, "-", 'The file to log to; "-" is the standard output, "+" the standard error.'],
        ["log-format", None, None, "text or json; by default what the configuration says, else text on a terminal and json elsewhere."],
    ]


def run(arguments: Sequence[str]) -> None:
    """Run the bridge until it is stopped.

    :raises SystemExit: with 64 for unusable options, 78 for an unusable configuration, 1 when it cannot be started.
    """
    options = ScriptOptions()
    try:
        options.parseOptions(arguments)
        level = _log_level(options)
        log_file = _log_file(options)
        options["reactor"] = reactor = _install_reactor(options["reactor"])
    except usage.UsageError as error:
        _exit(EX_USAGE, f"{error}\nTry --help.")
    default_format = options["log-format"] or ("text" if log_file.isatty() else "json")
    observer_factory = LOG_OBSERVERS[default_format]
    if options["log-format"] is None:
        # The configuration may choose another one.
        options["fileLogObserverFactory"] = observer_factory
    service = makeService(options)
    observer = options.get("fileLogObserverFactory", observer_factory)(log_file)
    globalLogBeginner.beginLoggingTo([FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=level)])])
    try:
        service.startService()
    except CannotListenError as error:
        _exit(1, str(error))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


def _log_level(options: usage.Options) -> Any:
    if options["log-format"] not in (None, *LOG_OBSERVERS):
        raise usage.UsageError(f"--log-format={options['log-format']}: the formats are text and json")
    try:
        return LogLevel.levelWithName(options["log-level"])
    except InvalidLogLevelError:
        raise usage.UsageError(f"--log-level={options['log-level']}: there is no such level") from None


def _log_file(options: usage.Options) -> TextIO:
    name = options["log-file"]
    if name in ("-", "+"):
        return sys.stdout if name == "-" else sys.stderr
    try:
        return open(name, "a", encoding="utf-8")
    except OSError as error:
        raise usage.UsageError(f"--log-file={name}: {error.strerror}") from None


def _install_reactor(name: str) -> Any:
    if name != "default":
        try:
            return installReactor(name)
        except NoSuchReactor:
            raise usage.UsageError(f"--reactor={name}: there is no such reactor") from None
    from twisted.internet import reactor

    return reactor


def _exit(code: int, message: str) -> NoReturn:
    sys.stderr.write(f"nats-bridge: {message}\n")
    raise SystemExit(code) from None
