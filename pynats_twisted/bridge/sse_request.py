"""What a request for events says: the values for the filter, and the id of the last event that its sender has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pynats_twisted.bridge.paths import parse_query
from pynats_twisted.errors import TemplateValueError

if TYPE_CHECKING:
    from pynats_twisted.bridge.http_message import HTTPRequest
    from pynats_twisted.bridge.sse_filter import FilterTemplate


def template_values(template: FilterTemplate, request: HTTPRequest) -> dict[str, str | bytes]:
    """The values for the placeholders of a filter.

    :raises TemplateValueError: one is there more than once, or the query cannot be decoded.
    """
    values: dict[str, str | bytes] = {**request.values, "peer": request.peer.replace(".", "-").replace(":", "-")}
    query: dict[str, list[str]] | None = None
    for name in template.names:
        kind, _, key = name.partition(":")
        found: list[Any] = []
        if kind == "query":
            query = parse_query(request.query) if query is None else query
            found = query.get(key, [])
        elif kind == "header":
            found = request.headers.get(key.encode("ascii"), [])
        if len(found) > 1:
            raise TemplateValueError(name, "repeated", "it is there more than once")
        if found:
            values[name] = found[0]
    return values


def requested_id(request: HTTPRequest) -> str | None:
    """The id that a client comes back with: in the header that browsers send, or in the URL; None for none.

    :raises TemplateValueError: the query cannot be decoded.
    """
    found: list[Any] = [value.decode("latin-1") for value in request.headers.get(b"last-event-id", ())]
    if not found and b"last_event_id" in request.query:
        found = parse_query(request.query).get("last_event_id", [])
    # An empty one is what browsers have before the first.
    return found[-1] or None if found else None
