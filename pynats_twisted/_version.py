"""The version of the package. ``setup.py`` reads it from here; nothing else repeats it."""

from __future__ import annotations

__version__ = "0.1.0"
