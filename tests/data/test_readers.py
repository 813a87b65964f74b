"""Every way to hand over labelled images, and what is said about each wrong one."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart._core.errors import BadInput, BadOption
from headstart.data import load
from headstart.data.readers import READERS, Listing
from headstart.data.records import LoadOptions
from headstart.data.sources import list_source


def picture(path: Path, value: int = 0) -> Path:
    """A small picture whose content depends on the value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    kind = "PNG" if path.suffix.lower() in ("", ".png") else None
    Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).save(path, format=kind)
    return path


def listed(source: Path | str, **options: object) -> Listing:
    return list_source(str(source), LoadOptions(**options))  # type: ignore[arg-type]


def answers(listing: Listing, root: Path) -> dict[str, tuple[str, ...]]:
    """Name below the root -> (split, labels…)."""
    return {
        str(Path(sample.name).relative_to(root)): (
            sample.split,
            *(listing.classes[i] for i in sample.labels),
        )
        for sample in listing.samples
    }


@pytest.mark.parametrize("name", READERS)
def test_rows_name_themselves(name: str) -> None:
    row = READERS[name]
    assert row.name == name
    assert row.looks_like
    assert set(row.options) <= set(LoadOptions.__dataclass_fields__)
    assert not row.matches("no/such/thing.xyz", LoadOptions())


# class folders ---------------------------------------------------------------------------------------------


def test_flat_folders(tmp_path: Path) -> None:
    for name in (
        "cat/a.JPG",
        "cat/deep/er/b.png",
        "dog/c.TIFF",
        "dog/no-ending",
        "dog/._c.jpg",
        "dog/.h.png",
    ):
        picture(tmp_path / name)
    picture(tmp_path / "__MACOSX/cat/x.png")
    picture(tmp_path / ".git/cat/x.png")
    (tmp_path / "cat/Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat/LICENCE").write_text("no image")
    (tmp_path / "dog/notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    listing = listed(tmp_path)
    assert answers(listing, tmp_path) == {
        "cat/a.JPG": ("", "cat"),
        "cat/deep/er/b.png": ("", "cat"),
        "dog/c.TIFF": ("", "dog"),
        "dog/no-ending": ("", "dog"),
    }
    assert listing.classes == ("cat", "dog")
    notes = " ".join(listing.notes)
    assert "2 of the files (.txt 1, no ending 1)" in notes
    assert "empty" in notes


def test_names_are_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "pets/cat/a.png")
    picture(tmp_path / "pets/dog/a.png")
    monkeypatch.chdir(tmp_path)
    assert [sample.name for sample in listed("pets").samples] == ["pets/cat/a.png", "pets/dog/a.png"]


@pytest.mark.parametrize("held", ["val", "Valid", "VALIDATION"])
def test_the_only_held_out_folder_is_the_test_split(tmp_path: Path, held: str) -> None:
    for split in ("Train", held):
        picture(tmp_path / split / "cat/a.png")
        picture(tmp_path / split / "dog/a.png")
    listing = listed(tmp_path)
    assert answers(listing, tmp_path)[f"{held}/cat/a.png"] == ("test", "cat")
    assert answers(listing, tmp_path)["Train/cat/a.png"] == ("train", "cat")
    assert "--val DIR --test DIR" in listing.notes[0]


def test_three_split_folders(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        picture(tmp_path / split / "cat/a.png")
    picture(tmp_path / "extra/cat/a.png")
    picture(tmp_path / "train/loose.png")
    listing = listed(tmp_path)
    assert {name: split for name, (split, _) in answers(listing, tmp_path).items()} == {
        "train/cat/a.png": "train",
        "valid/cat/a.png": "val",
        "test/cat/a.png": "test",
    }
    notes = " ".join(listing.notes)
    assert "extra" in notes
    assert "loose.png" in notes


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    picture(tmp_path / "test/a.png")
    picture(tmp_path / "control/a.png")
    assert listed(tmp_path).classes == ("control", "test")


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    for split in ("train", "val", "validation"):
        picture(tmp_path / split / "cat/a.png")
    with pytest.raises(BadInput, match="several folders for val: val, validation"):
        listed(tmp_path)


def test_separate_val_and_test(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "val/cat", "val/dog", "more/dog"):
        picture(tmp_path / place / "a.png")
    both = listed(tmp_path, val=str(tmp_path / "val"), test=str(tmp_path / "more"))
    assert answers(both, tmp_path) == {
        "train/cat/a.png": ("train", "cat"),
        "train/dog/a.png": ("train", "dog"),
        "val/cat/a.png": ("val", "cat"),
        "val/dog/a.png": ("val", "dog"),
        "more/dog/a.png": ("test", "dog"),
    }
    same = listed(tmp_path, test=str(tmp_path / "val"))  # in two roles: the one that was named
    assert {split for split, _ in answers(same, tmp_path).values()} == {"train", "test"}
    with pytest.raises(BadInput, match="none of them for test"):
        listed(tmp_path / "train", test=str(tmp_path))


def test_links(tmp_path: Path) -> None:
    root = tmp_path / "data"
    picture(tmp_path / "elsewhere/b.png")
    picture(root / "cat/a.png")
    picture(root / "dog/a.png")
    (root / "cat/loop").symlink_to(root / "cat")
    (root / "cat/up").symlink_to(root)
    (root / "self").symlink_to(root)
    (root / "dog/linked").symlink_to(tmp_path / "elsewhere")
    (root / "dog/gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "dog/circle.png").symlink_to(root / "dog/circle.png")
    listing = listed(root)
    assert sorted(answers(listing, root)) == ["cat/a.png", "dog/a.png", "dog/linked/b.png"]
    assert sorted(Path(bad.name).name for bad in listing.unreadable) == ["circle.png", "gone.png"]


def test_names_beyond_ascii(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))
    picture(tmp_path / "train" / composed / "写真.png")
    picture(tmp_path / "test" / apart / "é.png")
    listing = listed(tmp_path)
    assert listing.classes == (composed,)
    bytes_name = tmp_path / "train" / composed / b"\xff.png".decode("utf-8", "surrogateescape")
    picture(bytes_name)
    names = [sample.name for sample in listed(tmp_path).samples]
    assert len(names) == 3
    assert all(name.encode() for name in names)  # can be written as JSON


@pytest.mark.parametrize("one", ["Cat", "CAT"])
def test_labels_that_differ_in_case(tmp_path: Path, one: str) -> None:
    picture(tmp_path / "cat/a.png")
    picture(tmp_path / "dog/a.png")
    picture(tmp_path / "more" / one / "a.png")
    with pytest.raises(BadInput, match=f"'{one}' / 'cat'"):
        listed(tmp_path / "cat" / "..", val=str(tmp_path / "more"))


def test_labels_with_spaces(tmp_path: Path) -> None:
    picture(tmp_path / "cat /a.png")
    picture(tmp_path / "dog/a.png")
    listing = listed(tmp_path)
    assert listing.classes == ("cat", "dog")
    assert any("'cat '" in note for note in listing.notes)


def test_images_without_class_folders(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(BadInput, match="labels are missing") as caught:
        listed(tmp_path)
    assert "FOLDER/CLASS/IMAGES" in caught.value.hint
    (tmp_path / "bare").mkdir()
    with pytest.raises(BadInput, match="no images"):
        listed(tmp_path / "bare")


def test_options_without_effect(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png")
    with pytest.raises(BadOption, match="--separator ';' has no effect"):
        listed(tmp_path, separator=";")


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput, match="does not exist") as caught:
        listed(tmp_path / "photo")
    assert "Did you mean 'photos'?" in caught.value.hint
    assert "torchvision:NAME" in caught.value.hint
    with pytest.raises(BadInput) as caught:
        listed("digit")
    assert "'digits'" in caught.value.hint
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(BadInput, match="archive"):
        listed(tmp_path / "all.zip")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadInput) as caught:
        listed(tmp_path / "a.txt")
    assert "CSV" in caught.value.hint


# tables ----------------------------------------------------------------------------------------------------


def table(path: Path, columns: dict[str, list[object]], delimiter: str = ",") -> Path:
    """The columns as a CSV or Parquet file."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)
        return path
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    text = "\n".join(delimiter.join("" if cell is None else str(cell) for cell in row) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")
    return path


@pytest.fixture(params=["t.csv", "t.parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for number in range(4):
        picture(tmp_path / f"img/{number}.png", number)
    return tmp_path / str(request.param)


PATHS: list[object] = [f"img/{number}.png" for number in range(4)]


def test_table(file: Path, tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {
        "path": [*PATHS[:2], str(tmp_path / "img/2.png"), "img\\3.png"],
        "label": ["cat", " dog", "cat", "dog"],
        "split": ["train", "Valid", "test", None],
        "group": ["p1", "p2", "p3", None],
    }
    listing = listed(table(file, columns))
    assert answers(listing, tmp_path) == {
        "img/0.png": ("train", "cat"),
        "img/1.png": ("val", "dog"),
        "img/2.png": ("test", "cat"),
        "img/3.png": ("", "dog"),
    }
    assert [sample.group for sample in listing.samples] == ["p1", "p2", "p3", ""]
    assert listing.task == "classify"
    assert "' dog'" in listing.notes[0]


def test_table_with_other_column_names(file: Path) -> None:
    columns: dict[str, list[object]] = {"img": PATHS, "kind": [1, 2, 1, 2], "patient": [7, 7, 8, 8]}
    listing = listed(table(file, columns), path_column="img", label_column="kind", group_column="patient")
    assert listing.classes == ("1", "2")
    assert [sample.group for sample in listing.samples] == ["7", "7", "8", "8"]


def test_table_with_several_labels_in_a_cell(file: Path, tmp_path: Path) -> None:
    table(file, {"path": PATHS, "label": ["sea;sky", " sky ; sea ;sky", None, "sand"]})
    listing = listed(file, separator=";")
    assert listing.task == "multilabel"
    assert list(answers(listing, tmp_path).values()) == [
        ("", "sea", "sky"),
        ("", "sea", "sky"),
        ("",),
        ("", "sand"),
    ]


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (("cat|dog", "cat", "bird"), "|"),
        (("cat; dog", "bird"), ";"),
        (("cat, dog", "dog", "cat"), ","),
        (("cat/dog", "dog", "cat"), "/"),
    ],
)
def test_cells_that_look_like_several_labels_are_told(
    tmp_path: Path, labels: tuple[str, ...], separator: str
) -> None:
    listing = listed(_labelled(tmp_path, labels))
    assert (listing.task, len(listing.classes)) == ("classify", len(labels))
    (note,) = listing.notes
    assert repr(labels[0]) in note
    assert f"--separator '{separator}'" in note
    several = listed(tmp_path / "list.csv", separator=separator)
    assert (several.task, several.notes) == ("multilabel", ())


@pytest.mark.parametrize("labels", [("Smith, Ann", "Ann"), ("n/a", "dog"), ("cat|", "dog"), ("cat", "dog")])
def test_cells_that_are_one_label_are_not(tmp_path: Path, labels: tuple[str, ...]) -> None:
    assert listed(_labelled(tmp_path, labels)).notes == ()


def test_what_is_odd_about_labels_is_told_where_splits_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = _labelled(tmp_path, ("cat|dog", "cat", "dog"))
    with pytest.raises(BadInput, match="Too few different images"):
        load(str(file), LoadOptions())
    assert "--separator '|'" in caplog.text


def _labelled(folder: Path, labels: tuple[str, ...]) -> Path:
    """A table with a picture for each of these cells."""
    rows = ["path,label"]
    for number, label in enumerate(labels):
        picture(folder / f"{number}.png", number)
        rows.append(f'{number}.png,"{label}"')
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "list.csv"


def test_lists_in_parquet(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    listing = listed(table(tmp_path / "t.parquet", {"path": ["a.png"], "label": [["sea", "sky"]]}))
    assert (listing.task, listing.classes) == ("multilabel", ("sea", "sky"))


@pytest.mark.parametrize("label_column", ["label", ""])
def test_table_with_one_column_per_label(file: Path, tmp_path: Path, label_column: str) -> None:
    columns: dict[str, list[object]] = {"path": PATHS, "sky": [1, 0, 1, 0], "sea": [0, 0, 1, 1]}
    if not label_column:
        columns["camera"] = ["x", "y", "x", "y"]
    listing = listed(table(file, columns), label_column=label_column)
    assert (listing.task, listing.classes) == ("multilabel", ("sky", "sea"))
    assert list(answers(listing, tmp_path).values()) == [("", "sky"), ("",), ("", "sky", "sea"), ("", "sea")]


@pytest.mark.parametrize(
    ("columns", "options", "message", "hint"),
    [
        ({"pth": PATHS, "label": list("abab")}, {}, "no column 'path'", "Did you mean 'pth'"),
        ({"path": PATHS, "labels": list("abab")}, {}, "no column 'label'", "'labels'"),
        ({"path": PATHS, "label": list("abab")}, {"group_column": "x"}, "no column 'x'", "--group-column"),
        ({"path": PATHS, "label": list("abab")}, {"label_column": ""}, "no column of 0 and 1", "'label'"),
        ({"path": PATHS, "label": ["a", "", "b", ""]}, {}, "2 rows without a label", "Fill in"),
        (
            {"path": PATHS, "label": list("abab"), "split": ["tarin"] * 4},
            {},
            "row 1: the split is 'tarin'",
            "Did you mean 'train'",
        ),
        (
            {"path": PATHS, "a": [1, 0, 1, 0], "b": [1, 1, 0, 0]},
            {"separator": ";"},
            "has no effect",
            "--label-column",
        ),
    ],
)
def test_bad_tables(
    file: Path, columns: dict[str, list[object]], options: dict[str, str], message: str, hint: str
) -> None:
    table(file, columns)
    with pytest.raises(BadInput, match=message) as caught:
        listed(file, **options)
    assert hint in caught.value.hint


def test_files_that_a_table_lists_in_vain(file: Path) -> None:
    wanted: list[object] = [PATHS[0], "img/9.png", "img", None, "x" * 5000]
    listing = listed(table(file, {"path": wanted, "label": list("ababa")}))
    assert len(listing.samples) == 1
    assert [bad.reason for bad in listing.unreadable] == [
        "file does not exist",
        "it is a folder, not a file",
        "the path is empty",
        "file does not exist",
    ]


def test_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    picture(tmp_path / "a,b.png")
    (tmp_path / "t.csv").write_bytes("\ufeffpath;label\r\na,b.png;Käse\r\n\r\n".encode())
    assert answers(listed(tmp_path / "t.csv"), tmp_path) == {"a,b.png": ("", "Käse")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"path,label\n", "has no rows"),
        (b"path,label\na.png,b,c\n", "row 1 has 3 cells"),
        (b"path,label,label\n", "several columns named 'label'"),
        (b"path,label\nK\xe4se.png,b\n", "not UTF-8"),
    ],
)
def test_files_that_are_no_csv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        listed(tmp_path / "t.csv")


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BadInput, match="not a readable Parquet"):
        listed(tmp_path / "t.parquet")
