import dataclasses
import functools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ssd.data.augment.preview import preview
from ssd.data.augment.transforms import TrainTransform
from ssd.data.loading.batches import WorkerResult, collate, load_checked
from ssd.data.loading.loader import TrainLoader
from ssd.data.loading.workers import choose_workers
from ssd.errors import AnnotationError, DatasetError, DataWorkerError, ImageDecodeError
from ssd.images.decode import load_image
from ssd.structures import Batch, Record, Sample, Targets

SIZE = 32
TRANSFORM = TrainTransform(SIZE, fill=(124, 116, 104))
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Drawn:
    """A data set of noise images: number i has i % 3 objects. Some indices misbehave."""

    count: int = 10
    damaged: frozenset[int] = frozenset()
    trouble: dict[int, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ("cat", "dog")

    @functools.cached_property
    def records(self) -> tuple[Record, ...]:
        boxes = np.array([[4, 3, 24, 18], [10, 6, 38, 29]], np.float32)
        labels, no, areas = np.zeros(2, int), np.zeros(2, bool), np.ones(2, np.float32)
        return tuple(
            Record(f"{i}.jpg", i, 40, 30, boxes[: i % 3], labels[: i % 3], no[: i % 3], no[: i % 3], areas[: i % 3])
            for i in range(self.count)
        )

    def __len__(self) -> int:
        return self.count

    def load(self, index: int, shrink: int = 1) -> Sample:
        if index in self.damaged:
            raise ImageDecodeError("is truncated", place=f"{index}.jpg")
        match self.trouble.get(index):
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "slow":
                time.sleep(0.4)
            case "hang":
                time.sleep(600)
            case "bug":
                raise KeyError("oops")
            case "threads":
                raise DatasetError(f"cv2 {cv2.getNumThreads()} torch {torch.get_num_threads()}", place=f"{index}.jpg")
            case "sigterm":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
        boxes = np.array([[4, 3, 24, 18], [10, 6, 38, 29]], np.float32)[: index % 3]
        if self.trouble.get(index) == "box":
            boxes = np.array([[4, 3, 4, 18]], np.float32)
        if self.trouble.get(index) == "nan":
            boxes = np.array([[4, 3, np.nan, 18]], np.float32)
        n = len(boxes)
        label = 2 if self.trouble.get(index) == "label" else index % 2
        image = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        return Sample(image, boxes, np.full(n, label), np.zeros(n, bool), np.zeros(n, bool), f"{index}.jpg", index)


def train_loader(source: Drawn, workers: int = 0, batch_size: int = 4, **options: object) -> TrainLoader:
    return TrainLoader(source, TRANSFORM, batch_size=batch_size, seed=0, workers=workers, **options)  # type: ignore[arg-type]


def an_epoch(source: Drawn, workers: int = 0, **options: object) -> Iterator[Batch]:
    return train_loader(source, workers, **options).epoch(0)


def same(first: Batch, second: Batch) -> bool:
    mine, theirs = first.targets, second.targets
    return (
        first.ids == second.ids
        and first.paths == second.paths
        and torch.equal(first.images, second.images)
        and torch.equal(mine.boxes, theirs.boxes)
        and torch.equal(mine.labels, theirs.labels)
        and torch.equal(mine.valid, theirs.valid)
    )


# What a batch holds


def test_a_batch_has_small_images_and_padded_fractions() -> None:
    (batch, *_) = train_loader(Drawn()).epoch(0)
    assert batch.images.shape == (4, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert [path.removesuffix(".jpg") for path in batch.paths] == [str(i) for i in batch.ids]
    targets = batch.targets
    assert (targets.boxes >= 0).all()
    assert (targets.boxes <= 1).all()
    assert (targets.boxes[~targets.valid] == 0).all()
    assert (targets.labels[~targets.valid] == 0).all()
    sides = (targets.boxes[..., 2:] - targets.boxes[..., :2])[targets.valid]
    assert (sides > 0).all()


def test_boxes_become_fractions_of_the_image_they_lie_on() -> None:
    sample = Drawn().load(2)
    batch = collate(torch.zeros(1, 3, 8, 8), [sample])
    assert torch.allclose(batch.targets.boxes[0], torch.tensor([[0.1, 0.1, 0.6, 0.6], [0.25, 0.2, 0.95, 29 / 30]]))


def test_a_batch_without_objects_has_no_rows() -> None:
    batch = collate(torch.zeros(2, 3, 8, 8), [Drawn().load(0), Drawn().load(3)])
    assert batch.targets.boxes.shape == (2, 0, 4)


def test_the_first_images_are_the_same_on_every_process() -> None:
    first, second = (train_loader(Drawn(), rank=rank, world_size=2).first_images(6) for rank in (0, 1))
    assert torch.equal(first, second)
    assert first.shape == (6, 3, SIZE, SIZE)
    assert len(train_loader(Drawn(3)).first_images(16)) == 3


# Workers


def test_batches_follow_from_seed_epoch_and_step_and_not_from_the_workers() -> None:
    in_process = train_loader(Drawn())
    assert in_process.steps_per_epoch == 3
    expected = {epoch: list(in_process.epoch(epoch)) for epoch in (0, 1)}
    assert not same(expected[0][0], expected[1][0])
    for workers in (1, 2):
        loader = train_loader(Drawn(), workers)
        for epoch in (0, 1, 0):
            assert all(map(same, loader.epoch(epoch), expected[epoch]))
        assert all(map(same, loader.epoch(1, start_step=2), expected[1][2:]))
        # An epoch left in its middle does not spill into the next.
        abandoned = loader.epoch(0)
        next(abandoned)
        assert all(map(same, loader.epoch(1), expected[1]))


def test_augmentation_differs_between_epochs_and_images() -> None:
    source = Drawn(1)
    seen = [next(train_loader(source, batch_size=1).epoch(epoch)).images.numpy().tobytes() for epoch in range(6)]
    assert len(set(seen)) == 6


def test_loading_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(train_loader(Drawn()).epoch(0))
    list(train_loader(Drawn(), workers=1).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_worker_runs_on_one_thread() -> None:
    with pytest.raises(DatasetError, match="cv2 1 torch 1"):
        list(an_epoch(Drawn(trouble={5: "threads"}), workers=1))


def test_a_worker_outlives_the_signals_that_stop_a_run() -> None:
    seen = {index for batch in an_epoch(Drawn(trouble={5: "sigterm"}), workers=1) for index in batch.ids}
    assert seen == set(range(10))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_an_error_that_names_it(workers: int) -> None:
    source = Drawn(damaged=frozenset({3}))
    with pytest.raises(ImageDecodeError, match=r"3\.jpg: is truncated"):
        list(an_epoch(source, workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_in_a_sample_names_index_and_path(workers: int) -> None:
    with pytest.raises(DataWorkerError, match=r"3\.jpg: image 3 .* KeyError at .*test_loader\.py:\d+: 'oops'"):
        list(train_loader(Drawn(trouble={3: "bug"}), workers).epoch(0))


def test_a_killed_worker_is_an_error_with_a_hint() -> None:
    with pytest.raises(DataWorkerError, match=r"died.*data\.workers=0"):  # long before the timeout
        list(an_epoch(Drawn(trouble={5: "die"}), workers=1, timeout=3600.0))


def test_a_worker_that_died_before_it_was_listed_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.active_children", list)  # it leaves out those that ended
    with pytest.raises(DataWorkerError, match=r"died.*data\.workers=0"):
        list(an_epoch(Drawn(trouble={5: "die"}), workers=1, timeout=3600.0))


def test_a_hanging_worker_is_an_error_with_a_hint() -> None:
    with pytest.raises(DataWorkerError, match=r"within 1 seconds.*data\.timeout.*data\.workers=0"):
        list(an_epoch(Drawn(trouble={5: "hang"}), workers=1, timeout=1.0))


def test_a_program_with_a_hanging_worker_ends(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import sys
        from tests.data.loading.test_loader import Drawn, an_epoch
        from ssd.errors import DataWorkerError
        if __name__ == "__main__":
            try:
                list(an_epoch(Drawn(trouble={5: "hang"}), workers=1, timeout=1.0))
            except DataWorkerError as error:
                sys.exit(f"error: {error}")
        """)
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=180, env=environment, check=False
    )
    assert run.returncode == 1
    assert "error: data workers: no batch arrived" in run.stderr


# Bad images and bad objects


def test_a_bad_image_may_be_skipped_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    source = Drawn(300, damaged=frozenset({3, 4}))
    expected = None
    for workers in (0, 2):
        loader = train_loader(source, workers, batch_size=50, bad_images="skip")
        batches = list(loader.epoch(0))
        assert [len(batch) for batch in batches] == [50] * 6
        assert not {"3.jpg", "4.jpg"} & {path for batch in batches for path in batch.paths}
        assert sum(batch.paths.count("5.jpg") for batch in batches) == 3  # it stands in for both
        assert loader.bad_paths == {"3.jpg", "4.jpg"}
        assert expected is None or all(map(same, batches, expected))
        expected = batches
    assert caplog.text.count("Another image stands in") == 4


def test_more_than_a_hundredth_of_bad_images_stops_the_run() -> None:
    source = Drawn(100, damaged=frozenset({3, 40}))
    with pytest.raises(DatasetError, match=r"2 of 100 images cannot be decoded: 3\.jpg, 40\.jpg"):
        list(train_loader(source, bad_images="skip").epoch(0))
    list(train_loader(Drawn(10, damaged=frozenset({3})), bad_images="skip").epoch(0))  # one is always allowed


def test_evaluation_never_skips_a_image() -> None:
    with pytest.raises(ImageDecodeError):
        list(an_epoch(Drawn(damaged=frozenset({9}))))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("box", r"3\.jpg: object 0 .*\[4.0, 3.0, 4.0, 18.0\].* no area"),
        ("nan", "nan"),
        ("label", "label 2.* 2 classes"),
    ],
)
def test_objects_no_loss_could_survive_are_errors(trouble: str, said: str) -> None:
    index = 4 if trouble == "label" else 3
    with pytest.raises(AnnotationError, match=said):
        load_checked(Drawn(trouble={index: trouble}), index)
    with pytest.raises(AnnotationError, match=f"{index}.jpg"):
        list(train_loader(Drawn(trouble={index: trouble})).epoch(0))


def test_errors_survive_the_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(ImageDecodeError("is bad", place="a.jpg", remedy="Remove it.")))
    assert str(error) == "a.jpg: is bad. Remove it."
    assert type(error) is ImageDecodeError


# Preview


def test_a_preview_is_a_grid_of_what_training_sees(tmp_path: Path) -> None:
    path = preview(Drawn(), TRANSFORM, tmp_path / "new" / "grid.png", count=5)
    sheet = load_image(path)
    assert sheet.shape == (2 * SIZE + 4, 3 * SIZE + 8, 3)
    assert (sheet[SIZE + 4 :, 2 * (SIZE + 4) :] == 255).all()  # no sixth image
    empty = Drawn(1)
    expected = TRANSFORM(empty.load(0), (0, 0, 0)).image
    assert np.array_equal(load_image(preview(empty, TRANSFORM, tmp_path / "one.png")), expected)
    with pytest.raises(DatasetError, match="no images"):
        preview(Drawn(0), TRANSFORM, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 2), (16, 1, 15), (64, 1, 16), (16, 2, 7), (4, 8, 1)],
)
def test_auto_leaves_a_core_of_each_process_to_the_training(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert choose_workers("auto", processes) == workers
    assert choose_workers(3, processes) == 3


class Pinned(torch.Tensor):
    """Stands for page-locked memory, which only a machine with a GPU has."""

    def pin_memory(self, *_: object) -> "Pinned":
        return torch.zeros_like(self).add_(self).as_subclass(Pinned)


def test_every_tensor_of_a_batch_is_pinned() -> None:
    (batch, *_) = train_loader(Drawn()).epoch(0)
    said = dataclasses.replace(batch.targets, complete=torch.ones(len(batch), 3, dtype=torch.bool))
    batch = dataclasses.replace(batch, targets=said)
    fields = {field.name: getattr(batch.targets, field.name) for field in dataclasses.fields(batch.targets)}
    targets = Targets(**{name: tensor.as_subclass(Pinned) for name, tensor in fields.items()})
    whole = dataclasses.replace(batch, images=batch.images.as_subclass(Pinned), targets=targets)
    pinned = WorkerResult(whole).pin_memory().open()
    assert same(pinned, batch)
    tensors = [pinned.images, *(getattr(pinned.targets, name) for name in fields)]
    assert all(isinstance(tensor, Pinned) for tensor in tensors)
    originals = [whole.images, *(getattr(whole.targets, name) for name in fields)]
    assert all(mine.data_ptr() != theirs.data_ptr() for mine, theirs in zip(tensors, originals, strict=True))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing stops a process there")
def test_a_program_that_was_stopped_for_longer_than_the_timeout_goes_on() -> None:
    """As with Ctrl-Z and then fg: all processes of the group stand still, and no batch can arrive meanwhile."""
    program = """
        import sys
        from tests.data.loading.test_loader import Drawn, train_loader

        if __name__ == "__main__":
            loader = train_loader(Drawn(trouble={i: "slow" for i in range(10)}), workers=1, batch_size=1, timeout=2.0)
            for number, _ in enumerate(loader.epoch(0)):
                print(number, flush=True)
            loader.close()
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(6)
    os.killpg(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    assert out.split() == [str(number) for number in range(1, 10)]
