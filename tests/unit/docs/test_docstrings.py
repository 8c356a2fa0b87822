"""The examples in the docstrings of public functions run as they stand there."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest

import regionloss
from regionloss_adapters import from_torch
from regionloss_suite import check_loss


@pytest.mark.parametrize("function", [regionloss.region_loss, check_loss, from_torch])
def test_the_example_runs(function: Callable[..., Any]) -> None:
    if function is from_torch:
        pytest.importorskip("torch")
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(function, function.__name__, globs={function.__name__: function})
    assert example.examples
    report = StringIO()
    assert doctest.DocTestRunner().run(example, out=report.write).failed == 0, report.getvalue()
