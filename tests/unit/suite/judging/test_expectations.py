"""Expected deviations: the user's file, what it excuses, and when it fails the run itself."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from regionloss_suite.judging.expectations import Expectation, ExpectationError, apply, load_expectations
from regionloss_suite.judging.report import CONFORMING, CRASHED, DEVIATING, Report
from regionloss_suite.judging.verdict import Verdict

TODAY = datetime.date(2026, 5, 1)
WEIGHT, VALUE, TARGET = "coord.small-box-weight", "coord.value", "coord.centre-target"


def verdict(clause: str, found: str = "conforming", **said: str) -> Verdict:
    return Verdict(clause=clause, level=said.pop("level", "MUST"), verdict=found, **said)  # type: ignore[arg-type]


def report(*verdicts: Verdict) -> Report:
    return Report("mine", "darknet", 3, [verdict("decode.size"), *verdicts])


def expect(clause: str, until: datetime.date | None = None) -> dict[str, Expectation]:
    return {clause: Expectation(clause=clause, reason="known", issue="https://example.org/7", until=until)}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "expected.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_by_clause(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f'["{WEIGHT}"]\nreason = "trained without it"\nissue = "https://example.org/7"\nuntil = 2027-01-31\n'
        f'["{VALUE}"]\nreason = " short "\n',
    )
    weight = Expectation(
        clause=WEIGHT, reason="trained without it", issue="https://example.org/7", until=datetime.date(2027, 1, 31)
    )
    assert load_expectations(path) == {WEIGHT: weight, VALUE: Expectation(clause=VALUE, reason="short")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["coord.smal-box-weight"]\nreason = "x"', "coord.smal-box-weight: no such clause"),
        ('[coord.small-box-weight]\nreason = "x"', 'write a clause in quotes, as in ["coord.small-box-weight"]'),
        (f'["{WEIGHT}"]\n', f"{WEIGHT}: reason: expected a sentence, got None"),
        (f'["{WEIGHT}"]\nreason = "  "', f"{WEIGHT}: reason: expected a sentence"),
        (f'["{WEIGHT}"]\nreason = 3', f"{WEIGHT}: reason: expected a sentence, got 3"),
        (f'["{WEIGHT}"]\nreason = "x"\nexpires = 2027-01-31', f"{WEIGHT}: expires: unknown key"),
        (f'["{WEIGHT}"]\nreason = "x"\nissue = "#7"', f"{WEIGHT}: issue: expected a link (https://…), got '#7'"),
        (f'["{WEIGHT}"]\nreason = "x"\nuntil = "soon"', f"{WEIGHT}: until: expected a date without quotes"),
        (
            f'["{WEIGHT}"]\nreason = "x"\nuntil = 2027-01-31T10:00:00',
            f"{WEIGHT}: until: expected a date without quotes",
        ),
        (f'"{WEIGHT}" = "trained without it"', f"{WEIGHT}: expected a table with a reason"),
        (f'["{WEIGHT}"]\nreason = "x"\nuntil = 2027-02-31', "not TOML"),
        (f'["{WEIGHT}"\n', "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_clause_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ExpectationError) as caught:
        load_expectations(written(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path / "expected.toml") in str(caught.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpectationError, match="No such file"):
        load_expectations(tmp_path / "absent.toml")


def test_an_expected_deviation_is_expected_with_its_reason() -> None:
    before = report(verdict(WEIGHT, "deviating"), verdict(VALUE, "deviating"))
    after = apply(before, expect(WEIGHT), TODAY)
    assert [one.verdict for one in after.verdicts] == ["conforming", "expected", "deviating"]
    assert after.verdicts[1].reason == "known (https://example.org/7)"
    assert after.exit_code == DEVIATING
    assert [one.verdict for one in before.verdicts] == ["conforming", "deviating", "deviating"]


def test_a_loss_whose_only_deviation_is_expected_conforms() -> None:
    after = apply(report(verdict(WEIGHT, "deviating")), expect(WEIGHT), TODAY)
    assert (after.exit_code, after.stale) == (CONFORMING, ())


def test_what_is_hidden_behind_an_expected_clause_is_expected_too_over_any_number_of_steps() -> None:
    judged = report(
        verdict(WEIGHT, "deviating"),
        verdict(TARGET, "hidden", follows=WEIGHT),
        verdict(VALUE, "hidden", follows=TARGET),
        verdict("prior.value", "deviating", follows="prior.weight"),
    )
    after = apply(judged, expect(WEIGHT), TODAY)
    assert [one.verdict for one in after.verdicts[1:]] == ["expected", "expected", "expected", "deviating"]
    assert after.verdicts[3].reason == f"hidden behind {WEIGHT}: known (https://example.org/7)"


def test_verdicts_that_blame_each_other_end() -> None:
    judged = report(verdict(TARGET, "deviating", follows=VALUE), verdict(VALUE, "deviating", follows=TARGET))
    assert [one.verdict for one in apply(judged, {}, TODAY).verdicts[1:]] == ["deviating", "deviating"]
    assert len(judged.folded()) == 3


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([verdict(WEIGHT)], "no longer deviates"),
        ([verdict(WEIGHT, "not-answerable", reason="no gradient")], "was not answerable (no gradient)"),
        ([], "matches nothing"),
    ],
)
def test_an_entry_that_expects_nothing_fails_the_run(found: list[Verdict], message: str) -> None:
    after = apply(report(*found), expect(WEIGHT), TODAY)
    assert after.exit_code == DEVIATING
    assert len(after.stale) == 1
    assert after.stale[0].startswith(WEIGHT)
    assert message in after.stale[0]
    assert after.stale[0] in "\n".join(after.lines(colour=False))
    assert "1 stale expected deviation" in after.summary(colour=False)
    assert after.to_json()["stale"] == list(after.stale)


@pytest.mark.parametrize(("days", "found"), [(-1, "deviating"), (0, "expected"), (1, "expected")])
def test_an_entry_counts_up_to_and_on_its_last_day(days: int, found: str) -> None:
    until = TODAY + datetime.timedelta(days=days)
    after = apply(report(verdict(WEIGHT, "deviating")), expect(WEIGHT, until), TODAY)
    assert after.verdicts[1].verdict == found
    assert bool(after.stale) == (found == "deviating")
    assert all(f"was expected until {until}" in said for said in after.stale)


def test_a_should_that_is_expected_and_met_fails_the_run_too() -> None:
    after = apply(report(verdict("statistics.class", level="SHOULD")), expect("statistics.class"), TODAY)
    assert after.exit_code == DEVIATING


def test_a_crash_is_not_excused() -> None:
    crashed = report(verdict(WEIGHT, "deviating"))
    crashed.crashes["one"] = "Traceback"
    assert apply(crashed, expect(WEIGHT), TODAY).exit_code == CRASHED
