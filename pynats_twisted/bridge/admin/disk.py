"""Whether the configuration's file still says what runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pynats_twisted.bridge.config import BridgeConfig, read_config
from pynats_twisted.bridge.config_diff import Difference, say_the_same
from pynats_twisted.bridge.config_errors import ConfigError
from pynats_twisted.bridge.reloader import file_signature
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.bridge import AdminBridge

_UNSEEN = (-1, -1, -1)


class ConfigOnDisk:
    """Compares the file with what runs. It is read when it was touched only.

    :param bridge: the bridge.
    """

    def __init__(self, bridge: AdminBridge) -> None:
        self._bridge = bridge
        self._seen: tuple[int, int, int] | None = _UNSEEN
        self._compared: BridgeConfig | None = None
        self._state: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """``file``, ``exists``, ``differs``, the ``problems`` that keep it from being taken over, and what would be ``added``, ``changed``
        and ``removed`` of the routes.
        """
        config = self._bridge.config
        seen = file_signature(config.filename)
        if seen != self._seen or config is not self._compared:
            self._seen, self._compared = seen, config
            self._state = {"file": config.filename, "exists": seen is not None, "differs": False, "problems": []}
            if seen is not None:
                self._state |= self._compare(config)
        return self._state

    def _compare(self, config: BridgeConfig) -> dict[str, Any]:
        try:
            found = read_config(config.filename, self._bridge.factories.values())
            changes = Difference(config, found)
            differs = not say_the_same(config, found)
        except ConfigError as error:
            return {"differs": True, "problems": [str(problem) for problem in error.problems]}
        except ConfigurationError as error:
            return {"differs": True, "problems": [str(error)]}
        routes = asdict(changes.routes)
        del routes["unchanged"]
        return {"differs": differs, **routes}
