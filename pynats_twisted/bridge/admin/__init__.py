"""The admin pages of a bridge: health, readiness, metrics and what its routes are, over HTTP. Everything here only reads."""

from __future__ import annotations

from pynats_twisted.bridge.admin.service import AdminService

__all__ = ["AdminService"]
