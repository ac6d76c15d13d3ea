"""From a config to what it describes."""

import numpy as np
import pytest

from ssd import build
from ssd import config as configs
from ssd.data import Dataset
from ssd.errors import ConfigError, ImageDecodeError, MissingExtraError
from ssd.structures import Record


@pytest.mark.parametrize("mistake", ["model.input_size=10", "model.backbone=resnet5"])
def test_a_network_that_cannot_be_is_named_before_weights_are_fetched(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.weights.fetch.download", lambda *_, **__: pytest.fail("something was fetched"))
    with pytest.raises((ConfigError, MissingExtraError), match=mistake.partition("=")[0]):
        build.start(configs.resolve(configs.load(None, [mistake])), ("cat",))


def pictures(count: int, decoded: list[str], damaged: int | None = None) -> Dataset:
    """A data set of which one picture may be damaged; says what was decoded."""
    boxes, flags = np.zeros((0, 4), np.float32), np.zeros(0, bool)
    labels, areas = np.zeros(0, np.int64), np.zeros(0, np.float32)
    records = [Record(f"{index}.jpg", index, 4, 4, boxes, labels, flags, flags, areas) for index in range(count)]

    def read(record: Record) -> np.ndarray:
        decoded.append(record.path)
        if record.image_id == damaged:
            raise ImageDecodeError("cannot be decoded", place=record.path, remedy="Replace or remove it.")
        return np.zeros((4, 4, 3), np.uint8)

    return Dataset(tuple(records), ("a",), (1,), "name", "split", read=read)


def test_a_damaged_picture_stops_a_run_before_its_first_step() -> None:
    with pytest.raises(ImageDecodeError, match=r"1\.jpg.*data\.bad_images=skip"):
        build.check_pictures(pictures(3, []), pictures(2, [], damaged=1))


def test_of_a_large_set_only_what_is_evaluated_on_is_looked_through() -> None:
    trained: list[str] = []
    evaluated: list[str] = []
    build.check_pictures(pictures(9, trained, damaged=3), pictures(2, evaluated), limit=10)
    assert (trained, sorted(evaluated)) == ([], ["0.jpg", "1.jpg"])
