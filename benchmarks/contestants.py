"""Who is measured: this package with and without its compiled part, and the other clients that are installed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from .clients.job import ASK_KINDS

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = Path(__file__).resolve().parent / "clients"
OURS = ("ours-compiled", "ours-pure")
C_CLIENT = "nats.c"
ORDER = (*OURS, "nats-py", "nats-core", "natsio", C_CLIENT)
"""How they stand in every round and every table."""

# distribution: module of benchmarks.clients, what a first program imports
_RIVALS = {
    "nats-py": ("nats_py", "import asyncio, nats"),
    "nats-core": ("nats_core", "import asyncio; from nats.client import connect"),
    "natsio": ("natsio", "import asyncio, natsio"),
}
_OURS_IMPORT = "from twisted.internet import reactor; from pynats_twisted import connect"
_IMPLEMENTATION = "from pynats_twisted.protocol import implementation; print(implementation)"
_TOOL_SECONDS = 120


@dataclass(frozen=True)
class Contestant:
    """One client library, and how to run the program that measures it.

    :ivar imports: what a program that uses it imports; empty for one that is not in Python.
    :ivar environment: variables that make it what it is.
    :ivar kinds: of scenarios that it can do.
    """

    name: str
    version: str
    command: tuple[str, ...]
    imports: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()

    def knows(self, kind: str) -> bool:
        """Whether it can do this kind of scenario."""
        return kind in self.kinds

    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, **self.environment}


class MissingError(Exception):
    """A client cannot be measured here. The text says why."""


def find(names: Sequence[str], build: Path) -> tuple[list[Contestant], dict[str, str]]:
    """Those of the named clients that can be measured here, and why the others cannot.

    :param build: a directory for what has to be compiled.
    """
    found: list[Contestant] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            found.append(_asked(_ours(name) if name in OURS else _nats_c(build) if name == C_CLIENT else _rival(name)))
        except MissingError as reason:
            missing[name] = str(reason)
    return found, missing


def _asked(contestant: Contestant) -> Contestant:
    """With the kinds that its program says."""
    try:
        kinds = json.loads(_output([*contestant.command, ASK_KINDS], contestant.env()))
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        raise MissingError(f"its program does not start: {said[-1] if said else f'exit code {error.returncode}'}") from None
    return replace(contestant, kinds=frozenset([*kinds, "import"] if contestant.imports else kinds))


def _ours(name: str) -> Contestant:
    command = (sys.executable, "-m", "benchmarks.clients.ours")
    environment = {"PYNATS_TWISTED_PURE": "1" if name == "ours-pure" else ""}
    contestant = Contestant(name, metadata.version("pynats-twisted"), command, _OURS_IMPORT, environment)
    runs = _output([sys.executable, "-c", _IMPLEMENTATION], contestant.env())
    if name != f"ours-{runs}":
        raise MissingError(f"the package runs {runs}: its extension module was not built, for which a C compiler is needed")
    return contestant


def _rival(name: str) -> Contestant:
    module, imports = _RIVALS[name]
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise MissingError(f"it is not installed for this Python {platform.python_version()}") from None
    return Contestant(name, version, (sys.executable, "-m", f"benchmarks.clients.{module}"), imports)


def _nats_c(build: Path) -> Contestant:
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler) is None:
        raise MissingError(f"there is no C compiler {compiler!r}")
    program = build / "nats_c"
    command = [compiler, "-O2", "-o", str(program), str(CLIENTS / "nats_c.c"), "-lnats", "-lpthread"]
    compiled = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)
    if compiled.returncode:
        reason = next((line for line in compiled.stderr.splitlines() if "error" in line), f"exit code {compiled.returncode}")
        raise MissingError(f"its program does not compile (it needs nats/nats.h and libnats): {reason.strip()}")
    return Contestant(C_CLIENT, _output([str(program)], None), (str(program),))


def _output(command: list[str], env: Mapping[str, str] | None) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=True, cwd=ROOT, env=env).stdout.strip()
