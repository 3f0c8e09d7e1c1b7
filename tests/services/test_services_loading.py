"""What the front door of services offers, and what it loads."""

from __future__ import annotations

import ast
import sys

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import services
from tests.test_imports import PACKAGE, loaded_by


class DoorTests(SynchronousTestCase):
    """``pynats_twisted.services`` offers what users need by name."""

    def test_every_public_name_is_there(self) -> None:
        """Each name in ``__all__`` can be had from it, and is the object of the module that it lives in."""
        for name in services.__all__:
            self.assertIs(getattr(services, name), getattr(sys.modules[f"pynats_twisted.services.{services._HOMES[name]}"], name))

    def test_type_checkers_see_the_same_names(self) -> None:
        """The imports that type checkers read and the table that runs name the same homes."""
        tree = ast.parse((PACKAGE / "services" / "__init__.py").read_text("utf-8"))
        guard = next(node for node in tree.body if isinstance(node, ast.If))
        seen = {alias.name: node.module for node in guard.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        self.assertEqual(seen, services._HOMES)
        self.assertEqual(sorted(seen), sorted(services.__all__))

    def test_dir_and_unknown_names(self) -> None:
        """Completion in a shell finds the names, and a name that does not exist is an AttributeError that says so."""
        self.assertEqual(set(services.__all__) - set(dir(services)), set())
        self.assertIn("'Servise'", str(self.assertRaises(AttributeError, getattr, services, "Servise")))

    def test_clients_do_not_load_it(self) -> None:
        """Who has no services does not load them, and who has some loads no JetStream."""
        self.assertEqual([name for name in loaded_by("import pynats_twisted.client") if ".services" in name], [])
        loaded = loaded_by("import pynats_twisted.client, pynats_twisted.services.service, pynats_twisted.services.caller")
        self.assertEqual([name for name in loaded if "jetstream" in name], [])
