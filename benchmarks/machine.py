"""What a result has to say about where it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from pynats_twisted.testing import find_server_program


def machine() -> dict[str, str | int]:
    """The processor and the operating system."""
    return {"cpu": _cpu_model(), "cores": len(os.sched_getaffinity(0)), "system": _system(), "architecture": platform.machine()}


def versions() -> dict[str, str]:
    """The programs and packages that all measurements share."""
    server = subprocess.run([find_server_program(), "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Twisted": metadata.version("Twisted"),
        "nats-server": server.strip().rpartition(" ")[2].removeprefix("v"),
    }


def _cpu_model() -> str:
    with_names = (line.partition(":") for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines())
    names = [value.strip() for name, _, value in with_names if name.strip() in ("model name", "Model")]
    return names[0] if names else platform.processor() or platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}"
