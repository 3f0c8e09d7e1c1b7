"""What a service is told of itself, and the rules of names, versions, metadata and subjects (ADR-32)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidArgumentError, ServiceConfigError
from ..protocol.subjects import check_publish_subject, check_queue, check_subscribe_subject
from .api import DEFAULT_PREFIX, DEFAULT_QUEUE, is_service_name

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .middleware import Middleware

# Semantic versions 2.0: three numbers without leading zeros, then the pre-release behind "-", then the build behind "+".
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE_RELEASE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRE_RELEASE}(?:\.{_PRE_RELEASE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?")


class Inherited(Enum):
    """Stands for a queue group that is the one of what is around: of the group, or of the service."""

    QUEUE = "inherited"


INHERITED: Final = Inherited.QUEUE

StatsHandler = Callable[["Endpoint"], Any]
"""Gets an endpoint, and gives what its statistics have as ``data``: anything that can be written as JSON."""


@dataclass(frozen=True)
class ServiceConfig:
    """A service (ADR-32). It is checked when it is made.

    :param name: the kind of the service: letters, digits, ``-`` and ``_``. All instances of a service have the same.
    :param version: a semantic version, for example ``1.0.0``.
    :param description: for people.
    :param metadata: what else there is to say of this instance; a mapping of texts to texts. A copy is kept that cannot be changed.
    :param queue: the queue group of the endpoints, so that each request goes to one instance: ``q``, or another one, or None for none.
        Groups and endpoints may have their own.
    :param prefix: where PING, INFO and STATS are asked; ``$SRV``, or where another account imports it to.
    :param id: the name of this instance, different for each; letters, digits, ``-`` and ``_``. A random one by default.
    :param middleware: stands around the handlers of all endpoints, the first one outermost; see
        :mod:`pynats_twisted.services.middleware`.
    :param stats_handler: gives what the statistics of an endpoint have as ``data``. What it raises is logged.
    :param allow_replies: patterns of the subjects to which answers may go. By default all but those that begin with ``$``: whoever may
        send requests could have the service publish there, for example to the JetStream API, with the service's permissions.
    :raises ServiceConfigError: a value breaks a rule; the text names both.
    """

    name: str
    version: str
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    queue: str | None = DEFAULT_QUEUE
    prefix: str = DEFAULT_PREFIX
    id: str | None = None
    middleware: Sequence[Middleware] = ()
    stats_handler: StatsHandler | None = None
    allow_replies: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not isinstance(self.version, str) or _VERSION.fullmatch(self.version) is None:
            raise ServiceConfigError(f"version={self.version!r} must be a semantic version, for example '1.0.0'")
        if not isinstance(self.description, str):
            raise ServiceConfigError(f"description={self.description!r} must be a str")
        if self.id is not None:
            check_name("id", self.id)
        check_queue_group(self.queue)
        _check("prefix", self.prefix, check_publish_subject)
        if self.stats_handler is not None:
            check_callable("stats_handler", self.stats_handler)
        object.__setattr__(self, "metadata", check_metadata(self.metadata))
        object.__setattr__(self, "middleware", check_middleware(self.middleware))
        if self.allow_replies is not None:
            if not isinstance(self.allow_replies, Sequence) or isinstance(self.allow_replies, (str, bytes)):
                raise ServiceConfigError(f"allow_replies={self.allow_replies!r} must be several patterns, for example ['_INBOX.>']")
            object.__setattr__(self, "allow_replies", tuple(self.allow_replies))
            for pattern in self.allow_replies:
                check_subject("allow_replies", pattern)


def check_name(what: str, name: str) -> str:
    """Check the name of a service or an endpoint, or the id of an instance.

    :raises ServiceConfigError: it is not made of ASCII letters, digits, ``-`` and ``_``.
    """
    if not is_service_name(name):
        raise ServiceConfigError(f"{what}={name!r} must be made of ASCII letters, digits, '-' and '_', and not be empty")
    return name


def check_metadata(metadata: Mapping[str, str] | None) -> Mapping[str, str]:
    """Check metadata, and copy it into a mapping that cannot be changed.

    :raises ServiceConfigError: it is not a mapping of texts to texts.
    """
    if metadata is None:
        return MappingProxyType({})
    if not isinstance(metadata, Mapping):
        raise ServiceConfigError(f"metadata={metadata!r} must be a mapping of str to str")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ServiceConfigError(f"metadata has {key!r}: {value!r}; both must be a str")
    return MappingProxyType(dict(metadata))


def check_queue_group(queue: str | Inherited | None) -> None:
    """Check a queue group, which may be none.

    :raises ServiceConfigError: it is empty, or has white space or a control character.
    """
    if queue is not None and not isinstance(queue, Inherited):
        _check("queue", queue, check_queue)


def check_group(prefix: str) -> None:
    """Check the prefix of a group; an empty one is none.

    :raises ServiceConfigError: it is not a subject, or has the wildcard ``>``.
    """
    if prefix != "":
        check_subject("prefix", prefix)
        if ">" in prefix.split("."):
            raise ServiceConfigError(f"prefix={prefix!r} of a group has the wildcard '>', and nothing may follow that")


def check_subject(what: str, subject: str) -> None:
    """Check a subject to subscribe to.

    :raises ServiceConfigError: it is none.
    """
    _check(what, subject, check_subscribe_subject)


def refuse_monitoring(subject: str, prefix: str) -> None:
    """Refuse an endpoint among the subjects where PING, INFO and STATS are asked.

    :raises ServiceConfigError: it would be there.
    """
    if subject == prefix or subject.startswith(f"{prefix}."):
        raise ServiceConfigError(f"subject={subject!r} of an endpoint is below {prefix!r}, which is for discovery")


def check_middleware(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """Check middleware.

    :raises ServiceConfigError: it is not a sequence of callables.
    """
    if not isinstance(middleware, Sequence) or isinstance(middleware, (str, bytes)):
        raise ServiceConfigError(f"middleware={middleware!r} must be a sequence of functions")
    for each in middleware:
        if not callable(each):
            raise ServiceConfigError(f"middleware has {each!r}, which cannot be called")
    return tuple(middleware)


def check_callable(what: str, value: Any) -> None:
    """Check something that has to be called.

    :raises ServiceConfigError: it cannot be called.
    """
    if not callable(value):
        raise ServiceConfigError(f"{what}={value!r} cannot be called")


def _check(what: str, value: Any, check: Callable[[Any], None]) -> None:
    try:
        check(value)
    except InvalidArgumentError as error:
        raise ServiceConfigError(f"{what}={value!r}: {error}") from None
