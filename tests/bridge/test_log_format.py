"""The log as JSON lines."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.log_format import MAX_FIELDS, MAX_TEXT_CHARS, json_observer


class JsonTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = io.StringIO()
        self.log = Logger("bridge.test", observer=LogPublisher(json_observer(self.stream)))

    def lines(self) -> list[dict[str, Any]]:
        lines = self.stream.getvalue().split("\n")
        self.assertEqual(lines.pop(), "")
        return [json.loads(line) for line in lines]

    def test_text_and_fields(self) -> None:
        """Each event is a line with its time, level and text, and its fields under their names."""
        self.log.warn("route {route}: {reason}", route="orders", reason="too-long", size=17, is_last=True, details={"seq": 3})
        (line,) = self.lines()
        self.assertRegex(line.pop("time"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        expected = {"level": "warn", "logger": "bridge.test", "message": "route orders: too-long", "route": "orders", "reason": "too-long"}
        self.assertEqual(line, {**expected, "size": 17, "is_last": True, "details": {"seq": 3}})

    def test_errors(self) -> None:
        """An error is one line too, with its text and its traceback."""
        try:
            raise ZeroDivisionError("by nothing")
        except ZeroDivisionError:
            self.log.failure("route {route} failed", route="orders")
        (line,) = self.lines()
        self.assertEqual((line["level"], line["message"], line["error"]), ("critical", "route orders failed", "by nothing"))
        self.assertIn("ZeroDivisionError", line["traceback"])

    def test_one_line_whatever_is_in_it(self) -> None:
        """Line ends, lone surrogates, infinities and objects of all kinds make neither a second line nor an error."""
        self.log.info("{a}", a="x\r\n{}\u2028\u2029\x85\ud800", b=float("inf"), c=object, d={1: {"x": {"y": {"z": 1}}}}, logger="forged")
        (line,) = self.lines()
        self.assertEqual((line["logger"], line["b"]), ("bridge.test", "inf"))
        self.assertEqual(line["message"], "x\r\n{}\u2028\u2029\x85\\ud800")
        self.stream.getvalue().encode("utf-8")

    def test_bounded(self) -> None:
        """Long texts are cut, and so are events with many fields."""
        self.log.info("{a}", a="x" * 100_000, **{f"f{number}": number for number in range(1000)})
        (line,) = self.lines()
        self.assertEqual(len(line["message"]), MAX_TEXT_CHARS)
        self.assertLessEqual(len(line), MAX_FIELDS + 4)
