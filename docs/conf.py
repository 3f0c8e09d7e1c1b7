"""Sphinx's settings. ``make docs`` builds the pages, and with them the API reference by pydoctor."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils.parsers.rst import directives
from sphinx.directives.code import CodeBlock

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for apidocs

ROOT = Path(__file__).resolve().parent.parent

project = "pynats-twisted"
author = "The pynats-twisted developers"
copyright = f"2026, {author}"
(release,) = re.findall(r'^__version__ = "([^"]+)"$', (ROOT / "pynats_twisted" / "_version.py").read_text("utf-8"), re.MULTILINE)
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.intersphinx", "pydoctor.sphinx_ext.build_apidocs"]
exclude_patterns = ["_build", "newsfragments"]
html_theme = "alabaster"
html_theme_options = {"description": "NATS for Twisted, on a sans-IO core", "fixed_sidebar": True, "page_width": "1180px"}
highlight_language = "python"
default_role = "literal"
nitpicky = True  # a reference that leads nowhere is a mistake

# The reference is built beside the pages, in api/. No other project's inventory is fetched: building needs no network.
pydoctor_url_path = "api"
pydoctor_args = [
    "--project-name=pynats-twisted",
    f"--project-version={release}",
    f"--project-base-dir={ROOT}",
    "--system-class=apidocs.System",
    "--docformat=restructuredtext",
    "--theme=readthedocs",
    "--privacy=HIDDEN:**.__*__",
    "--privacy=PUBLIC:**.__init__",
    "--html-output={outdir}/api",
    str(ROOT / "pynats_twisted"),
]


def setup(app: Any) -> None:
    """pydoctor, which runs before the pages are read, replaces code-block by its own, which takes every language for Python."""
    app.connect("env-before-read-docs", lambda app, env, docnames: directives.register_directive("code-block", CodeBlock))
