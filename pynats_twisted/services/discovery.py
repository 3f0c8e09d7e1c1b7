"""Who is there: the asking side of ``$SRV`` (ADR-32)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ..client.waiting import check_seconds
from ..errors import DisconnectedError, InvalidArgumentError, ServiceNotFoundError
from ..protocol.subjects import check_publish_subject
from .answers import Answers
from .api import DEFAULT_PREFIX, Answer, Info, Ping, Stats, control_subject

if TYPE_CHECKING:
    from ..client.client import NatsClient

DEFAULT_TIMEOUT = 2.0
"""Seconds that answers are waited for at most."""

DEFAULT_STALL = 0.5
"""Seconds without a further answer after which all are taken to have come."""

# Between two looks of wait_for: seconds at first, and at most.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_A = TypeVar("_A", bound=Answer)


class ServiceDiscovery:
    """Finds services, asks what they are, and what they have done.

    How many there are, nobody knows: answers are taken until none came for the ``stall`` time after another one, and at most for the
    ``timeout``. An instance that is slower than that is not seen.

    :param client: every request goes through it.
    :param prefix: where services are asked; ``$SRV``, or where the services of another account are imported to.
    :raises InvalidSubjectError: the prefix is no subject to publish to.
    """

    def __init__(self, client: NatsClient, *, prefix: str = DEFAULT_PREFIX) -> None:
        check_publish_subject(prefix)
        self.client = client
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"<ServiceDiscovery {self.prefix!r}>"

    # --- questions -------------------------------------------------------------------------------------------

    def ping(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        stall: float | None = DEFAULT_STALL,
        max_answers: int | None = None,
    ) -> Answers[Ping]:
        """Who is there. The ``rtt`` of an answer says in how many seconds it came.

        :param name: ask the instances of this service only.
        :param id: ask this instance only; it needs the name.
        :param timeout: end after so many seconds.
        :param stall: end when for so many seconds after an answer no other came; None to wait for the whole timeout.
        :param max_answers: end when so many instances have answered; 1 where there is an id.
        :returns: the answers, for ``async for`` and for ``await``.
        :raises InvalidArgumentError: the name, the id or ``max_answers`` breaks a rule.
        :raises ConfigurationError: a time breaks a rule.

        What :meth:`pynats_twisted.NatsClient.request_many` raises is raised here too.
        """
        return self._ask(Ping, name, id, timeout, stall, max_answers)

    def info(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        stall: float | None = DEFAULT_STALL,
        max_answers: int | None = None,
    ) -> Answers[Info]:
        """What the services are: descriptions, metadata and endpoints. All else is as :meth:`ping` has it."""
        return self._ask(Info, name, id, timeout, stall, max_answers)

    def stats(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        stall: float | None = DEFAULT_STALL,
        max_answers: int | None = None,
    ) -> Answers[Stats]:
        """What the services have done: requests, errors and times of each endpoint. All else is as :meth:`ping` has it."""
        return self._ask(Stats, name, id, timeout, stall, max_answers)

    def _ask(
        self, kind: type[_A], name: str | None, id: str | None, timeout: float, stall: float | None, max_answers: int | None
    ) -> Answers[_A]:
        subject = control_subject(kind.verb, name, id, prefix=self.prefix)
        if max_answers is not None:
            _check_count("max_answers", max_answers)
        elif id is not None:
            max_answers = 1
        return Answers(self.client, kind, subject, max_answers=max_answers, stall=stall, timeout=timeout)

    # --- services by name ------------------------------------------------------------------------------------

    def find(self, name: str, *, timeout: float = DEFAULT_TIMEOUT) -> Deferred[Info]:
        """What a service is: the answer of the instance that is the first.

        :param timeout: seconds.
        :raises ServiceNotFoundError: none answered in time.
        """

        async def find() -> Info:
            for info in await self.info(name, timeout=timeout, max_answers=1):
                return info
            raise ServiceNotFoundError(name, f"no instance of service {name!r} answered")

        return Deferred.fromCoroutine(find())

    def wait_for(self, name: str, instances: int = 1, *, timeout: float = 10.0) -> Deferred[list[Ping]]:
        """Wait until a service is there. It asks again and again, at most once in a second after a while.

        :param instances: how many of them there have to be at the same time.
        :param timeout: seconds.
        :returns: as many answers.
        :raises ServiceNotFoundError: there were fewer when the time was over.
        :raises InvalidArgumentError: the name or the number breaks a rule.
        """
        return Deferred.fromCoroutine(self._wait_for(name, instances, timeout))

    async def _wait_for(self, name: str, instances: int, timeout: float) -> list[Ping]:
        _check_count("instances", instances)
        reactor = self.client.reactor
        end = reactor.seconds() + check_seconds("timeout", timeout)
        pause = _FIRST_PAUSE
        found: list[Ping] = []
        while (left := end - reactor.seconds()) > 0:
            try:
                found = await self.ping(name, timeout=min(left, DEFAULT_TIMEOUT), max_answers=instances)
            except DisconnectedError:
                # Only where the option says so. The client connects again, and that may be what is waited for.
                found = []
            if len(found) >= instances:
                return found
            await deferLater(reactor, max(0.0, min(pause, end - reactor.seconds())))
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise ServiceNotFoundError(name, f"{len(found)} of {instances} instances of service {name!r} answered within {timeout} s")


def _check_count(what: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgumentError(f"{what}={value!r} is not a whole number of 1 or more")
