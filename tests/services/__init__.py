"""Tests of services that need no server."""

from __future__ import annotations

from hypothesis import settings

import tests.protocol  # noqa: F401  # it defines the profile

settings.load_profile("steady")
