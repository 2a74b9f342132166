"""LPIPS from features once per picture, against the `lpips` package on every pair."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from sweeps import pairwise
from torch.nn import functional
from traps import Trap

from edgesplit.common.errors import InputError
from edgesplit.diffusion.toyworld import example, world
from edgesplit.diffusion.toyworld.trainers.samples import as_images
from edgesplit.metrics import lpips as ours


def pictures(count, side=48, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def toy():
    return ours.load_lpips("toyworld")


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_pairs_are_those_of_the_package(toy, count, seed):
    images = torch.cat([pictures(count - 1, seed=seed), pictures(1, seed=seed) * 0.5])
    distances = pairwise(toy, images)
    enlarged = functional.interpolate(2 * images - 1, size=ours.TOY_SIDE, mode="bilinear")
    with torch.no_grad():
        expected = [
            toy.network(enlarged[i : i + 1], enlarged[j : j + 1]).item() for i, j in combinations(range(count), 2)
        ]
    torch.testing.assert_close(distances, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backbone", ["alex", "vgg", "squeeze"])
def test_the_real_backbones_architecture_gives_the_package_s_values(backbone, monkeypatch):
    """With random trunks, as the published ones need a download; the large classifiers behind them are not used."""
    import lpips

    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda _: None)
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor)
    torch.manual_seed(0)
    metric = ours.Lpips(lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False).eval())
    images = pictures(3, side=64)
    with torch.no_grad():
        expected = [
            metric.network(images[i : i + 1], images[j : j + 1], normalize=True).item()
            for i, j in combinations(range(3), 2)
        ]
    torch.testing.assert_close(pairwise(metric, images), torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_picture_is_at_no_distance_from_itself(toy):
    image = pictures(1)
    assert pairwise(toy, torch.cat([image, image])).item() == 0


def test_distance_is_symmetric(toy):
    images = pictures(2)
    assert pairwise(toy, images).item() == pytest.approx(pairwise(toy, images.flip(0)).item(), abs=1e-7)


def test_every_picture_goes_through_the_network_once(toy):
    calls = []
    hook = toy.network.net.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    pairwise(toy, pictures(6))
    hook.remove()
    assert sum(calls) == 6


def test_two_dogs_are_further_apart_than_two_photos_of_one(toy):
    def photos(name, seed):
        return [(as_images(p[None])[0] + 1) / 2 for p, _ in world.photos(example.identity(name), 9, seed)]

    same = [pairwise(toy, torch.stack(pair)).item() for pair in zip(photos("anna", 1), photos("anna", 2), strict=True)]
    other = [pairwise(toy, torch.stack(pair)).item() for pair in zip(photos("anna", 1), photos("ben", 1), strict=True)]
    assert sum(same) < 0.5 * sum(other)


def test_an_unknown_backbone_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'alex'"):
        ours.load_lpips("alexnet")


def test_weights_that_cannot_be_downloaded_are_named_with_their_place(monkeypatch):
    import lpips

    def fail(**_):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(lpips, "LPIPS", fail)
    with pytest.raises(InputError, match=r"LPIPS 'vgg': cannot download .*vgg16-397923af\.pth .*into .*checkpoints"):
        ours.load_lpips("vgg")


def test_the_weights_named_are_those_that_torchvision_takes():
    from torchvision.models import get_weight

    names = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights", "squeeze": "SqueezeNet1_1_Weights"}
    assert {key: get_weight(f"{name}.IMAGENET1K_V1").url for key, name in names.items()} == ours.TRUNKS


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Call it with a backbone; returns the file in which torch keeps its trunk."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")

    def path(backbone):
        file = tmp_path / "hub" / "checkpoints" / Path(ours.TRUNKS[backbone]).name
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    return path


@pytest.mark.parametrize("backbone", ["alex", "vgg", "squeeze"])
@pytest.mark.parametrize("zipped", [False, True])
def test_no_code_in_the_place_of_torchvision_s_weights_is_run(cached, tmp_path, trap, backbone, zipped):
    if zipped:
        torch.save(Trap(tmp_path / "sprung"), cached(backbone))
    else:
        cached(backbone).write_bytes(trap)
    with pytest.raises(InputError, match=r"cannot download or read .* and put it into"):
        ours.load_lpips(backbone)


def test_torchvision_s_weights_are_read_from_where_they_were_put(cached):
    from torchvision.models import squeezenet1_1

    trunk = squeezenet1_1()
    torch.save(trunk.state_dict(), cached("squeeze"), _use_new_zipfile_serialization=False)
    network = ours.load_lpips("squeeze").network.net
    assert torch.equal(network.slice1[0].weight, trunk.features[0].weight)
