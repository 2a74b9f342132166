"""The hand-off format."""

import copy
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import as_model, explicit, make_pipeline
from safetensors.torch import save

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference import handoff as handoff_module
from edgesplit.diffusion.inference.handoff import Handoff, handoff_bits
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local
from edgesplit.diffusion.inference.models import DTYPES
from edgesplit.diffusion.inference.sampling import LARGEST_SEED, Sampling

BRACES = str.maketrans("{}", "()")


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
    seed=st.integers(0, LARGEST_SEED),
    template=st.text(max_size=50),
    dtype=st.sampled_from(list(DTYPES)),
)
@settings(max_examples=50, deadline=None)
def test_what_is_encoded_is_decoded(step, seed, template, dtype):
    sent = make(step=step, total_steps=1000, seed=seed, prompt_template=template.translate(BRACES) + "{subject}")
    got = Handoff.from_bytes(sent.to_bytes(dtype))
    assert torch.equal(got.latents, sent.latents.to(DTYPES[dtype]))
    assert replace(got, latents=sent.latents) == sent


def test_bits_of_stable_diffusion_1_5_at_512_pixels():
    bits = handoff_bits((4, 64, 64), "fp16")
    assert bits.payload == 262_144
    assert bits.payload < bits.total < bits.payload + 8 * 700


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
        (
            {"total_steps": 10, "scheduler": "euler"},
            "its scheduler is ddim with prediction_type v_prediction, that of test model is euler with prediction_type",
        ),
    ],
)
def test_a_handoff_of_other_settings_is_refused_by_name(model, sampling, message):
    (handoff,) = edge_prefix(
        model, [Request(prompt_template="a photo of {subject}", local_steps=5)], Sampling(total_steps=10)
    )
    with pytest.raises(InputError, match=message):
        finish_local(model, handoff, Sampling(**sampling))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "epsilon"}, "its scheduler is ddim with prediction_type epsilon, that of test model is"),
        ({"beta_end": 0.02}, "its scheduler is one with other options or noise levels"),
    ],
)
def test_a_handoff_of_a_model_with_another_schedule_is_refused_with_what_differs(model, config, message):
    settings_ = Sampling(total_steps=10)
    foreign = make(latents=torch.zeros(4, 8, 8), scheduler_hash=settings_.fingerprint(model.scheduler_config | config))
    with pytest.raises(InputError, match=message):
        finish_local(model, foreign, settings_)


def test_options_that_decide_nothing_do_not_part_schedulers(model):
    """A base that was published with another scheduler carries that one's options along."""
    config = explicit(model.scheduler_config)
    idle = config | {
        "skip_prk_steps": True,
        "sample_max_value": 3.0,
        "clip_sample_range": 2.0,
        "use_karras_sigmas": True,
    }
    assert Sampling().fingerprint(config) == Sampling().fingerprint(idle)
    for decisive in ({"steps_offset": 0}, {"clip_sample": True}, {"timestep_spacing": "trailing"}, {"beta_end": 0.02}):
        assert Sampling().fingerprint(config) != Sampling().fingerprint(config | decisive), decisive


@pytest.mark.parametrize("changes", [{"seed": -1}, {"seed": LARGEST_SEED + 1}, {"step": 11}, {"step": -1}])
def test_what_could_not_be_decoded_is_not_encoded(changes):
    with pytest.raises(InputError, match="accepted: 0 to"):
        make(**changes)


def test_an_unknown_number_format_is_refused_with_the_known_ones():
    for use in (lambda: make().to_bytes("fp8"), lambda: handoff_bits((4, 8, 8), "fp8")):
        with pytest.raises(InputError, match="dtype: found 'fp8', accepted: fp32, fp16, bf16"):
            use()


def test_a_handoff_of_another_latent_shape_is_refused(model):
    settings_ = Sampling(total_steps=10)
    foreign = make(latents=torch.zeros(16, 8, 8), scheduler_hash=settings_.fingerprint(model.scheduler_config))
    with pytest.raises(InputError, match=r"its latent shape is \(16, 8, 8\)"):
        finish_local(model, foreign, settings_)


WHOLE = make().to_bytes()


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 7, b"not a message", WHOLE[:40], WHOLE[:-1], WHOLE.replace(b"hand-off@2", b"hand-off@9")],
    ids=["empty", "short", "text", "cut header", "cut data", "other schema"],
)
def test_damaged_bytes_are_refused_in_one_line(data):
    with pytest.raises(InputError, match=r"^hand-off: ") as caught:
        Handoff.from_bytes(data)
    assert "\n" not in str(caught.value)


def refused(data):
    """Whether a message is refused, in one line."""
    try:
        Handoff.from_bytes(bytes(data))
    except InputError as error:
        assert "\n" not in str(error)
        return True
    return False


def flipped(bit, message=WHOLE):
    data = bytearray(message)
    data[bit // 8] ^= 1 << bit % 8
    return data


def test_no_flipped_bit_is_accepted():
    """All bits of the header, and some of the latents."""
    (length,) = struct.unpack("<Q", WHOLE[:8])
    bits = [*range(8 * (8 + length)), *range(8 * (8 + length), 8 * len(WHOLE), 97)]
    assert [bit for bit in bits if not refused(flipped(bit))] == []


def test_no_flipped_bit_of_ten_thousand_messages_is_accepted():
    rng = np.random.default_rng(16)
    for number in range(10_000):
        latents = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(number))
        message = make(latents=latents, seed=number, step=number % 10).to_bytes(str(rng.choice(list(DTYPES))))
        assert refused(flipped(int(rng.integers(8 * len(message))), message)), number


@given(cut=st.integers(0, len(WHOLE) - 1), more=st.binary(min_size=1, max_size=20), place=st.integers(0, len(WHOLE)))
@settings(max_examples=200, deadline=None)
def test_no_other_length_is_accepted(cut, more, place):
    assert refused(WHOLE[:cut])
    assert refused(WHOLE[:place] + more + WHOLE[place:])


def test_names_that_stand_twice_and_further_tensors_are_refused():
    (length,) = struct.unpack("<Q", WHOLE[:8])
    header, payload = WHOLE[8 : 8 + length].rstrip(), WHOLE[8 + length :]
    twice = header.replace(b'"step":"5"', b'"step":"5","step":"6"')
    extra = {"latents": torch.zeros(1), "more": torch.zeros(1)}
    for data in (struct.pack("<Q", len(twice)) + twice + payload, save(extra, HEADER["__metadata__"])):
        with pytest.raises(InputError, match=r"^hand-off: "):
            Handoff.from_bytes(data)


@pytest.mark.parametrize(
    ("changes", "dtype", "message"),
    [
        ({"latents": torch.full((1, 2, 2), torch.nan)}, "fp32", "its latents are not finite"),
        ({"latents": torch.full((1, 2, 2), torch.inf)}, "bf16", "its latents are not finite"),
        (
            {"latents": torch.full((1, 2, 2), 7e4)},
            "fp16",
            r"its latents reach 7e\+04, too large for fp16; encode them as",
        ),
        ({"prompt_template": "a photo of a dog"}, "fp16", "found no {subject}"),
    ],
)
def test_what_no_device_can_go_on_from_is_not_encoded(changes, dtype, message):
    with pytest.raises(InputError, match=message):
        make(**changes).to_bytes(dtype)


def test_version_1_is_read_with_a_notice(capsys):
    """A message as the version before wrote it; what is wrong in it is refused as ever."""
    fields = {name: text for name, text in HEADER["__metadata__"].items() if name != "sha256"}
    first = fields | {"schema": "edgesplit/hand-off@1"}
    sent = make()
    latents = sent.latents.to(torch.float16)
    handoff_module._say_that_it_is_old.cache_clear()
    for _ in range(2):
        got = Handoff.from_bytes(save({"latents": latents}, first))
        assert torch.equal(got.latents, latents)
    assert capsys.readouterr().err.count("found version 1, which has no digest") == 1
    for bad in (torch.full((4, 8, 8), torch.nan).half(), torch.full((4, 8, 8), torch.inf).half()):
        with pytest.raises(InputError, match="not finite"):
            Handoff.from_bytes(save({"latents": bad}, first))
    with pytest.raises(InputError, match=r"found no \{subject\}"):
        Handoff.from_bytes(save({"latents": latents}, first | {"prompt_template": "a dog"}))


def with_header(header):
    """The whole message with another JSON header."""
    text = json.dumps(header).encode()
    (length,) = struct.unpack("<Q", WHOLE[:8])
    return struct.pack("<Q", len(text)) + text + WHOLE[8 + length :]


HEADER = json.loads(WHOLE[8 : 8 + struct.unpack("<Q", WHOLE[:8])[0]])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [(), ("__metadata__",), ("latents",), *(("__metadata__", name) for name in HEADER["__metadata__"])]


@given(place=st.sampled_from(FIELDS), value=JSON | st.sampled_from(["9" * 5000, "-1", "٣", "fp8", "[4, 8]"]))
@settings(max_examples=300, deadline=None)
def test_any_other_value_anywhere_in_the_header_is_refused(place, value):
    header = copy.deepcopy(HEADER)
    if place:
        inner = header
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value
    else:
        header = value
    assert refused(with_header(header)) or header == HEADER


@pytest.mark.parametrize("name", sorted(HEADER["__metadata__"]))
def test_a_header_without_one_of_its_fields_is_refused(name):
    header = copy.deepcopy(HEADER)
    del header["__metadata__"][name]
    with pytest.raises(InputError, match=name):
        Handoff.from_bytes(with_header(header))


def test_a_deeply_nested_header_is_refused():
    text = b'{"__metadata__":' + b"[" * 100_000
    with pytest.raises(InputError, match="not a safetensors message"):
        Handoff.from_bytes(struct.pack("<Q", len(text)) + text)
