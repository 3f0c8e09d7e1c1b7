"""What the admin endpoint refuses."""

from __future__ import annotations

from pynats_twisted.bridge.problem import Problem

MISDIRECTED = Problem(421, "misdirected", "This address is answered under the names of this machine only.")
READ_ONLY = Problem(403, "read-only", "[admin] has no token, so nothing can be changed here.")
UNKNOWN_ROUTE = Problem(404, "unknown-route", "There is no route of this name.")
NOT_OFFERED = Problem(409, "not-offered", "The route does not offer this.")
NOT_NOW = Problem(409, "not-now", "This is not possible just now.")
BAD_ARGUMENT = Problem(400, "bad-argument", "An argument cannot be used.")
CONFIG_REFUSED = Problem(422, "config-refused", "The configuration cannot be used; the running one stays.")
TOO_MANY_STREAMS = Problem(503, "too-many-streams", "Too many event streams are open.")
NATS_FAILED = Problem(502, "nats-error", "NATS did not do it.")
NATS_TIMEOUT = Problem(504, "nats-timeout", "NATS did not answer in time.")
NO_STREAM = Problem(404, "no-stream", "No stream stores the dead letters of this route.")
