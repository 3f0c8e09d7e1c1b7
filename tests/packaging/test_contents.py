"""What the built distributions hold, and what they say of themselves."""

from __future__ import annotations

import email
import email.message
import re
import sysconfig
import tarfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted
from tests.packaging.environments import build, built, copy_source, twin_built_here


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class ContentsTests(SynchronousTestCase):
    """The wheel and the source distribution of one checkout."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.source = copy_source(self.folder / "source")

    def open_wheel(self, path: Path) -> zipfile.ZipFile:
        archive = zipfile.ZipFile(path)
        self.addCleanup(archive.close)
        return archive

    def of_the_package(self) -> set[str]:
        """What every wheel holds: the files of the package but the source of the compiled twin."""
        return {f"pynats_twisted/{name}" for name in files_below(self.source / "pynats_twisted") if not name.endswith(".pyx")}

    def test_wheel_holds_the_package_and_the_plugin(self) -> None:
        """
        A wheel holds every file of the package, data files too, the plugin, and nothing else: no tests, no caches. Where there is a
        C compiler it holds the compiled twin, and nothing of what that is made from.
        """
        expected = self.of_the_package() | {"twisted/plugins/pynats_twisted_plugin.py"}
        if twin_built_here() == "compiled":
            expected.add(f"pynats_twisted/protocol/_speedups{sysconfig.get_config_var('EXT_SUFFIX')}")
        archive = self.open_wheel(built("wheel"))
        self.assertEqual({name for name in archive.namelist() if ".dist-info/" not in name}, expected)

    def test_sdist_is_enough_to_build_and_test(self) -> None:
        """
        A source distribution holds the whole project, and nothing that was made from it. From it alone a wheel with the whole package
        can be built; built pure, it is one for every Python.
        """
        with tarfile.open(built("sdist")) as archive:
            root = f"pynats_twisted-{pynats_twisted.__version__}"
            held = {member.name.removeprefix(f"{root}/") for member in archive.getmembers() if member.isfile()}
            made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
            self.assertEqual(held - made, files_below(self.source) - {".gitignore"})
            archive.extractall(self.folder / "unpacked")
        wheel = build("wheel", self.folder / "unpacked" / root, self.folder / "wheel", PYNATS_TWISTED_PURE="1")
        self.assertEqual(wheel.name, f"{root}-py3-none-any.whl")
        pure = self.open_wheel(wheel)
        self.assertEqual({name for name in pure.namelist() if name.startswith("pynats_twisted/")}, self.of_the_package())
        self.assertIn("twisted/plugins/pynats_twisted_plugin.py", pure.namelist())

    def test_metadata(self) -> None:
        """The wheel says name, version, licence, Python, Twisted, and has exactly the extras that the documentation lists."""
        archive = self.open_wheel(built("wheel"))
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
