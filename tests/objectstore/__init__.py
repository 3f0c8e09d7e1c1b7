"""Tests of object stores that need no server."""

from __future__ import annotations
