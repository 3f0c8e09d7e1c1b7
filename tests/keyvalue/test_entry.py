"""What a message of a bucket is: a value, or what says that there is none."""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.jetstream import StoredMsg
from pynats_twisted.keyvalue import KeyValueEntry, Operation
from pynats_twisted.keyvalue.entry import operation_of_message

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def operation(*lines: str) -> Operation:
    block = "".join(f"{line}\r\n" for line in ("NATS/1.0", *lines, "")) if lines else ""
    return operation_of_message(StoredMsg("$KV.b.k", 1, b"", block.encode(), NOW))


class OperationTests(SynchronousTestCase):
    """The headers of ADR-8 and ADR-48."""

    def test_operations(self) -> None:
        """No header is a value, and so are headers of the user's own."""
        self.assertIs(operation(), Operation.PUT)
        self.assertIs(operation("KV-Operation: PUT"), Operation.PUT)
        self.assertIs(operation("Nats-TTL: 5", "My-KV-Operation: DEL"), Operation.PUT)
        self.assertIs(operation("KV-Operation: DEL"), Operation.DELETE)
        self.assertIs(operation("KV-Operation: PURGE", "Nats-Rollup: sub"), Operation.PURGE)
        self.assertIs(operation("KV-Operation: SOMETHING"), Operation.DELETE)

    def test_markers(self) -> None:
        """A marker says why the server put it: only a removed message is a delete."""
        found = [operation(f"Nats-Marker-Reason: {reason}", "Nats-TTL: 60") for reason in ("MaxAge", "Purge", "Remove", "New")]
        self.assertEqual(found, [Operation.PURGE, Operation.PURGE, Operation.DELETE, Operation.PURGE])

    def test_text_of_a_value_is_no_header(self) -> None:
        """A header whose value looks like another header is none."""
        self.assertIs(operation("X: KV-Operation: DEL"), Operation.PUT)


class EntryTests(SynchronousTestCase):
    """Entries."""

    def test_equal(self) -> None:
        """Entries are equal when they say the same of the same revision, wherever in the history they were read."""
        one = KeyValueEntry("b", "k", b"1", 5, NOW)
        self.assertEqual(one, KeyValueEntry("b", "k", b"1", 5, NOW, 3))
        self.assertEqual(hash(one), hash(KeyValueEntry("b", "k", b"1", 5, NOW, 3)))
        for other in (
            KeyValueEntry("c", "k", b"1", 5, NOW),
            KeyValueEntry("b", "k", b"2", 5, NOW),
            KeyValueEntry("b", "k", b"1", 6, NOW),
            KeyValueEntry("b", "k", b"1", 5, NOW, 0, Operation.DELETE),
        ):
            self.assertNotEqual(one, other)
        self.assertNotEqual(one, "k")

    def test_shown_without_the_value(self) -> None:
        """A value may be a secret: what is shown of an entry does not have it."""
        shown = repr(KeyValueEntry("b", "k", b"secret", 5, NOW))
        self.assertEqual(shown, "<KeyValueEntry b/k PUT revision 5>")
