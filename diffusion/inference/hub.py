"""Files and models of the hub, from its cache if they are there."""

from collections.abc import Sequence
from pathlib import Path

NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that no picture needs."""


def hub_file(repository: str, name: str) -> Path:
    """A file of a repository on the hub, from the cache if it is there.

    It is asked for once; the hub's own client would repeat its attempts for a minute.

    Raises:
        OSError: for a file that is neither in the cache nor within reach.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
        get_hf_file_metadata(hf_hub_url(repository, name))
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the client passes on whatever its HTTP library raises
        raise OSError(str(error)) from error


def hub_model(repository: str, network: str, held: Sequence[str] = ()) -> Path:
    """The folder of a model in diffusers' format from the hub, with the fp16 weights where it has no others.

    Args:
        repository: hub id.
        network: the part that takes the steps.
        held: parts whose weights are not needed.

    Raises:
        OSError: for a model that cannot be had in safetensors.
    """
    try:
        folder = _download(repository, None, held)
        whole = network in held or any(folder.glob(f"{network}/*.safetensors"))
        return folder if whole else _download(repository, "fp16", held)
    except OSError:
        try:
            return _download(repository, "fp16", held)
        except OSError:
            pass
        raise


def _download(repository: str, variant: str | None, held: Sequence[str]) -> Path:
    from diffusers import StableDiffusionPipeline

    without = dict.fromkeys([*NOT_NEEDED, *held])
    try:
        folder = StableDiffusionPipeline.download(repository, variant=variant, use_safetensors=True, **without)
    except Exception as error:  # the client passes on whatever its HTTP library raises
        raise OSError(str(error)) from error
    return Path(folder)
