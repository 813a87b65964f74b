"""Copies are found and laid over each other; neighbours are found without comparing each with each."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from headstart.auditing.alignment import matches
from headstart.auditing.duplicates import SAME, clusters, hashes, near_duplicates, needed
from headstart.auditing.neighbours import SMALL, close_pairs, projected, unit
from tests.auditing.pictures import COPIES, scene, thumbs

SCENES = 40


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(kind: str) -> None:
    pictures = [scene(seed) for seed in range(SCENES)]
    copies = [COPIES[kind](image) for image in pictures[:10]]
    found = near_duplicates(thumbs(pictures + copies))
    assert found.pairs.tolist() == [[number, SCENES + number] for number in range(10)]
    assert found.score.min() > 0.9
    assert found.mirrored.tolist() == [kind == "mirror"] * 10


def test_features_bring_candidates_but_do_not_decide() -> None:
    small = thumbs([scene(seed) for seed in range(SCENES)])
    alike = np.tile(np.random.default_rng(0).standard_normal(16).astype(np.float32), (SCENES, 1))
    alike += 0.01 * np.random.default_rng(1).standard_normal(alike.shape).astype(np.float32)
    found = near_duplicates(small, alike)
    assert found.looked > near_duplicates(small).looked
    assert len(found.pairs) == 0


def test_plain_surfaces_are_no_copies() -> None:
    plain = np.full((6, 32, 32), 200, np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None]
    assert len(near_duplicates(plain).pairs) == 0


def test_digits_are_not_each_others_copies() -> None:
    """Thousands of pairs of ones and zeros correlate above 0.88; a copy among them is still found."""
    sets = pytest.importorskip("sklearn.datasets")
    digits = [Image.fromarray((image * 15).astype(np.uint8)) for image in sets.load_digits().images[:300]]
    small = thumbs([*digits, digits[0]])
    assert len(near_duplicates(small, same=SAME).pairs) > 50
    found = near_duplicates(small)
    assert found.same > 0.99
    assert [0, 300] in found.pairs.tolist()
    assert len(found.pairs) <= 3


def test_a_video_does_not_hide_its_own_copies() -> None:
    """Half of the pictures are of two scenes: what is asked of a pair stays what photos ask."""
    scenes = [scene(seed) for seed in range(20)]
    frames = [COPIES[kind](scene(50 + which)) for which in range(2) for kind in COPIES for _ in range(2)]
    assert needed(thumbs(scenes + frames)) == pytest.approx(needed(thumbs(scenes)), abs=0.03)


def test_same_composition_is_not_the_same_picture() -> None:
    """Sky above, ground below: the coarse shades agree, the details do not."""
    rng = np.random.default_rng(0)
    shade = np.linspace(200, 60, 32)[None, :, None]
    small = np.clip(shade + rng.normal(0, 8, (12, 32, 32)), 0, 255).astype(np.uint8)
    pairs = np.stack(np.triu_indices(12, 1), 1)
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.9
    assert matches(small, pairs).score.max() < 0.5 * SAME


def test_alignment_finds_a_known_shift() -> None:
    """Two windows of one larger picture, two pixels apart."""
    large = np.asarray(scene(3, size=40).convert("L"))
    pair = np.stack([large[:32, :32], large[1:33, 2:34]])
    aligned = float(matches(pair, np.array([[0, 1]])).score[0])
    as_they_lie = np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1]
    assert aligned > 0.97 > as_they_lie


def test_hash_of_the_mirror_image() -> None:
    small = thumbs([scene(seed) for seed in range(5)])
    plain, turned = hashes(small)
    again, _ = hashes(small[:, :, ::-1].copy())
    np.testing.assert_allclose(turned, again, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-5)


def test_small_sets_are_compared_completely() -> None:
    rows = unit(np.random.default_rng(0).standard_normal((300, 8)))
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -1)
    expected = {tuple(sorted(pair)) for pair in np.argwhere(cosine >= 0.7).tolist()}
    found = close_pairs(rows, most=300, floor=0.7)
    assert {tuple(pair) for pair in found.tolist()} == expected
    assert (found[:, 0] < found[:, 1]).all()


def test_neighbours_among_many() -> None:
    """Planted neighbours at a cosine of about 0.8 are found, and time does not grow with the square."""
    rng = np.random.default_rng(0)
    seconds, recalls = [], []
    for count in (3 * SMALL, 12 * SMALL):
        base = rng.standard_normal((count, 48)).astype(np.float32)
        near = base[:400] + 0.75 * rng.standard_normal((400, 48)).astype(np.float32)
        rows = unit(np.concatenate([base, near]))
        started = time.process_time()
        found = close_pairs(rows, most=4, floor=0.6)
        seconds.append(time.process_time() - started)
        told = {tuple(pair) for pair in found.tolist()}
        recalls.append(np.mean([(number, count + number) in told for number in range(400)]))
    assert min(recalls) > 0.85, recalls
    assert seconds[1] < 10 * seconds[0], seconds


def test_a_row_has_its_nearest_few_however_many_cells_there_are() -> None:
    """Not so many for each cell; nine of ten rows that are close to others get the closest of all."""
    rows = unit(np.random.default_rng(0).standard_normal((3 * SMALL, 6)))
    found = close_pairs(rows, most=3, floor=0.5)
    assert len(found) <= 3 * len(rows)
    some = np.arange(0, len(rows), 40)
    cosine = rows[some] @ rows.T
    cosine[np.arange(len(some)), some] = -1
    told = {tuple(pair) for pair in found.tolist()}
    hits = [
        tuple(sorted(pair)) in told for pair in zip(some.tolist(), cosine.argmax(1).tolist(), strict=True)
    ]
    assert np.mean(hits) > 0.9


def test_rows_that_are_all_alike_end() -> None:
    """A cell that no pivot can cut is gone through in pieces."""
    rows = np.tile(unit(np.random.default_rng(0).standard_normal((4, 8)))[:1], (3 * SMALL, 1))
    found = close_pairs(rows, most=3, floor=0.5)
    assert len(np.unique(found)) == 3 * SMALL


def test_projection_keeps_close_rows_close() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 1280)).astype(np.float32)
    rows[1] = rows[0] + 0.2 * rng.standard_normal(1280).astype(np.float32)
    short = projected(rows)
    assert short.shape == (200, 256)
    assert short[0] @ short[1] > 0.95
    assert abs(short[2] @ short[3]) < 0.3


def test_clusters() -> None:
    assert clusters(np.array([[0, 3], [3, 5], [1, 2]]), 6).tolist() == [0, 1, 1, 0, 2, 0]
    assert clusters(np.zeros((0, 2), np.int64), 3).tolist() == [0, 1, 2]
