"""Every block of docs/python.md runs, on images drawn by the program."""

import re
from pathlib import Path

import pytest

from ssd.data.shapes.dataset import shapes
from ssd.images.drawing import encode_image
from tests.commands.test_eval import make_run
from tests.data.made import write_text, xml, xml_object

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def save_voc(folder: Path, split: str, count: int) -> tuple[str, ...]:
    """Drawn images of a split as a VOC folder; gives the class names."""
    drawn = shapes(split, count, 96)
    for index in range(count):
        sample, stem = drawn.load(index), f"{split}{index}"
        objects = [
            xml_object(drawn.class_names[label], tuple(side + 1 for side in box))
            for label, box in zip(sample.labels, sample.boxes.round().tolist(), strict=True)
        ]
        write_text(folder / "Annotations" / f"{stem}.xml", xml(*objects, size=(96, 96), filename=f"{stem}.png"))
        (folder / "JPEGImages").mkdir(exist_ok=True)
        (folder / "JPEGImages" / f"{stem}.png").write_bytes(encode_image(sample.image, ".png"))
    write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{split}{n}\n" for n in range(count)))
    return drawn.class_names


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set, a run, and photos."""
    monkeypatch.chdir(tmp_path)
    names = save_voc(Path("my_images"), "train", 8)
    save_voc(Path("my_images"), "val", 4)
    make_run(Path("runs/cells"), names, {"data": {"folder": "my_images"}})
    for place in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_bytes(encode_image(shapes("val", 1, 96).load(0).image, ".jpg"))
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=[re.findall(r"ssd\.([\w.]+)|$", block)[0] for block in BLOCKS])
def test_a_block_runs(block: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "ssd.export" in block:
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    exec(compile(block, str(PAGE), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out
