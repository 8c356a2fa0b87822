"""Find the source of a port, check that its version is the adapter's, and import it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionloss_adapters.protocol import AdapterError

#: The environment variable with the source of each adapter for somebody else's loss.
VARIABLES = {
    "darknet": "REGIONLOSS_DARKNET",
    "lightnet": "REGIONLOSS_LIGHTNET",
    "marvis": "REGIONLOSS_MARVIS",
    "andy-yun": "REGIONLOSS_ANDY_YUN",
    "uvipen": "REGIONLOSS_UVIPEN",
    "samylee": "REGIONLOSS_SAMYLEE",
    "zjykzj": "REGIONLOSS_ZJYKZJ",
    "longcw": "REGIONLOSS_LONGCW",
    "keras-yolo2": "REGIONLOSS_KERAS_YOLO2",
    "yad2k": "REGIONLOSS_YAD2K",
}


@dataclass(frozen=True, kw_only=True)
class Port:
    r"""One implementation at one commit.

    Attributes:
        name: name of its adapter.
        upstream: the address to clone it from.
        commit: the commit that the adapter supports.
        licence: its licence.
        files: the files that the loss needs, by path in the checkout, with their SHA-256; `\r\n` counts as `\n`.
        package: name of its package; empty if there is none.
        framework: the module that it needs and whose version matters.
        needs: other modules that it needs.
        shims: changes that the adapter makes so that it runs today, one sentence each.
    """

    name: str
    upstream: str
    commit: str
    licence: str
    files: Mapping[str, str]
    package: str = ""
    framework: str = "torch"
    needs: tuple[str, ...] = ()
    shims: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes for the report."""
        return (f"{self.upstream} at commit {self.commit[:7]}, licence {self.licence}.", *self.shims)

    def root(self) -> Path:
        """The folder of the source, after checking that every file has the supported version.

        Raises:
            AdapterError: no source is named, a file is missing or another version, or a module that it
                needs is not installed.
        """
        how = f"git clone {self.upstream} && git checkout {self.commit[:7]}"
        for module in (self.framework, *self.needs):
            if importlib.util.find_spec(module) is None:
                raise AdapterError(f"adapter {self.name!r} needs {module}, which is not installed")
        root = self._named()
        if root is None:
            raise AdapterError(
                f"adapter {self.name!r} needs the source: {how}, and name the checkout with --source PATH or in "
                f"{VARIABLES[self.name]}"
            )
        for file, digest in self.files.items():
            if not (root / file).is_file():
                raise AdapterError(f"adapter {self.name!r}: {root} has no {file}; {how}")
            if digest_of(root / file) != digest:
                raise AdapterError(
                    f"adapter {self.name!r}: {root / file} is not the version of commit {self.commit[:7]}, "
                    f"which the adapter was written for; {how}"
                )
        return root

    def _named(self) -> Path | None:
        """The folder named by the environment variable, or the folder of the installed package."""
        if named := os.environ.get(VARIABLES[self.name]):
            return Path(named).expanduser().resolve()
        module_spec = importlib.util.find_spec(self.package) if self.package else None
        return Path(module_spec.origin).parents[1] if module_spec is not None and module_spec.origin else None


def digest_of(file: Path) -> str:
    """SHA-256 of a text file, independent of its line endings."""
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def name_source(adapter: str, path: Path) -> None:
    """Set the environment variable with an adapter's source, for this process and its children.

    Raises:
        AdapterError: the adapter takes no source, or there is no folder or file at the path.
    """
    if adapter not in VARIABLES:
        raise AdapterError(f"adapter {adapter!r} takes no source; those that do are {', '.join(VARIABLES)}")
    if not path.expanduser().exists():
        raise AdapterError(f"adapter {adapter!r}: there is no source at {path}")
    os.environ[VARIABLES[adapter]] = str(path.expanduser().resolve())


def load(
    root: Path,
    file: str,
    *,
    beside: tuple[str, ...] = (),
    stubs: Mapping[str, types.ModuleType] | None = None,
    names: Mapping[str, Any] | None = None,
) -> Any:
    """Import one file of a checkout without leaving traces in the checkout or in `sys`.

    Args:
        root: the root folder of its imports.
        file: its path below the root.
        beside: top-level modules of the checkout that it imports, even if other modules have the same names.
        stubs: modules that replace imported ones, see `stub`.
        names: globals to define for it.
    """
    parts = Path(file).with_suffix("").parts
    spec = importlib.util.spec_from_file_location(".".join(parts), root / file)
    if spec is None or spec.loader is None:
        raise AdapterError(f"{root / file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    module.__dict__.update(names or {})
    with _imports_from(root, beside, dict(stubs or {})):
        spec.loader.exec_module(module)
    return module


def stub(*names: str, **attributes: Any) -> dict[str, types.ModuleType]:
    """Modules of these names, by name, in which any other attribute is an empty class."""
    return {name: _Stub(name, attributes) for name in names}


class _Stub(types.ModuleType):
    def __init__(self, name: str, attributes: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(attributes, __path__=[])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def _imports_from(root: Path, beside: tuple[str, ...], stubs: dict[str, types.ModuleType]) -> Iterator[None]:
    """Redirect imports of some names to the checkout or the stubs, and afterwards remove the imported modules."""

    def theirs() -> dict[str, types.ModuleType]:
        return {name: one for name, one in sys.modules.items() if name.split(".")[0] in beside or name in stubs}

    def forget() -> None:
        for name in theirs():
            del sys.modules[name]

    hidden, path, wrote = theirs(), list(sys.path), sys.dont_write_bytecode
    forget()
    sys.modules.update(stubs)
    if beside:
        sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = path, wrote
        forget()
        sys.modules.update(hidden)
