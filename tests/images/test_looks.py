import itertools

import cv2
import numpy as np

from ssd.data.shapes.dataset import shapes
from ssd.images.looks import ALIKE, join_alike, look, nearest, read_looks


def scenes(count, size=96):
    drawn = shapes("looks", count, size)
    return [drawn.load(index).image for index in range(count)]


def test_an_image_saved_again_resized_and_relit_is_like_itself():
    image = scenes(1)[0]
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    large = cv2.resize(image, None, fx=3, fy=2)
    dark = (image * 0.6).astype(np.uint8)
    for other in (jpeg, large, dark):
        assert look(image) @ look(other) > 0.97


def test_drawn_scenes_are_not_alike():
    looks = np.stack([look(image) for image in scenes(150)])
    assert (join_alike(np.arange(150), looks) == np.arange(150)).all()


def test_images_of_one_colour_and_faint_noise_are_like_nothing():
    rng = np.random.default_rng(0)
    flat = np.full((40, 40, 3), 200, np.uint8)
    noisy = flat + rng.integers(0, 3, flat.shape, np.uint8)
    looks = np.stack([look(flat), look(flat), look(noisy), look(noisy)])
    assert not looks.any()
    assert (join_alike(np.arange(4), looks) == np.arange(4)).all()


def test_groups_are_joined_as_a_slow_twin_joins_them():
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(60, 192)).astype(np.float32)
    looks[20:40] += 2 * looks[0]
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    groups = np.arange(60)
    groups[50] = 0
    for least in (0.3, 0.6, 0.85):
        slow = groups.tolist()
        for one, other in itertools.combinations(range(60), 2):
            if looks[one] @ looks[other] >= least:
                ends = slow[one], slow[other]
                slow = [min(ends) if group in ends else group for group in slow]
        assert join_alike(groups, looks, least).tolist() == slow


def test_the_nearest_image_is_the_one_with_the_highest_correlation():
    looks = np.stack([look(image) for image in scenes(30)])
    places, values = nearest(looks[:10], looks[5:])
    assert places[5:].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(values[5:], 1, atol=1e-5)
    assert (values[:5] < ALIKE).all()
    assert nearest(looks[:2], looks[:0])[1].tolist() == [-1, -1]


def test_a_file_that_is_replaced_is_looked_at_again_and_a_bad_one_is_like_nothing(tmp_path):
    one, other = scenes(2)
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", one[..., ::-1])[1].tobytes())
    before = read_looks([path])[0]
    path.write_bytes(cv2.imencode(".png", other[..., ::-1])[1].tobytes())
    np.testing.assert_allclose(before, look(one), atol=1e-6)
    np.testing.assert_allclose(read_looks([path])[0], look(other), atol=1e-6)
    (tmp_path / "b.png").write_bytes(b"no image")
    assert not read_looks([tmp_path / "b.png", tmp_path / "missing.png", None]).any()
    assert read_looks([]).shape == (0, 192)
