"""The admin endpoint of a bridge, over HTTP: health, readiness, metrics, what its routes do, control over them, and a dashboard."""

from __future__ import annotations

from pynats_twisted.bridge.admin.service import AdminService

__all__ = ["AdminService"]
