"""The kernels of the Triton path in Triton's interpreter, which takes a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Triton path needs PyTorch: pip install 'regionloss[torch]'")
pytest.importorskip("triton", reason="the Triton path needs Triton")

HERE = Path(__file__).parent


#: Each file in two runs, which two workers take: the tests with these words in their names, and the others. What the
#: files leave to the sweep takes one run each.
WORDS = {"test_triton_golden.py": "no_clause", "test_triton_path.py": "shape or element"}
RUNS = [
    *((file, words, "not sweep") for file, some in WORDS.items() for words in (some, f"not ({some})")),
    *(pytest.param(file, "", "sweep", marks=pytest.mark.sweep) for file in WORDS),
]


@pytest.mark.slow
@pytest.mark.parametrize(("tests", "words", "marks"), RUNS)
def test_the_kernels_pass_in_the_interpreter(tests: str, words: str, marks: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / tests)]
    command += ["-k", words, "-m", marks]
    done = subprocess.run(command, cwd=HERE.parents[2], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"\d+ passed(, \d+ deselected)?( in .*)?", summary), summary  # and none was skipped
