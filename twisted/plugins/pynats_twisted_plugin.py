"""Tells ``twist`` and ``twistd`` of ``nats-bridge``.

Every ``twist`` command of every project in the environment imports this file, so it names the module of the bridge and
imports nothing of it. There must be no ``__init__.py`` in this folder or the one above: it would hide Twisted's own.
"""

from twisted.application.service import ServiceMaker

nats_bridge = ServiceMaker(
    "NATS bridge",
    "pynats_twisted.bridge.tap",
    "Carry HTTP requests and lines of text into NATS, and the answers back.",
    "nats-bridge",
)
