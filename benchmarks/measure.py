"""One measurement: a fresh server, a feeder where one is needed, and one client process that measures itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pynats_twisted.testing import ServerProcess

from .clients.job import Job
from .contestants import ROOT, Contestant
from .scenarios import Scenario
from .streams import StreamError, Streams

_FEEDER = Path(__file__).resolve().parent / "feeder.py"
# What is published while a client is still reading waits in the server, and must not end the client as too slow.
_SERVER = {"max_pending": 2**30, "write_deadline": "60s", "max_payload": 2**20}
_IMPORT_SECONDS = 60.0
_IMPORT = """
import resource, time
before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
{imports}
wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
import json
print(json.dumps(dict(count=1, wall=wall, user=after.ru_utime - before.ru_utime, system=after.ru_stime - before.ru_stime)))
"""


class MeasurementError(Exception):
    """A client did not end, or did not end well. The text is for people."""


def measure(contestant: Contestant, scenario: Scenario, limit: float) -> dict[str, Any]:
    """What the client process printed.

    :param limit: seconds after which it is ended.
    :raises MeasurementError: it printed no result.
    """
    if scenario.kind == "import":
        return _run([sys.executable, "-c", _IMPORT.format(imports=contestant.imports)], contestant, limit)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerProcess.running(_SERVER, tls=scenario.tls, jetstream=scenario.jetstream))
        ca = str(server.ca_file) if scenario.tls else ""
        if scenario.feeder:
            stack.enter_context(_feeder(server.port, ca))
        streams = stack.enter_context(_streams(server.port, scenario)) if scenario.jetstream else None
        job = Job(
            kind=scenario.kind,
            url=f"{'tls' if scenario.tls else 'nats'}://127.0.0.1:{server.port}",
            count=scenario.count,
            warmup=scenario.warmup,
            size=scenario.size,
            in_flight=scenario.in_flight,
            seconds=scenario.seconds,
            ca=ca,
        )
        result = _run([*contestant.command, *job.arguments()], contestant, limit)
        if streams is not None:
            _check(streams, scenario, scenario.warmup + int(result["count"]))
        return result


def _run(command: list[str], contestant: Contestant, limit: float) -> dict[str, Any]:
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=contestant.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"did not end within {limit:g} s") from None
    if ended.returncode:
        said = [line.strip() for line in ended.stderr.splitlines() if "rror" in line]
        raise MeasurementError(said[-1] if said else f"exit code {ended.returncode}")
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


@contextlib.contextmanager
def _feeder(port: int, ca: str) -> Iterator[None]:
    # -I and -S: it needs nothing but the standard library, and starts faster.
    command = [sys.executable, "-I", "-S", str(_FEEDER), str(port), ca]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"ready":
            raise MeasurementError("the feeder did not connect")
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def _streams(port: int, scenario: Scenario) -> Iterator[Streams]:
    streams = Streams(port)
    try:
        if scenario.holds == "keys":
            streams.make_bucket()
            if scenario.stored:
                streams.fill_bucket(scenario.size)
        elif scenario.holds == "objects":
            streams.make_object_store()
        else:
            streams.make(work_queue=scenario.work_queue)
            if scenario.stored:
                streams.fill(scenario.warmup + scenario.count, scenario.size)
        yield streams
    except StreamError as error:
        raise MeasurementError(str(error)) from None
    finally:
        streams.close()


def _check(streams: Streams, scenario: Scenario, count: int) -> None:
    """A client that was fast, and did not do it, is not measured."""
    if scenario.holds:
        # What it read it has looked at; what it wrote has to be there.
        if scenario.kind == "kv_put":
            streams.check_bucket(count)
        return
    streams.check_stored(count)
    if scenario.stored or scenario.work_queue:
        streams.check_acked(count)


def warm_imports(contestant: Contestant) -> None:
    """Import once, so that no measurement compiles bytecode or reads a cold disk."""
    if contestant.imports:
        _run([sys.executable, "-c", _IMPORT.format(imports=contestant.imports)], contestant, _IMPORT_SECONDS)
