"""Sees everything that crosses a NATS server, and judges it.

Job: ``port``, ``rules``: patterns of subjects, each with the headers that its messages may have (lower case) and the longest payload. Says
``{}`` when it listens. The command ``report`` says ``{seen, violations, first}``: messages by rule, and those that no rule allows.
"""

from __future__ import annotations

import re
import select
import sys
from collections import Counter

from .job import begin, say
from .wire import Message, Wire

_HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\x00-\x08\x0a-\x1f\x7f]*")


class Witness:
    """What it saw."""

    def __init__(self, rules: list[tuple[str, list[str], int]]) -> None:
        self.rules = [(re.compile(pattern), set(headers), longest) for pattern, headers, longest in rules]
        self.seen: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.first: list[str] = []

    def judge(self, message: Message) -> None:
        """One message."""
        for pattern, headers, longest in self.rules:
            if pattern.fullmatch(message.subject) is not None:
                self.seen[pattern.pattern] += 1
                self._judge_headers(message, headers)
                if len(message.payload) > longest:
                    self._blame("payload", message)
                return
        self._blame("subject", message)

    def _judge_headers(self, message: Message, allowed: set[str]) -> None:
        for line in message.headers.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]:
            name = line.partition(b":")[0].decode("latin-1").lower()
            if _HEADER_LINE.fullmatch(line) is None or name not in allowed:
                self._blame("header", message)

    def _blame(self, what: str, message: Message) -> None:
        self.violations[what] += 1
        if len(self.first) < 20:
            self.first.append(f"{what}: {message!r}"[:500])


def main() -> None:
    """Until the harness is gone."""
    job = begin()
    witness = Witness(job["rules"])
    wire = Wire(job["port"], headers=True, timeout=3600.0)
    wire.subscribe(">")
    say()
    while True:
        ready, _, _ = select.select([wire.socket, sys.stdin], [], [])
        if wire.socket in ready:
            for message in wire.take():
                witness.judge(message)
        elif not sys.stdin.readline():
            return
        else:
            say(seen=witness.seen, violations=witness.violations, first=witness.first)


if __name__ == "__main__":
    main()
