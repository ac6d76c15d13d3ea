import torch

from ssd.benchmark import runner
from ssd.benchmark.timing import Timing

CPU = torch.device("cpu")


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


def test_the_machine_is_described():
    facts = runner.machine(CPU)
    assert set(facts["features"]) == {"avx2", "avx512", "vnni", "avx512_bf16", "amx"}
    assert facts["threads"] == 1
    assert facts["versions"]["torch"]
    text = runner.machine_text({**facts, "load": 3.0})
    assert "1 threads" in text
    assert "not for quoting" in text
    assert "not for quoting" not in runner.machine_text({**facts, "load": 0.1})
