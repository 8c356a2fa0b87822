"""The report as JUnit XML: one test case for each clause, grouped by chapter."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from regionloss_suite.judging.report import Report
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports.wording import chapter, sentence

#: Characters that XML 1.0 cannot contain, not even as a reference.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The XML text.

    A MUST that deviates by itself is a failure, a crash is an error, a stale expectation is a failure.
    A clause that is hidden behind a failure is skipped and points to it, so that one mistake counts once.
    Verdicts that do not decide are skipped with their reason: not answerable, expected to deviate, SHOULD and MAY.
    """
    suite = ElementTree.Element("testsuite", name=_text(f"regionloss {report.adapter}"))
    _properties(suite, {"adapter": report.adapter, "profile": report.profile, "regionloss": report.version})
    failures = {verdict.clause: followers for verdict, followers in report.folded() if _fails(verdict)}
    folded = {follower.clause: root for root, followers in failures.items() for follower in followers}
    for verdict in report.verdicts:
        _verdict(suite, verdict, folded.get(verdict.clause, ""))
    for stale in report.stale:
        case = ElementTree.SubElement(
            suite, "testcase", classname="expected deviations", name=_text(stale.split(" ")[0])
        )
        ElementTree.SubElement(case, "failure", type="stale", message=_text(stale))
    for name, trace in report.crashes.items():
        case = ElementTree.SubElement(suite, "testcase", classname="crashes", name=_text(name))
        last = (trace.strip().splitlines() or ["crashed"])[-1]
        ElementTree.SubElement(case, "error", type="crashed", message=_text(last)).text = _text(trace)
    for total, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(total, str(len(list(suite.iter(tag)))))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _fails(verdict: Verdict) -> bool:
    return verdict.verdict in ("deviating", "unexplained") and verdict.level == "MUST"


def _verdict(suite: ElementTree.Element, verdict: Verdict, root: str) -> None:
    """One test case; `root` is the failing clause that this one is hidden behind, or an empty string."""
    case = ElementTree.SubElement(
        suite, "testcase", classname=_text(chapter(verdict.clause)), name=_text(verdict.clause)
    )
    properties = {
        "clause": verdict.clause,
        "level": verdict.level,
        "verdict": verdict.verdict,
        "cases": str(verdict.cases),
    }
    properties |= {"follows": verdict.follows} if verdict.follows else {}
    _properties(case, properties)
    if root:
        ElementTree.SubElement(case, "skipped", message=_text(f"hidden behind {root}"))
    elif _fails(verdict):
        details = [sentence(verdict.clause), verdict.sentence, str(verdict.first or ""), verdict.reason]
        details += [f"reproduce: {verdict.reproduce}"] if verdict.reproduce else []
        details += [f"explain: {verdict.explain}"] if verdict.explain else []
        failure = ElementTree.SubElement(case, "failure", type=verdict.verdict, message=_text(verdict.sentence))
        failure.text = _text("\n".join(line for line in details if line))
    elif verdict.verdict in ("deviating", "unexplained"):
        message = f"{verdict.verdict}, but a {verdict.level} does not fail the run · {verdict.sentence}"
        ElementTree.SubElement(case, "skipped", message=_text(message))
    elif verdict.verdict != "conforming":
        ElementTree.SubElement(case, "skipped", message=_text(f"{verdict.verdict}: {verdict.reason}"))


def _properties(parent: ElementTree.Element, properties: dict[str, str]) -> None:
    element = ElementTree.SubElement(parent, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(element, "property", name=name, value=_text(value))


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
