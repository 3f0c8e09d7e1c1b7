"""When a push consumer's questions are answered: behind the messages that came before them. No I/O and no clock."""

from __future__ import annotations

from collections import deque

# A server asks again only when it was answered, or when it stalls: more than this wait only when somebody else asks.
_MOST = 100


class FlowControl:
    """Counts the messages that are being handled, and keeps the server's questions until all those before them are done.

    An answer lets the server send more: given too early, it would send more than can be handled.
    """

    __slots__ = ("_last", "_questions", "_running")

    def __init__(self) -> None:
        self._last = 0
        # In the order in which they came.
        self._running: dict[int, None] = {}
        # Behind which message each was asked, and where its answer goes.
        self._questions: deque[tuple[int, str]] = deque(maxlen=_MOST)

    @property
    def running(self) -> int:
        """Messages that are being handled."""
        return len(self._running)

    def begin(self) -> int:
        """A message is being handled. Its number is to be given to :meth:`end`."""
        self._last += 1
        self._running[self._last] = None
        return self._last

    def end(self, number: int) -> list[str]:
        """It is done. Returns where answers are due now."""
        self._running.pop(number, None)
        return self._due() if self._questions else []

    def ask(self, reply: str) -> list[str]:
        """The server asks. Returns where answers are due now."""
        question = (self._last, reply)
        # A server that stalls asks the same again and again.
        if question not in self._questions:
            self._questions.append(question)
        return self._due()

    def _due(self) -> list[str]:
        questions = self._questions
        oldest = next(iter(self._running), self._last + 1)
        due: list[str] = []
        while questions and questions[0][0] < oldest:
            due.append(questions.popleft()[1])
        return due
