"""The distance to the pretraining domain: against direct computation, on real domains, and what must not move it."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from headstart import similarity, weights
from headstart._core.errors import BadInput, BadWeights
from headstart.data.find import find_images
from headstart.data.images import open_rgb
from headstart.data.records import Sample
from headstart.pixels import contract_pixels, normalise
from headstart.similarity import Distance, Moments, Place, Reference, standing
from headstart.similarity.distance import class_weights, distance_of, even_choice
from headstart.similarity.moments import _channel_axis
from headstart.weights import Backbone

LITE0 = "bundled:efficientnet_lite0"
SCRIPT = Path(__file__).resolve().parent.parent / "bench" / "calibrate_distance.py"


def at(backbone: Backbone, size: int) -> Backbone:
    """The same network on smaller pictures, for speed."""
    return replace(backbone, info=replace(backbone.info, preprocess=backbone.info.preprocess.at(size)))


def blobs(count: int, *, seed: int = 0, scale: float = 1.0) -> list[Sample]:
    """Smooth coloured pictures."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.normal(120, 50 * scale, (count, 6, 6, 3)), 0, 255).astype(np.uint8)
    return [Sample(name=f"memory:{place}", source=image) for place, image in enumerate(coarse)]


def noise(count: int) -> list[Sample]:
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)
    return [Sample(name=f"memory:{place}", source=image) for place, image in enumerate(pixels)]


def spaced(folder: Path, count: int) -> list[Sample]:
    found = find_images([folder])
    return [found[place] for place in np.linspace(0, len(found) - 1, count).round().astype(int)]


def as_if_trained(backbone: Backbone) -> Backbone:
    """Random weights that claim to come from a file."""
    return replace(backbone, info=replace(backbone.info, objective="supervised", sha256="ab" * 32))


@pytest.fixture(scope="module")
def lite() -> Backbone:
    return weights.load(LITE0)


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return as_if_trained(weights.blank("vit_tiny_patch16_224"))


# the formula and the moments


def test_symmetric_kl_against_torch() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50)), rng.uniform(0.1, 4, (2, 50))
    one, other = (Normal(torch.tensor(a[k]), torch.tensor(b[k])) for k in (0, 1))
    expected = kl_divergence(one, other) + kl_divergence(other, one)
    found = similarity.symmetric_kl(a[0], b[0] ** 2, a[1], b[1] ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("arch", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_moments_are_those_of_the_activations(arch: str) -> None:
    backbone = weights.blank(arch)
    backbone = backbone if arch.startswith("vit") else at(backbone, 64)
    samples = blobs(3 if arch.startswith("vit") else 19)  # 19: more than a batch, and an uneven one
    if backbone.norms:
        places = [Place(module=name, side="input") for name in backbone.norms[::5]]
    else:
        places = [Place(module=s.output, side="output", channels=s.channels) for s in backbone.stages[::2]]
    found = similarity.image_moments(backbone, samples, places=places)
    seen: dict[str, torch.Tensor] = {}
    for place in places:
        backbone.module.get_submodule(place.module).register_forward_hook(
            lambda _, given, made, place=place: seen.update(
                {place.module: (given[0] if place.side == "input" else made).double()}
            )
        )
    pixels = np.stack([contract_pixels(open_rgb(s.source), backbone.info.preprocess) for s in samples])
    with torch.no_grad():
        backbone.module(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), backbone.info.preprocess))
    assert [place.module for place in found.places] == list(seen)
    for place, means, within in zip(places, found.means, found.variances, strict=True):
        dims = (1,) if arch.startswith("vit") and seen[place.module].ndim == 3 else (2, 3)
        variance, mean = torch.var_mean(seen[place.module], dims, correction=0)
        size = float(variance.mean().sqrt())
        np.testing.assert_allclose(means, mean, atol=1e-4 * size, rtol=1e-4)
        np.testing.assert_allclose(within, variance, atol=1e-4 * size**2, rtol=1e-3)


def test_variance_survives_a_mean_that_is_large_against_it() -> None:
    """A constant of 1000 on a spread of 0.1: float32 squares alone would lose the variance wholly."""
    backbone = at(weights.blank("resnet18"), 64)
    conv, name = backbone.module.get_submodule("conv1"), "bn1"
    conv.register_forward_hook(lambda _, __, made: made / made.std() * 0.1 + 1000)
    found = similarity.image_moments(backbone, blobs(12), places=[Place(module=name, side="input")])
    total = found.variances[0].mean(0) + found.means[0].var(0)
    assert np.sqrt(total.mean()) == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize(
    ("shape", "channels", "axis"),
    [
        ((2, 40, 7, 7), 40, 1),
        ((2, 7, 7, 40), 40, 3),
        ((2, 197, 192), 192, 2),
        ((2, 192, 49), 192, 1),
        ((2, 64), 64, 1),
        ((2, 40, 7, 7), 0, 1),
        ((2, 197, 192), 0, 2),
    ],
)
def test_the_axis_of_the_channels(shape: tuple[int, ...], channels: int, axis: int) -> None:
    assert _channel_axis(shape, channels) == axis


def test_measuring_leaves_the_network_as_it_was() -> None:
    backbone = at(weights.blank("resnet18"), 64)
    backbone.module.train()
    backbone.module.get_submodule("layer1").eval()
    modes = [module.training for module in backbone.module.modules()]
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    similarity.image_moments(backbone, blobs(4), places=[Place(module="bn1", side="input")])
    assert [module.training for module in backbone.module.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in backbone.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())


def test_half_precision_gives_nearly_the_same() -> None:
    full = at(weights.blank("resnet18"), 64)
    half = replace(full, module=at(weights.blank("resnet18"), 64).module.to(torch.bfloat16))
    places = [Place(module=name, side="input") for name in full.norms]
    one, other = (similarity.image_moments(each, blobs(8), places=places) for each in (full, half))
    for a, b in zip(one.means, other.means, strict=True):
        np.testing.assert_allclose(a, b, atol=0.05 * float(np.abs(a).max()))


# the distance of given moments


def drawn(n: int, seed: int, *, shift: float = 0.0) -> Moments:
    """Images of a synthetic domain: 12 places of 40 channels, image means N(shift, 0.5²), variance 0.75 in an image."""
    rng = np.random.default_rng(seed)
    places = tuple(Place(module=f"bn{k}", side="input") for k in range(12))
    means = tuple(rng.normal(shift, 0.5, (n, 40)) for _ in places)
    return Moments(places, means, tuple(np.full((n, 40), 0.75) for _ in places))


STANDARD = Reference(
    tuple(Place(module=f"bn{k}", side="input") for k in range(12)),
    (np.zeros(40),) * 12,
    (np.ones(40),) * 12,
    (1e-7,) * 12,
    "a normal distribution",
)


def even(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


def test_distance_of_a_known_shift() -> None:
    """Mean 0.6, variance 1 against N(0, 1): the symmetric divergence is 0.6² by hand, at every layer."""
    found = distance_of(drawn(4000, 0, shift=0.6), STANDARD, weights=even(4000))
    assert found.overall == pytest.approx(0.36, abs=0.01)
    assert found.per_layer == pytest.approx((0.36,) * 12, abs=0.03)
    assert (found.early, found.middle, found.late) == pytest.approx((0.36,) * 3, abs=0.01)
    assert found.n == 4000


def test_the_bootstrap_against_a_plain_one() -> None:
    moments = drawn(40, 3, shift=0.2)

    def raw(rows):
        out = []
        for means, within in zip(moments.means, moments.variances, strict=True):
            pooled = within[rows].mean(0) + means[rows].var(0)
            mean = means[rows].mean(0)
            one, other = Normal(torch.tensor(mean), torch.tensor(pooled).sqrt()), Normal(0.0, 1.0)
            out.append(float(np.median(kl_divergence(one, other) + kl_divergence(other, one))))
        return float(np.median(out))

    rng = np.random.default_rng(1)
    plain = raw(np.arange(40))
    again = np.array([raw(rng.integers(0, 40, 40)) for _ in range(200)])
    found = distance_of(moments, STANDARD, weights=even(40))
    assert found.overall == pytest.approx(2 * plain - again.mean(), abs=4 * again.std() / 10 * 1.3)
    assert found.high is not None
    assert found.overall is not None
    assert found.high - found.overall == pytest.approx(1.96 * again.std(), rel=0.3)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_the_number_of_images_moves_nothing_on_average(shift: float) -> None:
    """Without the correction 16 images of the reference's own domain would get 0.016, 256 of them 0.001."""
    truth = shift**2
    for n in (16, 64, 128, 256):
        found = [distance_of(drawn(n, seed, shift=shift), STANDARD, weights=even(n)) for seed in range(12)]
        mean = np.mean([each.overall for each in found if each.overall is not None])
        assert mean == pytest.approx(truth, abs=max(0.004, 0.06 * truth)), n


def test_still_channels_count_as_equal_and_nothing_is_infinite() -> None:
    moments = Moments(drawn(8, 0).places, (np.zeros((8, 40)),) * 12, (np.zeros((8, 40)),) * 12)
    still = replace(STANDARD, variances=(np.zeros(40),) * 12)
    assert distance_of(moments, still, weights=even(8)).overall == 0.0
    found = distance_of(moments, STANDARD, weights=even(8))
    assert found.overall is not None
    assert np.isfinite(found.overall)
    assert found.overall > 1e5


def test_few_layers_have_no_thirds() -> None:
    moments = drawn(20, 0)
    two = Moments(moments.places[:2], moments.means[:2], moments.variances[:2])
    found = distance_of(two, STANDARD, weights=even(20))
    assert found.late is None
    assert found.early is not None


# which images, and how much each counts


def labelled(counts: list[int]) -> list[Sample]:
    return [
        Sample(name=f"{label}/{k}", source=Path(f"{label}/{k}"), labels=(label,))
        for label, count in enumerate(counts)
        for k in range(count)
    ]


def test_the_choice_is_even_over_classes_and_at_random_inside() -> None:
    chosen = even_choice(labelled([500, 30, 4]), limit=60, seed=0)
    counts = np.bincount([sample.labels[0] for sample in chosen])
    assert counts.tolist() == [28, 28, 4]
    assert len({sample.name for sample in chosen}) == 60
    assert [s.name for s in even_choice(labelled([500, 30, 4]), limit=60, seed=1)] != [s.name for s in chosen]
    plain = [replace(sample, labels=()) for sample in labelled([50, 50])]
    assert len(even_choice(plain, limit=30, seed=0)) == 30


def test_classes_count_alike() -> None:
    assert class_weights(labelled([3, 1])) == pytest.approx([1 / 6] * 3 + [1 / 2])
    several = [replace(sample, labels=(0, 1)) for sample in labelled([3])]
    assert class_weights(several) == pytest.approx([1 / 3] * 3)


# real networks, real pictures


def test_the_order_of_domains(lite: Backbone, test_data: Path) -> None:
    """DESIGN's figures with 128 images: 0.009, 0.03, 0.32, 0.34, 2.6; and satellite scenes between the second and third."""
    folders = {
        "imagenet-sample": (32, 0.0, 0.017),
        "hymenoptera/train": (24, 0.015, 0.04),
        "rsscn7-satellite/train": (21, 0.06, 0.2),
        "cifar10-5k/train": (16, 0.22, 0.42),
        "bccd/JPEGImages": (6, 0.25, 0.43),
    }
    values = []
    for folder, (count, low, high) in folders.items():
        found = similarity.domain_distance(lite, spaced(test_data / folder, count))
        assert found.overall is not None
        assert low <= found.overall <= high, folder
        assert found.n == count
        values.append(found.overall)
    assert values[0] < values[1] < values[2] < min(values[3:])
    far = similarity.domain_distance(lite, noise(3))
    assert far.overall is not None
    assert 2.0 < far.overall < 3.2
    assert far.reference == "BatchNorm running statistics"


def test_real_images_size_of_sample_and_balance(lite: Backbone, test_data: Path) -> None:
    """Seven kinds of land use: from 64 images on the distance stays, and so it does when one class has most of them."""
    small, root = at(lite, 96), test_data / "rsscn7-satellite" / "train"
    kinds = sorted(path for path in root.iterdir() if path.is_dir())
    samples = [
        replace(sample, labels=(label,)) for label, kind in enumerate(kinds) for sample in spaced(kind, 28)
    ]
    reference, _ = similarity.reference_of(small)
    assert reference is not None
    moments = similarity.image_moments(small, samples, places=reference.places)

    def of(rows: np.ndarray, shares: np.ndarray | None = None) -> Distance:
        part = Moments(
            moments.places, *(tuple(a[rows] for a in each) for each in (moments.means, moments.variances))
        )
        own = class_weights([samples[row] for row in rows])
        return distance_of(part, reference, weights=own if shares is None else shares)

    rng = np.random.default_rng(0)
    each = np.arange(len(samples)).reshape(len(kinds), -1)
    whole = of(np.arange(len(samples)))
    assert whole.overall is not None
    for per_class in (9, 18):  # 63 and 126 images of 196
        found = [of(np.concatenate([rng.permutation(rows)[:per_class] for rows in each])) for _ in range(4)]
        assert np.mean([f.overall for f in found if f.overall is not None]) == pytest.approx(
            whole.overall, rel=0.1
        )
        assert all(f.low is not None and f.high is not None and f.low < whole.overall < f.high for f in found)
    balanced, plain = [], []
    for heavy in range(len(kinds)):  # 28 of one class, 8 of each other: 37 % instead of 14 %
        for _ in range(3):
            parts = [rng.permutation(own)[: 28 if label == heavy else 8] for label, own in enumerate(each)]
            rows = np.concatenate(parts)
            balanced.append(of(rows).overall)
            plain.append(of(rows, even(len(rows))).overall)
    by_class, without = (np.array(v, float).reshape(len(kinds), 3).mean(1) for v in (balanced, plain))
    assert by_class == pytest.approx(np.full(len(kinds), whole.overall), rel=0.15)
    assert np.ptp(without) > 2 * np.ptp(by_class)  # what class weights are for


def test_the_answer_is_the_same_twice(lite: Backbone) -> None:
    small = at(lite, 64)
    assert similarity.domain_distance(small, blobs(12)) == similarity.domain_distance(small, blobs(12))
    assert similarity.domain_distance(small, blobs(12), limit=5).n == 5


# no reference, no guess


def test_where_nothing_can_be_measured_the_reason_is_given(lite: Backbone, vit: Backbone) -> None:
    random = similarity.domain_distance(weights.blank("resnet18"), blobs(4))
    assert random.overall is None
    assert "random weights" in random.reason
    unfilled = similarity.domain_distance(as_if_trained(weights.blank("resnet18")), blobs(4))
    assert unfilled.overall is None
    assert "never filled" in unfilled.reason
    without = similarity.domain_distance(vit, blobs(4))
    assert without.overall is None
    assert "reference_statistics makes them" in without.reason
    single = similarity.domain_distance(lite, blobs(1))
    assert single.overall is None
    assert "two or more" in single.reason
    assert standing(single, weights=LITE0).level == "unknown"


def test_reference_statistics_are_kept_by_the_hash_of_the_weights() -> None:
    backbone = at(as_if_trained(weights.blank("convnext_atto")), 64)
    made = similarity.reference_statistics(backbone, blobs(96), made="96 blobs")
    path = similarity.save_reference(backbone, made)
    assert path.name == "ab" * 32 + ".npz"
    assert path.parent.name == "reference"
    kept = similarity.load_reference(backbone)
    assert kept is not None
    assert kept.made == "96 blobs"
    assert (
        [p.module for p in kept.places]
        == [p.module for p in made.places]
        == [s.output for s in backbone.stages]
    )
    for a, b in zip(kept.means + kept.variances, made.means + made.variances, strict=True):
        np.testing.assert_array_equal(a, b)
    same = similarity.domain_distance(backbone, blobs(96, seed=1))
    other = similarity.domain_distance(backbone, blobs(96, seed=1, scale=0.3))
    assert same.overall is not None
    assert other.overall is not None
    assert same.overall < 0.02 < 0.1 < other.overall
    assert same.reference == "96 blobs"
    assert len(same.per_layer) == len(backbone.stages)


def test_reference_statistics_that_cannot_be_used_are_named() -> None:
    backbone = at(as_if_trained(weights.blank("convnext_atto")), 64)
    with pytest.raises(BadInput, match="63 images are too few"):
        similarity.reference_statistics(backbone, blobs(63), made="blobs")
    other = Reference((Place(module="nowhere", side="output"),), (np.zeros(2),), (np.ones(2),), (1e-7,), "x")
    path = similarity.save_reference(backbone, other)
    with pytest.raises(BadInput, match=r"'nowhere', which convnext_atto lacks"):
        similarity.domain_distance(backbone, blobs(4))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"cannot be read.*\n?.*Delete the file"):
        similarity.domain_distance(backbone, blobs(4))
    with pytest.raises(BadWeights, match="has no hash"):
        similarity.save_reference(weights.blank("convnext_atto"), other)


# the human scale


def measured(value: float, spread: float = 0.002) -> Distance:
    return Distance(overall=value, low=value - spread, high=value + spread, n=128)


def test_every_known_domain_has_a_distance_for_every_bundled_network() -> None:
    from headstart.weights.catalog import BUNDLED

    names = {f"bundled:{name}" for name in BUNDLED}
    assert all(set(domain.distances) == names for domain in similarity.KNOWN)
    assert all(value > 0 for domain in similarity.KNOWN for value in domain.distances.values())
    for name in names:
        level = {d.name: standing(measured(d.distances[name]), weights=name).level for d in similarity.KNOWN}
        assert level["photos of all kinds"] == level["ants and bees"] == "close"
        assert level["street scenes"] == "moderate"
        assert level["satellite scenes"] == level["blood cells"] == level["uniform noise"] == "far"


def test_the_scale_is_what_the_script_measured() -> None:
    rows = json.loads((SCRIPT.parent / "distance.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 3 * len(similarity.KNOWN)
    known = {domain.name: domain.distances for domain in similarity.KNOWN}
    for row in rows:
        assert known[row["domain"]][row["weights"]] == pytest.approx(row["overall"], rel=5e-3)


def test_a_distance_is_placed_between_its_neighbours() -> None:
    scale = sorted(similarity.KNOWN, key=lambda domain: domain.distances[LITE0])
    for lower, upper in itertools.pairwise(scale):
        middle = (lower.distances[LITE0] + upper.distances[LITE0]) / 2
        found = standing(measured(middle), weights=LITE0)
        assert (found.below, found.above) == (lower.name, upper.name)
        assert f"between {lower.name}" in found.text
    assert "nearer than" in standing(measured(0.001, 0.0), weights=LITE0).text
    assert standing(measured(99.0), weights=LITE0).text.startswith("far (99): beyond")


def test_doubt_and_a_borrowed_scale_are_said() -> None:
    sure = standing(measured(0.05), weights=LITE0)
    assert (sure.level, sure.sure) == ("moderate", True)
    unsure = standing(measured(similarity.FAR - 0.01, 0.03), weights=LITE0)
    assert (unsure.level, unsure.sure) == ("moderate", False)
    assert unsure.text.endswith("with 128 images it may also be far")
    assert (
        "on the scale of the bundled networks"
        in standing(measured(0.05), weights="timm:resnet50.a1_in1k").text
    )


# the script behind the table


def test_the_calibration_script_runs_anywhere(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">i4").tobytes()
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(header + pixels.tobytes()))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--weights", LITE0, "--images", "2", f"gray noise={path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["domain"]: row for row in json.loads(done.stdout)["rows"]}
    assert set(rows) == {"uniform noise", "spectrograms", "handwritten digits", "gray noise"}
    assert all(row["n"] == 2 and row["overall"] > similarity.FAR for row in rows.values())


def test_the_synthetic_spectrograms_show_their_chirps() -> None:
    spec = importlib.util.spec_from_file_location("calibrate_distance", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = module.spectrograms(6)
    assert all(
        image.shape == (128, 128) and image.dtype == np.uint8 and image.max() == 255 for image in images
    )
    assert len({image.tobytes() for image in images}) == 6
    assert all(np.mean(image) < 200 for image in images)
