"""The plugin file, as ``twist`` finds it in the environment that runs the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted

ROOT = Path(pynats_twisted.__file__).resolve().parent.parent


class PluginTests(SynchronousTestCase):
    """``nats-bridge`` among the commands of ``twist``."""

    def test_found_once(self) -> None:
        """Twisted finds exactly one maker of a ``nats-bridge`` service, and it names our module."""
        (maker,) = (plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "nats-bridge")
        self.assertEqual(maker.module, "pynats_twisted.bridge.tap")
        self.assertTrue(maker.description)

    def test_plugin_file_loads_nothing_of_ours(self) -> None:
        """Searching for plugins does not import the package: other people's commands do not pay for it, and cannot fail by it."""
        code = (
            "import sys\n"
            "from twisted.application.service import IServiceMaker\n"
            "from twisted.plugin import getPlugins\n"
            "names = [plugin.tapname for plugin in getPlugins(IServiceMaker)]\n"
            "assert 'nats-bridge' in names, names\n"
            "print([name for name in sys.modules if name.startswith('pynats_twisted')])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(done.stdout.strip(), "[]")

    def test_plugin_folder_is_no_package(self) -> None:
        """Neither ``twisted`` nor ``twisted/plugins`` here has an ``__init__.py``: one would hide Twisted itself."""
        self.assertTrue((ROOT / "twisted" / "plugins" / "pynats_twisted_plugin.py").is_file())
        self.assertEqual([path for name in ("twisted", "twisted/plugins") for path in (ROOT / name).glob("__init__.py")], [])
