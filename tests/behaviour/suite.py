"""All cases of behaviour, for every place where they run."""

from __future__ import annotations

import inspect

from . import cases_access, cases_client, cases_reconnect, cases_replies, cases_routing, cases_wire
from .harness import Harness

MODULES = (cases_wire, cases_routing, cases_access, cases_client, cases_replies, cases_reconnect)


def tests_at(place: type[Harness], module: str) -> dict[str, type[Harness]]:
    """A class of tests for each class of cases, by name: what a test module has to hold."""
    found: dict[str, type[Harness]] = {}
    for source in MODULES:
        for name, cases in inspect.getmembers(source, inspect.isclass):
            if name.endswith("Cases") and cases.__module__ == source.__name__:
                test_name = f"{name[:-5]}Tests"
                assert test_name not in found, test_name
                found[test_name] = type(test_name, (place, cases), {"__module__": module, "__doc__": cases.__doc__})
    return found
