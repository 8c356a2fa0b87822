"""The place and the family of a darknet, and the program that the shim makes of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from regionloss.c_compiler import CompilerError, build
from regionloss_adapters.protocol import AdapterError

Family = Literal["pjreddie", "alexeyab"]

#: The environment variable with the path of the darknet for the adapter `darknet`.
VARIABLE = "REGIONLOSS_DARKNET"

#: How to get a darknet, in one sentence.
HOW_TO_GET = (
    "get one with `git clone https://github.com/pjreddie/darknet` or `git clone https://github.com/AlexeyAB/darknet` "
    f"and set {VARIABLE} to its path"
)

_SHIM = Path(__file__).with_name("shim.c")
_SOURCES = ("region_layer", "activations", "blas", "box", "utils", "tree", "list")
#: The additional source of AlexeyAB's region layer, which uses its softmax_tree.
_MORE_SOURCES: dict[Family, tuple[str, ...]] = {"pjreddie": (), "alexeyab": ("softmax_layer",)}
_FLAGS = ("-std=gnu11", "-O2", "-w")
#: Stops the headers from replacing calls of printf by another function before it can be renamed.
_PRINTF = ("-U_FORTIFY_SOURCE", "-Dprintf=regionloss_printf", "-DREGIONLOSS_SOURCES")


@dataclass(frozen=True)
class Checkout:
    """The place of a darknet.

    Attributes:
        headers: folders with its headers.
        sources: its C files that the region layer needs; empty if there is a library instead.
        library: a compiled libdarknet; `None` if there are sources.
        family: `pjreddie` or `alexeyab`.
    """

    headers: tuple[Path, ...]
    sources: tuple[Path, ...]
    library: Path | None
    family: Family

    @property
    def digest(self) -> str:
        """Hash of everything that is compiled or linked."""
        files = [*self.sources] if self.library is None else [self.library]
        files += [header for folder in self.headers for header in sorted(folder.glob("*.h"))]
        digest = hashlib.sha256()
        for file in files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def find_checkout(path: Path, family: Family | None = None) -> Checkout:
    """Inspect a checkout or a compiled library; its family is read from the headers unless it is given.

    Raises:
        AdapterError: a file that the shim needs is missing.
    """
    if family is not None and family not in get_args(Family):
        raise AdapterError(f"family is {family!r}, expected one of {', '.join(get_args(Family))}")
    path = path.expanduser().resolve()
    if not path.exists():
        raise AdapterError(f"there is no darknet at {path}; {HOW_TO_GET}")
    root = path.parent if path.is_file() else path
    places = [root, root / "include", root / "src"]
    if path.is_file():
        places += [root.parent / "include", root.parent / "src"]
    headers = tuple(place for place in places if any(place.glob("*.h")))
    if not any((place / "darknet.h").is_file() for place in headers):
        raise AdapterError(f"{path} has no darknet.h in {', '.join(map(str, places))}; {HOW_TO_GET}")
    chosen_family = family or detect_family(headers)
    if path.is_file():
        if b"forward_region_layer_gpu" in path.read_bytes():
            raise AdapterError(f"{path} was built with GPU=1, where the CPU path is not compiled: build it with GPU=0")
        return Checkout(headers, (), path, chosen_family)
    names = _SOURCES + _MORE_SOURCES[chosen_family]
    sources = tuple(path / "src" / f"{name}.c" for name in names)
    missing = [source.name for source in sources if not source.is_file()]
    if missing:
        raise AdapterError(f"{path}/src lacks {', '.join(missing)}; {HOW_TO_GET}")
    return Checkout(headers, sources, None, chosen_family)


def detect_family(headers: tuple[Path, ...]) -> Family:
    """The family whose `make_region_layer`, or otherwise whose network state, the headers declare.

    Raises:
        AdapterError: they declare neither.
    """
    text = ""
    for name in ("region_layer.h", "darknet.h"):
        text += "".join((folder / name).read_text(errors="replace") for folder in headers if (folder / name).is_file())
    declared = re.search(r"make_region_layer\s*\(([^)]*)\)", text)
    if declared:
        return "alexeyab" if "max_boxes" in declared[1] else "pjreddie"
    if re.search(r"\bnetwork_state\b", text):
        return "alexeyab"
    if re.search(r"\bstruct network\b", text):
        return "pjreddie"
    raise AdapterError(
        f"the headers in {', '.join(map(str, headers))} do not show the family of darknet: "
        "name it, family='pjreddie' or family='alexeyab'"
    )


def compiled(checkout: Checkout) -> Path:
    """The program of a checkout: the shim is compiled unless the cache holds it already.

    Raises:
        AdapterError: there is no compiler, or the compilation failed; with the compiler's message.
    """
    arguments = [*_FLAGS, f"-DREGIONLOSS_FAMILY={1 if checkout.family == 'pjreddie' else 2}"]
    arguments += [f"-I{folder}" for folder in checkout.headers]
    if checkout.library is None:
        arguments += [*_PRINTF, str(_SHIM), *map(str, checkout.sources)]
    else:
        arguments += [str(_SHIM), str(checkout.library), f"-Wl,-rpath,{checkout.library.parent}"]
    arguments += ["-lm", "-lpthread"]
    try:
        return build("darknet", arguments, made_of=[checkout.digest, _SHIM.read_text()])
    except CompilerError as error:
        raise AdapterError(f"darknet's region layer cannot be compiled: {error}") from None
