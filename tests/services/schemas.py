"""The rules that ADR-32's JSON schemas have for the answers to PING, INFO and STATS, as checks of our own.

They look at the JSON itself, and share nothing with the code that reads and writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

PREFIX = "io.nats.micro.v1."
MAX_INT64 = 2**63 - 1

_NUMBER = "(0|[1-9][0-9]*)"
_MARK = f"({_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_MARK}(\.{_MARK})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?")
NAME = re.compile("[a-zA-Z0-9_-]+")
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)

Rule = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str)


def filled(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def version(value: Any) -> bool:
    return isinstance(value, str) and SEMVER.fullmatch(value) is not None


def date_time(value: Any) -> bool:
    return isinstance(value, str) and DATE_TIME.fullmatch(value) is not None


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_INT64 <= value <= MAX_INT64


def texts_or_null(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(each, str) for each in value.values()))


def list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


REQUIRED: dict[str, dict[str, Rule]] = {
    "PING": {"name": name, "id": filled, "version": version},
    "INFO": {"name": name, "id": filled, "version": version, "description": text},
    "STATS": {"name": name, "id": filled, "version": version, "started": date_time, "endpoints": list_of_objects},
}
OPTIONAL: dict[str, dict[str, Rule]] = {
    "PING": {"metadata": texts_or_null},
    "INFO": {"metadata": texts_or_null, "endpoints": list_of_objects},
    "STATS": {"metadata": texts_or_null},
}
COUNTERS = ("num_requests", "num_errors", "processing_time", "average_processing_time")
ENDPOINT_REQUIRED: dict[str, dict[str, Rule]] = {
    "INFO": {"name": name, "subject": filled},
    "STATS": {"name": name, "subject": filled, "last_error": text, **dict.fromkeys(COUNTERS, whole)},
}
ENDPOINT_OPTIONAL: dict[str, dict[str, Rule]] = {
    # The schemas are older than this field of the ADR's text.
    "INFO": {"metadata": texts_or_null, "queue_group": text},
    # The schema wants an object; the ADR's text says "unknown", and so do the services that there are.
    "STATS": {"data": lambda value: True, "queue_group": text},
}


def problems(verb: str, data: bytes) -> list[str]:
    """What in an answer breaks a rule: a line for each; none when all is well."""
    try:
        answer = json.loads(data)
    except ValueError as error:
        return [f"no JSON: {error}"]
    if not isinstance(answer, dict):
        return ["no object"]
    wanted = f"{PREFIX}{verb.lower()}_response"
    found = [] if answer.get("type") == wanted else [f"type is {answer.get('type')!r}, not {wanted!r}"]
    found += _broken("", answer, REQUIRED[verb], OPTIONAL[verb])
    endpoints = answer.get("endpoints")
    if verb in ENDPOINT_REQUIRED and isinstance(endpoints, list) and list_of_objects(endpoints):
        for number, endpoint in enumerate(endpoints):
            found += _broken(f"endpoints.{number}.", endpoint, ENDPOINT_REQUIRED[verb], ENDPOINT_OPTIONAL[verb])
    return found


def _broken(where: str, found: dict[str, Any], required: dict[str, Rule], optional: dict[str, Rule]) -> list[str]:
    missing = [f"{where}{key} is missing" for key in required if key not in found]
    rules = {**required, **optional}
    return missing + [f"{where}{key} is {found[key]!r}" for key, rule in rules.items() if key in found and not rule(found[key])]


def complete(verb: str, data: bytes) -> list[str]:
    """Which of the fields that the ADR's text names an answer lacks: what we send has all of them."""
    answer = json.loads(data)
    wanted = {
        "PING": {"type", "name", "id", "version", "metadata"},
        "INFO": {"type", "name", "id", "version", "metadata", "description", "endpoints"},
        "STATS": {"type", "name", "id", "version", "metadata", "endpoints", "started"},
    }[verb]
    of_endpoint = {
        "PING": set[str](),
        "INFO": {"name", "subject", "queue_group", "metadata"},
        "STATS": {"name", "subject", "queue_group", "last_error", *COUNTERS},
    }[verb]
    lacking = sorted(wanted - set(answer))
    for endpoint in answer.get("endpoints", ()):
        lacking += sorted(f"endpoints.{key}" for key in of_endpoint - set(endpoint))
    return lacking
