"""Every MUST clause is pinned from three sides: a case, a property and a mutant."""

from __future__ import annotations

from typing import Any

import pytest

from regionloss_suite.cli.clauses import listing

MUSTS = [entry for entry in listing() if entry["level"] == "MUST"]


@pytest.mark.parametrize("entry", MUSTS, ids=[entry["id"] for entry in MUSTS])
@pytest.mark.parametrize("kind", ["cases", "properties", "mutants"])
def test_a_must_has_a_case_a_property_and_a_mutant(entry: dict[str, Any], kind: str) -> None:
    assert entry[kind], f"{entry['id']} has no {kind}"
