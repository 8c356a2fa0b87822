"""A child as an adapter: its hello, its kinds of answer, how often it is started, and its command."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from regionloss_adapters import (
    Adapter,
    AdapterError,
    Answer,
    CannotAnswerError,
    Description,
    RefusedError,
    load_adapter,
)
from regionloss_adapters.process.adapter import RESTARTS, LossError
from regionloss_spec import load_profile
from unit.adapters.process.scripts import BEGINNING, USUAL, Child, small_question


def test_a_child_says_who_it_is(child: Child) -> None:
    adapter = child(
        BEGINNING + 'hello(devices=["gpu"], reduction="per-image", factor=2, notes=["one", "two"])\nanswer(read())'
    )
    assert isinstance(adapter, Adapter)
    assert adapter.describe() == Description(
        "fake",
        profiles=("darknet",),
        answers=("gradient",),
        dtypes=("float64", "float32"),
        devices=("gpu",),
        reduction="per-image",
        factor=2.0,
        notes=("one", "two"),
    )


@pytest.mark.parametrize("profiles", [["darknet"], ["darknet", "*"]])
@pytest.mark.parametrize("options", [None, [], ["ignore"], ["ignore", "thresh"]])
def test_a_child_is_asked_what_the_options_of_its_hello_can_follow(
    child: Child, profiles: list[str], options: list[str] | None
) -> None:
    field = "" if options is None else f", options={options}"
    adapter = child(f"{BEGINNING}hello(profiles={profiles}{field})\nanswer(read())\nwhile True: answer(read())")
    other = dataclasses.replace(small_question(), profile=load_profile("darknet").replace(thresh=0.5))
    assert adapter.answer(small_question()).gradient is not None
    if options is None or "thresh" in options or "*" in profiles:
        assert adapter.answer(other).gradient is not None
    else:
        with pytest.raises(CannotAnswerError, match="it has no option thresh"):
            adapter.answer(other)


def test_an_option_that_is_no_axis_is_the_adapters_mistake(child: Child) -> None:
    with pytest.raises(
        AdapterError, match=r"wrote a wrong hello: \$\.options: there is no axis 'treshold'; the axes are"
    ):
        child(f"{BEGINNING}hello(options=['treshold'])\nanswer(read())").describe()


def test_a_refusal_a_skip_and_an_error_are_told_apart(child: Child) -> None:
    adapter = child(
        USUAL
        + """
say({"type": "refused", "id": read()["id"], "message": "too wide", "image": 3, "truth": 7})
say({"type": "refused", "id": read()["id"], "message": "no anchors", "image": None})
say({"type": "skipped", "id": read()["id"], "reason": "no trees here"})
say({"type": "error", "id": read()["id"], "message": "index out of range \\x1b[31m"})
answer(read())
"""
    )
    with pytest.raises(RefusedError, match="too wide") as refused:
        adapter.answer(small_question())
    assert (refused.value.image, refused.value.truth) == (3, 7)
    with pytest.raises(RefusedError, match="no anchors") as refused:
        adapter.answer(small_question())
    assert (refused.value.image, refused.value.truth) == (None, None)
    with pytest.raises(CannotAnswerError, match="no trees here"):
        adapter.answer(small_question())
    with pytest.raises(LossError, match=r"reported an error: index out of range \\x1b\[31m"):
        adapter.answer(small_question())
    assert isinstance(adapter.answer(small_question()), Answer)


def test_a_mistake_shows_at_the_trivial_batch_before_anything_is_judged(child: Child) -> None:
    for script, message in (
        ("answer(read(), gradient={'shape': [6], 'values': [0] * 6})", "shape [6], not [1, 6, 1, 1]"),
        ("say({'type': 'error', 'id': read()['id'], 'message': 'no such file'})", "fails on a trivial batch"),
        ("read(); sys.exit(3)", "fails on a trivial batch of one cell: the loss ended with exit code 3"),
        ("read(); 1 / 0", "ZeroDivisionError"),
    ):
        with pytest.raises(AdapterError) as caught:
            child(f"{BEGINNING}hello()\n{script}\nread()").describe()
        assert str(caught.value).startswith("the adapter itself")
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("protocol=2", "uses protocol 2, this suite uses 1"),
        ("protocol=None", "uses protocol None"),
        ("id=77", "answered question 77"),
        ("answers=['everything']", "$.answers[0]: 'everything' is not one of"),
        ("answers=[{}] * 10**5", "$.answers"),
        ("dtypes=[]", "$.dtypes"),
        ("reduction='mean'", "$.reduction: 'mean' is not one of"),
        ("factor=0", "$.factor"),
        ("name='n' * 101", "$.name"),
        ("profiles=['../../mine.toml']", "$.profiles[0]"),
        ("profiles=['nobody']", "makes an invalid claim: no profile 'nobody'"),
    ],
)
def test_a_wrong_hello_is_a_mistake_of_the_adapter(child: Child, changes: str, message: str) -> None:
    with pytest.raises(AdapterError) as caught:
        child(f"{BEGINNING}hello({changes})\nanswer(read())").describe()
    assert str(caught.value).startswith("the adapter itself")
    assert message in str(caught.value)


def test_a_child_that_dies_half_way_is_started_again(child: Child) -> None:
    script = """
if first_time():
    read()
    print("index 17 out of range", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)
while True:
    answer(read())
"""
    adapter = child(USUAL.replace("answer(read())", "") + "answer(read())\n" + script)
    with pytest.raises(LossError, match="the loss was killed by SIGSEGV") as caught:
        adapter.answer(small_question())
    assert "index 17 out of range" in str(caught.value)
    assert isinstance(adapter.answer(small_question()), Answer)


def test_a_child_that_ends_after_each_answer_is_reported_not_asked_again(child: Child) -> None:
    adapter = child(USUAL)
    with pytest.raises(LossError, match="ended with exit code 0"):
        adapter.answer(small_question())


def test_a_child_is_started_again_only_so_often(child: Child) -> None:
    adapter = child(BEGINNING + "hello()\nif first_time(): answer(read())\nread()\nsys.exit(9)")
    for _ in range(RESTARTS + 1):
        with pytest.raises(LossError, match="exit code 9"):
            adapter.answer(small_question())
    with pytest.raises(AdapterError, match=f"started {RESTARTS + 1} times and will not be restarted.* it ended with"):
        adapter.answer(small_question())


def test_a_child_may_not_become_another(child: Child) -> None:
    adapter = child(
        BEGINNING + "if first_time():\n    hello()\n    answer(read())\n    sys.exit()\nhello(name='new')\nread()"
    )
    with pytest.raises(LossError):
        adapter.answer(small_question())
    with pytest.raises(AdapterError, match="described itself differently"):
        adapter.answer(small_question())


def test_a_command_is_an_adapter_by_its_name(tmp_path: Path) -> None:
    script = tmp_path / "my child.py"
    script.write_text(USUAL + "answer(read())")
    adapter = load_adapter(f"cmd:{sys.executable} -IS '{script}'")
    assert adapter.describe().name == "fake"
    assert isinstance(adapter.answer(small_question()), Answer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cmd:", "expected a program and its arguments"),
        ("cmd:python 'unclosed", "No closing quotation"),
        ("cmd:/absent/program --fast", "cannot be started: .*No such file or directory"),
        ("cmd:/", "cannot be started: .*Permission denied"),
    ],
)
def test_a_command_that_is_none_is_named(name: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        load_adapter(name).describe()
