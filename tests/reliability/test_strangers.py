"""Files from strangers: nothing in them is executed, followed out of the folder, or spelled out to fill the memory."""

import ast
import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import ssd
from ssd.data.dataset import open_dataset
from ssd.errors import CheckpointError, DatasetError
from ssd.model.factory import settings_for
from ssd.settings import Settings
from ssd.weights.native import load_weights, save_weights
from tests.data.made import coco_content, coco_folder, voc_folder, write_image, write_text, xml, xml_object
from tests.reliability.nursery import Nursery

PACKAGE = Path(ssd.__file__).parent
# Calls that would execute, follow or decode what a stranger wrote, and what is used instead.
FORBIDDEN = {
    "pickle.load": "torch.load(weights_only=True)",
    "pickle.loads": "torch.load(weights_only=True)",
    "yaml.unsafe_load": "ssd.system.yaml",
    "yaml.full_load": "ssd.system.yaml",
    "yaml.safe_load": "ssd.system.yaml",
    "os.system": "subprocess.run with a list",
    "eval": "ast.literal_eval",
    "exec": "nothing",
    "cv2.imread": "ssd.images.decode.load_image",
    "torchvision.io.read_image": "ssd.images.decode.load_image",
    "torchvision.io.decode_image": "ssd.images.decode.load_image",
    "ElementTree.parse": "defusedxml",
    "torch.hub.load_state_dict_from_url": "ssd.system.download",
    "torch.hub.load": "ssd.system.download",
    "urllib.request.urlretrieve": "ssd.system.download",
}


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {os.environ['SSD_EVIL']}",)


def evil_files(folder: Path) -> Iterator[Path]:
    """The same malicious object as PyTorch (new, old, inside a state dict), numpy and a plain pickle carry it."""
    torch.save(_Evil(), folder / "bare.pth")
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": _Evil()}, folder / "beside.pth")
    torch.save(_Evil(), folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "plain.pkl").write_bytes(pickle.dumps(_Evil()))
    (folder / "named.safetensors").write_bytes(pickle.dumps(_Evil()))
    np.savez(folder / "array.npz", w=np.array([_Evil()], dtype=object))
    yield from sorted(folder.iterdir())


@pytest.mark.parametrize("forced", [False, True])
def test_no_pickle_is_executed_whatever_its_wrapping_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    monkeypatch.setenv("SSD_EVIL", str(tmp_path / "executed"))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1" if forced else "0")
    (tmp_path / "files").mkdir()
    paths = list(evil_files(tmp_path / "files"))
    assert len(paths) == 6
    for path in paths:
        with pytest.raises(CheckpointError):
            ssd.load(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(_Evil()))  # the object does what it should
    assert (tmp_path / "executed").exists()


def calls_of(path: Path) -> Iterator[tuple[int, ast.Call, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, node, ast.unparse(node.func)


def test_the_package_makes_no_call_that_trusts_a_file() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, call, name in calls_of(path):
            place = f"{path.name}:{line}"
            words = {word.arg: ast.unparse(word.value) for word in call.keywords}
            for forbidden, instead in FORBIDDEN.items():
                assert name != forbidden, f"{place} calls {name}; use {instead}"
                assert not ("." in forbidden and name.endswith(f".{forbidden}")), f"{place} calls {name}"
            assert words.get("shell") != "True", f"{place} starts a shell"
            if name == "torch.load":
                assert words.get("weights_only") == "True", f"{place} loads pickles"
            if name in ("np.load", "numpy.load"):
                assert words.get("allow_pickle") == "False", f"{place} loads pickles"
            if name == "yaml.load":
                assert path.name == "yaml.py", f"{place} parses YAML of its own"


def bombs() -> Iterator[tuple[str, object]]:
    yield "network.input_size", 10**9
    yield "network.width", 1e9
    yield "boxes.grids", [100_000] * 6
    yield "boxes.max_sizes", [1.0]
    yield "postprocessing.top_k", 10**30
    yield "postprocessing.score_threshold", float("1e300")
    yield "preprocessing.std", [0.0, 1.0, 1.0]
    yield "class_names", ["cat", "cat"]


@pytest.mark.parametrize(("key", "value"), list(bombs()))
def test_settings_from_a_stranger_ask_for_no_terabyte(tmp_path: Path, key: str, value: object) -> None:
    stated = settings_for(("cat", "dog"), input_size=300).to_dict()
    group, _, name = key.rpartition(".")
    (stated[group] if group else stated)[name] = value
    with pytest.raises(CheckpointError, match=f"settings in the file are wrong: {key}"):
        Settings.from_dict(json.loads(json.dumps(stated)), "a.safetensors")


def test_settings_from_a_stranger_tile_no_billion_boxes() -> None:
    stated = settings_for(("cat", "dog"), input_size=300).to_dict()
    stated["boxes"]["aspect_ratios"] = [[2.0] * 100_000] * 6
    with pytest.raises(CheckpointError, match="boxes = 388,003,880 default boxes"):
        Settings.from_dict(stated, "a.safetensors")


def test_sound_settings_of_any_size_pass(tmp_path: Path) -> None:
    for size in (64, 300, 512, 1024, 2048):
        settings = settings_for(("cat",), input_size=size)
        save_weights(tmp_path / "a.safetensors", {"w": torch.zeros(1)}, settings)
        assert load_weights(tmp_path / "a.safetensors")[1] == settings


def test_files_that_declare_a_terabyte_are_refused_in_little_memory(nursery: Nursery, tmp_path: Path) -> None:
    text = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "bomb.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
        archive.writestr("w.npy", head.getvalue())
    torch.save({"w": torch.zeros(10)}, tmp_path / "small")
    with zipfile.ZipFile(tmp_path / "small") as source, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            # The pickle's ten numbers become 2**31 - 1; the file has ten.
            archive.writestr(name, content.replace(b"K\n", b"J\xff\xff\xff\x7f") if name.endswith("pkl") else content)
    program = f"""
import resource, ssd
from pathlib import Path
from ssd.errors import CheckpointError
from ssd.inference.load import load
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for path in sorted(Path({str(tmp_path)!r}).glob("bomb.*")):
    try:
        load(path)
    except CheckpointError as error:
        print(error)
"""
    (done,) = nursery.execute(program)
    assert done.code == 0, done.err[-2000:]
    assert [line.split(":")[0][-16:] for line in done.out.splitlines()] == [
        f"{tmp_path}/bomb{suffix}"[-16:] for suffix in (".npz", ".pth", ".safetensors")
    ]


def test_annotations_name_no_file_outside_the_folder(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.jpg")
    for number, name in enumerate(("../secret.jpg", str(secret), "link.jpg")):
        folder = coco_folder(tmp_path / f"coco{number}", coco_content())
        (folder / "train" / "link.jpg").symlink_to(secret)
        content = coco_content()
        content["images"][0]["file_name"] = name
        write_text(folder / "annotations" / "instances_train.json", json.dumps(content))
        with pytest.raises(DatasetError, match="outside the data folder"):
            open_dataset(folder, "train")
        voc = voc_folder(tmp_path / f"voc{number}", {"a": xml(xml_object(), filename=name)})
        (voc / "JPEGImages" / "a.jpg").unlink()
        (voc / "JPEGImages" / "link.jpg").symlink_to(secret)
        with pytest.raises(DatasetError, match="outside the data folder"):
            open_dataset(voc, "train")


@pytest.mark.parametrize("source", ["..", "/", "/etc/passwd", "../list.txt"])
def test_a_data_yaml_lists_nothing_outside_its_folder(tmp_path: Path, source: str) -> None:
    write_text(tmp_path / "list.txt", "secret.jpg\n")
    folder = tmp_path / "set"
    write_image(folder / "images" / "train" / "a.jpg")
    write_text(folder / "data.yaml", f"names: [cat]\ntrain: {source}\n")
    with pytest.raises(DatasetError, match=r"names .* outside the data folder"):
        open_dataset(folder, "train", format="yolo")


def test_safetensors_of_a_stranger_are_checked_by_shape_before_use(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(3)}, tmp_path / "a.safetensors", {"ssd": '{"version": 1}'})
    with pytest.raises(CheckpointError, match="SHA-256"):
        ssd.load(tmp_path / "a.safetensors")
