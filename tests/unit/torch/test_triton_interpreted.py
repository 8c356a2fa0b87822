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


#: The tests of a file in two processes, which several workers run side by side: those with a word in their name, and
#: the others. What the files leave to the sweep is left to it here too.
SPLIT = {"test_triton_golden.py": "no_clause", "test_triton_path.py": "shape or element"}


@pytest.mark.slow
@pytest.mark.parametrize("marks", [pytest.param("sweep", marks=pytest.mark.sweep), "not sweep"])
@pytest.mark.parametrize("words", ["{}", "not ({})"], ids=["some", "others"])
@pytest.mark.parametrize("tests", SPLIT)
def test_the_kernels_pass_in_the_interpreter(tests: str, words: str, marks: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / tests)]
    command += ["-k", words.format(SPLIT[tests]), "-m", marks]
    done = subprocess.run(command, cwd=HERE.parents[2], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"\d+ passed(, \d+ deselected)?( in .*)?", summary), summary  # and none was skipped
