"""Images of more than 8 bits a channel: worked examples of fixed windows and percentiles, files, arrays and errors."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.errors import ImageDecodeError, ImageError
from ssd.images.any_image import as_image
from ssd.images.decode import decode, load_image, load_shrunk
from ssd.images.depth import likely_window, to_8bit, window
from ssd.images.value_range import ValueRange, measure

TWELVE = (0.0, 4095.0)
GREY = np.array([[0, 8, 16], [2048, 4079, 4095]], np.uint16)
SEEN = np.array([[0, 0, 1], [128, 254, 255]], np.uint8)  # value * 255 / 4095, rounded


def coded(values, suffix=".png"):
    return cv2.imencode(suffix, values)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_12_bits_in_16_are_read_by_a_fixed_window(suffix, caplog):
    image = decode(coded(GREY, suffix), depth=TWELVE)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.dstack([SEEN] * 3))
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_colours_keep_their_order_and_their_balance(suffix):
    red_green_blue = np.dstack([GREY, GREY // 2, 0 * GREY])
    image = decode(coded(red_green_blue[..., ::-1], suffix), depth=TWELVE)
    np.testing.assert_array_equal(image[..., 0], SEEN)
    np.testing.assert_array_equal(image[1], [[128, 64, 0], [254, 127, 0], [255, 127, 0]])


def test_values_beyond_a_window_are_black_or_white():
    values = np.array([[0, 99, 100, 150, 200, 201, 65535]], np.uint16)
    assert to_8bit(values, (100.0, 200.0))[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_percentiles_are_those_of_each_image():
    """Of 0 to 1000 the percentiles 0.5 and 99.5 are 5 and 995; one hot pixel among 1001 changes them little."""
    values = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    assert window(values[..., None], "percentile") == (5, 995)
    brighter = to_8bit(values + 30000, "percentile")
    np.testing.assert_array_equal(brighter, to_8bit(values, "percentile"))
    assert brighter[..., 0].ravel()[[0, 5, 500, 995, 1000]].tolist() == [0, 0, 128, 255, 255]
    values[-1, -1] = 65535
    assert window(values[..., None], "percentile") == (5, 995)


def test_large_images_are_converted_in_parts_and_sampled():
    values = np.random.default_rng(0).integers(0, 4096, (1700, 1300)).astype(np.uint16)
    whole = np.rint(values.astype(np.float64) * 255 / 4095).astype(np.uint8)
    np.testing.assert_array_equal(to_8bit(values, TWELVE)[..., 1], whole)
    np.testing.assert_allclose(window(values[..., None], "percentile"), (4095 * 0.005, 4095 * 0.995), atol=3)


def test_an_image_of_one_value_or_of_none_that_is_finite_is_black():
    assert not to_8bit(np.full((2, 3), 700, np.uint16), "percentile").any()
    assert not to_8bit(np.full((2, 3), np.nan, np.float32), "percentile").any()
    assert not to_8bit(np.full((2, 3), 2.0**53 + 2, np.float32), "percentile").any()  # adding 1 changes nothing


def test_numbers_that_are_not_finite_are_black_or_white():
    values = np.array([[np.nan, -np.inf, 0.5, np.inf]], np.float32)
    assert to_8bit(values, (0.0, 1.0))[0, :, 2].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("depth", [None, "percentile", TWELVE])
def test_8_bits_are_unchanged(depth, tmp_path):
    grey = np.arange(120, dtype=np.uint8).reshape(10, 12) // 7
    for suffix in (".png", ".tiff", ".bmp"):
        np.testing.assert_array_equal(decode(coded(grey, suffix), depth=depth), np.dstack([grey] * 3))
    path = tmp_path / "a.jpg"
    path.write_bytes(coded(cv2.resize(grey, (64, 64)), ".jpg"))
    np.testing.assert_array_equal(load_image(path, depth=depth), load_image(path))
    np.testing.assert_array_equal(load_shrunk(path, 4, depth)[0], load_shrunk(path, 4)[0])
    for source in (grey, np.dstack([grey] * 3), Image.fromarray(grey)):
        np.testing.assert_array_equal(as_image(source, depth=depth), as_image(source))


def test_without_a_depth_16_bits_are_their_upper_8():
    """As weights without the setting were trained."""
    values = np.array([[0, 255, 256, 40000, 65535]], np.uint16)
    assert decode(coded(values))[0, :, 0].tolist() == [0, 0, 1, 156, 255]


def test_a_12_bit_file_that_is_stored_on_its_side_comes_upright():
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(file, "TIFF", exif=exif)
    np.testing.assert_array_equal(decode(file.getvalue(), depth=TWELVE)[..., 0], np.rot90(SEEN, -1))


def test_arrays_pil_images_and_files_of_equal_values_are_equal_images(tmp_path):
    (tmp_path / "a.png").write_bytes(coded(GREY))
    expected = np.dstack([SEEN] * 3)
    sources = [
        *(GREY, GREY[..., None], GREY.astype(np.int32), GREY.astype(np.float32), np.dstack([GREY] * 4)),
        *(Image.fromarray(GREY), Image.fromarray(GREY.astype(np.int32)), Image.fromarray(GREY.astype(np.float32))),
        *(tmp_path / "a.png", (tmp_path / "a.png").read_bytes()),
    ]
    for source in sources:
        np.testing.assert_array_equal(as_image(source, depth=TWELVE), expected)
    colours = np.dstack([GREY, 0 * GREY, 0 * GREY])
    np.testing.assert_array_equal(as_image(colours, bgr=True, depth=TWELVE)[..., 2], SEEN)


def test_floats_from_0_to_1_with_channels_first_need_no_depth():
    image = np.full((3, 5, 4), 0.5, np.float32)
    np.testing.assert_array_equal(as_image(image, depth="percentile"), as_image(image))


@pytest.mark.parametrize("source", [GREY, Image.fromarray(GREY.astype(np.float32))])
def test_an_array_without_a_known_range_names_the_key(source):
    with pytest.raises(ImageError, match=r"has no known range\. .* trained with preprocessing\.depth"):
        as_image(source)


def test_floats_in_a_tiff_are_read_by_a_depth_and_else_refused_with_the_key():
    data = coded(np.array([[0, 0.25, 1]], np.float32), ".tiff")
    assert decode(data, depth=(0.0, 1.0))[0, :, 0].tolist() == [0, 64, 255]
    with pytest.raises(ImageDecodeError, match=r"32 bits a channel.*Train with preprocessing\.depth=\[0, 1\]"):
        decode(data)


@pytest.mark.parametrize("values", [np.ones((4, 5), np.float64), np.ones((4, 5, 3), np.float32)])
def test_a_tiff_that_is_not_read_is_not_called_something_else(values):
    with pytest.raises(ImageDecodeError, match=r"is a TIFF of a kind that is not read\. Save it with 8 or 16 bits"):
        decode(coded(values, ".tiff"))


def packed_12_bits(values):
    """A TIFF of one row, 12 bits a value without padding."""
    bits = "".join(f"{value:012b}" for value in values)
    pixels = bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    short, long = 3, 4
    tags = [(256, short, len(values)), (257, short, 1), (258, short, 12), (259, short, 1), (262, short, 1)]
    tags += [(273, long, 8 + 2 + 12 * 9 + 4), (277, short, 1), (278, short, 1), (279, long, len(pixels))]
    entries = b"".join(struct.pack("<HHIHH" if kind == short else "<HHII", tag, kind, 1, value, *[0] * (kind == short))
                       for tag, kind, value in tags)  # fmt: skip
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + pixels


def test_packed_12_bits_have_the_window_of_their_own_values():
    values = [0, 8, 16, 2048, 4079, 4095]
    assert decode(packed_12_bits(values), depth=TWELVE)[0, :, 0].tolist() == SEEN.ravel().tolist()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_truncated_file_of_16_bits_is_an_error(suffix):
    data = coded(np.random.default_rng(0).integers(0, 4096, (60, 70)).astype(np.uint16), suffix)
    with pytest.raises(ImageDecodeError):
        decode(data[: len(data) // 2], depth=TWELVE)


def test_the_range_of_a_file_is_measured_where_it_has_more_than_8_bits():
    assert measure(coded(GREY)) == ValueRange(0.0, 4095.0)
    assert measure(coded(GREY, ".tiff")) == ValueRange(0.0, 4095.0)
    assert measure(coded((GREY >> 4).astype(np.uint8))) is None
    assert measure(coded(GREY.astype(np.uint8), ".jpg")) is None
    assert measure(coded(GREY)[:40]) is None
    assert measure(b"") is None


def test_what_is_said_names_the_range_the_rule_and_the_key():
    found = ValueRange(7.0, 4000.0).plus(ValueRange(3.0, 3000.0))
    seen = "2 images have more than 8 bits, with values from 3 to 4000"
    keeps = "preprocessing.depth=[0, 4095] or percentile keeps their range"
    assert found.about(None) == f"{seen}: only the upper 8 bits of 16 are read; {keeps}"
    assert found.about("percentile") == f"{seen}: read by preprocessing.depth=percentile"
    assert found.about(TWELVE) == f"{seen}: read by preprocessing.depth=[0, 4095]"
    assert found.about((0.0, 1023.0)).endswith("=[0, 1023], and values beyond become black or white")
    assert [found.loses(depth) for depth in (None, "percentile", TWELVE, (0.0, 1023.0))] == [True, False, False, True]


def test_the_suggested_window_has_all_numbers_of_as_many_bits():
    assert likely_window(7.0, 4000.0) == "[0, 4095]"
    assert likely_window(0.0, 65535.0) == "[0, 65535]"
    assert likely_window(-1000.0, 400.0) == "[-1000, 400]"
    assert likely_window(0.25, 1.0) == "[0.25, 1]"
    assert likely_window(0.5, 0.5) == "[0.5, 1.5]"  # a window needs a width
    assert likely_window(-3e12, -3e12) == "[-3e+12, -2.997e+12]"
