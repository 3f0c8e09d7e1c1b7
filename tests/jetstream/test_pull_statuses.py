"""What the statuses of a pull mean."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.pull_statuses import TERMINAL, PullStatus, StatusKind, read_status

# Every status that servers up to 2.15 send to a pull.
KNOWN = {
    "100 Idle Heartbeat": StatusKind.HEARTBEAT,
    "400 Bad Request - heartbeat value too large": StatusKind.REFUSED,
    "400 Bad Request - Priority Group missing": StatusKind.REFUSED,
    "404 No Messages": StatusKind.ENDED,
    "408 Request Timeout": StatusKind.ENDED,
    "408 Interest Expired": StatusKind.ENDED,
    "408 Requests Pending": StatusKind.ENDED,
    "409 Message Size Exceeds MaxBytes": StatusKind.TOO_LARGE,
    "409 Batch Completed": StatusKind.ENDED,
    "409 Leadership Change": StatusKind.MOVED,
    "409 Server Shutdown": StatusKind.MOVED,
    "409 Consumer Deleted": StatusKind.DELETED,
    "409 Consumer is push based": StatusKind.REFUSED,
    "409 Exceeded MaxWaiting": StatusKind.BUSY,
    "409 Exceeded MaxRequestBatch of 10": StatusKind.REFUSED,
    "409 Exceeded MaxRequestExpires of 10s": StatusKind.REFUSED,
    "409 Exceeded MaxRequestMaxBytes of 100": StatusKind.REFUSED,
    "412 Required Api Level": StatusKind.API_LEVEL,
    "423 Nats-Wrong-Pin-Id": StatusKind.WRONG_PIN,
    "423 Nats-Pin-Id mismatch": StatusKind.WRONG_PIN,
    "503 ": StatusKind.NO_RESPONDERS,
}


class StatusTests(SynchronousTestCase):
    """Statuses become what they mean."""

    def test_every_status(self) -> None:
        """Each status that a server sends has its meaning, whatever the case of its words."""
        for line, kind in KNOWN.items():
            code, _, text = line.partition(" ")
            self.assertIs(read_status(int(code), text, {}).kind, kind, line)
            self.assertIs(read_status(int(code), text.upper(), {}).kind, kind, line)

    def test_unknown_ones(self) -> None:
        """What a later server may say is told apart from all that is known, and ends nothing."""
        for code, text in ((409, "Something New"), (499, ""), (None, ""), (409, "")):
            status = read_status(code, text, {})
            self.assertIs(status.kind, StatusKind.UNKNOWN)
            self.assertNotIn(status.kind, TERMINAL)

    def test_pending(self) -> None:
        """The rest of a pull is read; what is no number is as if it was not there."""
        status = read_status(408, "Request Timeout", {"Nats-Pending-Messages": "12", "Nats-Pending-Bytes": "0"})
        self.assertEqual((status.pending_messages, status.pending_bytes), (12, 0))
        for wrong in ("-1", "1e3", "", "9" * 20, "٣"):
            self.assertIsNone(read_status(408, "", {"Nats-Pending-Messages": wrong}).pending_messages, wrong)

    def test_errors(self) -> None:
        """What ends everything has its error, which names the consumer."""
        kinds = {
            "409 Consumer Deleted": errors.ConsumerDeletedError,
            "409 Consumer is push based": errors.PullRefusedError,
            "400 Bad Request - x": errors.PullRefusedError,
            "412 Required Api Level": errors.JetStreamApiLevelError,
        }
        for line, kind in kinds.items():
            code, _, text = line.partition(" ")
            error = read_status(int(code), text, {}).error("worker")
            self.assertIs(type(error), kind)
            self.assertIn("'worker'", str(error))
        refused = PullStatus(StatusKind.REFUSED, 409, "Exceeded MaxRequestBatch of 10").error("worker")
        assert isinstance(refused, errors.PullRefusedError)
        self.assertEqual((refused.status, refused.text), (409, "Exceeded MaxRequestBatch of 10"))
