"""The explorer in a real browser: what a person drags, types and reads is what the NumPy reference says.

The tests open a page made of its parts and its script, or, with REGIONLOSS_SITE set to the folder of a built site, the
page there. REGIONLOSS_BROWSER names the Chromium, and where it is set, a missing one is a failure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_docs import explorer
from regionloss_spec import load_case, load_profile
from regionloss_spec.case import CASES
from regionloss_suite.cli.main import main
from regionloss_suite.judging.find_cases import find_case

pytestmark = pytest.mark.slow  # together they take more than twenty seconds

ASSETS = explorer.ROOT / "docs/assets"
PRESETS = {one.id: one for one in explorer.presets()}

#: Where no predicted box lies over the truths of the examples that are dragged, as shares of the truth.
CLEAR = (0.85, 0.8)

_NAMED = os.environ.get("REGIONLOSS_BROWSER")
CHROMIUM = shutil.which(_NAMED or "chromium")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page lies in the file system."""
    if site := os.environ.get("REGIONLOSS_SITE"):
        return (Path(site).resolve() / "explorer.html").as_uri()
    folder = tmp_path_factory.mktemp("explorer")
    (folder / "assets").mkdir()
    (folder / "assets/explorer.js").write_text(explorer.script(), encoding="utf-8")
    style = "".join((ASSETS / name).read_text(encoding="utf-8") for name in ("site.css", "explorer.css"))
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{style}</style>{explorer.skeleton()}</html>'
    (folder / "explorer.html").write_text(page, encoding="utf-8")
    return (folder / "explorer.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        assert _NAMED is None, f"there is no {_NAMED}"
        pytest.skip("there is no chromium: apt-get install chromium, or name one in REGIONLOSS_BROWSER")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Explorer:
    """A page that shows the explorer, and what a person does there."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.faults: list[str] = []
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.ask(request.url))

    def ask(self, url: str) -> None:
        if not url.startswith("file:"):
            self.faults.append(f"asks for {url}")

    def open(self, fragment: str = "") -> Explorer:
        self.page.goto("about:blank")  # a mere change of the fragment would load nothing
        self.page.goto(f"{self.address}{'#' if fragment else ''}{fragment}")
        return self

    def part(self, name: str) -> Any:
        return self.page.locator(f'[data-part="{name}"]')

    def read(self, what: str) -> float:
        return float(self.page.locator(f'[data-read="{what}"]').get_attribute("value"))

    def type(self, what: str, text: str) -> None:
        field = self.page.locator(f'[data-set="{what}"]')
        field.fill(text)
        field.press("Enter")

    def choose(self, profile: str) -> None:
        self.page.locator('[data-set="profile"]').select_option(profile)

    @property
    def alert(self) -> str:
        return str(self.part("alert").inner_text())

    @property
    def case(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.part("case").input_value())
        return data

    def cell(self) -> tuple[float, float]:
        """Width and height of a cell on the screen."""
        box = self.page.locator("[data-cell]").first.bounding_box()
        return box["width"], box["height"]

    def drag(self, selector: str, across: float, down: float, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Drag by so many cells, in several steps, as a hand does, from a point of the element."""
        box = self.page.locator(selector).first.bounding_box()
        x, y = box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]
        width, height = self.cell()
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + across * width, y + down * height, steps=5)
        self.page.mouse.up()

    def agrees(self, folder: Path) -> None:
        """That every number on the page is that of the reference for the very case that the page hands out."""
        path = folder / "shown.json"
        path.write_text(self.part("case").input_value(), encoding="utf-8")
        case = find_case(path)
        result = evaluate(case.batch, case.profile)
        limits = bounds(result, PRECISIONS["float64"])
        assert abs(self.read("potential") - result.potential) <= limits.potential
        anchor, row, column = self.selected()
        for name, expected in result.term_values.items():
            shown = self.page.locator(f'[data-term="{name}"]')
            whole = float(shown.locator('[data-read="whole"]').get_attribute("value"))
            own = float(shown.locator('[data-read="own"]').get_attribute("value"))
            assert abs(whole - expected) <= limits.terms[name], name
            paid = result.terms[name].value[0, anchor, row, column]  # one image, whatever the reduction
            assert abs(own - paid) <= limits.terms[name], name
        gradient = result.gradient.reshape(result.t.shape)[0, anchor, :, row, column]
        bound = limits.gradient.reshape(result.t.shape)[0, anchor, :, row, column]
        shown = [self.read(f"gradient {channel}") for channel in range(len(gradient))]
        assert (np.abs(np.array(shown) - gradient) <= bound).all()
        decisions = result.decisions
        who = (0, anchor, row, column)
        state = "responsible" if decisions.responsible[who] else "ignored" if decisions.ignored[who] else "no-object"
        assert self.page.locator('[data-read="state"]').inner_text().split()[-1] == state
        on = {"no-object": decisions.no_object[who], "prior": decisions.prior[who], "truth": decisions.responsible[who]}
        for name, expected_on in on.items():
            cells = self.page.locator(f'[data-indicator="{name}"] td').all_inner_texts()
            assert ("on" in cells[0]) == bool(expected_on), (name, cells)
        marks = self.page.locator("[data-mark]").evaluate_all(
            "marks => marks.map((mark) => [mark.dataset.mark, mark.textContent])"
        )
        letters = {tuple(map(int, place.split())): letter for place, letter in marks}
        grid = np.argwhere(np.ones(decisions.responsible.shape[1:], dtype=bool))
        for k, j, i in grid:
            there = (0, k, j, i)
            letter = "R" if decisions.responsible[there] else "I" if decisions.ignored[there] else "N"
            assert letters[int(k), int(j), int(i)].strip() == letter, (k, j, i)

    def selected(self) -> tuple[int, int, int]:
        row, column = (int(self.page.locator(f'[data-set="{name}"]').input_value()) for name in ("row", "column"))
        return int(self.page.locator('[data-set="anchor"]:checked').get_attribute("value")), row, column


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Explorer]:
    context = browser.new_context(viewport={"width": 1400, "height": 1600})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown = Explorer(context.new_page(), address)
    yield shown
    context.close()
    assert shown.faults == []


def test_the_presets_are_golden_cases_that_the_page_can_compute() -> None:
    assert {"max-iou", "other-anchors", "collision", "neighbour", "prior", "equality"} <= PRESETS.keys()
    for preset in PRESETS.values():
        case = load_case(CASES / f"{preset.case}.json")
        assert case.base not in explorer.LEFT_OUT
        anchor, row, column = preset.at
        assert preset.image < len(case.batch.truths)
        assert (anchor, row, column) < (len(case.batch.anchors), *case.batch.predictions.shape[2:])


def test_a_module_in_a_form_that_is_not_understood_stops_the_build(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "explorer.mjs").write_text('import everything from "./other.mjs";\n', encoding="utf-8")
    monkeypatch.setattr(explorer, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"explorer\.mjs: not understood: import everything"):
        explorer.script()


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_shows_the_numbers_of_the_reference(page: Explorer, name: str, tmp_path: Path) -> None:
    page.open(name)
    assert PRESETS[name].question in page.part("question").inner_text()
    assert page.alert == ""
    assert page.selected() == PRESETS[name].at
    page.agrees(tmp_path)


def test_a_preset_is_one_click_away(page: Explorer) -> None:
    page.open("max-iou")
    page.page.locator('[data-preset="collision"]').click()
    assert PRESETS["collision"].question in page.part("question").inner_text()
    assert page.page.locator('[data-preset="collision"]').get_attribute("aria-current") is not None


def test_a_truth_is_dragged_into_another_cell(page: Explorer, tmp_path: Path) -> None:
    page.open("max-iou")
    before = page.case
    page.drag('.truth[data-truth="0"] .line', 0.5, 1.0, CLEAR)
    (x, y, w, h, label), (was_x, was_y, *rest) = page.case["truths"][0][0], before["truths"][0][0]
    assert (x, y) == pytest.approx((was_x + 0.5 / 3, was_y + 1 / 3), abs=0.004)
    assert [w, h, label] == rest
    assert "row 2, column 2, anchor 0 is responsible" in page.part("truths").inner_text()
    page.agrees(tmp_path)
    page.drag('.truth[data-truth="0"] .line', 5.0, 0.0, CLEAR)  # beyond the image, where no centre may lie
    assert page.case["truths"][0][0][0] == 0.999
    assert page.alert == ""


def test_a_predicted_box_is_dragged_away_and_pays_again(page: Explorer, tmp_path: Path) -> None:
    page.open("max-iou")
    assert "ignored" in page.page.locator('[data-read="state"]').inner_text()
    page.type("t-output 2", "-3")
    assert "no-object" in page.page.locator('[data-read="state"]').inner_text()
    page.agrees(tmp_path)
    page.open("max-iou")
    page.drag('.predicted[data-anchor="2"] .centre', 0.3, 0.0)
    assert page.selected()[0] == 2
    page.agrees(tmp_path)
    before = page.case["predictions"]
    page.drag('.handle[data-anchor="2"] .knob', -0.25, -0.25)
    after = page.case["predictions"]
    at = [(2 * (5 + 3) + channel) * 9 + 4 for channel in (2, 3)]
    assert [n for n in range(len(after)) if after[n] != before[n]] == at
    assert all(after[n] > before[n] for n in at), "a corner that is drawn outwards makes the box larger"
    page.agrees(tmp_path)


def test_all_of_it_can_be_done_with_the_keyboard(page: Explorer, tmp_path: Path) -> None:
    page.open("max-iou")
    reached = []
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))
        if reached[-1].startswith("Truth 0"):
            break
    assert reached[-1].startswith("Truth 0"), reached
    x, y, w, h, _ = page.case["truths"][0][0]
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
        page.page.keyboard.press(key)
    assert page.case["truths"][0][0][:4] == pytest.approx([x + 0.02, y + 0.01, w + 0.01, h - 0.01])
    assert page.part("said").inner_text().startswith("Truth 0 resized.")
    page.agrees(tmp_path)
    page.page.locator('[data-cell="1 1"]').focus()
    page.page.keyboard.press("ArrowUp")
    assert page.selected() == (1, 0, 1)
    assert page.page.evaluate("document.activeElement.getAttribute('data-cell')") == "0 1"
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    stroke = page.page.evaluate("getComputedStyle(document.activeElement).strokeWidth")
    assert outline != "none" or float(stroke.removesuffix("px")) > 1, "what has the focus can be seen"


def test_what_is_typed_is_computed(page: Explorer, tmp_path: Path) -> None:
    page.open("max-iou")
    page.type("thresh", "0.95")
    assert page.case["options"] == {"thresh": 0.95}
    assert "no-object" in page.page.locator('[data-read="state"]').inner_text()
    page.agrees(tmp_path)
    page.type("t", "0")
    assert float(page.page.locator('[data-term="prior"] [data-read="whole"]').get_attribute("value")) > 0
    page.agrees(tmp_path)
    for profile in load_page_profiles(page):
        page.choose(profile)
        assert page.case["profile"] == profile
        page.agrees(tmp_path)
    page.type("anchor-size 0 1", "2.5")
    page.type("classes", "4")
    page.type("width", "4")
    assert page.case["grid"] == {"height": 3, "width": 4}
    page.agrees(tmp_path)
    page.page.locator('[data-do="add-truth"]').click()
    page.page.locator('[data-do="add-anchor"]').click()
    assert (len(page.case["truths"][0]), len(page.case["anchors"])) == (2, 4)
    page.agrees(tmp_path)
    page.page.locator('[data-do="remove 0"]').click()
    page.page.locator('[data-do="remove-anchor 0"]').click()
    assert (len(page.case["truths"][0]), len(page.case["anchors"])) == (1, 3)
    page.agrees(tmp_path)


def load_page_profiles(page: Explorer) -> list[str]:
    offered: list[str] = page.page.locator('[data-set="profile"] option').all_inner_texts()
    assert len(offered) >= 10
    assert all(load_profile(name).name == name for name in offered)
    return offered


def test_what_lies_outside_the_domain_is_refused_and_not_repaired(page: Explorer) -> None:
    page.open("max-iou")
    page.type("truth 0 0", "1")
    assert "image 0, truth 0" in page.alert
    assert page.case["truths"][0][0][0] == 1
    assert page.page.locator('[data-read="potential"]').count() == 0
    page.type("truth 0 0", "0.5")
    assert page.alert == ""
    before = page.case
    page.type("classes", "0")
    assert "classes is 0, expected a whole number from 1 to 80. Nothing was changed." in page.alert
    assert page.case == before


def test_a_link_shows_the_same_to_whoever_opens_it(page: Explorer, tmp_path: Path) -> None:
    page.open("collision")
    page.type("t", "100")
    page.choose("samylee")
    page.drag('.truth[data-truth="1"] .line', 0.1, 0.2, CLEAR)
    shown, selected = page.case, page.selected()
    page.page.locator('[data-do="copy-link"]').click()
    link = page.page.evaluate("navigator.clipboard.readText()")
    assert link == page.page.url
    page.open(link.split("#", 1)[1])
    assert (page.case, page.selected()) == (shown, selected)
    page.agrees(tmp_path)


LINK = (
    "profile=darknet&options=&grid=1_1&anchors=1_1&classes=1&t=12800&at=0_0_0&truths=&predictions=0_0_0_0_0_0&title=x"
)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (("classes=1", "classes=0"), "classes is 0, expected whole numbers from 1 to 80"),
        (("anchors=1_1", "anchors=1"), "anchors has 1 numbers, not 2"),
        (("predictions=0_", "predictions="), "predictions has 5 numbers, not 6"),
        (("at=0_0_0", "at=0_0_1"), "at is 0_0_1: no predictor"),
        (("truths=", "truths=0.5_0.5_x_1_0"), "truths is 0.5_0.5_x_1_0, expected numbers"),
        (("&t=12800", ""), "t is missing"),
        (("profile=darknet", "profile=nobody"), "there is no profile nobody here"),
        (("options=", "options=color:1"), "options: there is no axis color"),
    ],
)
def test_a_link_that_cannot_be_read_says_why(page: Explorer, broken: tuple[str, str], said: str) -> None:
    page.open(LINK)
    assert page.alert == ""
    assert page.case["classes"] == 1
    assert broken[0] in LINK
    page.open(LINK.replace(*broken))
    assert page.alert.startswith("The link cannot be read: ")
    assert said in page.alert


def test_a_copied_case_is_explained_by_the_command_line(
    page: Explorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.open("other-anchors")
    page.type("t", "0")
    page.page.locator('[data-do="copy-case"]').click()
    copied = tmp_path / "copied.json"
    copied.write_text(page.page.evaluate("navigator.clipboard.readText()"), encoding="utf-8")
    assert main(["explain", str(copied)]) == 0
    output = capsys.readouterr().out
    (potential,) = re.findall(r"^potential (\S+): the loss", output, re.MULTILINE)
    assert float(potential) == pytest.approx(page.read("potential"), rel=1e-4)
    assert "t = 0 images seen < 12800: the prior is on" in output
    Path(copied).write_text(copied.read_text(encoding="utf-8").replace('"images_seen": 0', '"images_seen": 12800'))
    assert find_case(copied).batch.images_seen == 12800


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Any, address: str, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    shown = Explorer(context.new_page(), address).open("collision")
    width = shown.page.evaluate("document.documentElement.scrollWidth")
    plane = shown.part("plane").bounding_box()
    context.close()
    assert width <= 390
    assert 300 <= plane["width"] <= 390
    assert shown.faults == []
