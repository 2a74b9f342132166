"""Attacks on model and LoRA folders: a changed one is refused in one line, or loads what its files hold."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from models import make_pipeline
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.lora import add_lora
from edgesplit.diffusion.inference.models import load_model

PARTS = ("unet", "vae", "text_encoder")
VALUES = (0, -1, 1, 10**6, 10**30, 2**63, 1e308, -0.5, float("nan"), None, True, "", "8", "\0", "x" * 5000)
NESTED = ([], {}, [[]], [0], ["x"], {"a": 1}, [10**9] * 3, [[10**6]], {"rope_type": 3}, {"load_in_8bit": True})
TYPES = (torch.bool, torch.int8, torch.uint8, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64)
NUMBERS = (0.0, float("nan"), float("inf"), 1e30)
PATTERNS = ("(a+)+$", "(.*)*x", "(", ".*")
LONGEST_S = 20.0
"""What a load may take, whatever the folder says."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    make_pipeline(seed=7).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("lora") / "lora", load_model(base)
    for part in ("unet", "text_encoder"):
        adapter = add_lora(part, getattr(model, part), 2)
        for name, weight in adapter.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
        adapter.save_pretrained(folder / part)
    (folder / "edgesplit.json").write_text(json.dumps({"base": str(base), "subject": "sks dog"}))
    return folder


def drawn(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def change_json(rng, folder):
    """Another value at a random key of a random configuration, a new key, or a file that is none."""
    path = drawn(rng, sorted(folder.rglob("*.json")))
    content = json.loads(path.read_text())
    value = drawn(rng, (*VALUES, *NESTED, *PATTERNS))
    keys = [*content, "quantization_config", "norm_num_groups", "rope_scaling", "_class_name", "auto_map"]
    key = drawn(rng, keys)
    kind = int(rng.integers(12))
    if kind == 0:
        content.pop(key, None)
    else:
        content[key] = value
    text = json.dumps(content)
    deep = ('{"a":' + "[" * 100_000, text[: len(text) // 2], "[]", '{"n": ' + "9" * 5000 + "}", "\xff\0")
    path.write_text(drawn(rng, deep) if kind == 1 else text)
    return f"{path.name} {key} {str(value)[:20]!r}"


def change_tensors(rng, folder):
    """Tensors removed, renamed, of another shape, type or number."""
    path = drawn(rng, sorted(folder.rglob("*.safetensors")))
    tensors = load_file(path)
    name, kind = drawn(rng, sorted(tensors)), int(rng.integers(7))
    tensor = tensors[name]
    if kind == 0:
        for gone in rng.permutation(sorted(tensors))[: int(rng.integers(1, len(tensors) + 1))]:
            del tensors[str(gone)]
    elif kind == 1:
        tensors[drawn(rng, ("", "module.", "x.", "\0")) + name + drawn(rng, ("", "s", ".weight"))] = tensors.pop(name)
    elif kind == 2:
        tensors[name] = drawn(rng, (tensor[None], tensor[:0], tensor.flatten(), torch.zeros(())))
    elif kind == 3:
        tensors[name] = tensor.to(drawn(rng, TYPES))
    elif kind == 4:
        tensors[name] = torch.full_like(tensor, drawn(rng, NUMBERS))
    elif kind == 5:
        tensors = {one: torch.zeros_like(each) for one, each in tensors.items()}
    else:
        tensors = {one: each for one, each in tensors.items() if "lora_A" not in one and "weight" not in one}
    save_file({one: each.contiguous() for one, each in tensors.items()}, path, {"format": "pt"})
    return f"{path.parent.name} {name} {kind}"


def change_bytes(rng, folder):
    """Bytes of any file flipped, cut or appended."""
    path = drawn(rng, sorted(path for path in folder.rglob("*") if path.is_file()))
    data, kind = bytearray(path.read_bytes()), int(rng.integers(3))
    if kind == 0:
        data = data[: int(rng.integers(len(data) + 1))]
    elif kind == 1:
        data += rng.bytes(9)
    elif data:
        data[int(rng.integers(min(len(data), 3000)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return f"{path.parent.name}/{path.name} bytes {kind}"


def change_file(rng, folder):
    """A pipe, a folder, a loop of links, or nothing where a file was."""
    path = drawn(rng, sorted(path for path in folder.rglob("*") if path.is_file()))
    path.unlink()
    kind = int(rng.integers(4))
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path)
    return f"{path.parent.name}/{path.name} file {kind}"


CHANGES = (change_json, change_json, change_json, change_tensors, change_tensors, change_bytes, change_file)


def attacked(seed, source, base, scratch):
    """What is wrong after one mutation (None for a refusal of one line, or a model that is what its files say), and
    how long the load took."""
    rng = np.random.default_rng(seed)
    folder = Path(shutil.copytree(source, scratch / "copy"))
    what = f"{seed} {drawn(rng, CHANGES)(rng, folder)}"
    begun, model, fault = time.monotonic(), None, None
    try:
        model = load_model(folder)
    except InputError as error:
        fault = "several lines" if "\n" in str(error) else None
    except Exception as error:  # noqa: BLE001 - the defect that is looked for
        fault = f"{type(error).__name__} {error}"[:300]
    took_s = time.monotonic() - begun
    held = [] if source == base else tensors_of(base)
    held += tensors_of(folder)
    shutil.rmtree(folder)
    if model and (foreign := foreign_parameters(model, held, source != base)):
        fault = f"loaded with {foreign}"
    if took_s > LONGEST_S:
        fault = f"took {took_s:.1f} s"
    return fault and f"{what}: {fault}", took_s


def tensors_of(folder):
    """The tensors of all safetensors files that can be read."""
    held = []
    for path in folder.rglob("*.safetensors"):
        try:
            held += load_file(path).items() if path.is_file() else []
        except (SafetensorError, OSError):  # a file that the mutation has damaged
            continue
    return held


def foreign_parameters(model, held, is_lora):
    """Names of parameters that are in no file; those that a LoRA changes have their two factors there."""
    stored = {tensor.float().numpy().tobytes() for _, tensor in held if tensor.is_floating_point()}
    factors = {name.removeprefix("base_model.model.") for name, _ in held if ".lora_" in name} if is_lora else ()
    names = []
    for part in PARTS:
        for name, weight in getattr(model, part).named_parameters():
            layer = name.removesuffix(".weight")
            both = all(f"{layer}.lora_{factor}.weight" in factors for factor in "AB")
            if weight.contiguous().numpy().tobytes() not in stored and not both:
                names.append(name)
    return names


def faults(seeds, source, base, scratch):
    found, took_s = zip(*(attacked(seed, source, base, scratch) for seed in seeds), strict=True)
    print(f"{len(found)} folders; the longest load took {max(took_s):.2f} s")
    return [fault for fault in found if fault]


@pytest.mark.parametrize("kind", ["model", "lora"])
def test_a_changed_folder_is_refused_in_one_line_or_loads_what_it_holds(kind, base, lora, tmp_path):
    assert faults(range(15), base if kind == "model" else lora, base, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("model", 400), ("lora", 250)])
def test_so_are_hundreds_of_changed_folders(kind, count, base, lora, tmp_path):
    assert faults(range(100, 100 + count), base if kind == "model" else lora, base, tmp_path) == []
