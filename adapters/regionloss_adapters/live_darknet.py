"""darknet itself as an adapter: the user's own checkout, compiled here and run in a child process.

Nothing of darknet comes with this package. A thin shim of ours is compiled with the user's C compiler against the
user's headers, together with the few sources that `forward_region_layer` needs or with a library that already holds
them. It runs on the CPU in float32, one child process for each batch, so that a crash or an `exit()` of darknet ends
the child and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from regionloss import DomainError
from regionloss.domain import read_inputs
from regionloss_adapters.protocol import AdapterError, Answer, CannotAnswer, Description, Question
from regionloss_spec import Batch, Profile, load_profile
from regionloss_spec.recording import gradient_from_delta, options

Family = Literal["pjreddie", "alexeyab"]

#: The environment variable that names the darknet of the adapter `darknet`.
VARIABLE = "REGIONLOSS_DARKNET"

#: One sentence for whoever has no darknet.
HOW_TO_GET = (
    "get one with `git clone https://github.com/pjreddie/darknet` or `git clone https://github.com/AlexeyAB/darknet` "
    f"and set {VARIABLE} to its path"
)

#: How many truths of an image the first family reads, whatever its configuration says.
_ROWS_READ = 30
_SHIM = Path(__file__).with_name("live_darknet_shim.c")
_SOURCES = ("region_layer", "activations", "blas", "box", "utils", "tree", "list")
#: What the second family's region layer needs on top: it borrows softmax_tree.
_MORE_SOURCES: dict[Family, tuple[str, ...]] = {"pjreddie": (), "alexeyab": ("softmax_layer",)}
_FLAGS = ("-std=gnu11", "-O2", "-w")
#: Keeps the headers from turning a call of printf into another function before it can be renamed.
_PRINTF = ("-U_FORTIFY_SOURCE", "-Dprintf=regionloss_printf", "-DREGIONLOSS_SOURCES")
_MAGIC = 0x0131534C4E474552
_FIGURES = 8
_STATISTICS = ("avg_iou", "avg_class", "avg_obj", "avg_no_obj", "avg_recall")


class DarknetFailedError(RuntimeError):
    """darknet died, hung, or left no whole answer."""


@dataclass(frozen=True)
class Checkout:
    """Where a darknet lies.

    Attributes:
        headers: folders to look for headers in.
        sources: its C files that the region layer needs; empty where there is a library instead.
        library: a compiled libdarknet; `None` where there are sources.
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


class LiveDarknet:
    """The real `forward_region_layer` of a darknet checkout, or of a compiled libdarknet with its headers.

    The compiler is `cc` unless the environment variable `CC` names another; `CFLAGS` are passed on to it.

    Args:
        path: the checkout, or its libdarknet.so, .dylib or .a, with the headers beside it or in `include`.
        family: `pjreddie` or `alexeyab`, for a fork whose headers do not tell.
        timeout: seconds that one batch may take.

    Raises:
        AdapterError: there is no darknet at the path, or it cannot be compiled.
    """

    def __init__(self, path: str | Path, family: Family | None = None, timeout: float = 60.0) -> None:
        self.checkout = find_checkout(Path(path), family)
        self.timeout = timeout
        self._program = _build(self.checkout)

    def describe(self) -> Description:
        """It answers what darknet computes or prints: no terms, no potential, no indicators, no errors."""
        checkout = self.checkout
        first = checkout.family == "pjreddie"
        answers = ("gradient", "printed cost", "statistics") if checkout.sources else ("gradient", "printed cost")
        notes = [
            f"runs a darknet of the family of {_repository(checkout.family)}, content {checkout.digest[:12]}",
            "darknet is in the public domain by its own YOLO LICENSE; none of it is shipped here",
        ]
        if first:
            notes.append("l.delta lacks the logistic derivative, which darknet applies in its GPU backward pass only")
        return Description(
            f"darknet ({checkout.family})",
            profiles=("darknet",) if first else ("darknet-2016", "yolo9000"),
            answers=answers,
            dtypes=("float32",),
            notes=tuple(notes),
        )

    def answer(self, question: Question) -> Answer:
        """Run darknet on the batch, in a child process.

        Raises:
            CannotAnswer: darknet has no option for the profile, or its behaviour on the batch is undefined.
            DarknetFailedError: it died, hung, or left no whole answer.
        """
        batch, profile, family = question.batch, question.profile, self.checkout.family
        if question.dtype != "float32" or question.device != "cpu":
            raise CannotAnswer(f"darknet computes in float32 on the CPU here, not in {question.dtype}")
        if question.upstream != 1:
            raise CannotAnswer("darknet's layer is the end of the chain: no gradient arrives at it from above")
        config, base = darknet_options(profile, family)
        truths = defined_truths(batch, profile, family)
        figures, delta, output = self._run(encode(batch, truths, config, profile, family), batch, base)
        shape = batch.predictions.shape
        background = bool(config["background"])
        return Answer(
            gradient=gradient_from_delta(
                delta.reshape(shape), batch, base, activated=output.reshape(shape), background=background
            ),
            printed_cost=float(figures[0]),
            statistics=_statistics(figures) if figures[1] else None,
        )

    def _run(
        self, request: bytes, batch: Batch, base: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The figures, the delta and the output that one run leaves."""
        with tempfile.TemporaryDirectory(prefix="regionloss-darknet-") as folder:
            here = Path(folder)
            (here / "request").write_bytes(request)
            command = [str(self._program), "request", "answer"]
            if base == "yolo9000":
                (here / "tree").write_text(tree_file(batch.tree or ()), encoding="ascii")
                command.append("tree")
            with (here / "errors").open("wb") as errors:
                try:
                    code = subprocess.run(
                        command,
                        cwd=here,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=errors,
                        timeout=self.timeout,
                        check=False,
                    ).returncode
                except subprocess.TimeoutExpired:
                    raise DarknetFailedError(f"darknet did not answer within {self.timeout:g} s") from None
            if code:
                raise DarknetFailedError(f"darknet {_how_it_ended(code)}: {_tail(here / 'errors')}")
            answer = (here / "answer").read_bytes() if (here / "answer").is_file() else b""
        size = batch.predictions.size
        if len(answer) != 8 * _FIGURES + 2 * 4 * size:
            raise DarknetFailedError(f"darknet left {len(answer)} bytes, expected {8 * _FIGURES + 2 * 4 * size}")
        figures = np.frombuffer(answer, dtype=np.float64, count=_FIGURES)
        tensors = np.frombuffer(answer, dtype=np.float32, offset=8 * _FIGURES).astype(np.float64)
        return figures, tensors[:size], tensors[size:]


def adapter() -> LiveDarknet:
    """The darknet that the environment variable `REGIONLOSS_DARKNET` names.

    Raises:
        AdapterError: the variable is not set, there is no darknet at its path, or it cannot be compiled.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        raise AdapterError(f"{VARIABLE} names no darknet; {HOW_TO_GET}")
    return LiveDarknet(path)


def find_checkout(path: Path, family: Family | None = None) -> Checkout:
    """Look at a checkout or at a compiled library, and tell its family from the headers unless that is given.

    Raises:
        AdapterError: what a shim would need is not there.
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
    found = family or detect_family(headers)
    if path.is_file():
        if b"forward_region_layer_gpu" in path.read_bytes():
            raise AdapterError(f"{path} was built with GPU=1, where the CPU path is not compiled: build it with GPU=0")
        return Checkout(headers, (), path, found)
    names = _SOURCES + _MORE_SOURCES[found]
    sources = tuple(path / "src" / f"{name}.c" for name in names)
    missing = [source.name for source in sources if not source.is_file()]
    if missing:
        raise AdapterError(f"{path}/src lacks {', '.join(missing)}; {HOW_TO_GET}")
    return Checkout(headers, sources, None, found)


def detect_family(headers: tuple[Path, ...]) -> Family:
    """The family whose `make_region_layer`, or else whose network state, the headers declare.

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
        f"the headers in {', '.join(map(str, headers))} do not tell the family of darknet: "
        "name it, family='pjreddie' or family='alexeyab'"
    )


def darknet_options(profile: Profile, family: Family) -> tuple[dict[str, Any], str]:
    """The options for a profile, by darknet's names, and the shipped profile that they start from.

    Raises:
        CannotAnswer: the family has no option for a choice of the profile.
    """
    first = family == "pjreddie"
    base = "darknet" if first else "yolo9000" if profile.class_term == "tree" else "darknet-2016"
    classfix = {"full": 1, "by-objectness": 2}.get(profile.ignored_class, 0)
    if profile.no_object_target == "max-iou":
        classfix = -1
    config = {
        "thresh": profile.thresh,
        "coord_scale": profile.coord_weight,
        "object_scale": profile.object_weight,
        "noobject_scale": profile.no_object_weight,
        "class_scale": profile.class_weight,
        "softmax": int(profile.class_term not in ("logistic", "squared-linear")),
        "rescore": int(profile.object_target == "iou"),
        "bias_match": int(profile.anchor_choice == "anchor-shape"),
        "background": int(first and profile.objectness == "background"),
        "classfix": 0 if first else classfix,
        "focal": int(not first and profile.class_term == "focal"),
    }
    understood = load_profile(base).replace(**options(config, base, Path(_repository(family))))
    beyond = understood.differences(profile)
    for axis in ("max_truths", "truth_end"):  # they matter to some lists of truths only: `defined_truths`
        beyond.pop(axis, None)
    if beyond:
        wanted = ", ".join(f"{axis} = {there!r}" for axis, (_, there) in beyond.items())
        raise CannotAnswer(f"{_repository(family)} has no option for {wanted}")
    return config, base


def defined_truths(batch: Batch, profile: Profile, family: Family) -> list[NDArray[np.float32]]:
    """The truths of a batch in float32, every row of them, where darknet's behaviour on the batch is defined.

    Raises:
        CannotAnswer: it is not, or the profile reads other rows than darknet would.
    """
    with np.errstate(over="ignore"):
        try:
            truths = [np.asarray(rows, dtype=np.float32).reshape(len(rows), 5) for rows in batch.truths]
            predictions = np.asarray(batch.predictions, dtype=np.float32)
            anchors = np.asarray(batch.anchors, dtype=np.float32)
            read_inputs(predictions, truths, anchors, batch.classes, batch.images_seen, profile, batch.tree)
        except (DomainError, TypeError, ValueError) as error:
            raise CannotAnswer(f"darknet's behaviour is undefined: {error}") from error
    for image, rows in enumerate(truths):
        ends = np.flatnonzero(rows[:, 0] == 0)
        if profile.truth_end == "none" and len(ends):
            raise CannotAnswer(f"image {image}, truth {ends[0]}: x is 0, which ends the list in darknet")
        listed = int(ends[0]) if len(ends) else len(rows)
        reads = min(listed, profile.max_truths or listed)
        if family == "pjreddie" and reads != min(listed, _ROWS_READ):
            raise CannotAnswer(
                f"image {image} lists {listed} truths, of which the profile reads {reads}: "
                f"{_repository(family)} reads {_ROWS_READ} at most"
            )
    return truths


def encode(
    batch: Batch, truths: list[NDArray[np.float32]], config: dict[str, Any], profile: Profile, family: Family
) -> bytes:
    """The request as the shim reads it: see there."""
    images, _, height, width = batch.predictions.shape
    longest = max((len(rows) for rows in truths), default=0) + 1  # with a row of zeros, which ends the list
    if family == "pjreddie":
        rows = max(longest, _ROWS_READ)
    else:  # its option `max`; more rows than the longest list has would change nothing
        rows = min(longest, profile.max_truths or longest)
    head = [_MAGIC, images, width, height, len(batch.anchors), batch.classes, rows, batch.images_seen]
    head += [config[name] for name in ("softmax", "rescore", "bias_match", "background", "classfix", "focal")]
    scales = [config[name] for name in ("thresh", "coord_scale", "object_scale", "noobject_scale", "class_scale")]
    table = np.zeros((images, rows, 5), dtype=np.float32)
    for image, given in enumerate(truths):
        kept = given[:rows]
        table[image, : len(kept)] = kept
    floats = (np.array(scales), batch.anchors, table, batch.predictions)
    return np.array(head, dtype=np.int64).tobytes() + b"".join(part.astype(np.float32).tobytes() for part in floats)


def tree_file(tree: tuple[int, ...]) -> str:
    """A class tree in the format that darknet reads: a name and a parent in each line."""
    return "".join(f"class{node} {parent}\n" for node, parent in enumerate(tree))


def _statistics(figures: NDArray[np.float64]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in zip(_STATISTICS, figures[2:7], strict=True)}
    return {**numbers, "count": int(figures[7])}


def _repository(family: Family) -> str:
    return {"pjreddie": "pjreddie/darknet", "alexeyab": "AlexeyAB/darknet"}[family]


def _build(checkout: Checkout) -> Path:
    """Compile the shim, unless the cache holds it already. Raises `AdapterError` with the compiler's words."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    command = [*compiler, *_FLAGS, f"-DREGIONLOSS_FAMILY={1 if checkout.family == 'pjreddie' else 2}"]
    command += shlex.split(os.environ.get("CFLAGS", ""))
    command += [f"-I{folder}" for folder in checkout.headers]
    if checkout.library is None:
        command += [*_PRINTF, str(_SHIM), *map(str, checkout.sources)]
    else:
        command += [str(_SHIM), str(checkout.library), f"-Wl,-rpath,{checkout.library.parent}"]
    command += ["-lm", "-lpthread"]
    key = hashlib.sha256("\0".join([checkout.digest, _SHIM.read_text(), *command]).encode()).hexdigest()[:24]
    folder = _cache_folder()
    program = folder / f"darknet-{key}"
    if program.is_file():
        return program
    with tempfile.TemporaryDirectory(dir=folder) as here:
        fresh = Path(here) / program.name
        try:
            made = subprocess.run(
                [*command, "-o", str(fresh)], stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False
            )
        except FileNotFoundError:
            raise AdapterError(
                f"there is no C compiler {compiler[0]!r}: install one, or name it in the environment variable CC"
            ) from None
        except subprocess.TimeoutExpired:
            raise AdapterError(f"{compiler[0]} did not finish within 600 s") from None
        if made.returncode:
            said = made.stderr.decode(errors="replace")[-2000:]
            raise AdapterError(f"darknet's region layer cannot be compiled: {shlex.join(command)}\n{said}")
        fresh.replace(program)
    return program


def _cache_folder() -> Path:
    """A folder of the user's own for what is compiled, never inside the checkout."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "regionloss"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="regionloss-"))
    return cache if os.access(cache, os.W_OK) else Path(tempfile.mkdtemp(prefix="regionloss-"))


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"exited with status {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _tail(file: Path) -> str:
    """The last lines of what a child wrote, however much that was."""
    with file.open("rb") as stream:
        stream.seek(max(file.stat().st_size - 500, 0))
        return stream.read().decode(errors="replace").strip()
