from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from regionloss_adapters import (
    Adapter,
    AdapterError,
    Answer,
    CannotAnswerError,
    Description,
    Question,
    RefusedError,
    load_adapter,
)
from regionloss_adapters.process.adapter import RESTARTS, LossError, ProcessAdapter
from regionloss_adapters.process.child import KEPT_OF_STDERR, LINE_LIMIT
from regionloss_adapters.process.messages import INLINE_LIMIT
from regionloss_spec import Batch, load_profile
from regionloss_spec.profile import AXES

SCHEMA = Path(__file__).parents[3] / "adapters/regionloss_adapters/process/process.schema.json"

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


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Makes an adapter out of a script."""
    made: list[ProcessAdapter] = []

    def make(script: str, **options: Any) -> ProcessAdapter:
        (tmp_path / "child.py").write_text(script)
        made.append(ProcessAdapter([sys.executable, "-IS", str(tmp_path / "child.py")], **options))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


def asked(*shape: int, **changes: Any) -> Question:
    """A question about one anchor and one class, on a grid of 1 x 2 cells unless told otherwise."""
    predictions = np.linspace(-1, 1, int(np.prod(shape or (12,)))).reshape(shape or (1, 6, 1, 2))
    given: dict[str, Any] = {
        "predictions": predictions,
        "truths": (np.array([[0.25, 0.5, 0.5, 0.5, 0.0]]),),
        "anchors": np.array([[1.0, 0.1]]),
        "classes": 1,
        "images_seen": 100,
    }
    return Question(batch=Batch(**(given | changes)), profile=load_profile("darknet"), dtype="float32", upstream=0.5)


def log(tmp_path: Path) -> list[dict[str, Any]]:
    """Everything that the children have read."""
    return [json.loads(line) for line in (tmp_path / "read").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie is dead, only nobody has asked after it


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


def test_a_child_is_told_the_batch_and_the_profile_and_nothing_that_is_expected(child: Child, tmp_path: Path) -> None:
    adapter = child(USUAL + "answer(read())")
    question = asked(truths=(np.array([[0.1, 0.2, 0.3, 0.4, 0.0], [0.0, np.nan, np.inf, -np.inf, 1.0]]),))
    adapter.answer(question)
    hello, smoke, told = log(tmp_path)
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    for message in (hello, smoke, told):
        validator.validate(message)
    assert (hello["type"], hello["protocol"]) == ("hello", 1)
    assert smoke["batch"]["predictions"] == {"shape": [1, 6, 1, 1], "values": [0.0] * 6}
    assert told == {
        "type": "question",
        "id": told["id"],
        "batch": {
            "predictions": {"shape": [1, 6, 1, 2], "values": question.batch.predictions.ravel().tolist()},
            "truths": [[[0.1, 0.2, 0.3, 0.4, 0.0], [0.0, "nan", "inf", "-inf", 1.0]]],
            "anchors": [[1.0, 0.1]],
            "classes": 1,
            "images_seen": 100,
            "tree": None,
        },
        "profile": {"name": "darknet", **{axis: getattr(question.profile, axis) for axis in AXES}},
        "dtype": "float32",
        "device": "cpu",
        "upstream": 0.5,
    }
    assert len({message["id"] for message in (hello, smoke, told)}) == 3


@pytest.mark.parametrize("profiles", [["darknet"], ["darknet", "*"]])
@pytest.mark.parametrize("options", [None, [], ["ignore"], ["ignore", "thresh"]])
def test_a_child_is_asked_what_the_options_of_its_hello_can_follow(
    child: Child, profiles: list[str], options: list[str] | None
) -> None:
    said = "" if options is None else f", options={options}"
    adapter = child(f"{BEGINNING}hello(profiles={profiles}{said})\nanswer(read())\nwhile True: answer(read())")
    other = dataclasses.replace(asked(), profile=load_profile("darknet").replace(thresh=0.5))
    assert adapter.answer(asked()).gradient is not None
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


def test_rows_of_unequal_length_reach_the_child_as_they_are(child: Child, tmp_path: Path) -> None:
    ragged = np.array([np.array([0.5, 0.5, 0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.5])], dtype=object)
    child(USUAL + "answer(read())").answer(asked(truths=(ragged,)))
    assert log(tmp_path)[-1]["batch"]["truths"] == [[[0.5, 0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]]


def test_every_field_of_an_answer_arrives(child: Child) -> None:
    terms = {"no_object": 1, "prior": 2.5, "coord": "nan", "object": "inf", "class": "-inf"}
    statistics = dict.fromkeys(("avg_iou", "avg_class", "avg_obj", "avg_no_obj", "avg_recall"), 0.5) | {"count": 1}
    said = f"potential=0.1, terms={terms}, responsible=[[0, 0, 0, 0, 1]], ignored=[[0, 0, 0, 0]], printed_cost=7"
    gradient = "{'shape': [1, 6, 1, 2], 'values': [0.1, 'nan', 'inf', '-inf', 1e-300, 6, 7, 8, 9, 10, 11, 12]}"
    got = child(USUAL + f"answer(read(), {said}, statistics={statistics}, gradient={gradient})").answer(asked())
    assert got.gradient is not None
    assert got.gradient.shape == (1, 6, 1, 2)
    np.testing.assert_array_equal(
        got.gradient.ravel(), [0.1, np.nan, np.inf, -np.inf, 1e-300, 6, 7, 8, 9, 10, 11, 12], strict=True
    )
    assert got.potential == 0.1
    assert got.terms is not None
    np.testing.assert_array_equal(list(got.terms.values()), [1, 2.5, np.nan, np.inf, -np.inf])
    assert (got.responsible, got.ignored, got.printed_cost) == (((0, 0, 0, 0, 1),), ((0, 0, 0, 0),), 7.0)
    assert got.statistics == statistics


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
        adapter.answer(asked())
    assert (refused.value.image, refused.value.truth) == (3, 7)
    with pytest.raises(RefusedError, match="no anchors") as refused:
        adapter.answer(asked())
    assert (refused.value.image, refused.value.truth) == (None, None)
    with pytest.raises(CannotAnswerError, match="no trees here"):
        adapter.answer(asked())
    with pytest.raises(LossError, match=r"reported an error: index out of range \\x1b\[31m"):
        adapter.answer(asked())
    assert isinstance(adapter.answer(asked()), Answer)


def test_large_tensors_go_by_file_in_both_directions(child: Child, tmp_path: Path) -> None:
    script = """
for dtype, letter in (("float64", "d"), ("float32", "f")):
    import struct
    question = read()
    tensor = question["batch"]["predictions"]
    with open(os.path.join(greeted["folder"], tensor["file"]), "rb") as stream:
        numbers = struct.unpack("<6000d", stream.read())
    with open(os.path.join(greeted["folder"], "mine.raw"), "wb") as stream:
        stream.write(struct.pack("<6000" + letter, *[2 * number for number in numbers]))
    answer(question, gradient={"shape": tensor["shape"], "dtype": dtype, "file": "mine.raw"})
"""
    adapter = child(USUAL + script)
    question = asked(1, 6, 25, 40)
    assert question.batch.predictions.size > INLINE_LIMIT
    double = adapter.answer(question).gradient
    assert double is not None
    np.testing.assert_array_equal(double, 2 * question.batch.predictions, strict=True)
    single = adapter.answer(question).gradient
    assert single is not None
    np.testing.assert_array_equal(
        single, (2 * question.batch.predictions).astype(np.float32).astype(np.float64), strict=True
    )
    hello, *_, told = log(tmp_path)
    tensor = told["batch"]["predictions"]
    assert tensor == {"shape": [1, 6, 25, 40], "dtype": "float64", "file": tensor["file"]}
    folder = Path(hello["folder"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []
    adapter.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("prepare", "file", "message"),
    [
        ("", "'../secret.raw'", "not a path"),
        ("", "SECRET", "not a path"),
        ("", "'..'", "not a path"),
        ("os.symlink(SECRET, here('link'))", "'link'", "cannot be read"),
        ("os.mkfifo(here('pipe'))", "'pipe'", "no plain file"),
        ("os.mkdir(here('folder'))", "'folder'", "no plain file"),
        ("", "'absent'", "cannot be read: No such file"),
        ("open(here('short'), 'wb').write(bytes(95))", "'short'", "wrote 95 bytes to 'short', expected 96"),
        ("open(here('long'), 'wb').truncate(2**40)", "'long'", "expected 96: float64 of shape [1, 6, 1, 2]"),
        # Another folder in the place of the whole folder: the suite stays in the one that it opened.
        ("os.rename(here(''), here('')[:-1] + '.'); os.symlink(HOME, here('')[:-1])", "'secret.raw'", "cannot be read"),
    ],
)
def test_a_file_anywhere_else_is_not_read(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: str, file: str, message: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where what the child moves and links is swept up
    home = tmp_path / "home"
    home.mkdir()
    secret = home / "secret.raw"
    secret.write_bytes(bytes(96))
    script = f"""
HOME = {str(home)!r}
SECRET = {str(secret)!r}
def here(name):
    return os.path.join(greeted["folder"], name)
question = read()
{prepare}
answer(question, gradient={{"shape": [1, 6, 1, 2], "dtype": "float64", "file": {file}}})
"""
    with child(USUAL + script) as adapter, pytest.raises(AdapterError) as caught:
        adapter.answer(asked())
    assert "the adapter itself" in str(caught.value)
    assert message in str(caught.value)
    assert secret.read_bytes() == bytes(96)


NO_ANSWER = {
    "bad JSON": ("print('gradient = 0', flush=True)", "not JSON: Expecting value: line 1 column 1 (char 0): 'gradient"),
    "not text": (r"os.write(1, b'\xff\xfe\n')", "not JSON: 'utf-8' codec"),
    "NaN": ('print(\'{"type": "answer", "potential": NaN}\', flush=True)', "NaN is not a JSON number"),
    "deep JSON": ("print('[' * 10**6, flush=True)", "not JSON: "),
    "many digits": ("print('9' * 10**5, flush=True)", "not JSON: "),
    "a list": ("print('[1, 2]', flush=True)", "no message of type answer or refused or skipped or error: '[1, 2]'"),
    "a key twice": ('print(\'{"id": 1, "id": 2}\', flush=True)', "names a key twice"),
    "another type": ("answer(question, type='hello')", "no message of type answer or refused"),
    "an unhashable type": ("answer(question, type=['answer'])", "no message of type answer or refused"),
    "another question": ("answer(question, id=999)", "answered question 999, expected question 3"),
    "no id": ('print(\'{"type": "answer"}\', flush=True)', "'id' is a required property"),
    "an id as text": ("answer(question, id='3')", "$.id: '3' is not of type 'integer'"),
    "an unknown key": ("answer(question, loss=3)", "'loss' was unexpected"),
    "a promise broken": ("say({'type': 'answer', 'id': question['id']})", "declares 'gradient' but wrote an answer"),
    "another shape": (
        "answer(question, gradient={'shape': [1, 6, 2, 1], 'values': [0] * 12})",
        "shape [1, 6, 2, 1]",
    ),
    "another size": ("answer(question, gradient={'shape': [1, 6, 1, 2], 'values': [0]})", "1 values for the gradient"),
    "no numbers": ("answer(question, gradient={'shape': [1, 6, 1, 2]})", "numbers in row-major order"),
    "a word": ("answer(question, potential='much')", "$.potential: 'much' does not match"),
    "a truth value": ("answer(question, potential=True)", "$.potential: True is not of type"),
    "a giant": ("answer(question, potential=10**400)", "an integer that no floating-point format holds"),
    "four of five terms": (
        "answer(question, terms={'no_object': 0, 'prior': 0, 'coord': 0, 'object': 0})",
        "$.terms: 'class' is a required property",
    ),
    "a place of three": ("answer(question, ignored=[[0, 0, 0]])", "$.ignored[0]: [0, 0, 0] is too short"),
    "a negative place": ("answer(question, ignored=[[0, 0, 0, -1]])", "$.ignored[0][3]: -1 is less than the minimum"),
    "an object": (
        "answer(question, gradient={'shape': [12], 'dtype': 'object', 'file': 'a'})",
        "$.gradient.dtype",
    ),
    "two lines": (
        "os.write(1, (json.dumps({'type': 'skipped', 'id': 3, 'reason': ''}) + '\\nmore\\n').encode())",
        "more than one line to one question: 'more",
    ),
    "a flood of lines": ("while True: print('la la la', flush=True)", "'la la la"),
    "a line without end": (
        "while True: sys.stdout.write('la' * 1000)",
        f"more than {LINE_LIMIT} bytes: 'lala",
    ),
    "steering the terminal": ("print('\\x1b[2J\\x07', flush=True)", r"'\x1b[2J\x07'"),
}


@pytest.mark.parametrize(("script", "message"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_what_is_no_answer_is_a_mistake_of_the_adapter(child: Child, script: str, message: str) -> None:
    adapter = child(f"{USUAL}question = read()\n{script}\nread()", answer_timeout=10)
    with pytest.raises(AdapterError) as caught:
        adapter.answer(asked())
    assert str(caught.value).startswith("the adapter itself")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


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


def test_a_child_that_dies_at_once_shows_its_last_words(child: Child) -> None:
    with pytest.raises(AdapterError) as caught:
        child("import sys\nsys.exit('no such library: \\x1b[31mlibcuda')").describe()
    said = str(caught.value)
    assert "the adapter itself ended with exit code 1" in said
    assert "no such library: \\x1b[31mlibcuda" in said
    assert "it never sent its hello" in said


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
        adapter.answer(asked())
    assert "index 17 out of range" in str(caught.value)
    assert isinstance(adapter.answer(asked()), Answer)


def test_a_child_that_ends_after_each_answer_is_reported_not_asked_again(child: Child) -> None:
    adapter = child(USUAL)
    with pytest.raises(LossError, match="ended with exit code 0"):
        adapter.answer(asked())


def test_a_child_is_started_again_only_so_often(child: Child) -> None:
    adapter = child(BEGINNING + "hello()\nif first_time(): answer(read())\nread()\nsys.exit(9)")
    for _ in range(RESTARTS + 1):
        with pytest.raises(LossError, match="exit code 9"):
            adapter.answer(asked())
    with pytest.raises(AdapterError, match=f"started {RESTARTS + 1} times and will not be restarted.* it ended with"):
        adapter.answer(asked())


def test_a_child_may_not_become_another(child: Child) -> None:
    adapter = child(
        BEGINNING + "if first_time():\n    hello()\n    answer(read())\n    sys.exit()\nhello(name='new')\nread()"
    )
    with pytest.raises(LossError):
        adapter.answer(asked())
    with pytest.raises(AdapterError, match="described itself differently"):
        adapter.answer(asked())


def test_a_child_that_hangs_at_its_start_is_given_up(child: Child) -> None:
    start = time.monotonic()
    with pytest.raises(AdapterError, match=r"gave no answer within 0\.5 s; it never sent its hello"):
        child("import time\ntime.sleep(600)", start_timeout=0.5).describe()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "script",
    [
        "time.sleep(600)",
        "while True:\n    sys.stdout.write(' ')\n    sys.stdout.flush()\n    time.sleep(0.01)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
    ],
    ids=["sleeps", "drips", "spins"],
)
def test_a_child_that_hangs_at_a_batch_is_killed_with_all_that_it_started(
    child: Child, tmp_path: Path, script: str
) -> None:
    begin = f"""
if first_time():
    read()
    if not os.fork():
        open(os.path.join(os.path.dirname(__file__), "grandchild"), "w").write(str(os.getpid()))
        time.sleep(600)
    {script.replace(chr(10), chr(10) + "    ")}
answer(read())
"""
    adapter = child(USUAL + begin, answer_timeout=1.0)
    start = time.monotonic()
    with pytest.raises(LossError, match="gave no answer within 1 s"):
        adapter.answer(asked())
    assert time.monotonic() - start < 10
    pid = int((tmp_path / "grandchild").read_text())
    while is_alive(pid) and time.monotonic() - start < 20:
        time.sleep(0.01)
    assert not is_alive(pid)
    assert isinstance(adapter.answer(asked()), Answer)


def test_a_child_that_does_not_read_a_large_question_times_out_as_well(child: Child) -> None:
    question = asked(1, 6, 25, 27)
    assert len(json.dumps(question.batch.predictions.ravel().tolist())) > 2**16
    assert question.batch.predictions.size <= INLINE_LIMIT
    with pytest.raises(LossError, match="gave no answer within 1 s"):
        child(USUAL + "time.sleep(600)", answer_timeout=1).answer(question)


def test_a_child_that_closes_its_streams_is_told_from_one_that_ended(child: Child) -> None:
    with pytest.raises(LossError, match="closed its standard output"):
        child(USUAL + "read(); os.close(1); time.sleep(600)").answer(asked())


def test_what_is_said_unasked_is_a_mistake_of_the_adapter(child: Child, tmp_path: Path) -> None:
    adapter = child(USUAL + "time.sleep(0.2)\nprint('Loading weights', flush=True)\nfirst_time()\nread()")
    adapter.describe()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    with pytest.raises(AdapterError, match="'Loading weights'"):
        adapter.answer(asked())


def test_a_flood_on_standard_error_blocks_nobody_and_is_kept_only_in_part(child: Child) -> None:
    script = """
for _ in range(2000):
    os.write(2, b"la" * 2000 + bytes([10]))
print("the end", file=sys.stderr)
answer(read())
read()
sys.exit(4)
"""
    adapter = child(USUAL + script)
    assert isinstance(adapter.answer(asked()), Answer)
    with pytest.raises(LossError, match="exit code 4") as caught:
        adapter.answer(asked())
    said = str(caught.value)
    assert "bytes cut]" in said
    assert said.endswith("the end")
    assert len(said) < KEPT_OF_STDERR + 200


def test_the_environment_and_the_folder_are_those_of_the_suite(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIONLOSS_TEST", "as it is")
    script = 'json.dump(dict(os.environ), open("environment", "w"))\nhello()\nanswer(read())'
    child(BEGINNING + script, cwd=tmp_path).describe()
    environment = json.loads((tmp_path / "environment").read_text())
    assert environment | {"LC_CTYPE": ""} == dict(os.environ) | {"LC_CTYPE": ""}  # Python itself may set that one


def test_closing_lets_a_child_end_by_itself_and_leaves_nothing(child: Child, tmp_path: Path) -> None:
    script = 'sys.stdin.read()\nopen(os.path.join(os.path.dirname(__file__), "ended"), "w")'
    before = threading.active_count()
    with child(USUAL + script) as adapter:
        adapter.describe()
    assert (tmp_path / "ended").exists()
    assert not Path(log(tmp_path)[0]["folder"]).exists()
    assert threading.active_count() <= before


def test_a_command_is_an_adapter_by_its_name(tmp_path: Path) -> None:
    script = tmp_path / "my child.py"
    script.write_text(USUAL + "answer(read())")
    adapter = load_adapter(f"cmd:{sys.executable} -IS '{script}'")
    assert adapter.describe().name == "fake"
    assert isinstance(adapter.answer(asked()), Answer)


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
