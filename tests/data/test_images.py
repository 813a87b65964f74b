"""The one decoder, against a folder of odd pictures and hand-made ones."""

import csv
import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from headstart._core.errors import BadInput
from headstart.data.images import Undecodable, open_rgb, probe


@pytest.fixture(scope="session")
def odd(test_data: Path) -> Path:
    return test_data / "odd-images"


def manifest(odd: Path) -> dict[str, bool]:
    with (odd / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["readable"] == "yes" for row in csv.DictReader(file)}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width))
    return Image.fromarray(np.stack([x * 3 % 256, y * 5 % 256, noise], 2).astype(np.uint8))


def reason(source: Path | bytes) -> str:
    with pytest.raises(Undecodable) as caught:
        open_rgb(source)
    return caught.value.reason


def test_every_odd_image_is_read_or_refused_as_its_manifest_says(odd: Path) -> None:
    wrong = []
    rows = manifest(odd)
    assert len(rows) > 40
    for file, readable in rows.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                image = open_rgb(odd / file)
                seen = image.mode == "RGB" and min(image.size) > 0
            except Undecodable as error:
                seen = not (str(odd / file) in str(error) and error.reason)
        if seen != readable:
            wrong.append(file)
    assert wrong == []


@pytest.mark.parametrize(
    ("file", "limit"),
    [("exif-orientation-3.jpg", 6), ("exif-orientation-6.jpg", 6), ("progressive.jpg", 6), ("cmyk.jpg", 8),
     ("lossy.webp", 8), ("plain.bmp", 6), ("lzw.tiff", 6), ("no-extension", 0), ("animated.gif", 20)],
)  # fmt: skip
def test_made_ones_look_like_the_reference(odd: Path, file: str, limit: float) -> None:
    reference = np.asarray(open_rgb(odd / "ok-reference.jpg"), float)
    image = open_rgb(odd / file)
    assert image.size == (240, 160)
    assert np.abs(np.asarray(image, float) - reference).mean() <= limit


@pytest.mark.parametrize("file", ["gray-16bit.png", "float32.tiff"])
def test_wide_gray_looks_like_the_reference_in_gray(odd: Path, file: str) -> None:
    reference = np.asarray(open_rgb(odd / "ok-reference.jpg").convert("L"), float)
    assert np.abs(np.asarray(open_rgb(odd / file).convert("L"), float) - reference).mean() < 6


def test_a_camera_picture_with_few_bits_is_neither_black_nor_white(odd: Path) -> None:
    values = np.asarray(open_rgb(odd / "real-16bit-gray.tif"))
    assert (values.min(), values.max()) == (0, 255)
    assert 30 < values.mean() < 220


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_exif_orientation_comes_out_upright(orientation: int) -> None:
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:10, :10] = (255, 0, 0)
    upright[10:, 20:] = (0, 0, 255)
    # what a camera stores so that the viewer's turn gives `upright`, worked out on arrays
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(np.asarray(open_rgb(data)), upright)
    seen = probe(data, "x")
    assert (seen.width, seen.height) == (30, 20)


def test_transparency_is_laid_on_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (0, 255, 128)
    expected = [[255, 255, 255], [200, 0, 0], [228, 127, 127]]  # 200 * a + 255 * (1 - a), a = 128 / 255
    assert np.abs(np.asarray(open_rgb(rgba), int)[0] - expected).max() <= 1
    gray = Image.fromarray(np.array([[0, 90]], np.uint8))
    assert np.asarray(open_rgb(encoded(gray, "PNG", transparency=0)))[0].tolist() == [[255] * 3, [90] * 3]


def test_palettes_with_an_index_or_bytes_of_transparency() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    index = np.asarray(open_rgb(encoded(image, "PNG", transparency=1)))[0].tolist()
    assert index == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    several = np.asarray(open_rgb(encoded(image, "PNG", transparency=bytes([0, 255, 0]))))[0].tolist()
    assert several == [[255, 255, 255], [40, 50, 60], [255, 255, 255]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 257, 65535]], np.uint16), [0, 1, 255]),  # full range: / 257
        (np.array([[100, 200, 300]], np.uint16), [0, 128, 255]),  # few bits: its own range
        (np.array([[0, 7, 255]], np.uint16), [0, 7, 255]),  # 8-bit values in 16 bits: kept
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[-10, 0, 10]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0, 10]], np.float32), [0, 0, 255]),
        (np.array([[-100000, 0, 100000]], np.int32), [0, 128, 255]),
        (np.array([[5.0, 5.0]], np.float32), [128, 128]),
    ],
)
def test_wide_values(values: np.ndarray, expected: list[int]) -> None:
    data = encoded(Image.fromarray(values), "TIFF")
    assert np.asarray(open_rgb(data))[0, :, 0].tolist() == expected


def test_one_bit_and_eight_bit_gray_and_arrays() -> None:
    bits = Image.fromarray(np.array([[True, False]]))
    assert np.asarray(open_rgb(encoded(bits, "PNG")))[0].tolist() == [[255] * 3, [0] * 3]
    gray = np.array([[3, 4], [5, 6]], np.uint8)
    for array in (gray, gray[:, :, None]):
        assert np.array_equal(np.asarray(open_rgb(array)), np.stack([gray] * 3, 2))
    color = np.asarray(photo())
    assert np.array_equal(np.asarray(open_rgb(color[:, ::-1])), color[:, ::-1])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(Undecodable, match="array of shape"):
        open_rgb(array)


def test_an_open_image_is_not_changed() -> None:
    image = photo()
    result = open_rgb(image)
    result.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) != (1, 2, 3)


def test_reasons_a_user_understands(tmp_path: Path) -> None:
    data = encoded(photo(), "JPEG")
    cases = {
        "empty.jpg": (b"", "empty file"),
        "truncated.jpg": (data[: len(data) // 2], "truncated"),
        "text.jpg": (b"not found, try later\n" * 3, "text, not an image"),
        "accents.jpg": (("x" + "\u00e4" * 4000).encode(), "text, not an image"),
        "page.jpg": (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML page, not an image"),
        "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "noise.jpg": (np.random.default_rng(0).bytes(500), "unknown image format"),
        "photo.heic": (b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC"),
    }  # fmt: skip
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert expected in reason(tmp_path / name), name
    assert "does not exist" in reason(tmp_path / "nowhere.jpg")
    assert "folder" in reason(tmp_path)
    assert reason(b"") == "empty file"
    error = Undecodable("a.jpg", "empty file")
    assert isinstance(error, BadInput)
    assert error.message == "a.jpg: empty file"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "permission" in reason(tmp_path / "secret.jpg")


def test_a_bomb_is_refused_and_half_a_bomb_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (60, 50)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_rgb(data).size == (60, 50)  # 1.5 times the limit: Pillow only warns
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert "bomb" in reason(data)


def test_decoding_in_threads_leaves_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    data = [encoded(photo(), "PNG"), b"text", encoded(photo(), "GIF")] * 30

    def attempt(content: bytes) -> bool:
        try:
            return bool(open_rgb(content))
        except Undecodable:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, data)) == 60
    assert list(warnings.filters) == before


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}])
def test_the_quick_look_agrees_with_the_decoder_wherever_a_jpeg_is_cut(options: dict[str, object]) -> None:
    data = encoded(photo(200, 150), "JPEG", **options)
    for cut in [*range(1, 40), *range(40, len(data), 97)]:
        part = data[:-cut]
        verdicts = []
        for look in (open_rgb, lambda content: probe(content, "x")):
            try:
                look(part)
                verdicts.append(True)
            except Undecodable:
                verdicts.append(False)
        assert verdicts[0] == verdicts[1], cut


def test_damaged_exif_is_ignored() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x00broken")
    assert open_rgb(data).size == (64, 48)


def test_text_chunks_that_explode_are_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    assert reason(encoded(photo(), "PNG", pnginfo=info))


@pytest.mark.skipif(sys.platform == "win32", reason="names of other systems")
@pytest.mark.parametrize("name", ["\u00e9t\u00e9 \u732b.jpg", "a b'c\".jpg", "line\nbreak.jpg", "\udcff.jpg"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(photo(), "JPEG"))
    assert open_rgb(tmp_path / name).size == (64, 48)
