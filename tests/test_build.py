"""From a config to what it describes."""

import pytest

from ssd import build
from ssd import config as configs
from ssd.errors import ConfigError, MissingExtraError


@pytest.mark.parametrize("mistake", ["model.input_size=10", "model.backbone=resnet5"])
def test_a_network_that_cannot_be_is_named_before_weights_are_fetched(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.weights.fetch.download", lambda *_, **__: pytest.fail("something was fetched"))
    with pytest.raises((ConfigError, MissingExtraError), match=mistake.partition("=")[0]):
        build.start(configs.resolve(configs.load(None, [mistake])), ("cat",))
