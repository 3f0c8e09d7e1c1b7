"""Every example in the README and in the documentation does what the page says.

The scheme, also described in ``docs/development.rst``: a comment ``.. test: NAME`` before a ``.. code-block:: python`` makes the block a
script, which is run against a real server. Blocks of one page with the same name are one script. A comment ``.. output: NAME``
before a ``.. code-block:: text`` holds what the script prints. Python blocks without a comment have to compile.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.testing import ServerProcess

ROOT = Path(__file__).resolve().parent.parent
PORT_IN_PAGES = "4222"  # becomes that of the script's server, and becomes 4222 again in what the script prints
TIMEOUT = 60.0  # seconds that a script may take

_MARK = re.compile(r"^\.\. (test|output):\s*(.*)$")
_BLOCK = re.compile(r"^( *)\.\. code-block:: *(\S+)\s*$")
_MAKE = re.compile(r"\bmake ([a-z]+)\b(?= *(?:``|$|#|[A-Z]+=))", re.MULTILINE)


@dataclass
class Block:
    """A ``code-block``, and the comment that stood before it: its kind (``test`` or ``output``) and name, or empty."""

    page: str
    line: int
    language: str
    text: str
    kind: str = ""
    name: str = ""


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """
    The code blocks of a page.

    :raises ValueError: a comment of ours is not followed by a block of the right language, or has no usable name.
    """
    lines = text.splitlines()
    kind = name = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        mark, block = _MARK.match(line), _BLOCK.match(line)
        if mark:
            if kind or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mark.group(2)):
                raise ValueError(f"{page}:{number}: {line!r} needs a name in lower case with hyphens, and a code block after it")
            kind, name = mark.groups()
        elif block:
            start, indent = number, len(block.group(1))
            while number < len(lines) and (not lines[number].strip() or len(lines[number]) - len(lines[number].lstrip()) > indent):
                number += 1
            body = lines[start:number]
            while body and re.match(r"\s*:[\w-]+:", body[0]):  # options of the directive
                body.pop(0)
            language = block.group(2)
            if kind and language != {"test": "python", "output": "text"}[kind]:
                raise ValueError(f"{page}:{start}: a block of {language} cannot be the {kind} of {name!r}")
            yield Block(page, start, language, textwrap.dedent("\n".join(body)).strip("\n") + "\n", kind, name)
            kind = name = ""
        elif kind and line.strip():
            raise ValueError(f"{page}:{number}: the comment '{kind}: {name}' has no code block after it")
    if kind:
        raise ValueError(f"{page}: the comment '{kind}: {name}' has no code block after it")


@dataclass
class Script:
    """The blocks of one page with one name: what runs, and what the page says that it prints (None: the page does not say)."""

    source: str = ""
    output: str | None = None


def scripts_of(blocks: Iterator[Block]) -> dict[str, Script]:
    """
    The scripts of a page by their names.

    :raises ValueError: there is the output of a script that does not exist.
    """
    scripts: dict[str, Script] = {}
    for block in blocks:
        if block.kind == "test":
            scripts.setdefault(block.name, Script()).source += block.text
        elif block.kind == "output":
            if block.name not in scripts:
                raise ValueError(f"{block.page}:{block.line}: there is no script {block.name!r} above its output")
            script = scripts[block.name]
            script.output = (script.output or "") + block.text
    return scripts


def pages() -> dict[str, str]:
    """The README and all pages of the documentation: path below the checkout to text."""
    paths = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    return {name: path.read_text("utf-8") for path, name in names.items() if not name.startswith(("docs/_build/", "docs/newsfragments/"))}


class ScriptTests(SynchronousTestCase):
    """One test for each script, made below: it ends without an error, and prints what the page says."""

    maxDiff = None

    def check(self, script: Script) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with contextlib.ExitStack() as stack:
            port = PORT_IN_PAGES
            if re.search(rf"\b{PORT_IN_PAGES}\b", script.source):
                port = str(stack.enter_context(ServerProcess.running(jetstream=True)).port)
            source = re.sub(rf"\b{PORT_IN_PAGES}\b", port, script.source)
            (folder / "script.py").write_text(source, "utf-8")
            done = subprocess.run(
                [sys.executable, "script.py"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        if script.output is not None:
            self.assertEqual(re.sub(rf"\b{port}\b", PORT_IN_PAGES, done.stdout), script.output)


def _add_script_tests() -> None:
    for page, text in pages().items():
        for name, script in scripts_of(blocks_of(page, text)).items():

            def test(self: ScriptTests, script: Script = script) -> None:
                self.check(script)

            label = re.sub(r"\W", "_", f"{page.removesuffix('.rst').removeprefix('docs/')}_{name}")
            test.__doc__ = f"The script {name} of {page} does what the page says."
            setattr(ScriptTests, f"test_{label}", test)


_add_script_tests()


class PageTests(SynchronousTestCase):
    """What can be said of the pages without running anything."""

    def test_readme_has_a_script(self) -> None:
        """The README begins with a program that is tested, and so says what it prints."""
        scripts = scripts_of(blocks_of("README.rst", pages()["README.rst"]))
        self.assertTrue(scripts["quick-start"].output)

    def test_python_blocks_compile(self) -> None:
        """Python that is shown and not run is at least Python."""
        wrong = []
        for page, text in pages().items():
            for block in blocks_of(page, text):
                if block.language in ("python", "python3") and not block.kind:
                    try:
                        compile(block.text, f"{page}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    except SyntaxError as error:
                        wrong.append(str(error))
        self.assertEqual(wrong, [])

    def test_make_targets_exist(self) -> None:
        """Each ``make`` command of the pages is a target of the Makefile."""
        makefile = (ROOT / "Makefile").read_text("utf-8")
        targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
        named = {target for text in pages().values() for target in _MAKE.findall(text)}
        self.assertEqual(named - targets, set())
        self.assertGreaterEqual(named, {"demo", "test"})


class ReadingTests(SynchronousTestCase):
    """The reading of the pages finds what it should, and does not overlook a mistake."""

    def test_a_script_in_two_blocks(self) -> None:
        """Blocks with the same name are one script, and their outputs are one output; other blocks are no part of it."""
        text = (
            "Page\n====\n\n.. test: one\n\n.. code-block:: python\n   :emphasize-lines: 1\n\n   a = 1\n\n   b = 2\n\nText.\n\n"
            ".. code-block:: python\n\n   c = 3\n\n.. test: one\n\n.. code-block:: python\n\n   print(a, b)\n\n"
            ".. output: one\n\n.. code-block:: text\n\n   1 2\n\nThe end.\n"
        )
        self.assertEqual(scripts_of(blocks_of("page", text)), {"one": Script("a = 1\n\nb = 2\nprint(a, b)\n", "1 2\n")})

    def test_mistakes(self) -> None:
        """A comment without its block, with the wrong kind of block, without a name, or an output without a script is an error."""
        for text in (
            ".. test: one\n\nNo block.\n",
            ".. test: one\n",
            ".. test: one\n\n.. code-block:: text\n\n   x\n",
            ".. test: One script\n\n.. code-block:: python\n\n   x\n",
            ".. test: one\n\n.. test: two\n\n.. code-block:: python\n\n   x\n",
            ".. output: one\n\n.. code-block:: text\n\n   x\n",
        ):
            self.assertRaises(ValueError, lambda text=text: scripts_of(blocks_of("page", text)))

    def test_a_wrong_script_fails(self) -> None:
        """A script that raises, that prints something else, or that complains on stderr does not pass."""
        for source, output in (
            ("raise SystemExit(3)", None),
            ("print('a')", "b\n"),
            ("import sys; print('Unhandled error in Deferred', file=sys.stderr)", None),
        ):
            self.assertRaises(self.failureException, self.check_script, Script(source, output))

    def check_script(self, script: Script) -> None:
        ScriptTests.check(ScriptTests("check"), script)
