"""`hf://owner/name`: huggingface_hub itself, against a hub on the loopback."""

import dataclasses
import json

import pytest
import torch

from ssd.errors import ArgumentError, CheckpointError, DownloadError, MissingExtraError
from ssd.inference.load import load
from ssd.model.factory import from_settings, settings_for
from ssd.settings import Settings
from ssd.weights import hub as hubs
from ssd.weights import native
from ssd.weights.hub import HubAddress, fetch_from_hub, is_hub_address, parse_address
from ssd.weights.publish import prepare, publish, without_paths
from tests.weights.hub_server import Hub, serving

constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub is not installed")


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What $HF_ENDPOINT does before huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        point_at(server.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield server


@pytest.fixture(scope="module")
def small() -> tuple[Settings, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    settings = settings_for(("cat", "dog"), input_size=64, width=0.125)
    return settings, from_settings(settings).state_dict()


@pytest.fixture
def run(tmp_path, small):
    folder = tmp_path / "runs" / "cells"
    folder.mkdir(parents=True)
    settings, state = small
    config = {
        "data": {"folder": "/home/somebody/secret project/cells"},
        "model": {"backbone_weights": "/home/somebody/vgg16.pth", "weights": None},
        "train": {"epochs": 3, "batch_size": 8},
        "output": "/home/somebody/runs",
        "mode": "default",
    }
    validation = {"AP": 0.5254, "AP50": 0.8843, "images": 72.0, "objects": 945.0}
    extra = {"config": config, "validation": validation}
    native.save_weights(folder / "best.safetensors", state, settings, extra=extra)
    return folder


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://me/cells", HubAddress("me/cells")),
        ("hf://me/cells/", HubAddress("me/cells")),
        ("hf://a-b.c/d_e@v1.0", HubAddress("a-b.c/d_e", "v1.0")),
        ("hf://me/cells@refs%2Fpr%2F1/deep/x.pth", HubAddress("me/cells", "refs/pr/1", "deep/x.pth")),
        ("hf://me/cells/x.pth", HubAddress("me/cells", None, "x.pth")),
    ],
)
def test_an_address_has_a_repository_and_perhaps_a_revision_and_a_file(text, address):
    assert is_hub_address(text)
    assert parse_address(text) == address
    assert parse_address(str(address)) == dataclasses.replace(address, file=None)


@pytest.mark.parametrize(
    "text", ["hf://", "hf://me", "hf://me/../x", "hf://me/cells/../x.pth", "hf://me//x", "hf:/me/x"]
)
def test_other_forms_are_no_address(text):
    with pytest.raises(ArgumentError, match=r"is no Hugging Face address\. Write hf://owner/name"):
        parse_address(text)


def test_a_published_run_comes_back_from_its_address(hub: Hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    hub.tokens.add("hf_token")
    assert publish(run, "hf://me/cells", private=True) == f"{hub.url}/me/cells"
    assert sorted(hub.files["me/cells", "main"]) == ["README.md", "model.safetensors"]
    detector = load("hf://me/cells", device="cpu")
    assert detector.class_names == ("cat", "dog")
    asked = len(hub.asked)
    expected, _, _ = native.load_weights(run / "best.safetensors")
    state, _, extra = native.load_weights(fetch_from_hub("hf://me/cells"))
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert len(hub.asked) <= asked + 1, "only whether it has changed is asked for"
    assert extra["validation"]["AP"] == 0.5254


def test_what_is_published_does_not_tell_of_this_machine(hub: Hub, run, tmp_path):
    prepare(run, tmp_path, "hf://me/cells")
    written = (tmp_path / "model.safetensors").read_bytes() + (tmp_path / "README.md").read_bytes()
    assert b"somebody" not in written
    config = native.load_weights(tmp_path / "model.safetensors")[2]["config"]
    assert config["data"] == {"folder": "cells"}
    assert config["output"] == "runs"
    assert config["model"] == {"backbone_weights": "vgg16.pth", "weights": None}
    assert without_paths({"validation": {}}) == {"validation": {}}


def test_the_card_says_what_how_to_use_it_and_how_good(run, tmp_path):
    prepare(run, tmp_path, "hf://me/cells", license="mit")
    card = (tmp_path / "README.md").read_text()
    head = card.split("---\n")[1]
    assert "license: mit" in head
    assert "pipeline_tag: object-detection" in head
    assert "SSD64" in card
    assert "finds 2 classes of objects: cat, dog." in card
    assert 'ssd.load("hf://me/cells")' in card
    assert "| AP50 | 0.884 | IoU 0.50 |" in card
    assert "72 images with 945 objects" in card
    assert "| data | cells |" in card


def test_another_codes_checkpoint_is_published_after_it_was_converted(tmp_path):
    torch.save({"vgg.0.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError, match=r"x\.pth: is not a weights file of this package. Convert .* `ssd convert`"
    ):
        prepare(tmp_path / "x.pth", tmp_path, "hf://me/x")


def test_a_file_and_a_revision_may_be_named(hub: Hub, run):
    data = (run / "best.safetensors").read_bytes()
    hub.add("me/cells", "v2", **{"deep/x.safetensors": data})
    assert load("hf://me/cells@v2/deep/x.safetensors", device="cpu").class_names == ("cat", "dog")
    with pytest.raises(DownloadError, match=r"hf://me/cells@v3: has no such branch, tag or commit"):
        fetch_from_hub("hf://me/cells@v3")
    with pytest.raises(DownloadError, match=r"hf://me/cells@v2/y\.pth: has no such file"):
        fetch_from_hub("hf://me/cells@v2/y.pth")


def test_without_a_name_the_only_weights_file_is_taken(hub: Hub, run):
    data = (run / "best.safetensors").read_bytes()
    hub.add("me/cells", **{"README.md": b"#", "weights.safetensors": data})
    assert fetch_from_hub("hf://me/cells").name == "weights.safetensors"
    hub.add("me/cells", **{"other.pth": data})
    with pytest.raises(DownloadError, match=r"holds 2 weights files: .*Name one: hf://me/cells/"):
        fetch_from_hub("hf://me/cells")
    hub.add("me/empty", **{"README.md": b"#"})
    with pytest.raises(DownloadError, match=r"hf://me/empty: holds no weights file. Known: \.safetensors"):
        fetch_from_hub("hf://me/empty")


def test_a_file_of_another_kind_is_not_even_asked_for(hub: Hub):
    for name in ("setup.py", "model.pkl", "model.pt2"):
        with pytest.raises(ArgumentError, match="is no weights file"):
            fetch_from_hub(f"hf://me/cells/{name}")
    assert hub.asked == []


def test_what_the_hub_refuses_is_one_line_with_a_remedy(hub: Hub, run):
    with pytest.raises(DownloadError, match=r"hf://no/where: no such repository, or a private one. .*hf auth login"):
        fetch_from_hub("hf://no/where")
    hub.refuse = (403, "GatedRepo")
    with pytest.raises(DownloadError, match="asks for permission first"):
        fetch_from_hub("hf://me/cells")
    hub.refuse = None
    with pytest.raises(DownloadError, match="hf auth login"):
        publish(run, "hf://me/cells")


def test_offline_what_was_fetched_before_serves_and_the_rest_is_a_clear_error(tmp_path, run, hub: Hub, monkeypatch):
    hub.add("me/cells", **{"model.safetensors": (run / "best.safetensors").read_bytes()})
    path = fetch_from_hub("hf://me/cells")
    point_at("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: pytest.fail("it tries again and again"))
    assert fetch_from_hub("hf://me/cells") == path
    with pytest.raises(DownloadError) as caught:
        fetch_from_hub("hf://me/other")
    assert str(caught.value).startswith("hf://me/other: cannot be reached, and is not in the cache. Without internet:")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    with pytest.raises(DownloadError, match=r"hf://me/cells: cannot be reached \(.*Try again later"):
        publish(run, "hf://me/cells")


def test_offline_the_only_weights_file_under_another_name_serves_too(run, hub: Hub, monkeypatch):
    hub.add("me/other-name", **{"best.safetensors": (run / "best.safetensors").read_bytes()})
    path = fetch_from_hub("hf://me/other-name")
    point_at("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    assert fetch_from_hub("hf://me/other-name").samefile(path)


def test_a_damaged_file_from_the_hub_is_noticed(hub: Hub, run):
    data = bytearray((run / "best.safetensors").read_bytes())
    data[-5] ^= 1
    hub.add("me/cells", **{"model.safetensors": bytes(data)})
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256 does not match"):
        load("hf://me/cells")


def test_without_the_extra_the_error_names_it(monkeypatch):
    def missing(module: str, extra: str) -> object:
        raise MissingExtraError("huggingface_hub is not installed", remedy=f'Run: pip install "ssd-vgg[{extra}]"')

    monkeypatch.setattr(hubs, "load_extra", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "ssd-vgg\[hub\]"'):
        fetch_from_hub("hf://me/cells")


def test_the_settings_in_a_published_file_are_those_of_the_run(run, tmp_path):
    prepare(run, tmp_path, "hf://me/cells")
    first, second = (native.load_weights(p)[1] for p in (run / "best.safetensors", tmp_path / "model.safetensors"))
    assert json.dumps(first.to_dict()) == json.dumps(second.to_dict())
