import pytest

from ssd.training.plan import Plan, choose_epochs

PLAN = Plan(epochs=3, steps_per_epoch=5, batch_size=4, accumulate=2, log_every=4, eval_every=2, patience=None)


def test_the_last_update_of_an_epoch_takes_the_batches_that_are_left() -> None:
    assert [PLAN.update_due(index) for index in range(5)] == [False, True, False, True, True]
    assert (PLAN.updates_per_epoch, PLAN.updates, PLAN.steps) == (3, 9, 15)
    assert [PLAN.updates_before(1, index) for index in range(5)] == [3, 3, 4, 4, 5]


def test_a_row_is_logged_every_so_many_steps_and_at_the_end_of_an_epoch() -> None:
    logged = [step for step in range(1, 16) if PLAN.log_due(step, (step - 1) % 5)]
    assert logged == [4, 5, 8, 10, 12, 15]


def test_the_last_epoch_is_always_evaluated() -> None:
    assert [PLAN.evaluation_due(epoch) for epoch in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("images", "batch_size", "accumulate", "epochs"),
    [
        (50, 8, 1, 86),  # 7 steps an epoch
        (100, 8, 1, 47),
        (192, 8, 1, 25),
        (10_000, 8, 1, 25),
        (8, 8, 1, 200),  # not 600
        (50, 16, 1, 75),  # 300 updates of 16 images
        (50, 8, 2, 75),
        (50, 64, 1, 200),  # not fewer than 300 updates, but for the limit
        (50, 2, 1, 96),
    ],
)
def test_few_images_are_shown_more_often(images: int, batch_size: int, accumulate: int, epochs: int) -> None:
    assert choose_epochs(-(-images // batch_size), batch_size, accumulate) == epochs
