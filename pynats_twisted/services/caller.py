"""Asking services by their names, and not by their subjects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from ..client.waiting import OneShot, check_seconds
from ..errors import NoRespondersError
from .api import DEFAULT_PREFIX, control_subject, is_end, response_error
from .discovery import DEFAULT_TIMEOUT, ServiceDiscovery
from .lookup import Lookup

if TYPE_CHECKING:
    from ..client.client import NatsClient
    from ..client.request_many import RequestMany
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg


class ServiceClient:
    """Asks the endpoints of one service, which are called by their names.

    Where an endpoint listens is asked with INFO when it is first needed, and remembered. When nobody listens there any more it is asked
    anew, and the request is sent once more: nobody has got it before.

    :param client: every request goes through it.
    :param name: the service.
    :param prefix: where services are asked; ``$SRV``, or where the services of another account are imported to.
    :param lookup_timeout: seconds that instances are waited for.
    :raises InvalidSubjectError: the prefix is no subject to publish to.
    :raises InvalidArgumentError: the name is not one of a service.
    :raises ConfigurationError: the time breaks a rule.
    """

    def __init__(self, client: NatsClient, name: str, *, prefix: str = DEFAULT_PREFIX, lookup_timeout: float = DEFAULT_TIMEOUT) -> None:
        control_subject("INFO", name, prefix=prefix)
        check_seconds("lookup_timeout", lookup_timeout)
        self.client = client
        self.name = name
        self.discovery = ServiceDiscovery(client, prefix=prefix)
        self._lookup = Lookup(self.discovery, name, lookup_timeout)

    def __repr__(self) -> str:
        return f"<ServiceClient {self.name!r}>"

    def request(
        self, endpoint: str, data: Payload = b"", headers: HeadersLike | None = None, timeout: float | None = None
    ) -> Deferred[Msg]:
        """Ask an endpoint, and wait for its reply.

        :param endpoint: its name; or its subject, where several have the name or the subject has wildcards. Of such an endpoint it is the
            subject to publish to: ``"orders.42"`` for one that listens on ``orders.*``.
        :param timeout: seconds for all of it, with finding the endpoint; the option ``request_timeout`` (5) by default.
        :raises ServiceResponseError: the service answered with an error; it has the code and the text.
        :raises ServiceNotFoundError: no instance of the service answered, or none has the endpoint.
        :raises NoRespondersError: nobody listens on the endpoint's subject, also after asking for it anew.
        :raises RequestTimeoutError: no reply came in time; the request may have been executed.
        :raises InvalidArgumentError: the name stands for several endpoints or for one with wildcards, or an argument breaks a rule.

        What :meth:`pynats_twisted.NatsClient.request` raises is raised here too; all of it by the Deferred.
        """
        begun = self.client.reactor.seconds()
        if timeout is None:
            timeout = self.client.options.request_timeout
        subject = self._lookup.known(endpoint)
        if subject is None:
            return Deferred.fromCoroutine(self._find_and_request(endpoint, data, headers, timeout, begun))

        def again(failure: Failure) -> Deferred[Msg]:
            failure.trap(NoRespondersError)
            self._lookup.forget(endpoint)
            return Deferred.fromCoroutine(self._find_and_request(endpoint, data, headers, timeout, begun))

        return maybeDeferred(self.client.request, subject, data, headers, timeout).addCallbacks(_checked, again)

    async def _find_and_request(self, endpoint: str, data: Payload, headers: HeadersLike | None, timeout: float, begun: float) -> Msg:
        subject = await self._lookup.find(endpoint, self._left(timeout, begun))
        try:
            return _checked(await self.client.request(subject, data, headers, self._left(timeout, begun)))
        except NoRespondersError:
            self._lookup.forget(endpoint)
            raise

    def _left(self, timeout: float, begun: float) -> float:
        left: float = check_seconds("timeout", timeout) - (self.client.reactor.seconds() - begun)
        return max(0.0, left)

    def request_many(
        self,
        endpoint: str,
        data: Payload = b"",
        headers: HeadersLike | None = None,
        *,
        max_msgs: int | None = None,
        stall: float | None = None,
        timeout: float | None = None,
        sentinel: Callable[[Msg], bool] | None = is_end,
    ) -> ServiceReplies:
        """Ask an endpoint that answers in several parts, or one without a queue group, where each instance answers.

        :param endpoint: as in :meth:`request`.
        :param max_msgs: end after that many replies.
        :param stall: end when for so many seconds after a reply no other came.
        :param timeout: end after so many seconds, with finding the endpoint; the option ``request_timeout`` (5) by default.
        :param sentinel: end at the reply for which it returns true, without handing that out: by default at an empty one without headers,
            which ends the answer of a streaming endpoint. None to take such as any other, where several instances answer.
        :returns: the replies, for ``async for``. It raises what :meth:`request` raises. That the time is over is no error, unless it was
            over before the endpoint was found.
        :raises ConfigurationError: the timeout breaks a rule.
        """
        seconds = self.client.options.request_timeout if timeout is None else check_seconds("timeout", timeout)
        begun = self.client.reactor.seconds()

        def ask(subject: str) -> RequestMany:
            left = self._left(seconds, begun)
            return self.client.request_many(subject, data, headers, max_msgs=max_msgs, stall=stall, timeout=left, sentinel=sentinel)

        return ServiceReplies(self._lookup, endpoint, ask, lambda: self._left(seconds, begun))

    def forget(self) -> None:
        """Forget where the endpoints listen. They are asked for anew when they are needed."""
        self._lookup.clear()


class ServiceReplies(AsyncIterator["Msg"]):
    """The replies to one request to a service, for ``async for``. One loop reads them.

    A reply that is an error ends it: it is raised as ServiceResponseError.
    """

    def __init__(self, lookup: Lookup, endpoint: str, ask: Callable[[str], RequestMany], left: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self._lookup = lookup
        self._ask = ask
        self._left = left
        self._replies: RequestMany | None = None
        self._ended: str | None = None
        # Where it was remembered that the endpoint listens there, it may not any more.
        subject = lookup.known(endpoint)
        self._may_retry = subject is not None
        self._opened = OneShot()
        self._opening: Deferred[Any] | None = None
        self._open(subject)

    def __repr__(self) -> str:
        return f"<ServiceReplies {self.endpoint!r}, {self.reason or 'open'}>"

    @property
    def reason(self) -> str | None:
        """What ended it, as :attr:`RequestMany.reason <pynats_twisted.client.request_many.RequestMany.reason>` has it; None before."""
        if self._ended is not None:
            return self._ended
        return None if self._replies is None else self._replies.reason

    @property
    def dropped(self) -> int:
        """Replies that were dropped because too many waited to be taken."""
        return 0 if self._replies is None else self._replies.dropped

    def _open(self, subject: str | None) -> None:
        self._opened = opened = OneShot()

        async def open_() -> None:
            try:
                found = subject if subject is not None else await self._lookup.find(self.endpoint, self._left())
                self._replies = self._ask(found)
            except Exception as error:  # noqa: BLE001 - whoever reads gets it
                opened.fail(error)
            else:
                opened.happen()

        self._opening = Deferred.fromCoroutine(open_())

    def __aiter__(self) -> ServiceReplies:
        return self

    async def __anext__(self) -> Msg:
        while self._ended is None:
            try:
                await self._opened.wait()
            except CancelledError:
                if self._ended is not None:
                    break
                raise
            assert self._replies is not None
            try:
                msg = await self._replies.__anext__()
            except NoRespondersError:
                self._lookup.forget(self.endpoint)
                if not self._may_retry:
                    raise
                self._may_retry = False
                self._replies = None
                self._open(None)
                continue
            error = response_error(msg)
            if error is not None:
                self._end("error")
                raise error
            return msg
        raise StopAsyncIteration

    def collect(self) -> Deferred[list[Msg]]:
        """All replies, when the last has come. Cancelling it ends the request."""

        async def gather() -> list[Msg]:
            try:
                return [msg async for msg in self]
            finally:
                self.cancel()

        return Deferred.fromCoroutine(gather())

    def cancel(self) -> None:
        """Take no more replies. Who leaves the loop early may call it; else it ends by itself, at its timeout."""
        if self.reason is None:
            self._end("cancelled")

    def _end(self, reason: str) -> None:
        self._ended = reason
        if self._opening is not None:
            self._opening.cancel()
        if self._replies is not None:
            self._replies.cancel()


def _checked(msg: Msg) -> Msg:
    error = response_error(msg)
    if error is not None:
        raise error
    return msg
