"""Tests of key-value buckets that need no server."""

from __future__ import annotations
