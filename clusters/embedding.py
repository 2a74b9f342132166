"""The vector of a user: the mean of the CLIP image embeddings of the photos, each of length 1."""

import warnings

import numpy as np

from ..common.arrays import Floats
from ..common.progress import progress_bar
from ..diffusion.inference.clip_images import ImageEncoder, load_image_encoder
from ..diffusion.inference.gpu import gpu_memory
from ..diffusion.train.cohort import CohortFile
from ..diffusion.train.photos import pictures_in, read_photos
from ..metrics.clip import PICTURES_AT_ONCE


def embed_users(file: CohortFile, clip: str, device: str) -> Floats:
    """The vectors of a cohort's users, shape (users, width).

    Args:
        file: the users and their photos.
        clip: reference of an open_clip model.
        device: device to run it on, such as "cpu" or "cuda:0".

    Raises:
        InputError: for a CLIP that cannot be had, or photos that cannot be read.
    """
    warnings.filterwarnings("ignore", module="open_clip|timm")
    users, vectors = file.cohort.users, []
    for user in users:
        pictures_in(file.folder / user.photos)  # a user without photos is named before anything slow begins
    with gpu_memory("CLIP", "use --device cpu, or a smaller --clip"):
        encoder = load_image_encoder(clip, device)
        with progress_bar("cluster", len(users), "users") as progress:
            for number, user in enumerate(users):
                progress(number, user.name)
                vectors.append(_mean_embedding(file, user.photos, encoder))
            progress(len(users))
    return np.stack(vectors)


def _mean_embedding(file: CohortFile, photos: str, encoder: ImageEncoder) -> Floats:
    """The mean embedding of a folder of photos, shape (width,)."""
    images = read_photos(file.folder / photos, encoder.side, file.cohort.words, "cluster").images
    parts = [encoder.features((part + 1) / 2).double().numpy() for part in images.split(PICTURES_AT_ONCE)]
    mean: Floats = np.concatenate(parts).mean(axis=0)
    return mean
