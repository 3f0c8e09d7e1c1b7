"""What a server does with one batch of fast ingest (ADR-50), as far as a client sees it. Everything is stored at once."""

from __future__ import annotations

import json
from typing import Any

Answer = tuple[str, bytes]
"""A reply subject, and what comes there."""

REFUSAL = {"code": 400, "err_code": 10071, "description": "wrong last sequence: 7"}


def failure(err_code: int) -> bytes:
    """The answer of a stream that refuses a publish."""
    return json.dumps({"stream": "S", "seq": 0, "error": {"code": 400, "err_code": err_code, "description": "no"}}).encode()


class IngestModel:
    """The batch in the server.

    :param interval: the messages between two acks; it may be changed, and changes with the next ack.
    :ivar stored: the sequences that are stored.
    :ivar forgotten: the batch has ended, and the server knows it no more.
    """

    def __init__(self, interval: int) -> None:
        self.interval = self._interval = interval
        self.stored: set[int] = set()
        self.forgotten = False
        self._begun = False
        self._gap_ok = False
        # Handled, stored or passed over, and acked up to here.
        self._handled = 0
        self._reached = 0
        self._acked = 0

    def publish(self, reply: str, refuse: bool = False) -> list[Answer]:
        """A message of the batch comes."""
        prefix, flow, gap, number, operation, mark = reply.rsplit(".", 5)
        assert prefix and mark == "$FI" and gap in ("ok", "fail") and int(flow) >= 1
        seq = int(number)
        if self.forgotten or (not self._begun and seq != 1):
            return [(reply, failure(10208))]
        self._begun = True
        self._gap_ok = gap == "ok"
        if operation == "4":
            return self._ping(reply, seq)
        expected = self._handled + 1
        answers: list[Answer] = []
        if seq != expected:
            answers.append(_said(reply, type="gap", last_seq=expected, seq=seq))
            if not self._gap_ok:
                return [*answers, self._end(reply)]
        if operation == "3":
            self._handled = seq - 1
            return [*answers, self._end(reply)]
        if seq == 1 and operation == "0":
            answers.append(_said(reply, type="ack", seq=0, msgs=self._interval))
        if refuse:
            if not self._gap_ok and seq == 1:
                self.forgotten = True
                return [*answers, (reply, failure(10071))]
            answers.append(_said(reply, type="err", seq=seq, error=REFUSAL))
            if not self._gap_ok:
                return [*answers, self._end(reply)]
            self._handled = seq
            return [*answers, self._end(reply)] if operation == "2" else answers
        self._handled = self._reached = seq
        self.stored.add(seq)
        if operation == "2":
            return [*answers, self._end(reply)]
        return answers + self._ack(reply)

    def _ping(self, reply: str, seq: int) -> list[Answer]:
        answers: list[Answer] = []
        if seq > self._handled:
            answers.append(_said(reply, type="gap", last_seq=self._handled + 1, seq=seq + 1))
            if not self._gap_ok:
                return [*answers, self._end(reply)]
            self._handled = self._reached = seq
            acked = self._ack(reply)
            if acked:
                return answers + acked
        return [*answers, _said(reply, type="ack", seq=self._acked, msgs=self._interval)]

    def _ack(self, reply: str) -> list[Answer]:
        steps = (self._reached - self._acked) // self._interval
        if not steps:
            return []
        self._acked += steps * self._interval
        self._interval = self.interval
        return [_said(reply, type="ack", seq=self._acked, msgs=self._interval)]

    def _end(self, reply: str) -> Answer:
        self.forgotten = True
        return _said(reply, stream="S", seq=len(self.stored), batch=reply.rsplit(".", 5)[0].rpartition(".")[2], count=self._handled)


def _said(reply: str, **fields: Any) -> Answer:
    return reply, json.dumps(fields).encode()
