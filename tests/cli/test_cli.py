"""The command line's manners: help, JSON alone on standard output, exit codes, speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.cli.app import COMMANDS
from tests.cli.bad_input import call, fruit, make_run

HEADSTART = [sys.executable, "-c", "from headstart.cli import main; main()"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `fruit` and a finished run `done`."""
    folder = tmp_path_factory.mktemp("cli").resolve()
    make_run(folder)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"headstart {name}" in out
    assert COMMANDS[name].summary.split(":")[0].rstrip(".").split()[0] in out


def test_fit_has_the_flags_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["fit", "--help"]) == 0
    out = capsys.readouterr().out
    for flag in (
        "--val",
        "--test",
        "--method",
        "--weights",
        "--budget",
        "--seed",
        "--out",
        "--json",
        "--resume",
    ):
        assert f"{flag} " in out, flag


@pytest.mark.parametrize(
    "words",
    [
        "audit fruit --json",
        "plan fruit --method linear-probe --weights random:test_resnet --json",
        "evaluate done fruit --json",
        "evaluate done fruit --out scores/e.json --json",
        "report done --json",
        "weights show bundled:efficientnet_lite0 --json",
        "predict done fruit/apple/0.png --out rows/x.csv --json",
        "fit fruit --method linear-probe --weights random:test_resnet --json --out again",
    ],
)
def test_json_is_alone_on_standard_output(
    words: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert call(words.split()) == 0
    assert isinstance(json.loads(capfd.readouterr().out), dict)


def test_prediction_rows(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    Path("zero.png").write_bytes(b"")
    assert call(["predict", "done", "fruit/apple", "zero.png", "--json", "--top-k", "2"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    keys = ["path", "class", "probability", "top_k", "error", "set", "unlike", "novelty"]
    assert [list(row) for row in rows] == [keys] * 9
    assert rows[-1] == {
        "path": "zero.png",
        "class": None,
        "probability": None,
        "top_k": [],
        "error": rows[-1]["error"],
        "set": None,
        "unlike": None,
        "novelty": None,
    }
    assert "empty file" in rows[-1]["error"]
    for row in rows[:-1]:
        assert row["error"] is None
        assert row["top_k"][0] == {"class": row["class"], "probability": row["probability"]}
        assert [each["probability"] for each in row["top_k"]] == sorted(
            (each["probability"] for each in row["top_k"]), reverse=True
        )


def test_predict_writes_the_same_rows_in_every_format(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import csv

    from pyarrow import parquet

    monkeypatch.chdir(place)
    for ending in ("csv", "jsonl", "parquet"):
        assert call(["predict", "done", "fruit/pear", "--out", f"rows.{ending}"]) == 0
    plain = [json.loads(line) for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()]
    with Path("rows.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert len(plain) == 8
    assert parquet.read_table("rows.parquet").to_pylist() == plain
    assert [(row["path"], row["class"], float(row["probability"])) for row in table] == [
        (row["path"], row["class"], row["probability"]) for row in plain
    ]
    assert [json.loads(row["top_k"]) for row in table] == [row["top_k"] for row in plain]
    assert {row["error"] for row in table} == {""}


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [*HEADSTART, "audit", "nowhere", "--debug"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "BadInput" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_and_closed_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fruit()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*HEADSTART, "audit", "fruit"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    read, write = os.pipe()
    os.close(read)  # as `head` leaves it
    piped = subprocess.run([*HEADSTART, "audit", "fruit"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (piped.returncode, piped.stderr) == (0, b"")


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys, time\nfrom headstart.cli import main\ntry:\n    main(['--help'])\nfinally:\n"
        "    heavy = {'torch', 'timm', 'sklearn', 'pyarrow', 'scipy', 'numpy'} & set(sys.modules)\n"
        "    print('heavy', heavy, time.process_time(), file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("heavy set() "), done.stderr
        seconds.append(float(done.stderr.split()[-1]))
    assert min(seconds) < 0.8, seconds  # of the processor: other programs on the machine do not count


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "fti"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "fit" in done.stderr
