"""Which subject an endpoint of a service has: asked once by all who want to know, and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..client.waiting import Waiters
from ..errors import InvalidArgumentError, NatsError, RequestTimeoutError, ServiceNotFoundError
from ..protocol.subjects import matches

if TYPE_CHECKING:
    from .answers import Answers
    from .api import Info
    from .discovery import ServiceDiscovery

MAX_KNOWN = 1000
"""Subjects that are remembered. Where there would be more, all are forgotten, and asked for anew when they are needed."""


class Lookup:
    """Finds the subjects of a service's endpoints.

    :param discovery: asks.
    :param name: the service.
    :param timeout: seconds that instances are waited for.
    """

    def __init__(self, discovery: ServiceDiscovery, name: str, timeout: float) -> None:
        self._discovery = discovery
        self._name = name
        self._timeout = timeout
        # By what the endpoint was called: its name, or its subject.
        self._known: dict[str, str] = {}
        # Subjects with wildcards, for what was called by a subject that they match.
        self._patterns: set[str] = set()
        # The question in flight, what it has brought so far, and who waits for which endpoint.
        self._question: Answers[Info] | None = None
        self._infos: list[Info] = []
        self._waiting: dict[str, Waiters[str]] = {}

    def known(self, endpoint: str) -> str | None:
        """The subject of an endpoint, where it is remembered."""
        subject = self._known.get(endpoint)
        if subject is None and self._patterns and any(matches(pattern, endpoint) for pattern in self._patterns):
            return endpoint
        return subject

    def forget(self, endpoint: str) -> None:
        """Nobody listens there any more."""
        self._known.pop(endpoint, None)
        self._patterns = {pattern for pattern in self._patterns if not matches(pattern, endpoint)}

    def clear(self) -> None:
        """Remember nothing."""
        self._known.clear()
        self._patterns.clear()

    def find(self, endpoint: str, timeout: float) -> Deferred[str]:
        """Find the subject to ask. Whoever asks while a question is in flight waits for the same answers.

        :param timeout: seconds that this caller has.
        :raises ServiceNotFoundError: no instance answered, or none has the endpoint.
        :raises InvalidArgumentError: the name stands for several endpoints, or for one with wildcards, or is none.
        :raises RequestTimeoutError: the caller's time is over.
        """
        if not isinstance(endpoint, str) or not endpoint:
            raise InvalidArgumentError(f"endpoint {endpoint!r} must be the name of one, or a subject")
        waiter = self._waiting.setdefault(endpoint, Waiters()).wait()
        if self._question is None:
            self._ask()
        else:
            for info in self._infos:
                self._learn(info, endpoint)

        def late(result: object, _: float) -> None:
            raise RequestTimeoutError(f"no instance of service {self._name!r} said in time where its endpoint {endpoint!r} is")

        def settled(result: str | Failure) -> str | Failure:
            self._settle()
            return result

        waiter.addTimeout(timeout, self._discovery.client.reactor, onTimeoutCancel=late)
        waiter.addBoth(settled)
        return waiter

    def _settle(self) -> None:
        # Somebody has a subject, an error, or has given up: with the last one, the question is over too.
        self._waiting = {endpoint: waiters for endpoint, waiters in self._waiting.items() if len(waiters)}
        if not self._waiting and self._question is not None:
            question, self._question = self._question, None
            self._infos = []
            question.cancel()

    def _ask(self) -> None:
        try:
            self._question = question = self._discovery.info(self._name, timeout=self._timeout)
        except NatsError as error:
            self._fail(error, 0)
            return
        Deferred.fromCoroutine(self._read(question))

    async def _read(self, question: Answers[Info]) -> None:
        failure: NatsError | None = None
        try:
            async for info in question:
                if self._question is not question:
                    return
                self._infos.append(info)
                for endpoint in list(self._waiting):
                    self._learn(info, endpoint)
        except NatsError as error:
            failure = error
        if self._question is question:
            answered = len(self._infos)
            self._question = None
            self._infos = []
            self._fail(failure, answered)

    def _learn(self, info: Info, endpoint: str) -> None:
        waiters = self._waiting.get(endpoint)
        if waiters is None:
            return
        try:
            subject = _choose(info, endpoint)
        except NatsError as error:
            waiters.fail(error)
            return
        if subject is not None:
            self._remember(info, endpoint, subject)
            waiters.fire(subject)

    def _remember(self, info: Info, endpoint: str, subject: str) -> None:
        if len(self._known) + len(self._patterns) >= MAX_KNOWN:
            self.clear()
        if any(each.name == endpoint or each.subject == endpoint for each in info.endpoints):
            self._known[endpoint] = subject
        else:
            self._patterns.update(each.subject for each in info.endpoints if matches(each.subject, endpoint))

    def _fail(self, error: NatsError | None, answered: int) -> None:
        who = f"none of the {answered} instances of service {self._name!r} that answered has" if answered else ""
        waiting, self._waiting = self._waiting, {}
        for endpoint, waiters in waiting.items():
            text = f"{who} an endpoint {endpoint!r}" if who else f"no instance of service {self._name!r} answered"
            waiters.fail(error or ServiceNotFoundError(self._name, text, endpoint))


def _choose(info: Info, endpoint: str) -> str | None:
    """The subject of an endpoint that an instance says it has; None where it does not have it.

    :raises InvalidArgumentError: which subject is meant cannot be known.
    """
    subjects = sorted({each.subject for each in info.endpoints if each.name == endpoint})
    if not subjects:
        return endpoint if any(matches(each.subject, endpoint) for each in info.endpoints) else None
    where = f"endpoint {endpoint!r} of service {info.name!r} listens on {' and '.join(map(repr, subjects))}"
    if len(subjects) > 1:
        raise InvalidArgumentError(f"{where}: name the one that is meant by its subject")
    subject = subjects[0]
    if not {"*", ">"}.isdisjoint(subject.split(".")):
        raise InvalidArgumentError(f"{where}: give the subject to ask in the place of the name")
    if subject.startswith("$"):
        # Whoever answers INFO could have the caller publish to the APIs of the server, with the caller's permissions.
        raise InvalidArgumentError(f"{where}, which may be an API of the server: give the subject in the place of the name if it is right")
    return subject
