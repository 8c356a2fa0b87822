"""The process of a child: its ends, its streams, its environment, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from regionloss_adapters import AdapterError, Answer
from regionloss_adapters.process.adapter import LossError
from regionloss_adapters.process.child import KEPT_OF_STDERR
from regionloss_adapters.process.messages import INLINE_LIMIT
from unit.adapters.process.scripts import BEGINNING, USUAL, Child, is_alive, messages_read, small_question


def test_a_child_that_dies_at_once_shows_its_last_words(child: Child) -> None:
    with pytest.raises(AdapterError) as caught:
        child("import sys\nsys.exit('no such library: \\x1b[31mlibcuda')").describe()
    message = str(caught.value)
    assert "the adapter itself ended with exit code 1" in message
    assert "no such library: \\x1b[31mlibcuda" in message
    assert "it never sent its hello" in message


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
        adapter.answer(small_question())
    assert time.monotonic() - start < 10
    pid = int((tmp_path / "grandchild").read_text())
    while is_alive(pid) and time.monotonic() - start < 20:
        time.sleep(0.01)
    assert not is_alive(pid)
    assert isinstance(adapter.answer(small_question()), Answer)


def test_a_child_that_does_not_read_a_large_question_times_out_as_well(child: Child) -> None:
    question = small_question(1, 6, 25, 27)
    assert len(json.dumps(question.batch.predictions.ravel().tolist())) > 2**16
    assert question.batch.predictions.size <= INLINE_LIMIT
    with pytest.raises(LossError, match="gave no answer within 1 s"):
        child(USUAL + "time.sleep(600)", answer_timeout=1).answer(question)


def test_a_child_that_closes_its_streams_is_told_from_one_that_ended(child: Child) -> None:
    with pytest.raises(LossError, match="closed its standard output"):
        child(USUAL + "read(); os.close(1); time.sleep(600)").answer(small_question())


def test_what_is_said_unasked_is_a_mistake_of_the_adapter(child: Child, tmp_path: Path) -> None:
    adapter = child(USUAL + "time.sleep(0.2)\nprint('Loading weights', flush=True)\nfirst_time()\nread()")
    adapter.describe()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    with pytest.raises(AdapterError, match="'Loading weights'"):
        adapter.answer(small_question())


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
    assert isinstance(adapter.answer(small_question()), Answer)
    with pytest.raises(LossError, match="exit code 4") as caught:
        adapter.answer(small_question())
    message = str(caught.value)
    assert "bytes cut]" in message
    assert message.endswith("the end")
    assert len(message) < KEPT_OF_STDERR + 200


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
    assert not Path(messages_read(tmp_path)[0]["folder"]).exists()
    assert threading.active_count() <= before
