"""The NATS bridge: HTTP, lines of text and other things, to and from NATS, by a configuration file.

Run it as ``twist nats-bridge --config bridge.toml`` or ``nats-bridge --config bridge.toml``. In an application of your own:
:func:`pynats_twisted.bridge.config.load_config` reads a configuration and
:class:`pynats_twisted.bridge.service.BridgeService` runs it as a Twisted service. A route type of your own implements the
interfaces of :mod:`pynats_twisted.bridge.interfaces`.

Importing this package loads nothing: the ``bridge`` extra is needed by its modules only.
"""

from __future__ import annotations
