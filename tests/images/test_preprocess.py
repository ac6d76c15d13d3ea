import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ssd.images.preprocess import mean_colour, normalise, preprocess_batch
from ssd.images.resize import resize_8bit, resize_floats
from ssd.settings import Preprocessing


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prepared(image: np.ndarray, rule: Preprocessing, size: int) -> torch.Tensor:
    return preprocess_batch([image], rule, size)[0]


TORCHVISION = Preprocessing(
    (0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0, 1.0, 1.0), channels="rgb", resize="float"
)


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([32, 300]), st.booleans())
def test_the_float_rule_is_torchvisions(height: int, width: int, size: int, imagenet: bool) -> None:
    mean, std = (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if imagenet else ((0.48235, 0.45882, 0.40784), (1 / 255,) * 3)
    )
    theirs = GeneralizedRCNNTransform(
        size, size, list(mean), list(std), size_divisible=1, fixed_size=(size, size)
    ).eval()
    image = noise(height, width, seed=height)
    rule = Preprocessing(tuple(255 * m for m in mean), tuple(255 * s for s in std), resize="float")  # type: ignore[arg-type]
    expected = theirs([torch.from_numpy(image).permute(2, 0, 1).contiguous() / 255])[0].tensors[0]
    # Values go up to 255; the order of the sums moves their last bits.
    torch.testing.assert_close(prepared(image, rule, size), expected, rtol=1e-6, atol=5e-5)


def test_a_large_image_is_resized_by_the_same_rule_from_the_pixels_that_count() -> None:
    rule = Preprocessing((110.0, 120.0, 130.0), (1.0, 2.0, 3.0), channels="bgr", resize="float")
    for height, width in ((900, 1200), (1201, 907), (3000, 301)):
        image = noise(height, width)
        floats = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float()
        small = F.interpolate(floats, size=(300, 300), mode="bilinear", align_corners=False)[0]
        mean, std = torch.tensor(rule.mean).view(3, 1, 1), torch.tensor(rule.std).view(3, 1, 1)
        torch.testing.assert_close(prepared(image, rule, 300), (small - mean) / std, rtol=1e-6, atol=1e-4)


def test_the_uint8_rule_is_a_bilinear_resize_and_then_mean_and_std() -> None:
    image = noise(37, 91)
    rule = Preprocessing((1.0, 2.0, 3.0), (2.0, 4.0, 8.0), resize="uint8")
    small = cv2.resize(image, (20, 20), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    expected = ((small - [1, 2, 3]) / [2, 4, 8]).transpose(2, 0, 1)
    assert np.allclose(prepared(image, rule, 20).numpy(), expected)


def test_the_antialias_rule_is_pils_bilinear_and_then_mean_and_std() -> None:
    image = noise(90, 130)
    small = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR), np.float32)
    expected = ((small - [1, 2, 3]) / [2, 4, 8]).transpose(2, 0, 1)
    rule = Preprocessing((1.0, 2.0, 3.0), (2.0, 4.0, 8.0), resize="antialias")
    assert np.allclose(prepared(image, rule, 20).numpy(), expected)
    assert not np.allclose(prepared(image, Preprocessing((1.0, 2.0, 3.0), (2.0, 4.0, 8.0)), 20).numpy(), expected)


def test_the_area_rule_leaves_no_grain_where_it_shrinks_and_is_bilinear_where_it_grows() -> None:
    grain = noise(400, 600)  # of a spread of 74; a new pixel covers 150
    assert resize_8bit(grain, 40, "area").std() < 8
    assert resize_8bit(grain, 40, "uint8").std() > 30
    small = noise(30, 20)
    assert np.array_equal(resize_8bit(small, 40, "area"), resize_8bit(small, 40, "uint8"))


@pytest.mark.parametrize("resize", ["uint8", "float", "antialias", "area"])
def test_channels_say_which_comes_first_and_the_mean_follows_them(resize: str) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 200  # red
    rgb = prepared(image, Preprocessing((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), "rgb", resize), 4)  # type: ignore[arg-type]
    bgr = prepared(image, Preprocessing((3.0, 2.0, 1.0), (1.0, 1.0, 1.0), "bgr", resize), 4)  # type: ignore[arg-type]
    assert torch.allclose(rgb[:, 0, 0], torch.tensor([199.0, -2, -3]))
    assert torch.allclose(bgr[:, 0, 0], torch.tensor([-3.0, -2, 199]))


@pytest.mark.parametrize("resize", ["uint8", "float", "antialias", "area"])
def test_a_batch_is_its_images(resize: str) -> None:
    images = [noise(30, 50), noise(64, 64, 1), noise(1, 1, 2), noise(3, 500, 3)]
    rule = Preprocessing(resize=resize)  # type: ignore[arg-type]
    batch = preprocess_batch(images, rule, 32)
    assert batch.is_contiguous()
    assert torch.equal(batch, torch.stack([prepared(image, rule, 32) for image in images]))
    assert preprocess_batch([], rule, 32).shape == (0, 3, 32, 32)


def test_a_read_only_image_is_left_alone() -> None:
    image = noise(10, 10)
    image.flags.writeable = False
    for resize in ("uint8", "float"):
        prepared(image, Preprocessing(resize=resize), 8)  # type: ignore[arg-type]
    assert np.array_equal(image, noise(10, 10))


def test_normalising_keeps_the_layout_and_agrees_with_preprocessing() -> None:
    rule = Preprocessing(channels="bgr")
    image = noise(32, 32)
    pixels = torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2)
    result = normalise(pixels, rule)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, preprocess_batch([image], rule, 32))
    assert torch.equal(pixels, torch.from_numpy(image)[None].permute(0, 3, 1, 2))  # not in place


def test_the_mean_as_a_colour_is_rgb() -> None:
    assert mean_colour(Preprocessing((123.0, 117.0, 104.0))) == (123, 117, 104)
    assert mean_colour(Preprocessing((104.0, 117.0, 123.0), channels="bgr")) == (123, 117, 104)


@pytest.mark.parametrize("size", [7, 64, 300])
def test_floats_resized_in_numpy_are_those_of_pytorch(size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (47, 91, 3), np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_floats(image, size), expected[0].permute(1, 2, 0), atol=1e-4)
