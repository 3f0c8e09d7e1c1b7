"""However the package was installed, ``twist nats-bridge`` and ``nats-bridge`` are there, and the right twin of the protocol runs."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted
from tests.packaging.environments import NO_COMPILER, Environment, built, copy_source, twin_built_here


class InstallTests(SynchronousTestCase):
    """Each way of installing, in a clean environment with the extra of the bridge and nothing else."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.environment = Environment(self.folder)

    def copy_source(self) -> Path:
        return copy_source(self.folder / "source")

    def install(self, *what: str, **variables: str) -> None:
        self.environment.pip("install", "--quiet", *what, **variables)

    def check_installed(self, twin: str) -> None:
        """Both commands are there and are the same; the package is the one of this checkout, typed, with ``twin``, and pure if told to."""
        version = self.environment.run("python", "-c", "import pynats_twisted; print(pynats_twisted.__version__)")
        self.assertEqual(version.strip(), pynats_twisted.__version__)
        self.assertIn("nats-bridge", self.environment.run("twist", "--help"))
        by_twist = self.environment.run("twist", "nats-bridge", "--help")
        by_script = self.environment.run("nats-bridge", "--help")
        self.assertIn("--config", by_twist)
        self.assertIn("--config", by_script)
        typed = "from importlib.resources import files; print((files('pynats_twisted') / 'py.typed').is_file())"
        self.assertEqual(self.environment.run("python", "-c", typed).strip(), "True")
        self.assertEqual(self.environment.twin(), twin)
        self.assertEqual(self.environment.twin(PYNATS_TWISTED_PURE="1"), "pure")

    def test_from_the_folder_without_a_compiler(self) -> None:
        """``pip install .`` in a checkout needs no C compiler; uninstalling takes the plugin away and leaves Twisted working."""
        self.install(f"{self.copy_source()}[bridge]", **NO_COMPILER)
        self.check_installed("pure")
        self.environment.pip("uninstall", "--quiet", "--yes", "pynats-twisted")
        commands = self.environment.run("twist", "--help")
        self.assertIn("web", commands)
        self.assertNotIn("nats-bridge", commands)

    def test_editable(self) -> None:
        """``pip install -e .`` in a checkout, where an edit of the source is seen at once."""
        source = self.copy_source()
        self.install("--editable", f"{source}[bridge]")
        self.check_installed(twin_built_here())
        plugin = source / "twisted" / "plugins" / "pynats_twisted_plugin.py"
        plugin.write_text(plugin.read_text("utf-8").replace('"nats-bridge"', '"edited-name"'), "utf-8")
        self.assertIn("edited-name", self.environment.run("twist", "--help"))

    def test_editable_without_the_twin(self) -> None:
        """An editable install that builds no compiled twin does not leave an older one in the checkout, which would be imported."""
        source = self.copy_source()
        left = source / "pynats_twisted" / "protocol" / f"_speedups{sysconfig.get_config_var('EXT_SUFFIX')}"
        other = left.with_name("_speedups.another-python.so")
        for variables in ({"PYNATS_TWISTED_PURE": "1"}, NO_COMPILER):
            left.write_bytes(b"of an older source")
            other.write_bytes(b"of another Python")
            self.install("--no-deps", "--editable", str(source), **variables)
            self.assertFalse(left.exists())
            self.assertEqual(self.environment.twin(), "pure")
        self.assertTrue(other.exists())

    def test_from_a_wheel(self) -> None:
        """A wheel, after its source has gone."""
        self.install(f"{built('wheel')}[bridge]")
        self.check_installed(twin_built_here())

    def test_from_an_sdist(self) -> None:
        """A source distribution, after its source has gone."""
        self.install(f"{built('sdist')}[bridge]")
        self.check_installed(twin_built_here())

    def test_without_extras(self) -> None:
        """With no extra at all the client can be imported, and a missing extra of the bridge does not harm other commands of ``twist``."""
        self.install(str(built("wheel")))
        public = "import pynats_twisted; print([getattr(pynats_twisted, name) for name in pynats_twisted.__all__])"
        self.assertIn("NatsClient", self.environment.run("python", "-c", public))
        self.assertIn("--path", self.environment.run("twist", "web", "--help"))
