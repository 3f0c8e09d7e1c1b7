"""Copies of the source and clean virtual environments for the packaging tests."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pynats_twisted

SOURCE = Path(pynats_twisted.__file__).resolve().parent.parent
# What a checkout holds beyond the project itself is not copied.
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv*", ".ci", "build", "dist", "_build", "_trial_temp*", "*.egg-info", "__pycache__",
    "*.so", "_speedups.c", "_speedups.html", ".*_cache", ".hypothesis", "dropin.cache*", ".coverage*", "htmlcov",
)  # fmt: skip
TIMEOUT = 300.0  # seconds; a pip that has to download needs more than it looks


# Not what whoever runs the tests chose for themselves. CFLAGS: nothing is measured here, so no test waits for an optimizer.
NOT_INHERITED = ("PYTHON", "COVERAGE_", "COV_", "PYNATS_TWISTED_")
QUICK_BUILD = {"CFLAGS": "-O0"}
# A variable that takes the C compiler away.
NO_COMPILER = {"CC": "/no/such/compiler"}


def run(*command: str | Path, cwd: Path | None = None, expect: int = 0, **variables: str) -> str:
    """
    Run a command to its end and give what it wrote to stdout; any other exit code than ``expect`` fails the test with all it wrote.

    ``variables`` are added to its environment.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(NOT_INHERITED)} | QUICK_BUILD | variables
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != expect:
        raise AssertionError(f"{command} ended with {done.returncode}, not {expect}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def copy_source(target: Path) -> Path:
    """The source as a fresh clone would hold it, without what builds left behind."""
    if not (SOURCE / "setup.py").is_file():
        raise AssertionError(f"the packaging tests need a checkout; {SOURCE} has no setup.py")
    shutil.copytree(SOURCE, target, ignore=NOT_SOURCE)
    return target


def build(kind: str, source: Path, target: Path, **variables: str) -> Path:
    """Build ``sdist`` or ``wheel`` from a source tree, in an environment of its own, and give the file."""
    run(sys.executable, "-m", "build", f"--{kind}", "--outdir", target, source, **variables)
    (built,) = target.iterdir()
    return built


@functools.cache
def built(kind: str) -> Path:
    """The ``sdist`` or ``wheel`` of this checkout, built once for all tests; what it was built from is gone."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=os.getcwd()))  # the folder that trial removes before the next run
    source = copy_source(folder / "source")
    # Remains of plugin searches, as a developer's checkout has them.
    (source / "twisted" / "plugins" / "dropin.cache").write_bytes(b"remains")
    file = build(kind, source, folder / "built")
    shutil.rmtree(source)
    return file


@functools.cache
def twin_built_here() -> str:
    """Which twin an installation on this machine has: ``compiled`` if there is a C compiler that finds the headers of Python."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\nvoid *probe(void) { return PyList_New(0); }\n", "utf-8")
        command = [*compiler, "-fPIC", "-shared", "-I", sysconfig.get_path("include"), "-o", f"{source}.so", str(source)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
        except FileNotFoundError:
            return "pure"
    return "pure" if done.returncode else "compiled"


class Environment:
    """A clean virtual environment. What runs in it starts in an empty folder, so that nothing is found by accident."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "environment" / "bin"
        self._elsewhere = folder / "elsewhere"
        self._elsewhere.mkdir(parents=True)
        run(sys.executable, "-m", "venv", folder / "environment")

    def pip(self, *arguments: str | Path, **variables: str) -> str:
        return self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments, **variables)

    def run(self, program: str, *arguments: str | Path, expect: int = 0, **variables: str) -> str:
        return run(self._bin / program, *arguments, cwd=self._elsewhere, expect=expect, **variables)

    def twin(self, **variables: str) -> str:
        """The twin of the protocol that runs in here."""
        code = "from pynats_twisted import protocol; print(protocol.implementation)"
        return self.run("python", "-W", "error", "-c", code, **variables).strip()
