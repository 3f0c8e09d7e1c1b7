"""The pages about routes: each type has one, with a configuration that can be used, its guarantee in words, and its NATS permissions."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.check import CheckReport, check_config
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.errors import ConfigError

HOWTO = Path(__file__).resolve().parent.parent.parent / "docs" / "howto"
PAGES = {
    "http-request": "bridge-http.rst",
    "http-publish": "bridge-http.rst",
    "webhook": "bridge-webhook.rst",
    "sse": "bridge-sse.rst",
    "lines-in": "bridge-lines.rst",
    "syslog": "bridge-syslog.rst",
}
"""The page of each route type."""

GUARANTEE = re.compile(r"^What is (guaranteed|promised)\n-+$", re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", (HOWTO / page).read_text("utf-8"), re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


class RoutePageTests(SynchronousTestCase):
    def check(self, page: str) -> CheckReport:
        """What ``--check`` says of the example of a page."""
        text = next(block for block in blocks(page, "toml") if "[bridge]" in block)
        self.patch(os, "environ", {**os.environ, **dict.fromkeys(re.findall(r'env = "(\w+)"', text), "secret")})
        try:
            return check_config(load_config(text, page), MemoryReactorClock())
        except ConfigError as error:
            return CheckReport(page, problems=error.problems)

    def test_every_type_has_a_page(self) -> None:
        """No built-in route type is left out."""
        self.assertEqual(set(PAGES), {factory.type_name for factory in builtin_factories()})

    def test_examples_are_complete(self) -> None:
        """The example of a page is a whole configuration with a route of its type, and ``--check`` has nothing against it."""
        for type_name, page in PAGES.items():
            report = self.check(page)
            self.assertEqual([str(problem) for problem in report.problems], [], page)
            self.assertIn(type_name, [route.type for route in report.routes], page)

    def test_examples_of_other_pages(self) -> None:
        """The whole configurations on the other pages about the bridge can be read as well, up to the files that they name."""
        others = {path.name for path in HOWTO.glob("bridge-*.rst")} - {*PAGES.values(), "bridge-own-route.rst"}
        examples = [(page, block) for page in sorted(others) for block in blocks(page, "toml") if "[bridge]" in block]
        self.assertIn("bridge-configuration.rst", [page for page, _ in examples])
        for page, text in examples:
            variables = re.findall(r'env = "(\w+)"', text)
            self.patch(os, "environ", {**os.environ, **dict.fromkeys(variables, "secret")})
            load_config(text.replace(', creds = "hub.creds"', ""), page)

    def test_readme(self) -> None:
        """The example of the README can be used, once the secret that it names is there."""
        (text,) = re.findall(
            r"^\.\. code-block:: toml\n\n((?:    .*\n|\n)+)", (HOWTO.parent.parent / "README.rst").read_text("utf-8"), re.MULTILINE
        )
        secret = Path(self.mktemp()).resolve()
        secret.write_text("secret\n")
        config = load_config(textwrap.dedent(text).replace("/run/secrets/github", str(secret)), "README.rst")
        self.assertEqual([route.type for route in config.routes.values()], ["http-publish", "webhook"])

    def test_guarantees(self) -> None:
        """The page says what is guaranteed, under a heading of its own, with the words that people look for."""
        for page in PAGES.values():
            text = (HOWTO / page).read_text("utf-8")
            heading = GUARANTEE.search(text)
            assert heading is not None, page
            section = re.split(r"^[^\n]+\n-{5,}$", text[heading.end() :], flags=re.MULTILINE)[0]
            self.assertRegex(section.lower(), r"at least once|at most once|once and in order", page)

    def test_permissions(self) -> None:
        """The page says what the bridge's user has to be allowed, and it is no more than needed: nothing is ``>`` alone."""
        for page in PAGES.values():
            found = [block for block in blocks(page, "text") if "publish" in block and "subscribe" in block]
            self.assertEqual(len(found), 1, page)
            subjects = re.findall(r'"([^"]+)"', found[0])
            self.assertTrue(subjects, page)
            self.assertEqual([subject for subject in subjects if subject in (">", "*", "$JS.>", "$JS.API.>")], [], page)
