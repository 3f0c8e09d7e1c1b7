"""What ``pynats_twisted.keyvalue`` offers by name, and when it is loaded."""

from __future__ import annotations

import ast
import sys

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import keyvalue
from tests.test_imports import PACKAGE, loaded_by


class DoorTests(SynchronousTestCase):
    """The names that users need."""

    def test_every_public_name_is_there(self) -> None:
        """Each name in ``__all__`` can be had from it, and is the object of the module that it lives in."""
        for name in keyvalue.__all__:
            self.assertIs(getattr(keyvalue, name), getattr(sys.modules[f"pynats_twisted.keyvalue.{keyvalue._HOMES[name]}"], name))
        self.assertEqual(set(keyvalue.__all__) - set(dir(keyvalue)), set())
        self.assertRaises(AttributeError, getattr, keyvalue, "KeyValu")

    def test_type_checkers_see_the_same_names(self) -> None:
        """The imports that type checkers read and the table that runs name the same homes."""
        tree = ast.parse((PACKAGE / "keyvalue" / "__init__.py").read_text("utf-8"))
        guard = next(node for node in tree.body if isinstance(node, ast.If))
        seen = {alias.name: node.module for node in guard.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        self.assertEqual(seen, keyvalue._HOMES)
        self.assertEqual(sorted(seen), keyvalue.__all__)

    def test_who_does_not_use_it_does_not_load_it(self) -> None:
        """A context of JetStream is loaded without the buckets."""
        loaded = loaded_by("import pynats_twisted.jetstream.context")
        self.assertEqual([name for name in loaded if "keyvalue" in name], [])
