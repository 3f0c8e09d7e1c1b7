"""The types of the API are data: they bring nothing with them, and nobody pays for them who does not use them."""

from __future__ import annotations

import ast
import sys

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import jetstream
from pynats_twisted.jetstream import api
from tests.test_imports import PACKAGE, TWISTED, imports_of, loaded_by


class LoadingTests(SynchronousTestCase):
    """Importing."""

    def test_the_package_does_not_load_it(self) -> None:
        """``import pynats_twisted``, and its client, work without loading the JetStream API."""
        loaded = loaded_by("import pynats_twisted.client")
        self.assertEqual([name for name in loaded if "jetstream" in name], [])

    def test_works_where_twisted_is_missing(self) -> None:
        """It can be imported where Twisted cannot, and loads of this package only its errors."""
        blocked = f"import sys\nfor name in {TWISTED!r}: sys.modules[name] = None\n"
        loaded = loaded_by(blocked + "import pynats_twisted.jetstream.api")
        others = [name for name in loaded if name.startswith("pynats_twisted.") and ".jetstream" not in name]
        self.assertEqual(sorted(others), ["pynats_twisted._version", "pynats_twisted.errors"])

    def test_imports_stay_inside(self) -> None:
        """No module of it imports anything of this package but errors and each other."""
        for path in sorted((PACKAGE / "jetstream" / "api").glob("*.py")):
            for module, _ in imports_of(path):
                self.assertTrue(module == "pynats_twisted.errors" or module.startswith("pynats_twisted.jetstream.api"), (path, module))

    def test_every_public_name_is_there(self) -> None:
        """Whatever is imported for users is listed, sorted, and the other way round."""
        tree = ast.parse((PACKAGE / "jetstream" / "api" / "__init__.py").read_text("utf-8"))
        imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.level for alias in node.names}
        self.assertEqual(imported, set(api.__all__))
        for name in api.__all__:
            self.assertTrue(hasattr(api, name))


class DoorTests(SynchronousTestCase):
    """``pynats_twisted.jetstream`` itself offers what users need by name."""

    def test_every_public_name_is_there(self) -> None:
        """Each name in ``__all__`` can be had from it, and is the object of the module that it lives in."""
        for name in jetstream.__all__:
            self.assertIs(getattr(jetstream, name), getattr(sys.modules[f"pynats_twisted.jetstream.{jetstream._HOMES[name]}"], name))

    def test_type_checkers_see_the_same_names(self) -> None:
        """The imports that type checkers read and the table that runs name the same homes."""
        tree = ast.parse((PACKAGE / "jetstream" / "__init__.py").read_text("utf-8"))
        guard = next(node for node in tree.body if isinstance(node, ast.If))
        seen = {alias.name: node.module for node in guard.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        self.assertEqual(seen, jetstream._HOMES)
        self.assertEqual(sorted(seen), sorted(jetstream.__all__))

    def test_dir_and_unknown_names(self) -> None:
        """Completion in a shell finds the names, and a name that does not exist is an AttributeError that says so."""
        self.assertEqual(set(jetstream.__all__) - set(dir(jetstream)), set())
        self.assertIn("'Streams'", str(self.assertRaises(AttributeError, getattr, jetstream, "Streams")))
