"""The suite itself: no test is silently left out, or passes without having run."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pynats_twisted import protocol

TESTS = Path(__file__).resolve().parent
_spec = importlib.util.find_spec("pynats_twisted.protocol._speedups")
COMPILED = None if _spec is None or _spec.origin is None else Path(_spec.origin)


def modules_with_tests() -> Iterator[str]:
    for path in sorted(TESTS.rglob("test_*.py")):
        yield ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)


def never_run(case: type[SynchronousTestCase]) -> list[str]:
    """The tests of a class whose body trial would not run: it would make a coroutine or a generator, throw it away, and pass."""
    tests: dict[str, Any] = {name: getattr(case, name) for name in dir(case) if name.startswith("test")}
    coroutines = [] if issubclass(case, TestCase) else [name for name, test in tests.items() if inspect.iscoroutinefunction(test)]
    return coroutines + [name for name, test in tests.items() if inspect.isgeneratorfunction(test) or inspect.isasyncgenfunction(test)]


class TwinTests(SynchronousTestCase):
    """Which twin of the protocol's hot parts the tests run on."""

    def test_the_right_twin_runs(self) -> None:
        """The one that ``make test`` names; without it, the compiled one if it was built and nobody forced the pure one."""
        forced = os.environ.get("PYNATS_TWISTED_PURE", "") not in ("", "0")
        by_itself = "compiled" if COMPILED is not None and not forced else "pure"
        self.assertEqual(protocol.implementation, os.environ.get("PYNATS_TWISTED_TWIN", by_itself))

    def test_the_compiled_twin_is_up_to_date(self) -> None:
        """In a checkout, the compiled twin is not older than its source; where it is, ``make`` or ``pip install -e .`` builds it anew."""
        pairs = [] if COMPILED is None else [(COMPILED, path) for path in COMPILED.parent.glob("_speedups.pyx")]
        self.assertEqual([source for built, source in pairs if built.stat().st_mtime < source.stat().st_mtime], [])


class SuiteTests(SynchronousTestCase):
    """What trial would not complain about."""

    def test_every_test_module_is_found(self) -> None:
        """Each folder with tests is a package: trial passes over the ones that are not."""
        folders = {folder for path in TESTS.rglob("test_*.py") for folder in path.relative_to(TESTS.parent).parents if folder.name}
        self.assertIn(Path("tests/packaging"), folders)
        self.assertEqual([str(folder) for folder in sorted(folders) if not (TESTS.parent / folder / "__init__.py").is_file()], [])

    def test_every_test_runs(self) -> None:
        """No test is a coroutine function in a class that does not await it, or a generator that nobody drives."""
        wrong = []
        for module in modules_with_tests():
            for _, case in inspect.getmembers(importlib.import_module(module), inspect.isclass):
                if issubclass(case, SynchronousTestCase) and case.__module__ == module:
                    wrong += [f"{module}.{case.__name__}.{name}" for name in never_run(case)]
        self.assertEqual(wrong, [])

    def test_tests_that_never_run_are_seen(self) -> None:
        """The check knows the three kinds, and lets through what trial does run."""

        class Synchronous(SynchronousTestCase):
            def test_plain(self) -> None: ...

            async def test_coroutine(self) -> None: ...

            def test_generator(self) -> Iterator[None]:
                yield

        class Asynchronous(TestCase):
            async def test_coroutine(self) -> None: ...

            def test_generator(self) -> Iterator[None]:
                yield

            @inlineCallbacks
            def test_driven(self) -> Any:
                yield

        self.assertEqual(sorted(never_run(Synchronous)), ["test_coroutine", "test_generator"])
        self.assertEqual(never_run(Asynchronous), ["test_generator"])
