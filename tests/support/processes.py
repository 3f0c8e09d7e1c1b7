"""What the operating system says of processes and ports."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process exists that has not ended, as the system sees it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def process_state(pid: int | None) -> str:
    """The letter that Linux gives to what a process is doing."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def can_connect(port: int) -> bool:
    """Whether somebody listens on a port.

    A system may drop, without an answer, what reaches a listener in the moment that its process dies; nobody listens then either.
    """
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except (ConnectionRefusedError, TimeoutError):
        return False
    return True
