"""The hand-off format."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import as_model, make_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.handoff import DTYPES, Handoff, handoff_bits
from edgesplit.diffusion.hybrid import Request, edge_prefix, finish_local
from edgesplit.diffusion.sampling import Sampling


def make(**changes):
    values = {
        "latents": torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0)),
        "step": 5,
        "total_steps": 10,
        "scheduler_hash": "0123456789abcdef",
        "prompt_template": "a photo of {subject}",
        "seed": 3,
    }
    return Handoff(**(values | changes))


@pytest.fixture(scope="module")
def model():
    return as_model(make_pipeline())


@given(
    step=st.integers(0, 1000),
    seed=st.integers(0, 2**62),
    template=st.text(max_size=50),
    dtype=st.sampled_from(list(DTYPES)),
)
@settings(max_examples=50, deadline=None)
def test_what_is_encoded_is_decoded(step, seed, template, dtype):
    sent = make(step=step, seed=seed, prompt_template=template)
    got = Handoff.from_bytes(sent.to_bytes(dtype))
    assert torch.equal(got.latents, sent.latents.to(DTYPES[dtype]))
    for name in ("step", "total_steps", "scheduler_hash", "prompt_template", "seed"):
        assert getattr(got, name) == getattr(sent, name)


def test_bits_of_stable_diffusion_1_5_at_512_pixels():
    bits = handoff_bits((4, 64, 64), "fp16")
    assert bits.payload == 262_144
    assert bits.payload < bits.total < bits.payload + 8 * 600


@pytest.mark.parametrize("dtype", DTYPES)
def test_total_bits_are_those_of_the_message(dtype):
    message = make(step=1000, total_steps=1000, seed=2**31).to_bytes(dtype)
    assert handoff_bits((4, 8, 8), dtype, "a photo of {subject}").total == 8 * len(message)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_half_precision_handoff_ends_near_the_exact_one(model, dtype):
    settings_ = Sampling(total_steps=10, guidance_scale=3.0)
    (handoff,) = edge_prefix(model, [Request(prompt_template="a photo of {subject}", local_steps=5)], settings_)
    received = Handoff.from_bytes(handoff.to_bytes(dtype))
    exact, rounded = (model.decode(finish_local(model, h, settings_)) for h in (handoff, received))
    assert 0 < float((exact - rounded).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"total_steps": 20}, "its total steps is 10, that of test model is 20"),
        ({"total_steps": 10, "scheduler": "euler"}, "its scheduler is"),
    ],
)
def test_a_handoff_of_other_settings_is_refused_by_name(model, sampling, message):
    (handoff,) = edge_prefix(
        model, [Request(prompt_template="a photo of {subject}", local_steps=5)], Sampling(total_steps=10)
    )
    with pytest.raises(InputError, match=message):
        finish_local(model, handoff, Sampling(**sampling))


def test_a_handoff_of_another_latent_shape_is_refused(model):
    settings_ = Sampling(total_steps=10)
    foreign = make(latents=torch.zeros(16, 8, 8), scheduler_hash=settings_.fingerprint(model.scheduler_config))
    with pytest.raises(InputError, match=r"its latent shape is \(16, 8, 8\)"):
        finish_local(model, foreign, settings_)


WHOLE = make().to_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 7, b"not a message", WHOLE[:40], WHOLE[:-1], WHOLE.replace(b"hand-off@1", b"hand-off@9")]
)
def test_damaged_bytes_are_refused_in_one_line(data):
    with pytest.raises(InputError, match=r"^hand-off: ") as caught:
        Handoff.from_bytes(data)
    assert "\n" not in str(caught.value)


@given(position=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_never_ends_in_anything_but_a_handoff_or_a_refusal(position, value):
    data = bytearray(WHOLE)
    data[position] = value
    try:
        Handoff.from_bytes(bytes(data))
    except InputError as error:
        assert "\n" not in str(error)
