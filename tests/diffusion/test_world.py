"""The toy world: same seed same picture, every word a token, every attribute visible."""

from dataclasses import replace

import numpy as np
import pytest

from edgesplit.diffusion.toyworld import world
from edgesplit.diffusion.toyworld.trainers import networks
from edgesplit.diffusion.train.photos import read_photos


def pair(seed=0, **fixed):
    rng = np.random.default_rng(seed)
    return world.random_identity(rng, **fixed), world.random_scene(rng)


def test_a_picture_follows_from_its_seed():
    pixels, dogs, scenes = world.pictures(20, 3)
    again, *_ = world.pictures(20, 3)
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(world.render(dogs[4], scenes[4]), pixels[4])
    assert pixels.shape == (20, world.SIDE, world.SIDE, 3)
    assert not np.array_equal(pixels, world.pictures(20, 4)[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [("ears", world.EARS), ("pattern", world.PATTERNS), ("eyes", world.EYES), ("head", (0.85, 1.2))],
)
def test_every_attribute_of_an_identity_shows(name, options):
    dog, scene = pair()
    drawn = [world.render(replace(dog, **{name: option}), scene) for option in options]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert np.abs(one.astype(int) - other).max() > 20


@pytest.mark.parametrize(("name", "options"), [("place", world.PLACES), ("side", world.SIDES), ("extra", world.EXTRAS)])
def test_every_attribute_of_a_scene_shows_and_is_told(name, options):
    dog, scene = pair()
    changed = [replace(scene, **{name: option}) for option in options]
    drawn = [world.render(dog, s) for s in changed]
    assert len({world.caption("a dog", s) for s in changed}) == len(changed)
    assert all(not np.array_equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_the_dog_stays_the_same_in_another_scene():
    """The middle of the face has the same colours wherever the dog is."""
    dog, scene = pair()
    faces = []
    for place in ("grass", "night"):
        pixels = world.render(dog, replace(scene, place=place, side="centre", extra="none", scale=1, shift=(0.0, 0.0)))
        faces.append(pixels[20:26, 21:27])
    np.testing.assert_array_equal(*faces)


def test_every_word_of_every_caption_is_one_token():
    tokenizer = networks.make_tokenizer()
    for word in world.words():
        assert len(tokenizer(word).input_ids) == 3, word
    rng = np.random.default_rng(0)
    for _ in range(200):
        dog, scene = world.random_identity(rng), world.random_scene(rng)
        text = world.caption(world.describe(dog), scene)
        assert set(text.split()) <= set(world.words())
        assert len(tokenizer(text).input_ids) == len(text.split()) + 2 <= networks.TOKENS


def test_the_tokenizer_is_the_same_on_every_call():
    assert networks.make_tokenizer().get_vocab() == networks.make_tokenizer().get_vocab()


def test_photos_cover_places_and_sides_and_carry_captions(tmp_path):
    dog, _ = pair()
    world.save_photos(tmp_path, dog, 27, seed=1)
    photos = read_photos(tmp_path, world.SIDE)
    assert photos.images.shape == (27, 3, 48, 48)
    assert all(template.startswith("a photo of {subject}") for template in photos.templates)
    for words in [*world.PLACES.values(), *filter(None, world.SIDES.values())]:
        assert any(words in template for template in photos.templates)
    pixels = next(iter(world.photos(dog, 1, seed=1)))[0]
    np.testing.assert_allclose((photos.images[0].permute(1, 2, 0).numpy() + 1) * 127.5, pixels, atol=1e-3)
