"""The training loop: a cut run ends where an uncut one does, and no checkpoint is taken on trust."""

import pytest
import torch
from torch import nn

from edgesplit.common.errors import InputError
from edgesplit.diffusion.train.loop import Recipe, make_accelerator, train, warm_then_linear

STEPS = 23


class CutError(Exception):
    """The error that stands for a kill."""


def make_recipe(**changes):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))

    def loss(generator):
        x = torch.randn(16, 3, generator=generator)
        return (module(x) - x.sum(dim=1, keepdim=True).tanh()).square().mean()

    values = {
        "modules": {"net": module},
        "loss": loss,
        "steps": STEPS,
        "learning_rates": {"net": 1e-2},
        "schedule": warm_then_linear(0.1, 0.5),
        "average": 0.9,
        "save_every": 5,
    }
    return Recipe(**(values | changes))


def run(recipe, checkpoint, cut=None, scaler=None):
    losses, accelerator = [], make_accelerator("cpu")
    accelerator.scaler = scaler
    original = recipe.loss

    def recorded(generator):
        loss = original(generator)
        losses.append(float(loss.detach()))
        return loss

    def progress(step, text):
        assert text == f"loss {losses[-1]:.3f}"
        if step == cut:
            raise CutError

    recipe.loss = recorded
    return train(recipe, checkpoint, accelerator, progress)["net"], losses


def weights(module):
    return torch.cat([tensor.flatten().float() for tensor in module.state_dict().values()])


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 14, 22])
@pytest.mark.parametrize("average", [0.9, None])
def test_a_cut_run_ends_exactly_where_an_uncut_one_does(tmp_path, cut, average):
    whole, losses = run(make_recipe(average=average), tmp_path / "whole.safetensors")
    with pytest.raises(CutError):
        run(make_recipe(average=average), tmp_path / "cut.safetensors", cut)
    resumed, rest = run(make_recipe(average=average), tmp_path / "cut.safetensors")
    assert torch.equal(weights(whole), weights(resumed))
    assert rest == losses[-len(rest) :]
    assert len(rest) == STEPS - cut // 5 * 5


def loss_scaler():
    """The loss scaler of fp16, tried out here without fp16: it doubles its scale every third step."""
    return torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)


@pytest.mark.parametrize("cut", [6, 14])
def test_a_cut_run_goes_on_with_its_loss_scale(tmp_path, cut):
    whole, cut_short, resumed = loss_scaler(), loss_scaler(), loss_scaler()
    run(make_recipe(), tmp_path / "whole.safetensors", scaler=whole)
    with pytest.raises(CutError):
        run(make_recipe(), tmp_path / "cut.safetensors", cut, cut_short)
    run(make_recipe(), tmp_path / "cut.safetensors", scaler=resumed)
    assert resumed.state_dict() == whole.state_dict() != cut_short.state_dict()
    assert whole.state_dict()["scale"] == 8.0 * 2 ** (STEPS // 3)


def test_every_accelerator_has_its_own_settings():
    """Those of accelerate keep the first one's settings for the life of the process."""
    assert [make_accelerator("cpu", kind).mixed_precision for kind in ("bf16", "no", "bf16")] == ["bf16", "no", "bf16"]
    with pytest.raises(InputError, match="found 'fp16', accepted on a CPU: 'no' or 'bf16'"):
        make_accelerator("cpu", "fp16")


def test_the_index_of_a_gpu_reaches_torch(monkeypatch):
    """accelerate takes no index: it runs on the current GPU."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    make_accelerator("cuda:1")
    assert chosen == ["cuda:1"]


def test_a_finished_run_is_not_trained_again(tmp_path):
    whole, _ = run(make_recipe(), tmp_path / "state.safetensors")
    again, losses = run(make_recipe(), tmp_path / "state.safetensors")
    assert losses == []
    assert torch.equal(weights(whole), weights(again))


def test_training_learns(tmp_path):
    _, losses = run(make_recipe(steps=150), tmp_path / "state.safetensors")
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_another_seed_ends_elsewhere(tmp_path):
    one, _ = run(make_recipe(), tmp_path / "a.safetensors")
    other, _ = run(make_recipe(seed=1), tmp_path / "b.safetensors")
    assert not torch.equal(weights(one), weights(other))


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:50], lambda data: data[:-10], lambda data: b"", lambda data: b"x" * 99]
)
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, spoil):
    path = tmp_path / "state.safetensors"
    run(make_recipe(), path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match="not a checkpoint of this training") as caught:
        run(make_recipe(), path)
    assert "\n" not in str(caught.value)


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_read(tmp_path, trap):
    path = tmp_path / "state.safetensors"
    path.write_bytes(trap)
    with pytest.raises(InputError, match="not a checkpoint of this training"):
        run(make_recipe(), path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    run(make_recipe(), path)
    with pytest.raises(InputError, match="not a checkpoint of this training"):
        run(make_recipe(modules={"net": nn.Linear(5, 5)}), path)


def test_the_schedule_rises_stays_and_falls():
    schedule = warm_then_linear(0.1, 0.5, 0.02)
    rates = [schedule(done / 100) for done in range(101)]
    assert rates[0] < 0.02
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
