"""Rows on disk, shared by processes that may be killed at any moment, and what damage does to them."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from headstart._core import cache, segments, store
from headstart._core.errors import BadInput, BadOption
from headstart._core.places import cache_folder, cache_root, feature_limit, parse_size, told_size
from headstart._core.segments import Keys, Rows
from headstart._core.store import RowStore, namespace, row_keys
from tests.core import row_worker
from tests.core.row_worker import some_keys, true_rows

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that the store gave."""
    out: list[str] = []
    monkeypatch.setattr(store, "warn", out.append)
    return out


def opened(name: str = "a") -> RowStore:
    return RowStore(namespace(test=name), shape=row_worker.SHAPE, dtype=row_worker.DTYPE)


def filled(numbers: range, name: str = "a") -> RowStore:
    out = opened(name)
    out.add(some_keys(numbers), true_rows(some_keys(numbers)))
    return out


def read(rows: RowStore, keys: Keys) -> tuple[list[bool], Rows]:
    """(which are there, their rows), each row found being compared with what it must be."""
    out = np.full((len(keys), *rows.kind.shape), -1, rows.kind.dtype)
    there = rows.read(keys, out)
    assert (out[there] == true_rows(keys[there])).all()
    assert (out[~there] == -1).all()
    return there.tolist(), out


def files_of(name: str = "") -> list[Path]:
    return sorted(cache_folder("features").glob(f"{name and namespace(test=name)}*/*.rows"))


def test_rows_come_back_to_this_process_and_to_the_next() -> None:
    first = filled(range(5))
    first.add(some_keys(range(10, 12)), true_rows(some_keys(range(10, 12))))
    asked = some_keys(np.array([11, 3, 7, 3, 0]))
    for rows in (first, opened()):
        assert read(rows, asked)[0] == [True, True, False, True, True]
        assert rows.has(asked).tolist() == [True, True, False, True, True]


def test_rows_go_where_they_are_wanted() -> None:
    rows, out = filled(range(3)), np.zeros((6, *row_worker.SHAPE), np.float32)
    assert rows.read(some_keys(range(4)), out, at=np.array([5, 0, 2, 1])).tolist() == [True] * 3 + [False]
    expected = true_rows(some_keys(range(3)))
    assert (out[[5, 0, 2]] == expected).all()
    assert not out[[1, 3, 4]].any()


@pytest.mark.parametrize("shape", [(7,), (2, 3), (5, 2, 3), (1, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: type) -> None:
    rows, keys = RowStore("x", shape=shape, dtype=dtype), some_keys(range(4))
    values: Rows = np.random.default_rng(0).uniform(0, 200, (4, *shape)).astype(dtype)
    rows.add(keys, values)
    out = np.empty_like(values)
    assert RowStore("x", shape=shape, dtype=dtype).read(keys, out).all()
    assert (out == values).all()
    with pytest.raises(ValueError, match="do not fit"):
        rows.add(keys, values[:3])
    assert not RowStore("x", shape=(*shape[:-1], 99), dtype=dtype).has(keys).any()


def test_names_and_keys_tell_everything_apart() -> None:
    assert namespace(a=1, b=(2.5, "x")) == namespace(b=[2.5, "x"], a=1)
    assert len({namespace(a=1), namespace(a=2), namespace(b=1), namespace(a=1, b=1)}) == 4
    digests = ["00" * 32, "ab" * 31 + "00"]  # NumPy's strings end at trailing zeros; keys must not
    plain = row_keys(digests)
    assert plain.tobytes().hex() == "".join(digests)
    assert (
        len({*row_keys(digests, view=1).tolist(), *row_keys(digests, view=2).tolist(), *plain.tolist()}) == 6
    )
    rows = RowStore("y", shape=(1,), dtype=np.int32)
    rows.add(plain, np.array([[1], [2]], np.int32))
    out = np.zeros((2, 1), np.int32)
    assert rows.read(plain[::-1], out).all()
    assert out.ravel().tolist() == [2, 1]


@pytest.mark.parametrize("digest", ["", "abcd", "zz" * 32])
def test_an_image_without_a_digest_has_no_key(digest: str) -> None:
    with pytest.raises(BadInput, match="digest"):
        row_keys(["ab" * 32, digest])


def flip(part: float) -> Callable[[bytes], bytes]:
    """Damage that inverts the byte at that share of the file."""

    def damage(data: bytes) -> bytes:
        place = int(part * (len(data) - 1))
        return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]

    return damage


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "magic": flip(0.0),
    "count": lambda data: data[:8] + b"\xff" * 8 + data[16:],
    "header": lambda data: data[:20] + b"\x07" + data[21:],
    "key": lambda data: data[:70] + bytes([data[70] ^ 1]) + data[71:],
    "checksum": lambda data: data[: 64 + 32 * 8] + bytes(4) + data[64 + 32 * 8 + 4 :],
    "first row": lambda data: data[: 64 + 36 * 8] + b"\x11\x11" + data[64 + 36 * 8 + 2 :],
    "middle": flip(0.6),
    "last byte": flip(1.0),
    "cut": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "header only": lambda data: data[:64],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"x",
    "garbage": lambda data: random.Random(0).randbytes(len(data)),
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("already_open", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_never_returned(damage: str, already_open: bool, told: list[str]) -> None:
    rows, keys = filled(range(8)), some_keys(range(8))
    (path,) = files_of()
    good = path.read_bytes()
    with path.open("r+b") as stream:  # in place, so that a map of the file sees it
        stream.write(DAMAGE[damage](good))
        stream.truncate()
    if not already_open:
        rows = opened()
    there, _ = read(rows, keys)  # compares whatever is returned with what it must be
    # An open store has its own copy of the index: it is not misled by damage there, and its rows are sound.
    index_alone = already_open and damage in ("magic", "count", "header", "key", "checksum")
    assert all(there) is index_alone
    assert path.exists() is index_alone
    assert bool(told) is not index_alone
    rows.add(keys, true_rows(keys))
    assert all(read(rows, keys)[0])
    assert all(read(opened(), keys)[0])


def test_a_row_damaged_in_one_file_is_found_in_another(told: list[str]) -> None:
    filled(range(4))
    (path,) = files_of()
    damaged = bytearray(path.read_bytes())
    second = opened("b")
    second.add(some_keys(range(4)), true_rows(some_keys(range(4))))
    (sound,) = files_of("b")
    sound.rename(path.with_name("sound.rows"))
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert all(read(opened(), some_keys(range(4)))[0])


def test_a_key_in_two_files_is_looked_up_once() -> None:
    first, second = opened(), filled(range(4), "b")
    first.add(some_keys(range(2, 6)), true_rows(some_keys(range(2, 6))))
    hits = list(store._hits(first._segments + second._segments, some_keys(range(6))))
    assert sorted(np.concatenate([positions for _, positions, _ in hits]).tolist()) == list(range(6))


def test_a_foreign_kind_of_row_is_not_taken(told: list[str]) -> None:
    filled(range(4))
    (path,) = files_of()
    other = RowStore(namespace(test="a"), shape=(96,), dtype=np.float16)  # as many bytes, another shape
    other.add(some_keys(range(9, 10)), np.zeros((1, 96), np.float16))
    foreign = next(each for each in files_of() if each != path)
    foreign.with_name("taken.rows").write_bytes(path.read_bytes())
    fresh = RowStore(namespace(test="a"), shape=(96,), dtype=np.float16)
    assert fresh.has(some_keys(range(10))).tolist() == [False] * 9 + [True]
    assert len(told) == 1


def test_small_files_are_merged_and_no_reader_loses_a_row() -> None:
    writer, early, seen = opened(), opened(), 0
    for number in range(60):
        keys = some_keys(range(number, number + 3))  # overlapping: merging leaves each key once
        writer.add(keys, true_rows(keys))
        if number % 3 == 0:
            assert all(read(early, keys)[0])
        assert all(read(early, some_keys(range(seen, number + 3)))[0])
        seen = number
        assert all(read(opened(), some_keys(range(number + 3)))[0])
        assert len(files_of()) < 16
    assert all(read(early, some_keys(range(62)))[0])
    assert len(early._segments) < 32, "files that were merged away stay mapped"


def test_a_reader_that_maps_old_files_keeps_them_though_nothing_replaces_them() -> None:
    filled(range(4))
    early = opened()
    assert all(read(early, some_keys(range(4)))[0])
    files_of()[0].unlink()
    assert all(read(early, some_keys(range(4)))[0])
    assert not any(read(opened(), some_keys(range(4)))[0])


def test_news_are_what_others_added_since_the_last_read() -> None:
    mine, other = filled(range(3)), opened()
    assert not mine.news()
    other.add(some_keys(range(3, 5)), true_rows(some_keys(range(3, 5))))
    assert [mine.news(), mine.news(), other.news()] == [True, True, True]
    assert all(read(mine, some_keys(range(5)))[0])
    assert not mine.news()
    mine.add(some_keys(range(5, 6)), true_rows(some_keys(range(5, 6))))
    assert not mine.news()


def test_merging_waits_for_nobody() -> None:
    rows = filled(range(1))
    with FileLock(files_of()[0].with_name(".lock")):
        for number in range(20):
            rows.add(some_keys(range(number, number + 1)), true_rows(some_keys(range(number, number + 1))))
        assert len(files_of()) == 21
    rows.add(some_keys(range(20, 21)), true_rows(some_keys(range(20, 21))))
    assert len(files_of()) == 1
    assert all(read(opened(), some_keys(range(21)))[0])


def test_a_damaged_row_is_not_merged(told: list[str]) -> None:
    rows = filled(range(2))
    (path,) = files_of()
    data = path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(data[:-1] + bytes([data[-1] ^ 1]))
    for number in range(2, 40):
        rows.add(some_keys(range(number, number + 1)), true_rows(some_keys(range(number, number + 1))))
    assert not path.exists()
    assert len(told) == 1
    assert len(files_of()) < 17
    assert read(opened(), some_keys(range(40)))[0] == [False] * 2 + [True] * 38


def test_the_least_recently_used_leave_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for age, name in enumerate("abcd"):
        filled(range(100), name)  # some 23 kB each
        for path in files_of(name):
            os.utime(path, (now - 1000 + age, now - 1000 + age))
    gc.collect()  # the stores of "earlier processes" are gone
    reader = opened("a")
    assert all(read(reader, some_keys(range(100)))[0])  # the oldest is used again
    del reader
    gc.collect()
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "80kB")
    filled(range(100), "e")
    kept = [name for name in "abcde" if files_of(name)]
    assert kept == ["a", "d", "e"]
    assert sum(path.stat().st_size for path in files_of()) <= 80_000


def test_what_this_process_uses_is_never_evicted(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "80kB")
    stores = {name: filled(range(100), name) for name in "abcde"}
    assert [name for name in "abcde" if files_of(name)] == ["a", "b", "c"]
    assert len(told) == 2
    assert "HEADSTART_CACHE_LIMIT" in told[0]
    for rows in stores.values():
        assert all(read(rows, some_keys(range(100)))[0]), "the others stay in memory"
    stores["e"].add(some_keys(range(100, 101)), true_rows(some_keys(range(100, 101))))
    assert all(read(stores["e"], some_keys(range(101)))[0])
    assert len(told) == 2, "one warning is enough"


def test_another_ones_newer_file_leaves_before_an_older_one_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = filled(range(100), "a")
    filled(range(100), "b")
    gc.collect()  # b's process has ended
    for age, name in ((900, "a"), (10, "b")):
        os.utime(files_of(name)[0], (time.time() - age,) * 2)
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "60kB")
    filled(range(100), "c")
    assert [name for name in "abc" if files_of(name)] == ["a", "c"]
    assert all(read(mine, some_keys(range(100)))[0])


def test_without_a_cache_nothing_is_written_and_nothing_deleted(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    filled(range(3))
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "0")
    rows = filled(range(3, 5))
    assert all(read(rows, some_keys(range(5)))[0])
    assert len(files_of()) == 1
    assert not told


def test_a_folder_that_cannot_be_made(told: list[str]) -> None:
    cache_root().mkdir(parents=True)
    cache_folder("features").write_text("a file in the folder's place")
    rows = filled(range(3))
    rows.add(some_keys(range(3, 5)), true_rows(some_keys(range(3, 5))))
    assert read(rows, some_keys(range(6)))[0] == [True] * 5 + [False]
    assert len(told) == 1
    assert "memory only" in told[0]


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    rows = filled(range(3))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    rows.add(some_keys(range(3, 5)), true_rows(some_keys(range(3, 5))))
    assert all(read(rows, some_keys(range(5)))[0])
    assert len(told) == 1
    assert "disk is full" in told[0]
    assert [path.name for path in files_of()[0].parent.iterdir()] == [files_of()[0].name]


def test_the_cache_is_cleared_while_a_process_writes(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    rows, synced = filled(range(3)), os.fsync
    cleared: list[cache.Usage] = []

    def clear_first(handle: int) -> None:
        if not cleared:
            cleared.append(cache.clear("features"))
            assert not cache_folder("features").exists()
        synced(handle)

    monkeypatch.setattr(os, "fsync", clear_first)
    rows.add(some_keys(range(3, 5)), true_rows(some_keys(range(3, 5))))
    assert cleared[0].entries == 3
    assert all(read(rows, some_keys(range(5)))[0])
    assert read(opened(), some_keys(range(5)))[0] == [False] * 3 + [True] * 2
    assert not told


def test_temporary_files_of_killed_processes_are_removed() -> None:
    filled(range(1))
    folder = files_of()[0].parent
    old, young = folder / ".x.rows.abc.tmp", folder / ".y.rows.abc.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    filled(range(1), "b")
    assert [old.exists(), young.exists()] == [False, True]


def test_ten_processes_three_killed(tmp_path: Path) -> None:
    """Whatever was reported as added is there and right; nothing is damaged; nobody had to give up the disk."""
    chance = random.Random(time.time_ns())
    outputs = [tmp_path / f"out{seed}" for seed in range(10)]
    processes = []
    for seed, output in enumerate(outputs):
        with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
            command = [sys.executable, "-m", "tests.core.row_worker", str(seed)]
            processes.append(subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT))
    for victim in (1, 4, 7):
        while not outputs[victim].stat().st_size and processes[victim].poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.05))
        processes[victim].send_signal(signal.SIGKILL)
    codes = [process.wait(timeout=60) for process in processes]
    assert [output.with_suffix(".err").read_text() for output in outputs] == [""] * 10
    assert [code for seed, code in enumerate(codes) if seed not in (1, 4, 7)] == [0] * 7
    assert -signal.SIGKILL in (codes[1], codes[4], codes[7]), "nobody was killed in time"
    lines = [line for output in outputs for line in output.read_text().splitlines(keepends=True)]
    promised = {int(word) for line in lines if line.endswith("\n") for word in line.split()}
    assert len(lines) > 7 * row_worker.GROUPS
    keys = some_keys(np.arange(row_worker.KEYS))
    there, _ = read(row_worker.the_store(), keys)
    assert promised <= set(np.flatnonzero(there).tolist())
    paths = files_of()
    for path in paths:
        segment = segments.opened(path, row_worker.the_store().kind)
        assert (segment.rows == true_rows(segment.keys)).all()
    assert len(paths) < len(lines) / 4, "nothing was merged"


def test_where_the_cache_is_and_how_large_it_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder("weights") == tmp_path / "cache" / "weights"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HEADSTART_CACHE")
    assert cache_root() == tmp_path / ".cache" / "headstart"
    monkeypatch.setenv("HEADSTART_CACHE", "~/elsewhere")
    assert cache_root() == tmp_path / "elsewhere"
    assert 0 < feature_limit() <= 5_000_000_000
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "1.5 MB")
    assert feature_limit() == 1_500_000
    assert told_size(1_500_000) == "1.5 MB"
    with pytest.raises(BadOption):
        cache_folder("wieghts")


@pytest.mark.parametrize("text", ["", "much", "-5GB", "5XB", "GB", "1e9", "5 GB GB"])
def test_sizes_that_make_no_sense(text: str) -> None:
    with pytest.raises(BadOption, match="HEADSTART_CACHE_LIMIT"):
        parse_size(text)
