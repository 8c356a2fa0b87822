"""Large tensors by file, and only by a file in the folder of the suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regionloss_adapters import AdapterError
from regionloss_adapters.process.messages import INLINE_LIMIT
from unit.adapters.process.scripts import USUAL, Child, messages_read, small_question


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
    question = small_question(1, 6, 25, 40)
    assert question.batch.predictions.size > INLINE_LIMIT
    double = adapter.answer(question).gradient
    assert double is not None
    np.testing.assert_array_equal(double, 2 * question.batch.predictions, strict=True)
    single = adapter.answer(question).gradient
    assert single is not None
    np.testing.assert_array_equal(
        single, (2 * question.batch.predictions).astype(np.float32).astype(np.float64), strict=True
    )
    hello, *_, last = messages_read(tmp_path)
    tensor = last["batch"]["predictions"]
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
        adapter.answer(small_question())
    assert "the adapter itself" in str(caught.value)
    assert message in str(caught.value)
    assert secret.read_bytes() == bytes(96)
