"""How pydoctor reads the docstrings: as reStructuredtext with Sphinx's roles, and without the inventories of other projects."""

from __future__ import annotations

import builtins
import re
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import roles
from pydoctor import astbuilder, model
from pydoctor.extensions import DocumentableMixin, ExtRegistrar, PackageMixin
from pydoctor.extensions.zopeinterface import ZopeInterfaceClass

PAGES = Path(__file__).resolve().parent
# :class:`~package.module.Name` shows as Name in Sphinx; pydoctor writes that `Name <package.module.Name>`.
_SHORT = re.compile(r"`~\.?([\w.]+?)(\w+)(\(\))?`")
# :mod:`.name` is the name in the nearest module that has it, which pydoctor looks for by itself.
_NEAR = re.compile(r"(?<=:`)\.(?=\w)")
_NO_TARGET = re.compile(r'Cannot find link target for "(\w+)')
# Names of these are not in the reference, so nothing can link to them.
_ELSEWHERE = {*dir(builtins), *sys.stdlib_module_names, "msgspec", "nats", "OpenSSL", "prometheus_client", "twisted", "zope"}

# The packages that users import from. A name that two of them offer is shown where it comes from.
_OFFERING = (
    "pynats_twisted",
    "pynats_twisted.blocking",
    "pynats_twisted.client.status",
    "pynats_twisted.jetstream",
    "pynats_twisted.jetstream.api",
    "pynats_twisted.keyvalue",
    "pynats_twisted.objectstore",
    "pynats_twisted.services",
    "pynats_twisted.testing",
)

_FOREIGN_INTERFACE = re.compile(r"twisted\.[\w.]+\.I[A-Z]\w*")


class SphinxStyle(DocumentableMixin, PackageMixin):
    """Lets docstrings use Sphinx's short references, and name things of other projects."""

    docstring: str | None
    home: model.Module | None = None  # the module that the object was written in, when the reference shows it elsewhere

    def expandName(self, name: str) -> str:  # noqa: N802 - pydoctor's name
        expanded: str = super().expandName(name)
        if self.system.objForFullName(expanded) is None:
            owner = self
            while owner is not None and owner.home is None:
                owner = owner.parent
            for place in (owner.home, owner.home.parent) if owner is not None else ():
                found: str = place.expandName(name)
                if self.system.objForFullName(found) is not None:
                    return found
        return expanded

    def setDocstring(self, node: Any) -> None:  # noqa: N802 - pydoctor's name
        super().setDocstring(node)
        if self.docstring:
            self.docstring = _NEAR.sub("", _SHORT.sub(r"`\2 <\1\2>`", self.docstring))

    def report(self, descr: str, section: str = "parsing", lineno_offset: int = 0, thresh: int = -1) -> None:
        missing = _NO_TARGET.match(descr)
        if missing and missing.group(1) in _ELSEWHERE:
            return
        # The arguments of a dataclass are documented at the class; pydoctor looks for them at an __init__ that nobody wrote.
        if isinstance(self, model.Class) and descr.startswith("Documented parameter"):
            return
        # A string inside Annotated is data, which pydoctor reads as a quoted type. mypy says what is wrong with types.
        if descr.startswith("syntax error in annotation"):
            return
        super().report(descr, section, lineno_offset, thresh)


def doc_role(role: str, rawtext: str, text: str, lineno: int, inliner: Any, *_: Any) -> tuple[list[nodes.Node], list[Any]]:
    """Sphinx's ``:doc:`` with an absolute path, as seen from the folder that the reference is in."""
    titled = re.fullmatch(r"(.+?)\s*<(/.+)>", text, re.DOTALL)
    title, path = titled.groups() if titled else (text, text)
    if not (PAGES / f"{path[1:]}.rst").is_file():
        return [], [inliner.reporter.error(f"there is no page {path}", line=lineno)]
    return [nodes.reference(rawtext, title, refuri=f"..{path}.html")], []


def interfaces_of_twisted(system: model.System) -> None:
    """A class below an interface of Twisted's is an interface, though pydoctor has not read Twisted."""
    for cls in system.objectsOfType(ZopeInterfaceClass):
        if not cls.isinterface and any(_FOREIGN_INTERFACE.fullmatch(cls.expandName(base)) for base in cls.bases):
            cls.isinterface = True
            cls.kind = model.DocumentableKind.INTERFACE
            cls.implementedby_directly = []


def setup_pydoctor_extension(registrar: ExtRegistrar) -> None:
    roles.register_local_role("doc", doc_role)
    registrar.register_mixin(SphinxStyle)
    registrar.register_post_processor(interfaces_of_twisted, priority=1000)  # before the classes are told what they implement


class Visitor(astbuilder.ModuleVistor):
    """Shows a name that several packages offer at one place: where a user imports it from."""

    def _handleReExport(self, exports: Any, origin_name: str, as_name: str, origin_module: model.Module) -> bool:  # noqa: N802 - pydoctor's
        current = self.builder.current.fullName()
        if current not in _OFFERING:
            return False
        if not super()._handleReExport(exports, origin_name, as_name, origin_module):
            return False
        self.builder.current.contents[as_name].home = origin_module
        self.system.moved[f"{origin_module.fullName()}.{origin_name}"] = f"{current}.{as_name}"
        return True


class Builder(astbuilder.ASTBuilder):
    """pydoctor's builder with :class:`Visitor`."""

    ModuleVistor = Visitor


class System(model.System):
    """pydoctor's system with all of the above, which finds what was moved under its old name too."""

    custom_extensions: ClassVar[list[str]] = ["apidocs"]
    defaultBuilder = Builder  # noqa: N815 - pydoctor's name

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.moved: dict[str, str] = {}
        super().__init__(*arguments, **options)

    def objForFullName(self, name: str) -> model.Documentable | None:  # noqa: N802 - pydoctor's name
        found = super().objForFullName(name)
        if found is None:
            for old, new in self.moved.items():
                if name == old or name.startswith(f"{old}."):
                    return super().objForFullName(new + name.removeprefix(old))
            # A name that a module only passes on.
            passing, _, last = name.rpartition(".")
            module = super().objForFullName(passing)
            if isinstance(module, model.Module) and last in module._localNameToFullName_map:
                return self.objForFullName(module._localNameToFullName_map[last])
        return found
