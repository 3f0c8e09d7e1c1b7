"""``twist nats-bridge`` and ``nats-bridge`` are there however the package was installed."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted
from tests.packaging.environments import Environment, build, copy_source


class InstallTests(SynchronousTestCase):
    """Each way of installing, in a clean environment with the extra of the bridge and nothing else."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.source = copy_source(self.folder / "source")
        self.environment = Environment(self.folder)

    def install(self, *what: str) -> None:
        self.environment.pip("install", "--quiet", *what)

    def check_installed(self) -> None:
        """Both commands are there and are the same, and the package is the one of this checkout, typed."""
        version = self.environment.run("python", "-c", "import pynats_twisted; print(pynats_twisted.__version__)")
        self.assertEqual(version.strip(), pynats_twisted.__version__)
        self.assertIn("nats-bridge", self.environment.run("twist", "--help"))
        by_twist = self.environment.run("twist", "nats-bridge", "--help")
        by_script = self.environment.run("nats-bridge", "--help")
        self.assertIn("--config", by_twist)
        self.assertIn("--config", by_script)
        typed = "from importlib.resources import files; print((files('pynats_twisted') / 'py.typed').is_file())"
        self.assertEqual(self.environment.run("python", "-c", typed).strip(), "True")

    def test_from_the_folder(self) -> None:
        """``pip install .`` in a checkout; uninstalling takes the plugin away and leaves Twisted working."""
        self.install(f"{self.source}[bridge]")
        self.check_installed()
        self.environment.pip("uninstall", "--quiet", "--yes", "pynats-twisted")
        commands = self.environment.run("twist", "--help")
        self.assertIn("web", commands)
        self.assertNotIn("nats-bridge", commands)

    def test_editable(self) -> None:
        """``pip install -e .`` in a checkout, where an edit of the source is seen at once."""
        self.install("--editable", f"{self.source}[bridge]")
        self.check_installed()
        plugin = self.source / "twisted" / "plugins" / "pynats_twisted_plugin.py"
        plugin.write_text(plugin.read_text("utf-8").replace('"nats-bridge"', '"edited-name"'), "utf-8")
        self.assertIn("edited-name", self.environment.run("twist", "--help"))

    def test_from_a_wheel(self) -> None:
        """A wheel, after its source has gone."""
        wheel = build("wheel", self.source, self.folder / "wheel")
        self.source.rename(self.folder / "gone")
        self.install(f"{wheel}[bridge]")
        self.check_installed()

    def test_from_an_sdist(self) -> None:
        """A source distribution, after its source has gone."""
        sdist = build("sdist", self.source, self.folder / "sdist")
        self.source.rename(self.folder / "gone")
        self.install(f"{sdist}[bridge]")
        self.check_installed()

    def test_without_extras(self) -> None:
        """With no extra at all the client can be imported, and a missing extra of the bridge does not harm other commands of ``twist``."""
        self.install(str(self.source))
        public = "import pynats_twisted; print([getattr(pynats_twisted, name) for name in pynats_twisted.__all__])"
        self.assertIn("NatsClient", self.environment.run("python", "-c", public))
        self.assertIn("--path", self.environment.run("twist", "web", "--help"))
