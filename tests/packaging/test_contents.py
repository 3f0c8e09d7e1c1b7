"""What the built distributions hold, and what they say of themselves."""

from __future__ import annotations

import email
import email.message
import re
import tarfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted
from tests.packaging.environments import build, copy_source


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class ContentsTests(SynchronousTestCase):
    """The wheel and the source distribution of one checkout."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.source = copy_source(self.folder / "source")
        # Remains of plugin searches and of builds, as a developer's checkout has them.
        (self.source / "twisted" / "plugins" / "dropin.cache").write_bytes(b"remains")

    def wheel_of(self, source: Path) -> zipfile.ZipFile:
        archive = zipfile.ZipFile(build("wheel", source, self.folder / "wheel"))
        self.addCleanup(archive.close)
        return archive

    def test_wheel_holds_the_package_and_the_plugin(self) -> None:
        """A wheel holds every file of the package, data files too, the plugin, and nothing else: no tests, no caches."""
        expected = {f"pynats_twisted/{name}" for name in files_below(self.source / "pynats_twisted")}
        expected.add("twisted/plugins/pynats_twisted_plugin.py")
        archive = self.wheel_of(self.source)
        self.assertEqual({name for name in archive.namelist() if ".dist-info/" not in name}, expected)

    def test_sdist_is_enough_to_build_and_test(self) -> None:
        """A source distribution holds the whole project, and a wheel built from it alone equals the one built from the checkout."""
        expected = files_below(self.source) - {"twisted/plugins/dropin.cache", ".gitignore"}
        with tarfile.open(build("sdist", self.source, self.folder / "sdist")) as archive:
            root = f"pynats_twisted-{pynats_twisted.__version__}"
            held = {member.name.removeprefix(f"{root}/") for member in archive.getmembers() if member.isfile()}
            made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
            self.assertEqual(held - made, expected)
            archive.extractall(self.folder / "unpacked")
        archive = self.wheel_of(self.folder / "unpacked" / root)
        expected = {f"pynats_twisted/{name}" for name in files_below(self.source / "pynats_twisted")}
        self.assertEqual({name for name in archive.namelist() if name.startswith("pynats_twisted/")}, expected)
        self.assertIn("twisted/plugins/pynats_twisted_plugin.py", archive.namelist())

    def test_metadata(self) -> None:
        """The wheel says name, version, licence, Python, Twisted, and has exactly the extras that the documentation lists."""
        archive = self.wheel_of(self.source)
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata: email.message.Message = email.message_from_bytes(archive.read(name))
        self.assertEqual(metadata["Name"], "pynats-twisted")
        self.assertEqual(metadata["Version"], pynats_twisted.__version__)
        self.assertEqual(metadata["License-Expression"], "Apache-2.0")
        self.assertEqual(metadata["Requires-Python"], ">=3.10")
        self.assertIn("Twisted>=25.5", metadata.get_all("Requires-Dist", []))
        listed = set(re.findall(r"^   \* - ``(\w+)``$", (self.source / "docs" / "install.rst").read_text("utf-8"), re.MULTILINE))
        self.assertEqual(set(metadata.get_all("Provides-Extra", [])), listed)
        self.assertIn(name.replace("METADATA", "licenses/LICENSE"), archive.namelist())
