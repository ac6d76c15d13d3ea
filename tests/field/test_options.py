"""Options of other codes that are config keys here are answered with the key."""

import pytest

from ssd.commands.train import main


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--epochs", "5"], "--epochs: is no option. Write train.epochs=VALUE."),
        (["--batch-size=16"], "Write train.batch_size=VALUE."),
        (["--output", "runs"], "Write output=VALUE."),
        (["--lr", "0.01"], "Write optim.lr=VALUE."),
    ],
)
def test_an_option_that_is_a_key_is_answered_with_the_key(words, advice, capsys):
    assert main(words) == 2
    assert advice in capsys.readouterr().err


def test_an_option_that_is_nothing_here_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--frobnicate"])
    assert "--frobnicate" in capsys.readouterr().err
