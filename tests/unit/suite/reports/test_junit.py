"""The report as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports import junit
from regionloss_suite.reports.wording import sentence
from unit.suite.reports.made_up import (
    departure,
    hostile,
    small,
)


def test_junit_has_one_test_for_each_clause_with_its_id_and_level() -> None:
    suite = ElementTree.fromstring(junit.render(small())).find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "errors": "0",
        "skipped": "4",
    }
    case = next(one for one in suite.iter("testcase") if one.get("name") == "coord.small-box-weight")
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert properties == {"clause": "coord.small-box-weight", "level": "MUST", "verdict": "deviating", "cases": "1"}
    failure = case.find("failure")
    assert failure is not None
    assert "ty gradient 1.000, expected 1.820 ± 3e-7 · profile darknet-2016" in (failure.get("message") or "")
    assert sentence("coord.small-box-weight") in (failure.text or "")
    skipped = {one.get("name"): one.find("skipped") for one in suite.iter("testcase")}
    assert skipped["decode.centre"] is None
    why = skipped["scale.potential"]
    assert why is not None
    assert why.get("message") == "not-answerable: no potential"
    follower = skipped["assign.cell"]
    assert follower is not None
    assert (follower.get("message") or "") == "hidden behind coord.small-box-weight"


def test_junit_fails_a_must_that_only_follows_from_what_does_not_decide() -> None:
    report = small()
    report.verdicts = [
        Verdict(clause="statistics.class", level="SHOULD", verdict="deviating", first=departure()),
        Verdict(clause="decode.size", level="MUST", verdict="deviating", first=departure(), follows="statistics.class"),
    ]
    suite = ElementTree.fromstring(junit.render(report)).find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")


def test_junit_stays_xml_whatever_an_adapter_says() -> None:
    suite = ElementTree.fromstring(junit.render(hostile()).encode("utf-8")).find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "6"
    properties = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    assert "<script>alert('1')</script>]]>&amp;\n::error::100%" in (properties["adapter"] or "")
    assert next(suite.iter("error")).get("type") == "crashed"
