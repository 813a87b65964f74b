"""What every layer stands on."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import pytest

from headstart._core import check, files, records, seed
from headstart._core.clock import Clock, parse_duration
from headstart._core.errors import BadInput, BadOption
from headstart._core.records import record
from headstart._core.table import Table, load


@record
class Inner:
    """Inner.

    Attributes:
        x: a number
            told on two lines.
        words: some words.
    """

    x: int
    words: tuple[str, ...] = ()


@record
class Outer:
    """Outer."""

    inner: Inner
    maybe: float | None = None


def test_records_survive_json(tmp_path: Path) -> None:
    value = Outer(inner=Inner(x=3, words=("a", "é")), maybe=0.1 + 0.2)
    records.save(tmp_path / "x.json", value)
    assert records.load(Outer, tmp_path / "x.json") == value


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner(x=1).x = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"inner": {"x": 1, "y": 2}}', "inner.y"),
        ('{"inner": {"x": "many"}}', "inner.x"),
        ("{", "not JSON"),
        ('{"format": 99, "inner": {"x": 1}}', "newer"),
    ],
)
def test_damaged_records_are_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=word):
        records.load(Outer, tmp_path / "x.json")


def test_numbers_json_cannot_hold_become_null(tmp_path: Path) -> None:
    records.save(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf")]})
    assert records.read_json(tmp_path / "x.json") == {"a": None, "b": [None]}


def test_field_help_reads_the_docstring() -> None:
    assert records.field_help(Inner) == {"x": "a number told on two lines.", "words": "some words."}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError, match="half way"), files.atomic(target) as temporary:  # noqa: PT012
        temporary.write_text("new")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize(
    ("code", "word"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "cannot be written")]
)
def test_os_errors_become_words(tmp_path: Path, code: int, word: str) -> None:
    with pytest.raises(BadInput, match=word), files.atomic(tmp_path / "x"):
        raise OSError(code, "reason")


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        files.writable_folder(tmp_path / "x")


def test_absolute_paths_lose_their_dots_but_stay_behind_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "data").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert files.absolute(Path("../data")) == tmp_path / "data"
    (tmp_path / "project" / "link").symlink_to(tmp_path / "far" / "deep")
    assert files.absolute(Path("link/../data")).samefile(tmp_path / "far" / "data")


def test_table_answers_a_wrong_name_with_the_right_one() -> None:
    table = Table("--fruit", {"apple": 1, "pear": 2})
    assert list(table) == ["apple", "pear"]
    assert "aple" not in table
    with pytest.raises(BadOption, match="aple") as caught:
        table["aple"]
    assert "Did you mean 'apple'?" in caught.value.hint
    assert caught.value.exit_code == 2


def test_load_imports_what_a_dotted_path_names() -> None:
    assert load("headstart._core.table:Table") is Table


def test_existing_names_a_similar_path(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput) as caught:
        check.existing(tmp_path / "fotos", what="The folder")
    assert "photos" in caught.value.hint


@pytest.mark.parametrize("text", ["", "10", "m", "10x", "-5m", "0s", "1h-3m", "ten minutes"])
def test_durations_that_make_no_sense(text: str) -> None:
    with pytest.raises(BadOption, match="--budget"):
        parse_duration(text)


def test_clock_without_budget_hears_the_same_signal() -> None:
    clock = Clock(0.0)
    patient = clock.without_budget()
    assert [bool(clock.over), bool(patient.over)] == [True, False]
    clock.stop("Ctrl-C")
    assert {patient.over, clock.over} == {"Ctrl-C"}


def test_time_spent_before_counts() -> None:
    assert Clock(100.0, spent=90.0).left <= 10.0


def test_seeds_depend_on_every_name() -> None:
    made = {
        seed.derive(0),
        seed.derive(1),
        seed.derive(0, "a"),
        seed.derive(0, "a", 1),
        seed.derive(0, "a", 2),
    }
    assert len(made) == 5
    assert seed.generator(0, "a").random() == seed.generator(0, "a").random()
