"""Every backbone goes the whole way: built, trained three steps, evaluated, saved, loaded, exported."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

import ssd
from ssd.experiment import config_file as configs
from ssd.model import backbones, vgg
from ssd.model.factory import from_settings
from ssd.report.run_log import read_rows
from ssd.training import trainer
from ssd.training.checkpoints import load_state
from ssd.weights.native import load_weights

# Those with names of ours; every timm network with feature taps works too.
BACKBONES = (*vgg.NAMES, *backbones.NAMES)
HAVE_TIMM = importlib.util.find_spec("timm") is not None
HAVE_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
# One of each kind: VGG, cut at three layers, cut inside `features`.
FAST = ("vgg11_bn", "resnet18", "mobilenet_v3_small")
# An export takes ten times what training does here. Networks of the same layers as another one, only more of them or
# under another name, do without.
NOT_EXPORTED = (
    *(f"{name}_bn" for name in vgg.CONFIGURATIONS),
    *("mobilenet_v3_small", "resnet34", "resnet101", "resnet152"),
    *backbones.ALIASES,
)
# Drawn images, one a step; VGGs at an eighth of their width, which others do not have.
TINY = (
    "data.format=shapes",
    "data.shapes=[3, 1, 80]",
    "data.workers=0",
    "model.backbone_weights=none",
    "train.batch_size=1",
    "train.epochs=1",
    "train.precision=fp32",
    "train.device=cpu",
    "optim.lr=1e-4",
    "optim.warmup=0",
    "optim.ema=0",
    "name=tiny",
)


def journeys() -> list[object]:
    """Name, input size, and whether the graph is exported; the fast tier goes with a few of them, without a graph."""
    found = [(name, 300, False) for name in FAST]
    found += [
        (name, 300, name not in NOT_EXPORTED) for name in BACKBONES if not (name in FAST and name in NOT_EXPORTED)
    ]
    found += [(name, 320, False) for name in BACKBONES]
    fast = [pytest.param(*journey, id=f"{journey[0]}-300") for journey in found[: len(FAST)]]
    return [*fast, *(_slow(*journey) for journey in found[len(FAST) :])]


def _slow(name: str, size: int, exported: bool) -> object:
    marks = [pytest.mark.slow]
    if name in backbones.TIMM:
        marks.append(pytest.mark.skipif(not HAVE_TIMM, reason="timm is not installed"))
    return pytest.param(name, size, exported, id=f"{name}-{size}{'-onnx' if exported else ''}", marks=marks)


def train_three_steps(name: str, size: int, folder: Path, *words: str) -> Path:
    width = ["model.width=0.125"] if name in vgg.NAMES else []
    overrides = [*TINY, *width, f"model.backbone={name}", f"model.input_size={size}", f"output={folder}", *words]
    outcome = trainer.train(configs.load(None, overrides), progress=False)
    assert outcome.evaluation is not None
    assert "AP" in outcome.evaluation.metrics
    return outcome.folder.last


@pytest.mark.parametrize(("name", "size", "exported"), journeys())
def test_it_trains_three_steps_evaluates_saves_loads_and_exports(
    name: str, size: int, exported: bool, tmp_path: Path
) -> None:
    weights = train_three_steps(name, size, tmp_path)
    _, settings, _ = load_weights(weights)
    assert settings.network.backbone == name
    detector = ssd.load(weights, device="cpu", precision="fp32", backend="torch")
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    found = detector.detect(image)
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()
    if exported and HAVE_ONNX:
        assert_its_graph_agrees(detector, image, tmp_path / "graph.onnx", load_weights(weights))


def assert_its_graph_agrees(detector, image: np.ndarray, path: Path, saved) -> None:
    from ssd.exporters.export import export

    state, settings, _ = saved
    network = from_settings(settings)
    network.load_state_dict(state)
    export(network.eval(), settings, path, "onnx")
    ours, theirs = detector.detect(image).scores, ssd.load(path).detect(image).scores
    # Three steps leave many equal scores, and which of two equals suppresses the other is anybody's guess.
    assert abs(len(ours) - len(theirs)) <= 0.03 * len(ours) + 1
    distances = np.abs(theirs[:, None] - ours).min(axis=1)
    assert (distances > 1e-3).mean() <= 0.03


def test_ssdlite_trains_is_saved_loads_and_is_a_start(tmp_path: Path) -> None:
    lite = ("model.head=lite", "train.batch_size=3")  # BatchNorm on a level of one cell wants several images
    weights = train_three_steps("mobilenet_v3_small", 96, tmp_path / "first", *lite)
    _, settings, _ = load_weights(weights)
    assert (settings.network.head, settings.network.extras_norm) == ("lite", "batch")
    assert settings.boxes.grids == (6, 3, 2, 1)
    again = train_three_steps("mobilenet_v3_small", 96, tmp_path / "again", lite[1], f"model.weights={weights}")
    assert load_weights(again)[1] == settings
    found = ssd.load(again, device="cpu", backend="torch").detect(np.zeros((70, 90, 3), np.uint8))
    assert np.isfinite(found.boxes).all()


def test_auxiliary_heads_learn_are_resumed_and_are_not_in_the_weights(tmp_path: Path) -> None:
    weights = train_three_steps("googlenet", 96, tmp_path, "loss.auxiliary_weight=0.3", "train.log_every=1")
    for row in read_rows(weights.parent / "train.jsonl"):
        # Three classes that may be there or not, asked twice: 2 x 0.3 x log 2 at the start.
        assert row["loss"] - row["loss_box"] - row["loss_confidence"] == pytest.approx(0.6 * math.log(2), rel=0.5)
    state = load_state(next(weights.parent.glob("state-*.pt")))
    heads = [key for key in state["network"] if key.startswith("backbone.auxiliary.")]
    assert len(heads) == 2 * 10
    saved, _, _ = load_weights(weights)
    assert saved.keys() == {key for key in state["network"] if key not in heads}
    assert ssd.load(weights, device="cpu", backend="torch").settings.network.backbone == "googlenet"
    resumed = [*TINY, "model.backbone=googlenet", "model.input_size=96", f"output={tmp_path}", "train.epochs=2"]
    config = configs.load(None, [*resumed, "loss.auxiliary_weight=0.3"])
    assert trainer.train(config, resume="auto", progress=False).exit_code == 0
