"""The explorer: its parts on the page, its script made of modules, and the examples that it offers.

A page that was opened from the file system may load a classic script and no module, so the modules are put into one.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from regionloss_spec import Case, load_case, load_profile
from regionloss_spec.case import CASES
from regionloss_spec.profile import AXES, profile_names

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs/explorer"
#: What the page's arithmetic cannot compute is not offered: it has no class tree.
LEFT_OUT = ("yolo9000",)
_IMPORT = re.compile(r'^import \{ ([^}]+) \} from "([^"]+)";$', re.MULTILINE)
_PASSED_ON = re.compile(r'^export \{ ([^}]+) \} from "([^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+|\[[^\]]+\]))", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)

#: The marks as the plane draws them.
_LEGEND = " ".join(
    f'<span class="plane {name}"><svg class="mark {name}" viewBox="-10 -10 20 20" aria-hidden="true">{shape}'
    f'<text y="4" font-size="11">{name[0].upper()}</text></svg> {name}</span>'
    for name, shape in (
        ("responsible", '<circle r="8"/>'),
        ("ignored", '<path d="M0 -9.5l9.5 9.5l-9.5 9.5l-9.5 -9.5z"/>'),
        ("no-object", '<rect x="-7.5" y="-7.5" width="15" height="15"/>'),
    )
) + (
    '<span class="underlined">pays the prior</span> '
    '<span><b class="step">→</b> where a step takes the selected box</span>'
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A question with the golden case that shows it.

    Attributes:
        id: the anchor of its link.
        question: in full; `label` is what its link says, `look` what there is to see.
        case: the golden case, of which `image` is shown.
        at: the predictor that is selected: anchor, row, column.
    """

    id: str
    question: str
    label: str
    look: str
    case: str
    at: tuple[int, int, int]
    image: int = 0


def presets() -> list[Preset]:
    """What the explorer offers, in its order."""
    table = tomllib.loads((FOLDER / "presets.toml").read_text(encoding="utf-8"))
    return [Preset(id=name, **{**entry, "at": tuple(entry["at"])}) for name, entry in table.items()]


def skeleton() -> str:
    """The parts of the explorer as HTML, with the data that its script reads; the script fills the parts."""
    links = "".join(
        f'<li><a id="{one.id}" href="#{one.id}" data-preset="{one.id}" title="{escape(one.question)}">'
        f"{escape(one.label)}</a></li>"
        for one in presets()
    )
    # A closing tag inside of the data would end it.
    data = json.dumps(_data(), ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return (
        '<div id="explorer" data-search-exclude>'
        f'<nav aria-label="Examples"><ul class="presets">{links}</ul></nav>'
        "<noscript><p>The explorer needs JavaScript; "
        '<a href="cases.html">the cases</a> show the same in words.</p></noscript>'
        '<p data-part="question" class="question"></p>'
        '<div data-part="alert" class="alert" role="alert"></div>'
        '<div class="columns"><div><div data-part="plane" class="plane-part"></div>'
        f'<p class="legend">{_LEGEND}</p></div>'
        '<div><section data-part="predictor"></section><section data-part="terms"></section></div>'
        '<div><section data-part="outputs"></section></div>'
        '<div><section data-part="truths"></section><section data-part="setting"></section></div></div>'
        '<section data-part="every"></section>'
        '<p class="copying"><button type="button" data-do="copy-link">Copy link</button> '
        '<button type="button" data-do="copy-case">Copy as case</button> '
        '<span data-part="copied" role="status"></span></p>'
        "<details><summary>The case as JSON, for <code>regionloss explain</code></summary>"
        '<textarea data-part="case" readonly rows="12" aria-label="The case as JSON"></textarea></details>'
        '<p data-part="said" class="only-heard" aria-live="polite"></p>'
        f'</div><script type="application/json" id="explorer-data">{data}</script>\n'
        '<script src="assets/explorer.js" defer></script>\n'
    )


def script() -> str:
    """All modules of the explorer as one classic script, each in a function of its own.

    Raises:
        ValueError: an import or export in a form that is not understood.
    """
    order: list[Path] = []
    _collect(FOLDER / "explorer.mjs", order)
    names = {path: f"module{number}" for number, path in enumerate(order)}
    return '"use strict";\n' + "\n".join(_wrapped(path, names) for path in order)


def _data() -> dict[str, Any]:
    profiles = [load_profile(name) for name in profile_names() if name not in LEFT_OUT]
    return {
        "profiles": {one.name: {"title": one.title} | {axis: getattr(one, axis) for axis in AXES} for one in profiles},
        "presets": {one.id: _preset(one) for one in presets()},
    }


def _preset(preset: Preset) -> dict[str, Any]:
    case = load_case(CASES / f"{preset.case}.json")
    anchor, row, column = preset.at
    return {
        "question": preset.question,
        "look": preset.look,
        "case": image_of(case, preset.image),
        "selected": {"anchor": anchor, "row": row, "column": column},
    }


def image_of(case: Case, image: int) -> dict[str, Any]:
    """One image of a case, as the JSON that the explorer reads and `regionloss explain` accepts."""
    batch = dataclasses.replace(
        case.batch, predictions=case.batch.predictions[image : image + 1], truths=(case.batch.truths[image],)
    )
    changed = load_profile(case.base).differences(case.profile)
    return {
        "title": case.title,
        "profile": case.base,
        "options": {axis: here for axis, (_, here) in changed.items()},
        "grid": {"height": batch.predictions.shape[2], "width": batch.predictions.shape[3]},
        "anchors": batch.anchors.tolist(),
        "classes": batch.classes,
        "images_seen": batch.images_seen,
        "truths": [batch.truths[0].tolist()],
        "predictions": batch.predictions.ravel().tolist(),
    }


def _collect(path: Path, order: list[Path]) -> None:
    """A module behind those that it imports."""
    if path in order:
        return
    text = path.read_text(encoding="utf-8")
    for _, other in [*_IMPORT.findall(text), *_PASSED_ON.findall(text)]:
        _collect((path.parent / other).resolve(), order)
    order.append(path)


def _wrapped(path: Path, names: dict[Path, str]) -> str:
    """A module as a function that answers with what it exports."""

    def module(other: str) -> str:
        return names[(path.parent / other).resolve()]

    text = path.read_text(encoding="utf-8")
    exported = [name for names_ in _EXPORT.findall(text) for name in re.findall(r"\w+", names_)]
    exported += [name.strip() for passed, _ in _PASSED_ON.findall(text) for name in passed.split(",")]
    text = _IMPORT.sub(lambda match: f"const {{ {match[1]} }} = {module(match[2])};", text)
    text = _PASSED_ON.sub(lambda match: f"const {{ {match[1]} }} = {module(match[2])};", text)
    text = _EXPORT.sub("", text)
    if left := _LEFT.search(text):
        raise ValueError(f"{path.name}: not understood: {left[0]}")
    return f"// {path.name}\nconst {names[path]} = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();\n"
