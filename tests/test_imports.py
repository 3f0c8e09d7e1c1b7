"""What importing the package loads, and which of its parts may know which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pynats_twisted

PACKAGE = Path(pynats_twisted.__file__).resolve().parent

# Every part of the package, and the parts that it may import. A new part has to be entered here before the tests pass.
LAYERS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "_version": frozenset(),
    "protocol": frozenset({"errors", "_version"}),
    "interfaces": frozenset({"errors", "protocol"}),
    "client": frozenset({"errors", "_version", "interfaces", "protocol"}),
    "blocking": frozenset({"errors", "_version", "protocol"}),
    "jetstream": frozenset({"errors", "interfaces", "protocol", "client"}),
    "keyvalue": frozenset({"errors", "interfaces", "protocol", "client", "jetstream"}),
    "objectstore": frozenset({"errors", "interfaces", "protocol", "client", "jetstream"}),
    "services": frozenset({"errors", "interfaces", "protocol", "client"}),
    "testing": frozenset({"errors", "_version", "interfaces", "protocol", "client"}),
    "bridge": frozenset({"errors", "_version", "interfaces", "protocol", "client", "jetstream"}),
}

# What users begin with names what is built on it, and loads that when they ask for it: `NatsClient.jetstream` and so on.
DOORS = {
    ("pynats_twisted.client.client", "pynats_twisted.jetstream.context"),
    ("pynats_twisted.client.client", "pynats_twisted.services.config"),
    ("pynats_twisted.client.client", "pynats_twisted.services.service"),
    *(
        ("pynats_twisted.jetstream.stores", f"pynats_twisted.{module}")
        for module in (
            "keyvalue.bucket",
            "keyvalue.codecs",
            "keyvalue.config",
            "keyvalue.manage",
            "keyvalue.status",
            "objectstore.config",
            "objectstore.manage",
            "objectstore.status",
            "objectstore.store",
        )
    ),
}

# Parts that must work where Twisted, zope.interface and asyncio are not even installed.
WITHOUT_TWISTED = ("errors", "_version", "protocol", "blocking")
TWISTED = ("twisted", "zope", "asyncio")
# Of these, the parts that do no I/O either.
SANS_IO = ("errors", "_version", "protocol")
IO = ("socket", "selectors", "ssl")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(module: str) -> str:
    """The part that a module belongs to: ``client`` for ``pynats_twisted.client.factory``; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imports_in(source: str, package: str) -> Iterator[tuple[str, str]]:
    """
    The imports of our own modules in the source of a module of ``package``, wherever they stand, as (module, imported name).

    A name that is itself a module counts as that module with an empty name; a name taken from the package's ``__init__``
    counts as taken from the module that it lives in.
    """
    known = modules()
    homes = {**pynats_twisted._HOMES, "__version__": "pynats_twisted._version"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "pynats_twisted":
                    yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            if base.partition(".")[0] != "pynats_twisted":
                continue
            for alias in node.names:
                if f"{base}.{alias.name}" in known:
                    yield f"{base}.{alias.name}", ""
                elif base == "pynats_twisted" and alias.name in homes:
                    yield homes[alias.name], alias.name
                else:
                    yield base, alias.name


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """:func:`imports_in` for a file of the package."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    return imports_in(path.read_text("utf-8"), package)


def loaded_by(code: str) -> list[str]:
    """The names of all modules that a fresh interpreter loads to run ``code``."""
    script = f"import sys\nbefore = set(sys.modules)\n{code}\nimport json\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    command = [sys.executable, "-W", "error::ImportWarning", "-c", script]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


class LayerTests(SynchronousTestCase):
    """Imports between the parts of the package point down only."""

    def test_every_part_has_its_place(self) -> None:
        """No part of the package stands outside the layers."""
        parts = {part_of(module) for module in modules()} - {""}
        self.assertEqual(parts - set(LAYERS), set())

    def test_imports_point_down(self) -> None:
        """No module imports a part that stands above or beside its own."""
        wrong = []
        for module, path in modules().items():
            part = part_of(module)
            if not part:
                continue  # the package's __init__ is the front door: it names everything and loads nothing
            for imported, name in imports_of(path):
                target = part_of(imported)
                if target != part and target not in LAYERS[part] and (module, imported) not in DOORS:
                    wrong.append(f"{module} imports {name or 'the module'} from {imported or 'pynats_twisted'}")
        self.assertEqual(wrong, [])

    def test_private_names_stay_in_their_part(self) -> None:
        """No module uses a name with a leading underscore from another part."""
        wrong = []
        for module, path in modules().items():
            for imported, name in imports_of(path):
                private = [piece for piece in [*imported.split("."), name] if piece.startswith("_") and not piece.startswith("__")]
                if private and imported != "pynats_twisted._version" and part_of(imported) != part_of(module):
                    wrong.append(f"{module} imports {imported}.{name}")
        self.assertEqual(wrong, [])

    def test_every_way_of_importing_is_seen(self) -> None:
        """The reading of imports sees absolute and relative ones, those inside a function, and names from the front door."""
        source = (
            "import pynats_twisted.client.factory\n"
            "from pynats_twisted import Msg, errors\n"
            "from pynats_twisted.errors import NatsError\n"
            "import twisted.python.log\n"
            "def f():\n"
            "    from ..bridge import tap\n"
            "    from . import parser\n"
            "    from .state import ConnectionState\n"
        )
        self.assertEqual(
            {".".join(filter(None, found)) for found in imports_in(source, "pynats_twisted.protocol")},
            {
                "pynats_twisted.client.factory",
                "pynats_twisted.protocol.twin.Msg",
                "pynats_twisted.errors",
                "pynats_twisted.errors.NatsError",
                "pynats_twisted.bridge.tap",
                "pynats_twisted.protocol.parser",
                "pynats_twisted.protocol.state.ConnectionState",
            },
        )


class LoadingTests(SynchronousTestCase):
    """Importing the package or a part of it loads no more than it needs."""

    def test_package_alone_is_light(self) -> None:
        """``import pynats_twisted`` loads neither Twisted nor any part of the package."""
        loaded = loaded_by("import pynats_twisted")
        self.assertEqual([name for name in loaded if name.partition(".")[0] in TWISTED], [])
        self.assertEqual([name for name in loaded if name.startswith("pynats_twisted.")], ["pynats_twisted._version"])

    def test_core_does_no_io(self) -> None:
        """The sans-IO core, every module of it, loads neither Twisted nor zope.interface nor anything that does I/O."""
        core = [module for module in modules() if part_of(module) in SANS_IO]
        self.assertIn("pynats_twisted.protocol", core)
        loaded = loaded_by("\n".join(f"import {module}" for module in core))
        self.assertEqual([name for name in loaded if name.partition(".")[0] in (*TWISTED, *IO)], [])

    def test_works_where_twisted_is_missing(self) -> None:
        """The core and the blocking client can be imported where importing Twisted, zope.interface or asyncio fails."""
        light = [module for module in modules() if part_of(module) in WITHOUT_TWISTED]
        blocked = f"import sys\nfor name in {(*TWISTED, 'zope.interface')!r}: sys.modules[name] = None\n"
        loaded = loaded_by(blocked + "\n".join(f"import {module}" for module in light))
        self.assertEqual(set(light) - set(loaded), set())

    def test_no_module_installs_a_reactor(self) -> None:
        """Whatever module is imported, the application can still choose its reactor afterwards."""
        listed = json.dumps([module for module in modules() if not module.endswith(".__main__")])
        code = (
            f"import importlib, sys\nfor name in {listed}:\n"
            "    importlib.import_module(name)\n"
            "    assert 'twisted.internet.reactor' not in sys.modules, name + ' installed a reactor'\n"
            "from twisted.plugin import getPlugins\n"
            "from twisted.application.service import IServiceMaker\n"
            "list(getPlugins(IServiceMaker))\n"
        )
        self.assertNotIn("twisted.internet.reactor", loaded_by(code))


class FrontDoorTests(SynchronousTestCase):
    """``pynats_twisted`` itself offers the public names."""

    def test_every_public_name_is_there(self) -> None:
        """Each name in ``__all__`` can be had from the package, and is the object of the module that it lives in."""
        for name in pynats_twisted.__all__:
            value = getattr(pynats_twisted, name)
            if name in pynats_twisted._HOMES:
                self.assertIs(value, getattr(sys.modules[pynats_twisted._HOMES[name]], name))

    def test_type_checkers_see_the_same_names(self) -> None:
        """The imports that type checkers read and the table that runs name the same homes."""
        tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
        guard = next(node for node in tree.body if isinstance(node, ast.If))
        seen = {alias.name: node.module for node in guard.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        self.assertEqual(seen, {**pynats_twisted._HOMES, "blocking": "pynats_twisted", "errors": "pynats_twisted"})
        self.assertEqual({*seen, "__version__"}, set(pynats_twisted.__all__))

    def test_dir_lists_names_that_are_not_loaded_yet(self) -> None:
        """``dir(pynats_twisted)`` shows every public name, so completion in a shell finds it."""
        self.assertEqual(set(pynats_twisted.__all__) - set(dir(pynats_twisted)), set())

    def test_unknown_name(self) -> None:
        """A name that does not exist is an AttributeError that says so."""
        error = self.assertRaises(AttributeError, getattr, pynats_twisted, "conect")
        self.assertIn("'conect'", str(error))
