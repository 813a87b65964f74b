"""`headstart cache info|clear`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstart._core.places import KINDS, cache_folder, cache_root
from headstart._core.store import RowStore
from headstart.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `headstart cache …`."""
    with pytest.raises(SystemExit) as left:
        main(["cache", *words])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def fill() -> None:
    """Seven rows in two files of the feature cache, and one file of 10 bytes of each other kind."""
    rows = RowStore("x", shape=(4,), dtype=np.float32)
    keys = np.frombuffer(bytes(range(7 * 32)), "S32")
    rows.add(keys[:4], np.zeros((4, 4), np.float32))
    rows.add(keys[4:], np.zeros((3, 4), np.float32))
    for kind in KINDS.keys() - {"features"}:
        path = cache_folder(kind) / "deep" / "file"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"0123456789")


FEATURE_BYTES = 2 * 64 + 7 * (32 + 4 + 16)  # header; key, checksum and row


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "2GB")
    code, out, _ = run(capsys, "info", "--json")
    assert (code, json.loads(out)["bytes"]) == (0, 0)
    assert not cache_root().exists(), "to look changes nothing"
    fill()
    told = json.loads(run(capsys, "info", "--json")[1])
    assert (told["path"], told["feature_limit"]) == (str(cache_root()), 2_000_000_000)
    assert told["bytes"] == FEATURE_BYTES + 10 * (len(KINDS) - 1)
    assert told["kinds"]["features"] == {
        "path": str(cache_folder("features")),
        "bytes": FEATURE_BYTES,
        "entries": 7,
    }
    assert told["kinds"]["weights"]["entries"] == 1
    code, out, _ = run(capsys, "info")
    assert code == 0
    assert "2.0 GB" in out
    assert all(kind in out for kind in KINDS)


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ((), {"features", "compute"}),
        (("--kind", "features"), {"features"}),
        (("--kind", "datasets"), {"datasets"}),
        (("--kind", "all"), set(KINDS)),
    ],
)
def test_clear(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], gone: set[str]) -> None:
    fill()
    (cache_root() / "mine.txt").write_text("not headstart's")
    code, out, _ = run(capsys, "clear", *words, "--json")
    told = json.loads(out)
    assert code == 0
    assert set(told["kinds"]) == gone
    assert told["bytes_freed"] == sum(FEATURE_BYTES if kind == "features" else 10 for kind in gone)
    assert sum(each["entries"] for each in told["kinds"].values()) == sum(
        7 if kind == "features" else 1 for kind in gone
    )
    assert {kind for kind in KINDS if not cache_folder(kind).exists()} == gone
    assert (cache_root() / "mine.txt").exists()
    code, out, _ = run(capsys, "clear", *words)
    assert code == 0
    assert "0 B freed" in out


def test_links_are_not_followed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    cache_folder("weights").mkdir(parents=True)
    (cache_folder("weights") / "link").symlink_to(elsewhere / "precious")
    (cache_folder("weights") / "folder").symlink_to(elsewhere, target_is_directory=True)
    assert run(capsys, "clear", "--kind", "all")[0] == 0
    assert (elsewhere / "precious").exists()


def test_what_may_not_be_deleted_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    code, _, err = run(capsys, "clear", "--kind", "weights")
    assert code == 1
    assert "could not be deleted" in err
    assert "Permission denied" in err


@pytest.mark.parametrize(
    ("words", "limit", "told"),
    [
        (("clear", "--kind", "fetures"), "", "Did you mean 'features'?"),
        (("info",), "lots", "HEADSTART_CACHE_LIMIT does not understand 'lots'"),
    ],
)
def test_wrong_use(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    limit: str,
    told: str,
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", limit)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert told in " ".join(err.split())


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from headstart.cli import main\n"
        "try: main(['cache', 'info', '--json'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
