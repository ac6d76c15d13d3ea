"""Mistakes of callers, and detectors that travel: each gets one line with a remedy, or works."""

import copy
import inspect
import json
import multiprocessing
import os
import pickle
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssd
from ssd.errors import SSDError, UnknownOptionError
from ssd.inference.detector import Detector
from ssd.inference.pipelines import NetworkPipeline
from ssd.system.device import choose_device, choose_dtype
from tests.exporters import made

BACKENDS = ("torch", "openvino")
KINDS = (*BACKENDS, "exported onnx", "exported openvino", "exported pt2")


@pytest.fixture(scope="session", params=KINDS)
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    kind = request.param.rpartition(" ")[2]
    for package in made.EXTRAS.get(kind, ()):
        pytest.importorskip(package)
    if request.param in BACKENDS:
        return Detector(
            NetworkPipeline(made.network(), made.settings(), device="cpu", precision="fp32", backend=request.param)
        )
    settings = made.settings("float" if kind == "pt2" else "uint8")
    return ssd.load(made.exported(tmp_path_factory.mktemp("graph"), kind, settings), precision="fp32", trust=True)


@pytest.fixture(scope="session")
def plain() -> Detector:
    return made.detector()


def same(ours: ssd.Detections, theirs: ssd.Detections) -> bool:
    return all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("boxes", "scores", "labels"))


# Detectors that travel


@pytest.mark.parametrize("travel", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy, copy.copy])
def test_a_copy_finds_the_same_to_the_last_bit(detector: Detector, travel: Callable[[Detector], Detector]) -> None:
    image = made.images(1)[0]
    expected = detector.detect(image)
    assert len(expected) > 0
    for _ in range(2):
        copied = travel(detector)
        assert same(copied.detect(image), expected)
        assert repr(copied) == repr(detector)
        detector_again = travel(copied)
        assert same(detector_again.detect(image), expected)


def _search(detector: Detector, image: np.ndarray) -> ssd.Detections:
    return detector.detect(image)


def test_a_spawned_process_takes_a_detector(plain: Detector) -> None:
    image = made.images(1)[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(_search, (plain, image)).get(timeout=120)
    np.testing.assert_allclose(found.boxes, plain.detect(image).boxes, atol=1e-3)


def in_a_fork(use: Callable[[], Any]) -> str:
    """What `use` says in a forked process, within twenty seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = f"no error, {use()!r}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], 20)
        assert ready, "it hangs"
        return os.read(read, 10_000).decode()
    finally:
        os.close(read)
        os.kill(child, 9)
        os.waitpid(child, 0)


def print_forked_answers(pickled: str) -> None:
    """Load a detector, use it, and print what each use of it says in a fork of this process."""
    detector: Detector = pickle.loads(Path(pickled).read_bytes())
    image = made.images(1)[0]
    detector.detect(image)
    uses: tuple[Callable[[], Any], ...] = (
        lambda: detector.detect(image),
        lambda: detector(image),
        lambda: list(detector.detect_stream([image])),
        lambda: detector.preprocess([image]),
        lambda: pickle.dumps(detector),
    )
    print(json.dumps([*map(in_a_fork, uses), len(detector.detect(image))]))


def test_a_forked_process_is_told_at_once_what_to_do(detector: Detector, tmp_path: Path) -> None:
    """In a process of its own: to fork the one that runs the tests would take its threads along."""
    (tmp_path / "detector").write_bytes(pickle.dumps(detector))
    code = "import sys; from tests.field.test_detector_arguments import print_forked_answers as p; p(sys.argv[1])"
    words = [sys.executable, "-c", code, str(tmp_path / "detector")]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    *answers, found = json.loads(done.stdout.splitlines()[-1])
    for text in answers:
        assert text.startswith("ArgumentError: detector: was loaded in process"), text
        assert "multiprocessing.get_context('spawn')" in text
    assert found > 0


# Keywords


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("threshold", "score_threshold"),
        ("score_treshold", "score_threshold"),
        ("conf", "score_threshold"),
        ("max_detection", "max_detections"),
        ("iou", "iou_threshold"),
        ("tile", "tiles"),
    ],
)
def test_an_unknown_keyword_is_answered_with_the_nearest(plain: Detector, wrong: str, meant: str) -> None:
    image = made.images(1)[0]
    calls: tuple[Callable[..., Any], ...] = (plain.detect, plain, plain.detect_batch, plain.detect_stream)
    for call in (*calls, ssd.detect, ssd.detect_batch, ssd.detect_stream):
        with pytest.raises(UnknownOptionError, match=rf"no option '{wrong}'\. Did you mean {meant}\?") as caught:
            call(image, **{wrong: 0.2})
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, SSDError)


def test_a_keyword_like_no_other_lists_all(plain: Detector) -> None:
    with pytest.raises(UnknownOptionError, match=r"no option 'zzz'\. There are: image, score_threshold, .*bgr"):
        plain.detect(made.images(1)[0], zzz=1)  # type: ignore[call-arg]
    with pytest.raises(UnknownOptionError, match="Did you mean class_names"):
        ssd.load("coco", classes=["a"])  # type: ignore[call-arg]


def test_editors_see_every_option() -> None:
    options = ["score_threshold", "iou_threshold", "max_detections", "box_voting", "tiles", "tile_overlap", "bgr"]
    for function in (ssd.detect, ssd.Detector.detect, ssd.Detector.__call__):
        assert [n for n in inspect.signature(function).parameters if n != "self"] == ["image", *options]
    for function in (ssd.detect_batch, ssd.detect_stream, ssd.Detector.detect_batch, ssd.Detector.detect_stream):
        assert [n for n in inspect.signature(function).parameters if n != "self"] == ["images", "batch_size", *options]


@pytest.mark.parametrize(
    "option",
    [
        {"score_threshold": 0.4},
        {"iou_threshold": 0.05},
        {"max_detections": 3},
        {"box_voting": 0.05},
        {"tiles": (2, 2)},
        {"bgr": True},
        {"tiles": 2, "tile_overlap": 0.6},
    ],
)
def test_every_option_arrives(plain: Detector, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any]) -> None:
    monkeypatch.setattr("ssd.inference.load.default_detector", lambda: plain)
    image = made.images(1)[0]
    expected = plain.detect(image, **option)
    without = {name: value for name, value in option.items() if name == "tiles" and len(option) > 1}
    assert not same(expected, plain.detect(image, **without))
    assert same(plain(image, **option), expected)
    assert same(ssd.detect(image, **option), expected)
    for many in (plain.detect_batch, ssd.detect_batch, ssd.detect_stream):
        assert [same(one, expected) for one in many([image], **option)] == [True]


def test_dir_shows_the_public_names_only() -> None:
    assert dir(ssd) == sorted(ssd.__all__)
    assert all(getattr(ssd, name) is not None for name in ssd.__all__)


def test_arrays_of_images_and_of_paths_are_many(plain: Detector, tmp_path: Path) -> None:
    images = np.stack(made.images(3))
    assert len(plain.detect_batch(images)) == 3
    floats = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    assert len(plain.detect_batch(floats)) == 3
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    assert len(plain.detect_batch(np.array([str(tmp_path / "a.png")] * 2))) == 2
    assert len(plain.detect_batch({tmp_path / "a.png"})) == 1


def test_matrices_and_tensors_in_16_bits_are_images(plain: Detector) -> None:
    grey = made.images(1)[0][..., 0]
    assert same(plain.detect(grey.view(np.matrix)), plain.detect(grey))
    assert same(plain.detect(np.ma.masked_array(grey)), plain.detect(grey))
    floats = torch.full((3, 40, 50), 0.5)
    for dtype in (torch.bfloat16, torch.float16):
        assert same(plain.detect(floats.to(dtype)), plain.detect(floats))
    assert same(plain.detect(floats.clone().requires_grad_()), plain.detect(floats))


# Mistakes. They are made in a process of its own, where no test tool checks types before the package does.


def _number(**options: Any) -> Callable[[Detector], Any]:
    return lambda detector: detector.detect("nowhere.png", **options)


def _batch(images: Any, *size: Any) -> Callable[[Detector], Any]:
    return lambda detector: detector.detect_batch(images, *size)


def _one(image: Any) -> Callable[[Detector], Any]:
    return lambda detector: detector.detect(image)


def _load(*source: Any, **options: Any) -> Callable[[Detector], Any]:
    return lambda _: ssd.load(*source, **options)


URL = r"is a URL, not a file\. Download it first, or give its bytes"
ONE = r"is one image\. Use detect\(image\), or a list: \[image\]\."
NO_LIST = r"is no list of images\. Give a list of paths"
NO_PATH = r"is no path\. Use text or a Path\."
NO_ARRAY = "tensor of shape .* is no array of numbers"
ONE_OR_MORE = r"Use 1 or more\."

MISTAKES: dict[str, tuple[Callable[[Detector], Any], str]] = {
    "count 1e18": (_number(max_detections=1e18), r"max_detections: 1e\+18 is not a whole number\. Use a whole number"),
    "count 2.5": (_number(max_detections=2.5), r"max_detections: 2\.5 is not a whole number"),
    "count 10**18": (_number(max_detections=10**18), "max_detections: 1000000000000000000 is out of range. Use"),
    "count True": (_number(max_detections=True), "max_detections: True is not a whole number"),
    "count text": (_number(max_detections="5"), "max_detections: '5' is not a whole number"),
    "score text": (_number(score_threshold="0.5"), "score_threshold: '0.5' is no threshold"),
    "score nan": (_number(score_threshold=float("nan")), "score_threshold: nan is out of range"),
    "iou list": (_number(iou_threshold=[0.5]), r"iou_threshold: \[0\.5\] is not a number"),
    "voting -1": (_number(box_voting=-1), "box_voting: -1 is out of range"),
    "overlap text": (_number(tiles=2, tile_overlap="0.2"), "tile_overlap: '0.2' is not a number"),
    "tiles 2.5": (_number(tiles=2.5), "tiles: 2.5 is not a number of tiles"),
    "batch 2.5": (_batch(["a.png"], 2.5), "batch_size: 2.5 is not a whole number. " + ONE_OR_MORE),
    "batch text": (_batch(["a.png"], "8"), "batch_size: '8' is not a whole number. " + ONE_OR_MORE),
    "batch 1e18": (_batch(["a.png"], 1e18), r"batch_size: 1e\+18 is not a whole number. " + ONE_OR_MORE),
    "batch 0": (_batch(["a.png"], 0), "batch_size: 0 is too small. " + ONE_OR_MORE),
    "one text": (_batch("a.png"), f"images: 'a.png' {ONE}"),
    "one path": (_batch(Path("a.png")), f"images: .*a.png.* {ONE}"),
    "one bytes": (_batch(b"bytes"), f"images: a bytes {ONE}"),
    "one array": (_batch(np.zeros((40, 30, 3), np.uint8)), f"images: a ndarray {ONE}"),
    "one grey": (_batch(np.zeros((40, 30), np.uint8)), f"images: a ndarray {ONE}"),
    "one tensor": (_batch(torch.zeros(3, 40, 30)), f"images: a Tensor {ONE}"),
    "one PIL": (_batch(Image.new("RGB", (4, 4))), f"images: a Image {ONE}"),
    "none": (_batch(None), f"images: a NoneType {NO_LIST}"),
    "number": (_batch(7), f"images: a int {NO_LIST}"),
    "dictionary": (_batch({"a.png": 1}), f"images: a dict {NO_LIST}"),
    "https": (_one("https://example.com/a.jpg"), f"https://example.com/a.jpg: {URL}"),
    "http path": (_one(Path("http://example.com/a.jpg")), f"http:/example.com/a.jpg: {URL}"),
    "s3": (_one("s3://bucket/a.jpg"), f"s3://bucket/a.jpg: {URL}"),
    "file": (_batch(["file:///tmp/a.jpg"]), f"file:///tmp/a.jpg: {URL}"),
    "PIL 0x0": (_one(Image.new("RGB", (0, 0))), "a PIL image of 0x0 pixels is empty"),
    "PIL 5x0": (_one(Image.new("L", (5, 0))), "a PIL image of 5x0 pixels is empty"),
    "array 0": (_one(np.zeros((0, 4, 3), np.uint8)), r"uint8 array of shape \(0, 4, 3\) has no pixels"),
    "matrix of bools": (_one(np.array([[True]]).view(np.matrix)), r"bool array of shape \(1, 1\) is not an? image"),
    "sparse": (_one(torch.zeros(3, 4, 4).to_sparse()), NO_ARRAY),
    "meta": (_one(torch.zeros(3, 4, 4, device="meta")), NO_ARRAY),
    "bf16 of 2": (_one(torch.full((3, 4, 4), 2.0, dtype=torch.bfloat16)), "values from 2 to 2"),
    "no image": (_one(None), "NoneType is not an? image"),
    "load None": (_load(None), f"None {NO_PATH}"),
    "load 5": (_load(5), f"5 {NO_PATH}"),
    "load bytes": (_load(b"coco"), f"b'coco' {NO_PATH}"),
    "load nothing": (_load(""), f"'' {NO_PATH}"),
    "load list": (_load(["a.safetensors"]), NO_PATH),
    "names 3": (_load("coco", class_names=3), r"class_names: 3 is no list of names"),
    "names [1]": (_load("coco", class_names=[1]), r"class_names: \[1\] is no list of names"),
    "names set": (_load("coco", class_names={"b", "a"}), r"is no list of names\. Write \["),
    "names dict": (_load("coco", class_names={"b": 0}), r"is no list of names"),
    "device list": (lambda _: choose_device(["cpu"]), r"device: there is no \['cpu'\] here\. Use auto, cpu"),
    "device None": (lambda _: choose_device(None), "device: there is no None here"),
    "precision list": (
        lambda _: choose_dtype(["fp32"], torch.device("cpu")),
        r"precision: \['fp32'\] does not work on cpu",
    ),
    "no overrides": (lambda _: ssd.train("x", overrides=None), "overrides: None holds no overrides. Use"),
    "overrides 3": (lambda _: ssd.compare("a", "b", "x", overrides=3), "overrides: 3 holds no overrides"),
    "overrides [1]": (lambda _: ssd.review("x", overrides=[1]), r"overrides: \[1\] holds no overrides"),
    "export list": (lambda _: ssd.export("x", "onnx", precision=["int8"]), r"precision: \['int8'\] is unknown"),
    "class names": (_load("coco", class_names="cat"), r"class_names: 'cat' is one name\. Write \['cat'\]"),
}


def make_all() -> None:
    """Make every mistake and print what is raised, as JSON."""
    detector, said = made.detector(), {}
    for name, (call, _) in MISTAKES.items():
        try:
            said[name] = f"no error, {call(detector)!r}"
        except SSDError as error:
            said[name] = str(error)
        except Exception as error:
            said[name] = f"{type(error).__name__}, no error of the package: {error}"
    print(json.dumps(said))


@pytest.fixture(scope="session")
def said() -> dict[str, str]:
    program = "from tests.field.test_detector_arguments import make_all; make_all()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    texts: dict[str, str] = json.loads(done.stdout)
    return texts


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_the_remedy(said: dict[str, str], name: str) -> None:
    assert re.search(MISTAKES[name][1], said[name]), said[name]
    assert "\n" not in said[name]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ssd.load("https://example.org/a.pth"), r"https://example\.org/a\.pth: is an address, not a file"),
        (lambda: ssd.load("a.pth", class_names=["a", "b", "a"]), "class_names: .* names a class twice"),
        (lambda: ssd.train("nowhere", overrides="train.epochs=x"), "train.epochs = 'x' is not accepted"),
    ],
)
def test_other_arguments_of_a_wrong_kind_are_one_line(call: Callable[[], object], text: str) -> None:
    with pytest.raises(SSDError, match=text):
        call()
