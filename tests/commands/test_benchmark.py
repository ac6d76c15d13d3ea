import contextlib
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ssd.benchmark import fixtures, memory, runner, stages, timing
from ssd.benchmark.agreement import EXACT, LOW_PRECISION, Answer, same_detections, same_numbers
from ssd.benchmark.fixtures import Bench, Sizes, draw_jpeg
from ssd.benchmark.stage_names import STAGES
from ssd.benchmark.timing import Contest, DisagreementError, Timing, UnavailableError, clock, hold
from ssd.benchmark.worker import Side, Sides
from ssd.boxes import iou
from ssd.commands.benchmark import main
from ssd.errors import SSDError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small():
    """Everything but the network in small."""
    with fixtures.prepared("cpu", sizes=Sizes(columns=5, batch=1, loss_batch=2, eval_images=4)) as made:
        yield made


def answer(*rows):
    """Detections from (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True)
    return Answer(torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), torch.tensor(labels))


def test_the_sides_take_turns_and_who_begins_alternates(monkeypatch):
    monkeypatch.setattr(timing, "_LEAST_SECONDS", 0)
    calls = []
    took = hold(clock(lambda: calls.append("o"), CPU), clock(lambda: calls.append("t"), CPU), 3)
    warm_up = "oott"
    assert "".join(calls) == warm_up + "ot" + "to" + "ot"
    assert len(took.ours) == len(took.theirs) == 3


def test_short_calls_are_repeated_and_the_time_is_of_one(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks) / 1000)  # every look at it costs 1 ms
    calls = []
    took = hold(clock(lambda: calls.append(0), CPU), clock(lambda: None, CPU), 2)
    assert len(calls) == 2 + 2 * 50
    assert took.ours == pytest.approx((1 / 50, 1 / 50))


def test_on_cuda_the_devices_own_clock_counts_from_idle_to_the_last_kernel(monkeypatch):
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("wait for the end")

        def elapsed_time(self, end):
            return 250.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("wait"))
    assert clock(lambda: log.append("call"), torch.device("cuda"))(2) == 0.25
    assert log == ["wait", "record", "call", "call", "record", "wait for the end"]


def test_each_side_answers_from_a_process_of_its_own(small):
    with contextlib.closing(Side("theirs", small, keep_memory=True)) as side:
        for stage in ("loss", "coco_eval"):
            if stage == "coco_eval":
                pytest.importorskip("faster_coco_eval", reason="needs the extra fast-eval")
            assert 0 < side.prepare(stage)(1) < 60
        with pytest.raises(SSDError, match=r"its process ended with 1: KeyError: .nothing."):
            side.prepare("nothing")


def test_torchvisions_process_keeps_no_memory_unless_told_to(monkeypatch):
    started = []
    monkeypatch.setattr(Side, "__init__", lambda self, name, bench, keep_memory: started.append((name, keep_memory)))
    monkeypatch.setattr(Side, "prepare", lambda self, stage: clock(str, CPU))
    monkeypatch.setattr(Side, "close", lambda self: started.append("closed"))
    with Sides(Bench(CPU, b"", Path())) as sides:
        sides.prepare("loss")
        sides.prepare("train_step")
    assert started == [("ours", True), ("theirs", False), "closed", "closed"]
    with Sides(Bench(CPU, b"", Path()), same_allocator=True) as sides:
        sides.prepare("loss")
    assert started[4:6] == [("ours", True), ("theirs", True)]


def test_one_core_means_one_thread_while_it_lasts():
    torch.set_num_threads(2)
    before = cv2.getNumThreads()
    seen = []
    clock(lambda: seen.append((torch.get_num_threads(), cv2.getNumThreads())), CPU, one_core=True)(1)
    assert set(seen) == {(1, 1)}
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, before)


def test_the_ratio_is_the_median_of_the_pairs():
    # The second pair was disturbed, both sides alike; the ratio of the medians would be 30 / 10.
    timing = Timing(ours=(10.0, 100.0, 10.0), theirs=(20.0, 200.0, 30.0))
    assert timing.medians() == (10, 30, 2)


def test_a_row_has_the_promised_keys_and_fits_the_table():
    row = runner.stage_row("loss", Timing((1.0, 2.0), (4.0, 6.0)), "equal")
    assert row == {
        "name": "loss",
        "ours_ms": 1.5,
        "torchvision_ms": 5.0,
        "ratio": 3.5,
        "pairs": 2,
        "ratios": [4.0, 3.0],
        "checked": "equal",
    }
    assert runner.stage_line(row).split() == ["loss", "1.50", "5.00", "3.50", "3.00-4.00", "2", "equal"]


def test_numbers_agree_within_a_share_of_their_spread():
    theirs = torch.tensor([0.0, 1.0, 2.0])  # standard deviation 1
    assert "0.1" in same_numbers(theirs + 0.1, theirs, 0.2, "logits")
    with pytest.raises(DisagreementError, match=r"logits differ by 0\.3"):
        same_numbers(theirs + 0.3, theirs, 0.2, "logits")
    with pytest.raises(DisagreementError, match="nan"):
        same_numbers(theirs * torch.nan, theirs, 0.2, "logits")
    with pytest.raises(DisagreementError, match="shapes"):
        same_numbers(theirs[:2], theirs, 0.2, "logits")


TWO = answer(((0, 0, 10, 10), 0.9, 1), ((20, 20, 40, 40), 0.5, 2))


@pytest.mark.parametrize(
    "other",
    [
        answer(((0, 0, 10, 10), 0.9, 2), ((20, 20, 40, 40), 0.5, 2)),  # another label
        answer(((0, 0, 10, 10), 0.8, 1), ((20, 20, 40, 40), 0.5, 2)),  # another score
        answer(((0, 0, 10, 9), 0.9, 1), ((20, 20, 40, 40), 0.5, 2)),  # another box
        answer(((20, 20, 40, 40), 0.5, 2)),  # one is missing
        answer(((0, 0, 10, 10), 0.9, 1), ((0, 0, 5, 5), 0.9, 1), ((20, 20, 40, 40), 0.5, 2)),  # one too many
    ],
)
def test_detections_that_differ_disagree_from_either_side(other):
    assert same_detections([TWO], [TWO], EXACT).startswith("2 of 2")
    for pair in ((TWO, other), (other, TWO)):
        with pytest.raises(DisagreementError, match="have a twin"):
            same_detections([pair[0]], [pair[1]], EXACT)


def test_low_precision_may_move_scores_and_boxes_a_little():
    moved = answer(((0, 0, 10, 9.5), 0.8, 1), ((20, 20, 40, 40), 0.5, 2))
    assert same_detections([TWO], [moved], LOW_PRECISION).startswith("2 of 2")


def test_nothing_detected_proves_nothing():
    nothing = Answer(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    with pytest.raises(DisagreementError, match="nothing was detected"):
        same_detections([nothing], [nothing], EXACT)


def test_every_stage_has_a_contest():
    assert list(stages.CONTESTS) == list(STAGES)


@pytest.mark.parametrize(
    "name", ["decode", "network_fp32", "detect_fp32", "postprocess_typical", "postprocess_worst", "loss"]
)
def test_both_sides_agree(small, name):
    assert stages.CONTESTS[name](small).check()


def test_augmented_images_of_both_sides_are_whole(small):
    assert "20 draws of each" in stages.CONTESTS["augmentation"](small).check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["network", "detect_bf16", "detect_batch8", "train_step", "train_step_best"])
def test_both_sides_agree_in_the_precision_of_choice(small, name):
    try:
        assert stages.CONTESTS[name](small).check()
    except UnavailableError as reason:
        pytest.skip(str(reason))


def test_other_weights_are_noticed(small):
    changed = dataclasses.replace(small)  # caches nothing yet
    with torch.no_grad():
        changed.peer.backbone.features[0].weight.mul_(1.1)
    with pytest.raises(DisagreementError):
        stages.CONTESTS["network_fp32"](changed).check()


def test_another_loss_is_noticed(small):
    changed = dataclasses.replace(small)
    changed.peer.neg_to_pos_ratio = 2.0
    with pytest.raises(DisagreementError):
        stages.CONTESTS["loss"](changed).check()


def test_the_made_up_weights_give_a_plausible_number_of_detections(small):
    assert 20 <= len(small.detector("fp32").detect(small.jpeg)) <= 200


def test_every_made_up_object_has_one_best_default_box_of_its_own(small):
    targets = small.targets(8)
    for boxes, valid in zip(targets.boxes, targets.valid, strict=True):
        first, second = iou(boxes[valid], small.default_boxes).topk(2).values.unbind(1)
        assert (first > second).all()
        favourites = iou(boxes[valid], small.default_boxes).argmax(dim=1).tolist()
        assert len(set(favourites)) == len(favourites)


def test_the_drawn_image_is_always_the_same_photograph_sized_jpeg():
    data = draw_jpeg()
    assert data == draw_jpeg()
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (480, 640, 3)
    assert 50_000 < len(data) < 200_000


def test_the_machine_is_described():
    facts = runner.machine(CPU)
    assert set(facts["features"]) == {"avx2", "avx512", "vnni", "avx512_bf16", "amx"}
    assert facts["threads"] == 1
    assert facts["versions"]["torch"]
    text = runner.machine_text({**facts, "load": 3.0})
    assert "1 threads" in text
    assert "not for quoting" in text
    assert "not for quoting" not in runner.machine_text({**facts, "load": 0.1})


@pytest.fixture
def made_up(monkeypatch):
    """A benchmark of three stages that take no time: one agrees, one does not, one cannot run."""

    def differ():
        raise DisagreementError("1 and 2")

    def missing(_):
        raise UnavailableError("no such thing here")

    monkeypatch.setattr(timing, "_LEAST_SECONDS", 0)
    monkeypatch.setitem(stages.CONTESTS, "decode", lambda _: Contest(str, str, lambda: "equal"))
    monkeypatch.setitem(stages.CONTESTS, "network", lambda _: Contest(pytest.fail, pytest.fail, differ))
    monkeypatch.setitem(stages.CONTESTS, "coco_eval", missing)
    fake = Bench(CPU, b"", Path())
    monkeypatch.setattr(fixtures, "prepared", lambda device, image, compiled: contextlib.nullcontext(fake))
    monkeypatch.setattr(Sides, "prepare", lambda self, stage: (clock(str, CPU), clock(str, CPU)))


def test_json_holds_stages_skipped_failed_memory_and_machine(made_up, tmp_path, capsys):
    path = tmp_path / "benchmark.json"
    assert main(["--only", "decode", "coco_eval", "--pairs", "4", "--json", str(path)]) == 0
    facts = json.loads(path.read_text())
    assert set(facts) == {"machine", "stages", "skipped", "failed", "memory"}
    assert [(stage["name"], stage["pairs"]) for stage in facts["stages"]] == [("decode", 4)]
    assert facts["skipped"] == [{"name": "coco_eval", "reason": "no such thing here"}]
    assert "skipped: no such thing here" in capsys.readouterr().out


def test_sides_that_disagree_are_not_timed_and_fail_the_run(made_up, capsys):
    assert main(["--only", "network", "decode", "--quick"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "network               FAILED, not timed: 1 and 2" in lines
    assert next(line for line in lines if line.startswith("decode")).split()[5] == "3"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--pairs", "0"], "--pairs"),
        (["--json", "{folder}/no/such.json"], "such.json"),
        (["--image", "{folder}/none.jpg"], "none.jpg"),
        (["--image", "{folder}/text.jpg"], "is not a JPEG"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, words, text):
    (tmp_path / "text.jpg").write_text("hello")
    assert main(["--quick", *(word.format(folder=tmp_path) for word in words)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert text in message
    assert message.count("\n") == 1


def test_an_unknown_stage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "everything"])
    assert "'everything'" in capsys.readouterr().err


def test_help_names_every_stage_and_does_not_load_torch():
    code = (
        "import sys; from ssd.commands.benchmark import parser; print(parser().format_help());"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout for name in (*STAGES, "memory"))


def test_the_peak_of_memory_is_in_megabytes():
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory.peak_megabytes() == pytest.approx(kilobytes / (2**20 if sys.platform == "darwin" else 1024), rel=0.05)


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(small, tmp_path):
    jpeg = tmp_path / "small.jpg"
    jpeg.write_bytes(small.jpeg)
    for side in ("ours", "torchvision"):
        assert 200 < memory._in_a_process("detect_12mpixel", side, small, jpeg) < 4000


@pytest.mark.slow
def test_a_process_that_fails_is_named(small, tmp_path):
    broken = dataclasses.replace(small, weights=tmp_path / "none.pth")
    jpeg = tmp_path / "small.jpg"
    jpeg.write_bytes(small.jpeg)
    with pytest.raises(SSDError, match="memory, detect_12mpixel, ours"):
        memory._in_a_process("detect_12mpixel", "ours", broken, jpeg)
