"""Copies of the source and clean virtual environments for the packaging tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pynats_twisted

SOURCE = Path(pynats_twisted.__file__).resolve().parent.parent
# What a checkout holds beyond the project itself is not copied.
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv*", ".ci", "build", "dist", "_build", "_trial_temp*", "*.egg-info", "__pycache__", "*.so", ".*_cache", ".hypothesis",
    "dropin.cache*", ".coverage*", "htmlcov",
)  # fmt: skip
TIMEOUT = 300.0  # seconds; a pip that has to download needs more than it looks


def run(*command: str | Path, cwd: Path | None = None, expect: int = 0) -> str:
    """Run a command to its end and give what it wrote to stdout; any other exit code than ``expect`` fails the test with all it wrote."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE_", "COV_"))}
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


def build(kind: str, source: Path, target: Path) -> Path:
    """Build ``sdist`` or ``wheel`` from a source tree, in an environment of its own, and give the file."""
    run(sys.executable, "-m", "build", f"--{kind}", "--outdir", target, source)
    (built,) = target.iterdir()
    return built


class Environment:
    """A clean virtual environment. What runs in it starts in an empty folder, so that nothing is found by accident."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "environment" / "bin"
        self._elsewhere = folder / "elsewhere"
        self._elsewhere.mkdir(parents=True)
        run(sys.executable, "-m", "venv", folder / "environment")

    def pip(self, *arguments: str | Path) -> str:
        return self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments)

    def run(self, program: str, *arguments: str | Path, expect: int = 0) -> str:
        return run(self._bin / program, *arguments, cwd=self._elsewhere, expect=expect)
