"""Hub names with revisions, from a cache laid out as huggingface_hub lays it out; no network."""

import hashlib
import shutil

import pytest
import torch

from interp.cli import main
from interp.errors import AssetError, ConfigError
from interp.models import load_model
from interp.models.check import check_model
from interp.store import ActivationStore
from tests.models.test_weights import doctor
from tests.models.tiny import TEXTS, save_tiny

NAME = "somebody/tiny-llama"
COMMITS = {"main": "a" * 40, "step1000": "b" * 40}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Two revisions of one model; in the later its last layer has doubled."""
    root = tmp_path_factory.mktemp("hub")
    place = root / f"models--{NAME.replace('/', '--')}"
    save_tiny("llama", root / "made")
    for revision, commit in COMMITS.items():
        snapshot = place / "snapshots" / commit
        shutil.copytree(root / "made", snapshot)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / revision).write_text(commit)

    def double(tensors) -> None:
        tensors["model.layers.2.mlp.down_proj.weight"] *= 2

    doctor(place / "snapshots" / COMMITS["main"], double)
    return root


@pytest.fixture(autouse=True)
def hub(cache, monkeypatch):
    """huggingface_hub reads its settings once, when it is imported."""
    import huggingface_hub.constants as constants
    import transformers.utils.hub as hub

    assert constants.HF_HUB_OFFLINE
    for module in (constants, hub):
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, str(cache))
    return cache / f"models--{NAME.replace('/', '--')}"


def weights(model) -> torch.Tensor:
    return model.bridge.blocks[2].mlp.out.original_component.weight.detach()


def test_each_revision_has_its_own_weights_digest_and_name(hub) -> None:
    latest, named, early = (
        load_model(NAME + end, device="cpu") for end in ("", "@main", "@step1000")
    )
    assert [each.name for each in (latest, named, early)] == [
        NAME,
        f"{NAME}@main",
        f"{NAME}@step1000",
    ]
    assert torch.equal(weights(latest), weights(named))
    assert torch.equal(weights(latest), 2 * weights(early))
    assert latest.digest == named.digest != early.digest
    expected = hashlib.sha256(f"{NAME}@{COMMITS['step1000']}".encode()).hexdigest()
    assert early.digest == expected
    local = load_model(str(hub / "snapshots" / COMMITS["step1000"]), device="cpu")
    tokens = torch.arange(2, 12)[None]
    assert torch.equal(early.forward(tokens), local.forward(tokens))
    # The self-test reads the same revision again, not the latest.
    assert all(check.passed for check in check_model(early))


def test_a_revision_given_apart_or_by_commit() -> None:
    early = load_model(f"{NAME}@step1000", device="cpu")
    apart = load_model(NAME, revision="step1000", device="cpu")
    assert (apart.name, apart.digest) == (early.name, early.digest)
    both = load_model(f"{NAME}@step1000", revision="step1000", device="cpu")
    assert both.name == early.name
    commit = load_model(NAME, revision=COMMITS["step1000"], device="cpu")
    assert torch.equal(weights(commit), weights(early))
    assert commit.digest == early.digest


def test_revisions_that_are_not_there() -> None:
    with pytest.raises(AssetError, match="tiny-llama@step2 is neither cached nor reachable"):
        load_model(f"{NAME}@step2", device="cpu")
    with pytest.raises(ConfigError, match="names one revision and main is another; give one"):
        load_model(f"{NAME}@step1000", revision="main", device="cpu")


def test_the_command_line_and_the_store(tmp_path, capsys) -> None:
    (tmp_path / "texts").mkdir()
    for index, text in enumerate(TEXTS[:2]):
        (tmp_path / "texts" / f"{index}.txt").write_text(f"{text} " * 20)
    place, texts = ["--workspace", str(tmp_path / "ws")], str(tmp_path / "texts")
    asked = ["mlp_post.2", "--corpus", texts, "--context", "16", "--device", "cpu", *place]
    assert main(["capture", NAME, *asked]) == 0
    assert main(["capture", NAME, "--revision", "step1000", *asked]) == 0
    stores = [
        ActivationStore.open(tmp_path / "ws" / "stores" / f"somebody+tiny-llama{end}")
        for end in ("", "@step1000")
    ]
    assert [store.model for store in stores] == [NAME, f"{NAME}@step1000"]
    assert stores[0].manifest.model_digest != stores[1].manifest.model_digest
    made = stores[1].manifest.provenance["config"]
    assert made["model"] == f"{NAME}@step1000"  # so that the command can be told again
    capsys.readouterr()
    assert main(["models", "check", NAME, "--revision", "step1000", "--device-map", "cpu"]) == 0
    assert main(["models", "sites", f"{NAME}@step1000"]) == 0
    assert "resid_post.2" in capsys.readouterr().out
    assert main(["models", "sites", NAME, "--revision", "x", "--device", "cpu"]) == 1


# -- device maps ----------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto would take the GPU")
@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_gives_the_same_numbers(device_map) -> None:
    plain, mapped = load_model(NAME, device="cpu"), load_model(NAME, device_map=device_map)
    assert (mapped.device.type, mapped.digest) == ("cpu", plain.digest)
    tokens = torch.arange(2, 12)[None]
    sites = list(plain.sites().values())
    assert list(mapped.sites().values()) == sites
    expected, found = (each.activations(tokens, sites) for each in (plain, mapped))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(check.passed for check in check_model(mapped))


def test_device_maps_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="either a device or a device map, not both"):
        load_model(NAME, device="cpu", device_map="auto")
    with pytest.raises(ConfigError, match="cannot be loaded and hooked"):
        load_model(NAME, device_map="everywhere")
