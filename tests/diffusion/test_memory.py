"""Memory: weights go straight to their device in their number format, and only where they fit."""

import json

import pytest
import torch
from loras import of_diffusers
from tiny_families import MAKERS, tiny_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference import memory, weights
from edgesplit.diffusion.inference.checkpoints import Description
from edgesplit.diffusion.inference.models import load_model
from edgesplit.diffusion.inference.references import Origin
from edgesplit.diffusion.inference.sources import ModelSource, Weights

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture
def seen(monkeypatch):
    """Number formats that tensors of files were put into."""
    formats, own = [], weights._checked

    def checked(place, tensor, shape, owner, placement):
        formats.append(placement.dtype)
        return own(place, tensor, shape, owner, placement)

    monkeypatch.setattr(weights, "_checked", checked)
    return formats


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAKERS)
def test_no_weights_are_in_fp32_on_the_way(tmp_path, seen, name, dtype):
    """But those of an autoencoder whose numbers fp16 does not hold."""
    tiny_pipeline(name).save_pretrained(tmp_path)
    model = load_model(tmp_path, dtype=dtype)
    upcast = model.UPCASTS_VAE and dtype == "fp16"
    assert set(seen) == {DTYPES[dtype]} | ({torch.float32} if upcast else set())
    for part, network in model.networks.items():
        assert network.dtype == (torch.float32 if upcast and part == "vae" else DTYPES[dtype])


@pytest.mark.parametrize(("stored", "wanted", "made"), [
    ("fp16", "fp16", "fp16"), ("bf16", "bf16", "bf16"), ("fp32", "fp16", "fp32"), ("fp16", "bf16", "fp32"),
    ("fp16", "fp32", "fp32"),
])  # fmt: skip
def test_a_base_keeps_the_precision_of_its_file_until_its_loras_are_in_it(tmp_path, seen, stored, wanted, made):
    tiny_pipeline("sd").to(DTYPES[stored]).save_pretrained(tmp_path / "base")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "edgesplit.json").write_text(json.dumps({"base": "../base"}))
    of_diffusers(tmp_path / "lora", "sd")
    found = load_model(tmp_path / "lora", dtype=wanted).unet
    assert set(seen) == {DTYPES[made]}
    assert found.dtype == DTYPES[wanted]
    exact = load_model(tmp_path / "lora").unet.state_dict()
    for key, value in found.state_dict().items():
        torch.testing.assert_close(value, exact[key].to(DTYPES[wanted]), atol=2e-3, rtol=2**-7)


@pytest.mark.parametrize(("dtype", "bytes_each"), [("fp32", 4), ("bf16", 2)])
def test_a_model_that_does_not_fit_is_refused_with_the_bytes_before_it_is_read(
    tmp_path, monkeypatch, dtype, bytes_each
):
    pipeline = tiny_pipeline("sd")
    pipeline.save_pretrained(tmp_path)
    networks = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    needed = bytes_each * sum(tensor.numel() for tensor in tensors)
    monkeypatch.setattr(memory, "GB", 1e3)
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed - 1)
    monkeypatch.setattr(weights, "_checked", lambda *_: pytest.fail("weights were read"))
    says = rf"its weights need {needed / 1e3:.1f} GB, and cpu has .* GB free; use a number format of fewer bits"
    with pytest.raises(InputError, match=says):
        load_model(tmp_path, dtype=dtype)


class Published(ModelSource):
    """A model of published sizes whose files hold nothing."""

    def __init__(self, name):
        self._described = Description(name)
        self.family, self.index = self._described.family, self._described.index

    def has(self, part):
        return True

    def scheduler(self):
        return self.index["scheduler"]

    def config(self, part):
        return self._described.part(part)

    def weights(self, part):
        empty = {str(number): torch.empty(0) for number in range(2000)}
        return Weights(part, empty, lambda *_: pytest.fail("weights were made"))

    def tokenizer(self, part):
        pytest.fail("a tokenizer was made")


def test_the_largest_published_model_is_refused_before_a_byte_of_it_is_made(monkeypatch):
    """11.9 billion weights, T5's 4.8, CLIP's 0.1 and the autoencoder's 0.1: 33.7 GB in bf16, 67.5 in fp32."""
    from edgesplit.diffusion.inference import parts

    monkeypatch.setattr(parts, "source_of", lambda origin: Published(origin.base))
    monkeypatch.setattr(memory, "free_bytes", lambda device: 30_000_000_000)
    for dtype, needed in (("bf16", 33.7), ("fp32", 67.5)):
        with pytest.raises(InputError, match=f"flux.1-dev: its weights need {needed} GB, and cpu has 30.0 GB free"):
            parts.load_parts(Origin("flux.1-dev"), weights.Placement("cpu", DTYPES[dtype]))
