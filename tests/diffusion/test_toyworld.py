"""The shipped toy world: what was trained works."""

import json

import pytest
import torch
from commands import refused, run
from models import toy_clip

from edgesplit import data
from edgesplit.diffusion.inference.clip_images import load_image_encoder
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local
from edgesplit.diffusion.inference.models import load_model, paired
from edgesplit.diffusion.inference.references import cohort_models
from edgesplit.diffusion.inference.sampling import Sampling
from edgesplit.diffusion.toyworld import example, world
from edgesplit.diffusion.toyworld.trainers import quality
from edgesplit.diffusion.toyworld.trainers.samples import as_images
from edgesplit.diffusion.toyworld.trainers.vae import psnr
from edgesplit.diffusion.train.gate import Gate

FOLDER = data.FOLDER / "toyworld"
LONG = 300
SETTINGS = Sampling(total_steps=10, guidance_scale=3.0)
TEMPLATES = [
    "a photo of {subject} on grass",
    "a photo of {subject} in snow on the right",
    "a photo of {subject} at night",
]


@pytest.fixture(scope="module")
def models():
    cluster, users = cohort_models(FOLDER)
    return load_model(cluster), {name: load_model(reference) for name, reference in users.items()}


def test_the_weights_are_safetensors_and_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 48e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".toml"}


def test_diffusers_own_pipeline_loads_every_model():
    from diffusers import StableDiffusionPipeline

    for folder in (FOLDER / "base", FOLDER / "cluster", *(FOLDER / "users").iterdir()):
        pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        pipeline.set_progress_bar_config(disable=True)
        settings = {"height": 48, "width": 48, "num_inference_steps": 2, "output_type": "np"}
        assert pipeline("a photo of dog", **settings).images.shape == (1, 48, 48, 3)


def test_the_autoencoder_gives_pictures_back():
    base = load_model(FOLDER / "base")
    images = as_images(world.pictures(16, 77)[0])
    with torch.no_grad():
        again = base.vae.decode(base.vae.encode(images).latent_dist.mean).sample
    assert psnr(again, images) > 26


def test_the_base_draws_what_the_words_say():
    """The toy CLIP, trained apart, finds the fur's colour and the place in pictures made from captions alone."""
    found = quality.caption_accuracies(load_model(FOLDER / "base"), toy_clip(), 12)
    assert found["fur"] > 0.6
    assert found["place"] > 0.8


def test_every_personal_model_draws_its_own_dog(models):
    cluster, users = models
    assert (cluster.subject, users["anna"].subject) == ("dog", "sks dog")
    assert quality.identity_accuracy(users, load_image_encoder(toy_clip()), ["night"]) > 0.8


def test_offloading_everything_makes_one_picture_of_all_users_and_nothing_three(models):
    cluster, users = models
    difference = {}
    for split in (0, SETTINGS.total_steps):
        request = Request(prompt_template=TEMPLATES[0], local_steps=split, seed=4)
        (handoff,) = edge_prefix(cluster, [request], SETTINGS)
        pictures = [model.decode(finish_local(model, handoff, SETTINGS)) for model in users.values()]
        difference[split] = float((pictures[0] - pictures[1]).abs().mean())
    assert difference[0] < 1e-3
    assert difference[SETTINGS.total_steps] > 0.02


def test_all_shipped_pairs_can_hand_off(models):
    cluster, users = models
    paired(cluster, list(users.values()), SETTINGS)


def test_the_card_tells_what_was_trained():
    card = json.loads((FOLDER / "card.json").read_text())
    assert set(card["stages"]) == {"vae", "perceptual", "clip", "base", "cohort"}
    assert all(stage["steps"] > 0 for stage in card["stages"].values())
    assert all(card["stages"][name]["seconds"] > 0 for name in ("vae", "perceptual", "clip", "base"))


def test_every_shipped_model_passed_its_gate():
    """As stored beside its weights: a gain for its own dog, and none as large for another's."""
    for folder in (FOLDER / "users").iterdir():
        record = json.loads((folder / "gate.json").read_text())
        gate = Gate(record["model"], record["before"], record["after"])
        assert gate.name == folder.name
        assert gate.is_its_own


def test_the_example_cohort_is_written_once_and_whole(tmp_path):
    assert run("dreambooth", "--example", tmp_path / "toy", timeout=LONG).returncode == 0
    assert len(list((tmp_path / "toy" / "photos" / "ben").glob("*.png"))) == example.PHOTOS
    assert "is there already" in refused(run("dreambooth", "--example", tmp_path / "toy", timeout=LONG))


@pytest.mark.slow
def test_the_chain_on_rendered_photos_makes_every_dog_more_its_own(tmp_path):
    """200 training steps per model; the gain over the base is largest for the model's own subject."""
    assert run("dreambooth", "--example", tmp_path / "toy", timeout=LONG).returncode == 0
    path = tmp_path / "toy" / "cohort.toml"
    path.write_text(path.read_text().replace("steps = 400", "steps = 200"))
    result = run("dreambooth", path, "--device", "cpu", "--json", timeout=1200)
    assert result.returncode == 0, result.stderr
    for gate in json.loads(result.stdout)["gates"][1:]:
        own = gate["gains"].pop(gate["model"])
        assert own > max(0, *gate["gains"].values()), gate
