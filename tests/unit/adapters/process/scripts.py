"""Children of the tests of the process protocol: how their scripts begin, what they are asked and what they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from regionloss_adapters import Question
from regionloss_adapters.process.adapter import ProcessAdapter
from regionloss_spec import Batch, load_profile

#: What every child of these tests begins with; it has said hello and answered the trivial batch.
BEGINNING = """
import json, os, signal, sys, time

def read():
    line = sys.stdin.readline()
    with open(os.path.join(os.path.dirname(__file__), "read"), "a") as log:
        log.write(line)
    return json.loads(line) if line else sys.exit()

def say(message, **changes):
    print(json.dumps({**message, **changes}), flush=True)

def hello(**changes):
    global greeted
    greeted = read()
    said = {"type": "hello", "id": greeted["id"], "protocol": 1, "name": "fake", "profiles": ["darknet"],
            "answers": ["gradient"], "dtypes": ["float64", "float32"]}
    say(said, **changes)

def zeros(question):
    shape = question["batch"]["predictions"]["shape"]
    size = 1
    for side in shape:
        size *= side
    return {"shape": shape, "values": [0] * size}

def answer(question, **changes):
    say({"type": "answer", "id": question["id"], "gradient": zeros(question)}, **changes)

def first_time():
    try:
        return bool(os.open(os.path.join(os.path.dirname(__file__), "started"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
"""


USUAL = BEGINNING + "hello()\nanswer(read())\n"

Child = Callable[..., ProcessAdapter]


def small_question(*shape: int, **changes: Any) -> Question:
    """A question about one anchor and one class, on a grid of 1 x 2 cells unless told otherwise."""
    predictions = np.linspace(-1, 1, int(np.prod(shape or (12,)))).reshape(shape or (1, 6, 1, 2))
    fields: dict[str, Any] = {
        "predictions": predictions,
        "truths": (np.array([[0.25, 0.5, 0.5, 0.5, 0.0]]),),
        "anchors": np.array([[1.0, 0.1]]),
        "classes": 1,
        "images_seen": 100,
    }
    return Question(batch=Batch(**(fields | changes)), profile=load_profile("darknet"), dtype="float32", upstream=0.5)


def messages_read(tmp_path: Path) -> list[dict[str, Any]]:
    """Everything that the children have read, in turn."""
    return [json.loads(line) for line in (tmp_path / "read").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie is dead, only nobody has asked after it
