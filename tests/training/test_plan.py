from ssd.training.plan import Plan

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
