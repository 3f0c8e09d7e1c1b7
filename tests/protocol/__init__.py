"""Tests of the sans-IO core: no reactor, no socket, no clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples on every machine and in every run, and none failed for being slow on a busy one.
settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
