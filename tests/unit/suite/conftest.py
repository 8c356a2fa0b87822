"""A folder with adapters, in which the command line runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from regionloss_spec.case import CASES
from unit.suite.reports.made_up import ADAPTERS, CASE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with adapters and one case, to run commands in."""
    (tmp_path / "ported.py").write_text(ADAPTERS)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / f"{CASE}.json").write_bytes((CASES / f"{CASE}.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ported", raising=False)
    return tmp_path
