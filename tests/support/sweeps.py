"""The settings of a small sweep, and LPIPS of all pairs."""

from itertools import combinations

from edgesplit.metrics.settings import SweepSettings

USERS = ("anna", "ben", "cleo")
SETTINGS = SweepSettings(
    cluster="cluster",
    users={name: name for name in USERS},
    words=dict.fromkeys(USERS, "sks dog"),
    descriptions={"anna": "a golden dog", "ben": "a black dog", "cleo": "a white dog"},
    weights={},
    class_word="dog",
    templates=["a photo of {subject} in snow", "a photo of {subject} at night"],
    seeds=2,
    splits=[0, 2, 4, 7],
    total_steps=7,
    guidance_scale=2.0,
    scheduler="ddim",
    dtype="fp32",
    device="cpu",
    threads=1,
    batch=6,
    clip="toyworld/clip",
    lpips="toyworld",
    long_prompts="refuse",
)


def pairwise(lpips, images):
    """LPIPS of all pairs of pictures, in the order of `itertools.combinations`."""
    return lpips.distances(lpips.features(images), list(combinations(range(len(images)), 2)))
