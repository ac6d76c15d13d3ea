import pytest
import torch

from ssd.benchmark.product_rates import operations, product_rates, rates_text, share, share_text
from ssd.benchmark.timing import Comparison
from ssd.model import factory


def test_rates_are_of_the_kinds_that_this_machine_multiplies():
    rates = product_rates([64, 96])
    assert set(rates) <= {"fp32", "bf16", "int8"}
    assert rates["fp32"] > 0
    assert rates_text({"fp32": 150.2, "int8": 800.0}) == "matrix products, GFLOP/s: fp32 150, int8 800"


def test_operations_are_two_for_each_multiplication():
    assert operations(torch.nn.Conv2d(3, 8, 3, padding=1), 10) == 2 * 3 * 8 * 9 * 100


@pytest.mark.parametrize(("columns", "billions"), [(21, 62.75), (91, 69.72)])
def test_ssd300_has_the_operations_that_results_name(columns, billions):
    names = tuple(f"class {number}" for number in range(columns - 1))
    with torch.device("meta"):
        network = factory.from_settings(factory.settings_for(names, input_size=300))
        assert operations(network, 300) / 1e9 == pytest.approx(billions, abs=0.01)


def stage(precision: str | None, images: int = 1) -> Comparison:
    return Comparison(lambda: None, lambda: None, lambda: "", precision=precision, images=images)


def test_the_share_is_that_of_the_stages_precision():
    facts = share(stage("bf16"), 200.0, 60 * 10**9, {"fp32": 100.0, "bf16": 400.0})
    assert facts == {"precision": "bf16", "gflop_per_second": 300.0, "share_of_product": 0.75}
    assert share_text(facts).strip() == "300 GFLOP/s, 75% of the product in bf16"
    assert share(stage("bf16", images=2), 200.0, 60 * 10**9, {"bf16": 400.0})["share_of_product"] == 1.5
    assert share(stage("bf16"), 200.0, 60 * 10**9, {"fp32": 400.0}) == {}
    assert share(stage(None), 200.0, 60 * 10**9, {"fp32": 400.0}) == {}


def test_a_size_that_would_take_long_is_left_out(monkeypatch):
    asked = []

    def slow(multiply, dtype, side):
        asked.append((dtype, side))
        return 1e9 if dtype == torch.int8 else 1e12

    monkeypatch.setattr("ssd.benchmark.product_rates._rate", slow)
    product_rates()
    sides = {dtype: [side for kind, side in asked if kind == dtype] for dtype, _ in asked}
    assert sides[torch.float32] == [512, 1024, 2048]
    assert sides[torch.int8] == [512]  # 1024 would take nine seconds
