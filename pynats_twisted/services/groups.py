"""Where endpoints are added: a service, and the groups in it, which have a common beginning of their subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .config import (
    INHERITED,
    Inherited,
    check_callable,
    check_group,
    check_metadata,
    check_middleware,
    check_name,
    check_queue_group,
    check_subject,
    refuse_monitoring,
)
from .endpoint import Endpoint
from .middleware import Middleware, RequestHandler, wrapped

if TYPE_CHECKING:
    from ..client.delivery import KeyFunction
    from ..client.subscription import Overflow
    from .service import Service


class EndpointHolder:
    """What a service and a group have in common: endpoints and groups can be added to them."""

    _owner: Service

    def __init__(self, prefix: str, queue: str | None, middleware: tuple[Middleware, ...]) -> None:
        self._subject_prefix = prefix
        self._queue = queue
        self._middleware = middleware

    def add_group(self, prefix: str, *, queue: str | Inherited | None = INHERITED, middleware: Sequence[Middleware] = ()) -> Group:
        """A group of endpoints.

        :param prefix: what the subjects of its endpoints and groups begin with, behind what they begin with here. ``""`` for nothing more.
        :param queue: the queue group of its endpoints: the one from here unless given, None for none.
        :param middleware: stands around its handlers, inside of what does here.
        :raises ServiceConfigError: a value breaks a rule.
        """
        check_group(prefix)
        check_queue_group(queue)
        inherited = self._queue if isinstance(queue, Inherited) else queue
        whole = self._behind_prefix(prefix) if prefix else self._subject_prefix
        return Group(self._owner, whole, inherited, (*self._middleware, *check_middleware(middleware)))

    def add_endpoint(
        self,
        name: str,
        handler: RequestHandler,
        *,
        subject: str | None = None,
        queue: str | Inherited | None = INHERITED,
        metadata: Mapping[str, str] | None = None,
        streaming: bool = False,
        concurrency: int = 1,
        ordered_by: KeyFunction | None = None,
        pending_msgs: int | None = None,
        pending_bytes: int | None = None,
        overflow: Overflow = "drop-new",
        middleware: Sequence[Middleware] = (),
    ) -> Endpoint:
        """Add an endpoint; ``await`` the result to know that the server has it. When the server denies it, the whole service stops.

        The handler gets a :class:`~pynats_twisted.services.request.ServiceRequest`. It may be a plain function, a coroutine function, or
        one that returns a Deferred. Bytes that it returns are the answer. When it returns None, it has answered by
        :meth:`~pynats_twisted.services.request.ServiceRequest.respond`, or will do so later. A :class:`~pynats_twisted.errors.ServiceError`
        that it raises is the answer; for anything else that it raises the caller gets the code 500 and no more, and the log gets the rest.

        :param name: for people; letters, digits, ``-`` and ``_``. Several endpoints may have the same.
        :param subject: where it listens, behind the prefixes of the groups; the name by default. May have wildcards.
        :param queue: the queue group: the one from here unless given, None for none, so that each instance gets each request.
        :param metadata: what else there is to say of it; a copy is kept that cannot be changed.
        :param streaming: answers have several parts: each :meth:`~pynats_twisted.services.request.ServiceRequest.respond` sends one, until
            :meth:`~pynats_twisted.services.request.ServiceRequest.end`. The handler may be an asynchronous generator of the parts (bytes),
            whose end is the end of the answer.
        :param concurrency: how many requests may be handled at once, where the handler takes its time.
        :param ordered_by: gives the key of a request's message (a :class:`~pynats_twisted.protocol.message.Msg`); requests of one key are
            handled in order, one at a time.
        :param pending_msgs: requests that may wait; :param pending_bytes: their bytes; :param overflow: what happens when more would; all
            three as in :meth:`~pynats_twisted.NatsClient.subscribe`.
        :param middleware: stands around the handler, inside of what does here.
        :raises ServiceConfigError: a value breaks a rule.
        :raises ServiceStoppedError: the service stops or has stopped.

        What :meth:`~pynats_twisted.NatsClient.subscribe` raises is raised here too.
        """
        service = self._owner
        service.refuse_stopped()
        check_name("name", name)
        check_queue_group(queue)
        check_callable("handler", handler)
        if subject is not None:
            check_subject("subject", subject)
        whole = self._behind_prefix(name if subject is None else subject)
        refuse_monitoring(whole, service.config.prefix)
        endpoint = Endpoint(
            service,
            name,
            whole,
            wrapped(handler, (*self._middleware, *check_middleware(middleware))),
            self._queue if isinstance(queue, Inherited) else queue,
            check_metadata(metadata),
            streaming,
            service.may_answer,
        )
        endpoint.subscription = service.client.subscribe(
            whole,
            endpoint.handle,
            endpoint.queue,
            pending_msgs=pending_msgs,
            pending_bytes=pending_bytes,
            overflow=overflow,
            concurrency=concurrency,
            ordered_by=ordered_by,
        )
        service.endpoint_added(endpoint)
        return endpoint

    def _behind_prefix(self, subject: str) -> str:
        return f"{self._subject_prefix}.{subject}" if self._subject_prefix else subject


class Group(EndpointHolder):
    """A group of endpoints of a service, which has the same methods to add groups and endpoints."""

    def __init__(self, service: Service, prefix: str, queue: str | None, middleware: tuple[Middleware, ...]) -> None:
        super().__init__(prefix, queue, middleware)
        self._owner = service

    @property
    def service(self) -> Service:
        """Whose it is."""
        return self._owner

    @property
    def prefix(self) -> str:
        """What the subjects of its endpoints begin with, those of the groups around it included."""
        return self._subject_prefix

    @property
    def queue(self) -> str | None:
        """The queue group of its endpoints, unless they have their own."""
        return self._queue

    def __repr__(self) -> str:
        return f"<Group {self.prefix!r} of {self._owner.name!r}>"
