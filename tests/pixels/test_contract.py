"""The contract's pixels are those of torchvision and of timm: resize everything with anti-aliasing, then cut the centre."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torchvision.transforms import v2

from headstart.data.preprocess import Preprocess, from_timm
from headstart.pixels import contract_pixels, normalise
from headstart.pixels.contract import window

SIZES = (
    (500, 375),  # width, height
    (375, 500),
    (333, 500),
    (224, 224),
    (225, 223),
    (640, 97),
    (97, 640),
    (8, 8),
    (17, 23),
    (1, 1),
    (1, 300),
    (300, 1),
    (3, 2),
    (1000, 1000),
)
EXTREME = ((20000, 1), (1, 20000), (4000, 3))
KERNELS = ("bicubic", "bilinear")
MODES = {"bicubic": v2.InterpolationMode.BICUBIC, "bilinear": v2.InterpolationMode.BILINEAR}
CLOSE = 2  # of 255: both sides round to 8 bits between their two passes

Pixels = NDArray[np.uint8]


def contract(height: int = 64, width: int = 64, resize: int = 73, **changes: object) -> Preprocess:
    values: dict[str, object] = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    values |= {"height": height, "width": width, "resize": resize, **changes}
    return Preprocess(**values)  # type: ignore[arg-type]


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Gradients, an edge and some noise: what photos are made of."""
    rng = np.random.default_rng([seed, width, height])
    x, y = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    values = 255 * (0.5 + 0.5 * np.sin(7 * x + 5 * y + rng.uniform(0, 6, 3)))
    values = np.where(x + y > 1.1, 255 - values, values) + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    """The worst case for a kernel that overshoots."""
    rng = np.random.default_rng([width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def transform(preprocess: Preprocess) -> v2.Compose:
    """torchvision's own evaluation transform."""
    size = [preprocess.height, preprocess.width] if preprocess.fit == "squash" else preprocess.resize
    return v2.Compose(
        [
            v2.Resize(size, MODES[preprocess.interpolation], antialias=True),
            v2.CenterCrop([preprocess.height, preprocess.width]),
        ]
    )


def on_pillow(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """The transform on a Pillow image; a very tall one in two calls, columns first.

    Pillow 13 begins with the rows of a tall image, Pillow 12 with the columns of every image. It cuts off what a kernel
    overshoots between the two passes, so the order shows: by up to 11 of 255 in a picture of 97 x 640. The contract
    says columns first, as do torchvision's kernels for tensors and the exported graph.
    """
    if image.height > 4 * image.width:
        width, height = preprocess.resized(*image.size)
        mode = MODES[preprocess.interpolation]
        columns = v2.functional.resize(image, [image.height, width], mode)
        rows = v2.functional.resize(columns, [height, width], mode)
        return np.asarray(v2.functional.center_crop(rows, [preprocess.height, preprocess.width]))
    return np.asarray(transform(preprocess)(image))


def on_tensors(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """The transform on an 8-bit tensor: other code than Pillow's, with coefficients of 16 bits."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    out: Pixels = transform(preprocess)(pixels).permute(1, 2, 0).numpy()
    return out


def check(image: Image.Image, preprocess: Preprocess) -> None:
    own = contract_pixels(image, preprocess)
    assert own.shape == (preprocess.height, preprocess.width, 3)
    assert own.dtype == np.uint8
    for reference in (on_pillow, on_tensors):
        gap = np.abs(own.astype(int) - reference(image, preprocess).astype(int)).max()
        assert gap <= CLOSE, (reference.__name__, image.size)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_like_torchvision(size: tuple[int, int], kernel: str) -> None:
    for made in (contract(), contract(70, 50, 71), contract(50, 70, 90), contract(63, 63, 63)):
        preprocess = contract(made.height, made.width, made.resize, interpolation=kernel)
        check(photo(*size), preprocess)
    if min(size) > 1:  # one row or column of noise is a photo as good as any
        check(noise(*size), contract(interpolation=kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", EXTREME, ids=str)
def test_like_torchvision_on_extreme_shapes(size: tuple[int, int], kernel: str) -> None:
    check(photo(*size), contract(16, 16, 18, interpolation=kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_squash_like_torchvision(size: tuple[int, int], kernel: str) -> None:
    preprocess = contract(48, 64, 48, interpolation=kernel, fit="squash")
    check(photo(*size), preprocess)


def test_a_mistake_would_be_seen() -> None:
    """The pictures tell apart what the contract must not confuse."""
    image = photo(500, 375)
    own = contract_pixels(image, contract()).astype(int)
    for wrong in (
        contract(resize=64),
        contract(interpolation="bilinear"),
        contract(fit="squash"),
    ):
        assert np.abs(own - contract_pixels(image, wrong).astype(int)).max() > 3 * CLOSE
    plain = np.asarray(image.resize((97, 73), Image.Resampling.NEAREST))  # no anti-aliasing
    assert np.abs(own - plain[4:68, 16:80].astype(int)).max() > 3 * CLOSE


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "resnet50", "vit_base_patch16_224", "test_resnet"])
def test_like_timms_own_evaluation_transform(arch: str) -> None:
    """Scaling, mean and std included; `from_timm` reads the same record as timm does."""
    config = timm.get_pretrained_cfg(arch)
    assert config is not None
    settings = resolve_data_config(pretrained_cfg=config.to_dict())
    theirs = create_transform(**settings, is_training=False)
    preprocess = from_timm(vars(config))
    for size in ((500, 375), (300, 451)):
        image = photo(*size)
        expected = theirs(image)
        pixels = torch.from_numpy(contract_pixels(image, preprocess).copy()).permute(2, 0, 1)[None]
        own = normalise(pixels, preprocess)[0]
        bound = CLOSE / 255 / min(preprocess.std) + 1e-5
        assert own.shape == expected.shape
        assert float((own - expected).abs().max()) <= bound


def test_normalise_by_hand() -> None:
    preprocess = contract(1, 1, 1, mean=(0.5, 0.4, 0.2), std=(0.5, 0.2, 0.1))
    pixels = torch.tensor([255, 51, 102], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = torch.tensor([(1 - 0.5) / 0.5, (0.2 - 0.4) / 0.2, (0.4 - 0.2) / 0.1])
    torch.testing.assert_close(normalise(pixels, preprocess).flatten(), expected)


# The window's arithmetic


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # 400 x 200 at resize 100: 200 x 100; left = round((200 - 80) / 2) = 60, top = 10; scale 2
        ((400, 200), (120.0, 20.0, 280.0, 180.0)),
        ((200, 400), (20.0, 120.0, 180.0, 280.0)),
        # 101 x 100: int(100 * 1.01) = 101 wide; left = round(10.5) = 10 (Python rounds halves to even); scale 1
        ((101, 100), (10.0, 10.0, 90.0, 90.0)),
        # 103 x 100: left = round(11.5) = 12
        ((103, 100), (12.0, 10.0, 92.0, 90.0)),
        ((50, 50), (5.0, 5.0, 45.0, 45.0)),
    ],
)
def test_window_by_hand(size: tuple[int, int], expected: tuple[float, ...]) -> None:
    assert window(size, contract(80, 80, 100)) == pytest.approx(expected)


def test_window_of_everything() -> None:
    assert window((300, 200), contract(80, 120, 80)) == pytest.approx((0, 0, 300, 200))
    assert window((37, 911), contract(50, 70, 50, fit="squash")) == (0, 0, 37, 911)


@pytest.mark.parametrize("size", [*SIZES, *EXTREME], ids=str)
def test_a_window_lies_inside_its_image(size: tuple[int, int]) -> None:
    for preprocess in (contract(), contract(70, 50, 71), contract(50, 70, 70), contract(64, 64, 64)):
        left, top, right, bottom = window(size, preprocess)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_the_source_is_left_alone() -> None:
    image = photo(90, 60)
    before = np.array(image)
    contract_pixels(image, contract())
    assert np.array_equal(np.array(image), before)


# The record


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (1, 20000), (20000, 1), (224, 224), (333, 1001)])
def test_resized_sizes_are_torchvisions(size: tuple[int, int]) -> None:
    preprocess = contract(16, 16, 18)
    expected = v2.functional.resize(torch.zeros(3, size[1], size[0], dtype=torch.uint8), [18]).shape
    assert preprocess.resized(*size) == (expected[2], expected[1])


def test_at_another_size_keeps_the_share_in_view() -> None:
    """Lite0's contract: 224 of 256. At 260 pixels floor(260 * 256 / 224) = 297."""
    changed = contract(224, 224, 256).at(260)
    assert (changed.height, changed.width, changed.resize) == (260, 260, 297)


@pytest.mark.parametrize(
    ("crop", "size", "resize"), [(0.875, 224, 256), (0.95, 224, 235), (1.0, 384, 384), (0.9, 299, 332)]
)
def test_from_timm_resizes_as_timm_does(crop: float, size: int, resize: int) -> None:
    config: dict[str, object] = {
        "input_size": (3, size, size),
        "crop_pct": crop,
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    assert from_timm(config).resize == resize == math.floor(size / crop)
