"""One clear message for everything that a user can get wrong, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.bad_input import CASES, DOCS, Case, make_run, message_of, section_of, try_case
from tests.cli.bad_places import ERRORS, FLAWS, Flaws, flaw_lines, flaw_section


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run `done`."""
    place = tmp_path_factory.mktemp("finished").resolve()
    make_run(place)
    return place


@pytest.mark.parametrize("case", CASES + ERRORS, ids=lambda case: case.what)
def test_says_what_and_what_next(case: Case, finished: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o55)  # a case may look at it as another user
    place = tmp_path.resolve()
    printed = try_case(case, place, finished)
    told = message_of(printed)
    assert told.startswith("Error: "), printed.err
    for part in case.says:
        assert part in told, told
    assert printed.code == case.code, told
    assert printed.out == "", "an error belongs on standard error alone"
    assert "Traceback" not in printed.err
    assert "defect of headstart" not in printed.err
    assert "\n" in told, "the next move is missing"
    assert printed.changed == (), "something was left behind"
    assert section_of(case, printed) in DOCS.read_text(encoding="utf-8"), (
        "docs/errors.md is not what is printed: run python -m tests.cli.bad_input"
    )


@pytest.mark.parametrize("case", FLAWS, ids=lambda case: case.what)
def test_every_wrong_annotation_is_told(case: Flaws, finished: Path, tmp_path: Path) -> None:
    printed = try_case(case, tmp_path.resolve(), finished)
    assert printed.code == 0, printed.err
    title, _columns, *lines = flaw_lines(printed)
    assert title == f"{len(case.says)} flaws of annotations"
    told = {name: line for line in lines for name in case.says if f"{name}.png" in line}
    assert len(lines) == len(told) == len(case.says), printed.out
    for name, parts in case.says.items():
        for part in parts:
            assert part in told[name]
    assert flaw_section(case, printed) in DOCS.read_text(encoding="utf-8"), (
        "docs/errors.md is not what is printed: run python -m tests.cli.bad_input"
    )


def test_every_case_says_something_of_its_own() -> None:
    cases = [case.what for case in (*CASES, *ERRORS, *FLAWS)]
    assert len(set(cases)) == len(cases)
