"""``pynats_twisted.objectstore`` offers what users need by name, and costs nobody anything who does not use it."""

from __future__ import annotations

import ast
import sys

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import objectstore
from tests.test_imports import PACKAGE, loaded_by


class DoorTests(SynchronousTestCase):
    """The package itself."""

    def test_every_public_name_is_there(self) -> None:
        """Each name in ``__all__`` can be had from it, and is the object of the module that it lives in."""
        for name in objectstore.__all__:
            self.assertIs(getattr(objectstore, name), getattr(sys.modules[f"pynats_twisted.objectstore.{objectstore._HOMES[name]}"], name))

    def test_type_checkers_see_the_same_names(self) -> None:
        """The imports that type checkers read and the table that runs name the same homes."""
        tree = ast.parse((PACKAGE / "objectstore" / "__init__.py").read_text("utf-8"))
        guard = next(node for node in tree.body if isinstance(node, ast.If))
        seen = {alias.name: node.module for node in guard.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        self.assertEqual(seen, objectstore._HOMES)
        self.assertEqual(sorted(seen), sorted(objectstore.__all__))

    def test_dir_and_unknown_names(self) -> None:
        """Completion in a shell finds the names, and a name that does not exist is an AttributeError that says so."""
        self.assertEqual(set(objectstore.__all__) - set(dir(objectstore)), set())
        self.assertIn("'Store'", str(self.assertRaises(AttributeError, getattr, objectstore, "Store")))

    def test_jetstream_does_not_load_it(self) -> None:
        """A program that uses streams alone does not load it."""
        loaded = loaded_by("import pynats_twisted.jetstream.context")
        self.assertEqual([name for name in loaded if "objectstore" in name], [])
