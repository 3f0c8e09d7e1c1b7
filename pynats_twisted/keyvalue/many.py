"""The last messages of very many subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import FirstError, gatherResults

from ..jetstream.direct_batch import MAX_SUBJECTS

if TYPE_CHECKING:
    from ..jetstream.stored import StoredMsg
    from ..jetstream.stream import Stream


async def read_last(stream: Stream, subjects: Sequence[str]) -> list[StoredMsg]:
    """The last message of each subject that has one, in any order.

    Where they are many, two requests are always under way: while the messages of one are read, the server looks for those of the other.
    """
    middle = (len(subjects) // 2 + MAX_SUBJECTS - 1) // MAX_SUBJECTS * MAX_SUBJECTS
    parts = [part for part in (subjects[:middle], subjects[middle:]) if part]
    reading = [stream.get_last_msgs_for(part).collect() for part in parts]
    try:
        found: list[list[StoredMsg]] = await gatherResults(reading, consumeErrors=True)
    except FirstError as first:
        for other in reading:
            other.cancel()
        first.subFailure.raiseException()
    return [msg for part in found for msg in part]
