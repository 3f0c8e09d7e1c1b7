"""What every row starts with: a folder, a server, ports, and how much is to be done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynats_twisted.testing import ServerProcess
from pynats_twisted.testing.process import BlockingServerProcess

from .figures import Figure
from .processes import Bridge, Program, RowError
from .programs.wire import Wire

# What is published while somebody still reads waits in the server, and must not end a load generator as too slow.
_SERVER = {"max_pending": 2**28, "write_deadline": "30s", "max_payload": 2**20}


@dataclass(frozen=True)
class Scale:
    """How much is done.

    :ivar name: ``full``, ``short`` or ``tiny``; the last one only shows that the harness works.
    """

    name: str

    def pick(self, full: float, short: float, tiny: float) -> Any:
        """The one of three numbers that counts here."""
        return {"full": full, "short": short, "tiny": tiny}[self.name]

    @property
    def rounds(self) -> int:
        """How often floor and bridge are measured in turn."""
        return int(self.pick(3, 1, 1))


SCALES = {name: Scale(name) for name in ("full", "short", "tiny")}


class Bench:
    """The surroundings of one row, as a context manager that ends everything that was started in it.

    :param folder: for files.
    :param limit: seconds after which every process of the row ends by itself.
    :ivar server: the nats-server, with JetStream. :ivar wire: a plain connection to it.
    """

    def __init__(self, folder: Path, scale: Scale, limit: float) -> None:
        self.folder = folder
        self.scale = scale
        self.limit = limit
        self._stack = contextlib.ExitStack()
        self.server: BlockingServerProcess
        self.wire: Wire

    def __enter__(self) -> Bench:
        self.server = self._stack.enter_context(ServerProcess.running(_SERVER, jetstream=True, monitoring=True))
        self.wire = Wire(self.server.port)
        self._stack.callback(lambda: self.wire.close())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reconnect(self) -> None:
        """A new plain connection, where the server has ended the old one."""
        self.wire.close()
        self.wire = Wire(self.server.port)

    def program(self, name: str, **job: Any) -> Program:
        """A program that runs until the end of the row, unless it ends before."""
        return self._stack.enter_context(Program(name, self.limit, **job))

    def run(self, name: str, timeout: float = 120.0, **job: Any) -> dict[str, Any]:
        """What a program says that says one thing and ends."""
        with Program(name, self.limit, **job) as program:
            return program.hear(timeout)

    def bridge(self, routes: str, *, is_started: bool = True) -> Bridge:
        """A bridge with these sections, connected to the server, until the end of the row."""
        return self._stack.enter_context(Bridge(self.nats() + routes, self.folder, self.limit, is_started=is_started))

    def nats(self) -> str:
        """The section of the connection."""
        return f'[nats.default]\nservers = "{self.server.url}"\n'


@contextlib.contextmanager
def busy(process: Any) -> Iterator[Callable[[], float]]:
    """Gives a function that tells, afterwards, the seconds of processor time that a process took meanwhile."""
    before = process.cpu()
    after: list[float] = []
    yield lambda: after[0]
    after.append(process.cpu() - before)


def expect_status(result: Mapping[str, Any], *statuses: int) -> None:
    """A load whose requests were refused was not measured.

    :raises RowError: other statuses came.
    """
    wrong = {status: count for status, count in result["statuses"].items() if int(status) not in statuses}
    if wrong or result["unanswered"] or not result["requests"]:
        raise RowError(f"answers with status {wrong}, {result['unanswered']} without one, {result['requests']} good")


Measure = Callable[[Bench], list[Figure]]
