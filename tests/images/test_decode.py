import io
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ssd.errors import ImageDecodeError, ImageError
from ssd.images.any_image import as_image
from ssd.images.decode import decode, load_image, load_shrunk, read_size
from tests.work import counted

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def photo(width: int = 80, height: int = 40) -> Image.Image:
    """Smooth colours, so that a lossy format changes little; red in the upper left quarter."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, 128 + 0 * rows], axis=-1).astype(np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Decoding


@pytest.mark.parametrize("kind", FORMATS)
def test_every_known_format_decodes_to_the_same_image(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(photo(), kind))
    image = load_image(path)
    assert image.shape == (40, 80, 3)
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert abs(image.astype(int) - np.asarray(photo()).astype(int)).mean() < 6
    assert read_size(path) == (80, 40)


@pytest.mark.parametrize("kind", [*FORMATS, "progressive"])
@pytest.mark.parametrize("keep", [0.1, 0.5, -2])
def test_a_cut_image_is_an_error_that_names_the_file(kind: str, keep: float, tmp_path: Path) -> None:
    picture = Image.fromarray(noise(60, 90))
    whole = encoded(picture, "JPEG", progressive=True) if kind == "progressive" else encoded(picture, kind)
    path = tmp_path / "cut image"
    path.write_bytes(whole[: keep if keep < 0 else int(len(whole) * keep)])
    with pytest.raises(ImageDecodeError, match="cut image"):
        load_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\x00\x01\x02 nothing that anybody knows", "not an image"),
        (b"\xff\xd8\xff\xe0", "not an image"),
        (encoded(photo(), "PPM"), "not an image"),
    ],
)
def test_what_is_no_image_is_an_error_with_its_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (load_image, read_size):
        with pytest.raises(ImageDecodeError, match=f"a.jpg.*{reason}"):
            read(path)


@pytest.mark.parametrize("read", [load_image, read_size])
def test_missing_files_and_folders_are_errors(read: object, tmp_path: Path) -> None:
    with pytest.raises(ImageDecodeError, match="no such image file"):
        read(tmp_path / "none.png")  # type: ignore[operator]
    with pytest.raises(ImageDecodeError, match=r"cannot be read|not an image"):
        read(tmp_path)  # type: ignore[operator]
    with pytest.raises(ImageDecodeError, match="cannot be read"):
        read("a\0b.png")  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "size", "red"),
    [(1, (80, 40), (0, 0)), (3, (80, 40), (39, 79)), (6, (40, 80), (0, 39)), (8, (40, 80), (79, 0))],
)
def test_pixels_are_upright(
    kind: str, orientation: int, size: tuple[int, int], red: tuple[int, int], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned"
    path.write_bytes(encoded(photo(), kind, exif=exif))
    image = load_image(path)
    assert read_size(path) == size == (image.shape[1], image.shape[0])
    pixel = image[red].astype(int)
    assert pixel[0] > 240
    assert pixel[1:].max() < 20
    assert np.array_equal(as_image(Image.open(path)).shape, image.shape)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb_as_pil_sees_it(mode: str) -> None:
    picture = photo().convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = decode(encoded(picture, kind))
    assert image.shape == (40, 80, 3)
    assert abs(image.mean() - np.asarray(picture.convert("RGB")).mean()) < 2
    assert abs(as_image(picture).astype(int) - image.astype(int)).mean() < 2


def test_alpha_is_dropped() -> None:
    picture = photo()
    picture.putalpha(7)
    assert np.array_equal(decode(encoded(picture, "PNG")), np.asarray(photo()))


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (4, 1))
    picture = Image.fromarray(ramp)
    expected = (ramp >> 8).mean()
    assert abs(decode(encoded(picture, "PNG")).mean() - expected) < 1
    assert abs(as_image(picture).mean() - expected) < 1


def test_a_float_tiff_is_an_error() -> None:
    with pytest.raises(ImageDecodeError, match="mode F"):
        decode(encoded(photo().convert("L").convert("F"), "TIFF"))


def test_a_png_chunk_that_declares_gigabytes_takes_no_memory() -> None:
    data = bytearray(encoded(photo(), "PNG"))
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = (0xF9000000).to_bytes(4, "big")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageDecodeError, match="cannot be decoded: PNG of 80x40 pixels"):
        decode(bytes(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_what_follows_the_end_of_a_png_is_not_read() -> None:
    data = encoded(photo(), "PNG")
    assert np.array_equal(decode(data + b"\xff\xff\xff\xffIDAT"), decode(data))
    early = data.index(b"IDAT") - 4
    data = data[:early] + b"\0\0\0\0IEND" + data[early:].replace(b"IEND", b"IDAT")
    # A chunk of 4 GB behind an early end once took seconds.
    with counted() as work, pytest.raises(ImageDecodeError, match="cannot be decoded: PNG of 80x40 pixels"):
        decode(data + b"\xff\xff\xff\xffIEND")
    assert work.calls < 10_000


def test_any_file_name_works(tmp_path: Path) -> None:
    path = tmp_path / "Bild ä 日本.JPG"
    path.write_bytes(encoded(photo(), "JPEG"))
    assert load_image(str(path)).shape == (40, 80, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
def test_a_jpeg_can_be_decoded_at_a_fraction_of_its_size(mode: str, shrink: int, tmp_path: Path) -> None:
    smooth = cv2.resize(noise(5, 9), (161, 83), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(smooth).convert(mode), "JPEG"))
    image, shrunk = load_shrunk(path, shrink)
    assert shrunk == shrink
    assert image.shape == (-(-83 // shrink), -(-161 // shrink), 3)
    whole = load_image(path)
    height, width = 83 // shrink, 161 // shrink  # pixels that are whole in both
    blocks = whole[: height * shrink, : width * shrink].reshape(height, shrink, width, shrink, 3).mean(axis=(1, 3))
    assert np.abs(image[:height, :width] - blocks).mean() < 2


def test_what_is_no_jpeg_comes_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(), "PNG"))
    image, shrunk = load_shrunk(path, 4)
    assert shrunk == 1
    assert np.array_equal(image, load_image(path))


def test_a_jpeg_decoded_smaller_is_upright_and_no_less_strict(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(noise(100, 60)).save(file, "JPEG", exif=exif)
    path = tmp_path / "a.jpg"
    path.write_bytes(file.getvalue())
    width, height = read_size(path)
    assert load_shrunk(path, 2)[0].shape[:2] == (height // 2, width // 2)
    path.write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    with pytest.raises(ImageDecodeError, match="truncated"):
        load_shrunk(path, 2)


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(ImageDecodeError, match="too large: 80x40"):
        decode(encoded(photo(), "PNG"), max_pixels=80 * 40 - 1)
    assert decode(encoded(photo(), "PNG"), max_pixels=80 * 40).shape == (40, 80, 3)


@pytest.mark.parametrize("side", [9_700, 12_000, 20_000, 60_000])
def test_a_bomb_is_refused_before_memory_is_spent(side: int, tmp_path: Path) -> None:
    header = bytearray(encoded(Image.new("RGB", (1, 1)), "PNG"))
    header[16:24] = side.to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reason = "cannot be decoded" if side < 10_000 else "too large"  # below the limit it is only truncated
    with pytest.raises(ImageDecodeError, match=f"bomb.png.*{reason}"):
        load_image(path)
    if side > 10_000:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_importing_images_reads_no_dataset_library() -> None:
    heavy = {"albumentations", "pycocotools", "matplotlib"}
    code = f"import sys, ssd.images.decode; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "[]"


# What people pass to detect()


def test_everything_people_call_a_image_is_accepted(tmp_path: Path) -> None:
    pixels = np.asarray(photo())
    path = tmp_path / "a.png"
    photo().save(path)
    floats = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    rgba = np.dstack([pixels, np.full((40, 80), 9, np.uint8)])
    sources = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), photo(), pixels, rgba]
    sources += [floats, floats.astype(np.float64), torch.from_numpy(floats), torch.from_numpy(pixels.copy())]
    for source in sources:
        image = as_image(source)
        assert np.array_equal(image, pixels), type(source)
        assert image.dtype == np.uint8
        assert image.flags["C_CONTIGUOUS"]


def test_grey_images_get_three_channels() -> None:
    grey = np.asarray(photo().convert("L"))
    for source in (grey, grey[..., None], (grey / 255)[None].astype(np.float32), photo().convert("L")):
        assert np.array_equal(as_image(source), np.dstack([grey] * 3))


def test_bgr_says_that_an_array_comes_from_opencv() -> None:
    pixels = np.asarray(photo())
    assert np.array_equal(as_image(pixels[..., ::-1], bgr=True), pixels)
    assert np.array_equal(as_image(np.dstack([pixels[..., ::-1], pixels[..., :1]]), bgr=True), pixels)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "NoneType"),
        (7, "int"),
        ([noise(4, 4)], "list"),
        (noise(4, 4).astype(np.int64), r"int64 array of shape \(4, 4, 3\)"),
        (noise(4, 4).astype(np.uint16), "uint16"),
        (noise(8, 8).transpose(2, 0, 1), r"uint8 array of shape \(3, 8, 8\)"),
        (noise(4, 4).astype(np.float32), r"float32 array of shape \(4, 4, 3\)"),
        (noise(4, 4).transpose(2, 0, 1).astype(np.float32), "from 0|from [0-9]+ to [0-9]+"),
        (torch.full((3, 4, 4), -0.1), "values from -0.1"),
        (torch.full((3, 4, 4), torch.nan), "nan"),
        (torch.zeros(1, 3, 4, 4), r"\(1, 3, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (Image.new("F", (4, 4)), "mode F"),
    ],
)
def test_anything_else_is_an_error_that_says_what_came(source: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        as_image(source)


def test_a_truncated_pil_image_is_an_error() -> None:
    whole = encoded(Image.fromarray(noise(60, 90)), "JPEG")
    with pytest.raises(ImageDecodeError, match="PIL image"):
        as_image(Image.open(io.BytesIO(whole[: len(whole) // 2])))


def test_a_palette_with_transparency_is_accepted_without_a_warning() -> None:
    picture = photo().convert("P")
    picture.info["transparency"] = bytes(range(256))
    assert as_image(picture).shape == (40, 80, 3)


@pytest.mark.parametrize("suffix", [".tiff", ".png"])
def test_an_image_of_12_bits_in_16_is_said_to_be_dark_once_with_its_range(monkeypatch, caplog, suffix):
    monkeypatch.setattr("ssd.images.decode._SAID", set())
    pixels = np.linspace(7, 4000, 12 * 10).reshape(12, 10).astype(np.uint16)
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    for place in ("a", "b"):
        np.testing.assert_array_equal(decode(data, place)[..., 0], pixels >> 8)
    (message,) = caplog.messages
    assert "a: 16 bits, but its values are 7 to 4000 (12 bits), so it is nearly black" in message
    assert message.endswith("magick mogrify -evaluate multiply 16 FILES")


@pytest.mark.parametrize("pixels", [np.full((9, 9), 5, np.uint8), np.full((9, 9), 60000, np.uint16)])
def test_dark_images_of_8_bits_and_bright_ones_of_16_are_not_spoken_about(monkeypatch, caplog, pixels):
    monkeypatch.setattr("ssd.images.decode._SAID", set())
    decode(cv2.imencode(".png", pixels)[1].tobytes())
    assert caplog.messages == []
