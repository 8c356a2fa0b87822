"""What a child is sent, what of its answer arrives, and what is no answer."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from regionloss_adapters import AdapterError
from regionloss_adapters.process.child import LINE_LIMIT
from regionloss_spec.profile import AXES
from unit.adapters.process.scripts import USUAL, Child, messages_read, small_question

SCHEMA = Path(__file__).parents[4] / "adapters/regionloss_adapters/process/process.schema.json"


def test_a_child_is_told_the_batch_and_the_profile_and_nothing_that_is_expected(child: Child, tmp_path: Path) -> None:
    adapter = child(USUAL + "answer(read())")
    question = small_question(truths=(np.array([[0.1, 0.2, 0.3, 0.4, 0.0], [0.0, np.nan, np.inf, -np.inf, 1.0]]),))
    adapter.answer(question)
    hello, smoke, last = messages_read(tmp_path)
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    for message in (hello, smoke, last):
        validator.validate(message)
    assert (hello["type"], hello["protocol"]) == ("hello", 1)
    assert smoke["batch"]["predictions"] == {"shape": [1, 6, 1, 1], "values": [0.0] * 6}
    assert last == {
        "type": "question",
        "id": last["id"],
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
    assert len({message["id"] for message in (hello, smoke, last)}) == 3


def test_rows_of_unequal_length_reach_the_child_as_they_are(child: Child, tmp_path: Path) -> None:
    ragged = np.array([np.array([0.5, 0.5, 0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.5])], dtype=object)
    child(USUAL + "answer(read())").answer(small_question(truths=(ragged,)))
    assert messages_read(tmp_path)[-1]["batch"]["truths"] == [[[0.5, 0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]]


def test_every_field_of_an_answer_arrives(child: Child) -> None:
    terms = {"no_object": 1, "prior": 2.5, "coord": "nan", "object": "inf", "class": "-inf"}
    statistics = dict.fromkeys(("avg_iou", "avg_class", "avg_obj", "avg_no_obj", "avg_recall"), 0.5) | {"count": 1}
    fields = f"potential=0.1, terms={terms}, responsible=[[0, 0, 0, 0, 1]], ignored=[[0, 0, 0, 0]], printed_cost=7"
    gradient = "{'shape': [1, 6, 1, 2], 'values': [0.1, 'nan', 'inf', '-inf', 1e-300, 6, 7, 8, 9, 10, 11, 12]}"
    adapter = child(USUAL + f"answer(read(), {fields}, statistics={statistics}, gradient={gradient})")
    got = adapter.answer(small_question())
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
        adapter.answer(small_question())
    assert str(caught.value).startswith("the adapter itself")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000
