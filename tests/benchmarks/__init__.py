"""Tests of the benchmarks: nothing is timed, and none depends on the twin that runs."""

from __future__ import annotations
