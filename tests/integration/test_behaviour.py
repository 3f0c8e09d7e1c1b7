"""Every case of behaviour with real servers: what the server in memory does is what nats-server does."""

from __future__ import annotations

from tests.behaviour.harness import ProcessPlace
from tests.behaviour.suite import tests_at

globals().update(tests_at(ProcessPlace, __name__))
