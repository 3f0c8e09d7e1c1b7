"""Every case of behaviour with the server in memory, in virtual time. The same cases run with real servers in
``tests.integration.test_behaviour``."""

from __future__ import annotations

from .harness import MemoryPlace
from .suite import tests_at

globals().update(tests_at(MemoryPlace, __name__))
