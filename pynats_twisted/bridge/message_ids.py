"""The ``Nats-Msg-Id`` of what HTTP requests become, and other values that a request says in a header or its query."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pynats_twisted.bridge.paths import parse_query
from pynats_twisted.errors import TemplateValueError

if TYPE_CHECKING:
    from pynats_twisted.bridge.http_message import HTTPRequest

# An id of another form becomes its digest: it keeps its meaning, and its size and characters cannot do harm.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}", re.ASCII)
# A number as the stream tells it, or an entity tag made of it.
_SEQUENCE: Final = re.compile(r'(?:0|[1-9][0-9]{0,18})|"(?:0|[1-9][0-9]{0,18})"', re.ASCII)


class MessageIds:
    """Makes the ids of one route.

    Each begins with the name of the route, so that the senders of one route cannot take the ids of another.

    :param route: the name of the route.
    :param source: ``header:name`` (in lower case), ``query:name``, ``body``, ``request`` or ``none``.
    """

    __slots__ = ("_kind", "_prefix", "_source")

    def __init__(self, route: str, source: str) -> None:
        self._prefix = f"{route}:"
        self._source = source
        self._kind = source.partition(":")[0]

    @property
    def is_own(self) -> bool:
        """Whether no request can have the id of another one."""
        return self._kind == "request"

    def make(self, request: HTTPRequest, subject: str, user: str = "") -> str:
        """The id for a request; empty when it is to have none.

        :param user: who sent it, where the users of a route are to have ids of their own.
        :raises TemplateValueError: the request does not say its id.
        """
        kind = self._kind
        if kind == "none":
            return ""
        if kind == "request":
            return self._prefix + request.request_id
        if kind == "body":
            # The subject is part of it: the same body may rightly go to two subjects of one stream.
            return self._prefix + hashlib.sha256(subject.encode("utf-8") + b"\n" + request.body).hexdigest()
        return self.of_value(request_value(request, self._source), user)

    def of_value(self, value: str, user: str = "") -> str:
        """The id that a request gets which says *value*."""
        if user:
            # What a user may choose freely must not meet the id of another one, whatever their names are.
            value = hashlib.sha256(f"{user}\n{value}".encode("utf-8", "surrogatepass")).hexdigest()
        elif _PLAIN_ID.fullmatch(value) is None:
            value = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return self._prefix + value


def request_value(request: HTTPRequest, source: str) -> str:
    """What a request says in a header or its query.

    :param source: ``header:name`` (in lower case) or ``query:name``.
    :raises TemplateValueError: it is not there, empty, or there more than once.
    """
    kind, _, name = source.partition(":")
    found: Sequence[str]
    if kind == "header":
        found = [value.decode("latin-1") for value in request.headers.get(name.encode("ascii"), ())]
    else:
        found = parse_query(request.query).get(name, ())
    if len(found) != 1 or not found[0]:
        raise TemplateValueError(source, "missing", "it has to be there once, and not empty")
    return found[0]


def request_sequence(request: HTTPRequest, source: str) -> int:
    """The sequence that a request says; quotes around it, as ``If-Match`` has them, do no harm.

    :raises TemplateValueError: it is not there, or not a number.
    """
    value = request_value(request, source)
    if _SEQUENCE.fullmatch(value) is None:
        raise TemplateValueError(source, "no-number", "it has to be a number, 0 or more")
    return int(value.strip('"'))
