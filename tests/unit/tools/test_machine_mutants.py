"""The tool that changes the losses mechanically: what it changes, how it judges that, and its list of equivalents."""

from __future__ import annotations

import ast
import itertools
import json
import time
from pathlib import Path

import pytest

from regionloss_spec import load_case
from regionloss_spec.case import CASES
from tools import machine_mutants
from tools.machine_changes import Change, changes
from tools.machine_mutants import BROKEN, CPP, FOUND, MISSED, REFERENCE, judged, key, main, outcomes, parts, sampled

PYTHON = '''
"""A docstring with 1 and <."""
def reach(size: int | None, wide: bool = True) -> float:
    if size is None or wide:
        total = 0.5
        total += size[-1] * 2
        raise ValueError(f"{size + 1}")
    return float(size < 3)
'''

CPP_TEXT = """
/* a < b */
#include <1>
template <typename Real>
static Real reach_of(const Real *a, double b) {
    return b < 0.5f && *a >= 1 ? smaller(-b, 2e-3) : "1 + 1";
}
"""


def names(file: str, text: str) -> list[str]:
    return [change.name for change in changes(file, text)]


def test_python_is_changed_where_answers_come_from() -> None:
    assert names("reach.py", PYTHON) == [
        "constant: True → False",
        "branch: if size is None or wide → if not (size is None or wide)",
        "logic: size is None or wide → size is None and wide",
        "comparison: size is None → size is not None",
        "constant: total = 0.5 → total = 1.5",
        "operator: total += size[-1] * 2 → total -= size[-1] * 2",
        "assignment: total += size[-1] * 2 → total = size[-1] * 2",
        "operator: size[-1] * 2 → size[-1] / 2",
        "sign: size[-1] * 2 → size[1] * 2",
        "constant: size[-1] * 2 → size[-2] * 2",
        "constant: size[-1] * 2 → size[-1] * 3",
        "comparison: float(size < 3) → float(size <= 3)",
        "comparison: float(size < 3) → float(size >= 3)",
        "constant: float(size < 3) → float(size < 4)",
    ]


def test_text_is_changed_where_answers_come_from() -> None:
    said = [(change.function, change.name.partition(" → ")[2]) for change in changes("reach.h", CPP_TEXT)]
    line = 'return b < 0.5f && *a >= 1 ? smaller(-b, 2e-3) : "1 + 1";'
    assert {function for function, _ in said} == {"reach_of"}
    assert len(said) == 10
    assert all(now != line for _, now in said)
    assert any("b <= 0.5f" in now for _, now in said)
    assert any("< 1.5f" in now for _, now in said)
    assert any("*a > 1" in now for _, now in said)
    assert any("|| *a" in now for _, now in said)
    assert any("larger(-b" in now for _, now in said)
    assert any("smaller(b" in now for _, now in said)


@pytest.mark.parametrize("name", ["numpy", "cpp", "javascript"])
def test_every_change_differs_from_the_source_in_one_place_and_has_a_name_of_its_own(name: str) -> None:
    part = parts()[name]
    made = part.changes()
    texts = {file.name: file.read_text(encoding="utf-8") for file in part.files}
    assert len(made) > 300
    assert len({key(change) for change in made}) == len(made)
    for change in made[::7]:
        if change.file.endswith(".py"):
            before, after = ast.unparse(ast.parse(texts[change.file])), change.source
        else:
            before, after = texts[change.file], change.source
        assert after != before
        assert sum(one != other for one, other in itertools.zip_longest(before.splitlines(), after.splitlines())) == 1


def test_a_sample_of_every_seed_is_all_there_is() -> None:
    made = parts()["numpy"].changes()
    assert sorted(map(key, itertools.chain(*(sampled(made, 5, seed, "") for seed in range(5))))) == sorted(
        map(key, made)
    )
    assert {change.file for change in sampled(made, 3, 1, "boxes")} == {"boxes.py"}


def change_of(file: Path, was: str, now: str) -> Change:
    """A change of one text in a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(was) == 1
    return Change(file.name, "", "test", was, now, text.replace(was, now))


@pytest.mark.parametrize(
    ("was", "now", "outcome"),
    [
        ("t >= 0, 1.0", "t > 0, 1.0", MISSED),
        ("t >= 0, 1.0", "t <= 0, 1.0", FOUND),
        ("t >= 0, 1.0", "t >= 0, nothing", FOUND),
    ],
)
def test_a_change_of_the_reference_is_judged_by_the_cases(was: str, now: str, outcome: str) -> None:
    case = load_case(CASES / "hand-reduction-sum.json")
    change = change_of(REFERENCE / "boxes.py", was, now)
    assert judged(parts()["numpy"], [case], frozenset(), False, change)[0] == outcome


def test_a_loss_that_falls_silent_is_noticed() -> None:
    case = load_case(CASES / "hand-reduction-sum.json")
    change = change_of(REFERENCE / "boxes.py", "t >= 0, 1.0", "t > 0, 1.0")
    assert judged(parts()["numpy"], [case], frozenset({case.id}), False, change) == (FOUND, case.id)


def test_a_change_that_never_ends_and_one_that_kills_its_process_count_as_caught() -> None:
    ends = Change("a.py", "", "ends", "", "", "")
    hangs, dies = (Change("a.py", "", kind, "", "", "") for kind in ("hangs", "dies"))

    def work(change: Change) -> tuple[str, str]:
        if change is hangs:
            time.sleep(100)
        if change is dies:
            raise SystemExit(3)
        return MISSED, "said"

    found = {change.kind: (outcome, by) for change, outcome, by in outcomes([hangs, dies, ends], work, 2, 3)}
    assert found == {
        "ends": (MISSED, "said"), "hangs": (FOUND, "it takes longer than 3 s"), "dies": (FOUND, "it crashes")
    }  # fmt: skip


def test_the_list_names_changes_that_exist_with_their_reasons() -> None:
    made = {key(change) for part in parts().values() for change in part.changes()}
    listed = machine_mutants.equivalents()
    assert set(listed) - made == set()
    assert all(reason.strip().endswith(".") for reason in listed.values())


@pytest.mark.slow
def test_scores_and_survivors_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [load_case(CASES / f"{name}.json") for name in ("hand-reduction-sum", "hand-error-tree-missing")]
    monkeypatch.setattr(machine_mutants, "load_cases", lambda: few)
    assert main(["--only", "boxes", "--every", "9", "--folder", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    written = json.loads((tmp_path / "numpy.json").read_text(encoding="utf-8"))
    missed = [entry for entry in written["changes"] if entry["outcome"] == MISSED]
    assert missed, "two cases notice everything"
    assert all(f"missed: boxes.py, {entry['function']}: {entry['change']}" in told for entry in missed)
    caught = sum(entry["outcome"] == FOUND for entry in written["changes"])
    assert f"| {caught} |" in (tmp_path / "numpy.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_header_that_does_not_compile_is_told_apart() -> None:
    pytest.importorskip("torch")
    change = change_of(CPP / "boxes.h", "const double slack", "const nothing slack")
    part = parts()["cpp"]
    ((_, outcome, _),) = outcomes([change], lambda one: judged(part, [], frozenset(), False, one), 1, 600)
    assert outcome == BROKEN
