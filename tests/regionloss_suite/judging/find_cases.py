"""Find the cases that a user names: by folder, file, or the id of a bundled case."""

from __future__ import annotations

from pathlib import Path

from regionloss_spec import Case, CaseError
from regionloss_spec.case import CASES, case_from_json, read_json
from regionloss_spec.recording import load_folder, recording_from_json


def find_cases(what: Path | str) -> list[Case]:
    """The cases and recordings in a folder, or the single case named.

    Raises:
        CaseError: there is none, or it cannot be read.
    """
    return load_folder(Path(what)) if Path(what).is_dir() else [find_case(what)]


def find_case(what: Path | str) -> Case:
    """A bundled case by its id, or the case or recording in a file.

    Raises:
        CaseError: there is no such case and no such file, or it cannot be read.
    """
    path = place_of(what)
    if path is None:
        close = [known.stem for known in sorted(CASES.glob("*.json")) if str(what) in known.stem]
        more = f"; did you mean {', '.join(close[:5])}?" if close else ""
        raise CaseError(f"no case {str(what)!r} and no such file or folder{more}")
    data = read_json(path)
    recording = isinstance(data, dict) and "config" in data
    return recording_from_json(data, path) if recording else case_from_json(data, path)


def place_of(what: Path | str) -> Path | None:
    """The file of the case that a user names by its path or its id; `None` if there is none."""
    bundled = CASES / f"{what}.json"
    return next((path for path in (Path(what), bundled) if path.is_file()), None)
