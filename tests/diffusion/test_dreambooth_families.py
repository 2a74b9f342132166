"""LoRAs of every family: dreambooth trains them, their folders load, and learning lowers the loss."""

from dataclasses import replace

import pytest
import torch
from models import save_cohort
from one_file import save_checkpoint
from tiny_families import LATENT_SIDE, tiny_pipeline

from edgesplit.diffusion.cli import dreambooth_main, hybrid_main
from edgesplit.diffusion.inference.families.flux import Flux
from edgesplit.diffusion.inference.models import load_model
from edgesplit.diffusion.train.cohort import Training
from edgesplit.diffusion.train.dreambooth import Examples, make_recipe

TRAINED = ["sdxl", "sd3", "flux-dev", "pixart"]


@pytest.fixture
def small(monkeypatch):
    """FLUX's configuration does not say how large its pictures are; here they are small."""
    monkeypatch.setattr(Flux, "own_latent_size", (LATENT_SIDE, LATENT_SIDE))


@pytest.mark.parametrize("name", TRAINED)
def test_dreambooth_trains_a_lora_of_any_family(small, tmp_path, command, name):
    base = tmp_path / "base"
    tiny_pipeline(name).save_pretrained(base)
    path = save_cohort(tmp_path, names=("anna",), base=base, method="lora", rank=2, steps=2, save_every=1)
    code, _, talk = command(dreambooth_main, path, "--device", "cpu")
    assert code == 0, talk
    own, before = load_model(path.with_suffix("") / "users" / "anna"), load_model(base)
    assert own.subject == "sks dog"
    changed = [
        key for key, value in own.network.state_dict().items() if not value.equal(before.network.state_dict()[key])
    ]
    assert changed
    for key in changed:
        assert key.split(".")[-2] in ("to_q", "to_k", "to_v", "0"), key  # the projections of attention


def test_dreambooth_trains_on_a_checkpoint_and_its_loras_go_on_it(small, tmp_path, command):
    """A folder with the file and a note that names what the file lacks."""
    tiny_pipeline("sdxl").save_pretrained(tmp_path / "whole")
    base = tmp_path / "mine"
    base.mkdir()
    save_checkpoint(base / "model.safetensors", tiny_pipeline("sdxl", seed=3), "sdxl")
    (base / "edgesplit.json").write_text('{"base": "../whole"}')
    path = save_cohort(tmp_path, names=("anna",), base=base, method="lora", rank=2, steps=2, save_every=1)
    code, _, talk = command(dreambooth_main, path, "--device", "cpu")
    assert code == 0, talk
    cohort = path.with_suffix("")
    own, before = load_model(cohort / "users" / "anna").unet.state_dict(), load_model(base).unet.state_dict()
    assert own.keys() == before.keys()
    assert any(not own[key].equal(value) for key, value in before.items())
    pictures = ("--cohort", cohort, "--prompt", "a photo of {subject} in snow", "--steps", "2", "--device", "cpu")
    code, _, talk = command(hybrid_main, *pictures, "-o", tmp_path / "out")
    assert code == 0, talk
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir())[-1] == ".png"


@pytest.mark.parametrize("name", ["sd", *TRAINED])
def test_what_a_network_is_taught_lowers_its_loss(small, tmp_path, name):
    """A few steps of plain gradient descent on the same draws."""
    tiny_pipeline(name).save_pretrained(tmp_path)
    model = replace(load_model(tmp_path, subject="dog"), latent_size=(LATENT_SIDE, LATENT_SIDE))
    network = model.network.requires_grad_(True)
    torch.manual_seed(0)
    means = torch.randn(2, *model.latent_shape)
    examples = Examples(means, torch.zeros_like(means), ["a photo of dog", "a photo of sks dog"])
    how = Training(method="full", steps=1, batch_size=2)
    recipe = make_recipe(model, {model.NETWORK: network}, examples, None, how)

    def loss():
        return recipe.loss(torch.Generator().manual_seed(3))

    before = loss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    for _ in range(5):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before.item()
