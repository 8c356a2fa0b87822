"""An adapter out of a script, for each test of the process protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regionloss_adapters.process.adapter import ProcessAdapter
from unit.adapters.process.scripts import Child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Makes an adapter out of a script."""
    adapters: list[ProcessAdapter] = []

    def make(script: str, **options: Any) -> ProcessAdapter:
        (tmp_path / "child.py").write_text(script)
        adapters.append(ProcessAdapter([sys.executable, "-IS", str(tmp_path / "child.py")], **options))
        return adapters[-1]

    yield make
    for adapter in adapters:
        adapter.close()
