"""What the options mean, and which are refused; test_pai_sweep_command tests the command's exit code and line."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.families.known import FAMILIES
from edgesplit.metrics.cli import app
from edgesplit.metrics.fingerprints import fingerprint, fingerprints, is_toy
from edgesplit.metrics.options import CurveOptions, SweepRequest, on_machine, resolve
from edgesplit.metrics.pai import PaiConstants
from edgesplit.metrics.split_points import parse_splits

TOY = Path(data.FOLDER) / "toyworld"


@pytest.mark.parametrize(
    ("text", "total", "expected"),
    [
        (None, 50, list(range(0, 51, 5))),
        ("0:N:N/10", 50, list(range(0, 51, 5))),
        ("0:N:N/10", 200, list(range(0, 201, 20))),
        ("0:N:N/10", 28, [0, 3, 6, 8, 11, 14, 17, 20, 22, 25, 28]),
        (None, 28, [0, 3, 6, 8, 11, 14, 17, 20, 22, 25, 28]),
        (None, 3, [0, 1, 2, 3]),
        ("0, 10,N", 50, [0, 10, 50]),
        ("5:9:2,50", 50, [5, 7, 9, 50]),
        ("N/2:N", 4, [2, 3, 4]),
    ],
)
def test_splits_are_whole_steps(text, total, expected):
    assert parse_splits(text, total) == expected


@pytest.mark.parametrize(
    "text", ["", "0:60:10", "0,50", "a:b", "0:N:N/100", "-1:5", "0:N:0", "1:2:3:4", "N:0", "0:N:N/0"]
)
def test_bad_splits_are_refused_with_what_is_accepted(text):
    with pytest.raises(InputError, match=r"--splits: found .*accepted: (three or more from 0 to N = 50|1 or more)"):
        parse_splits(text, 50)


def test_another_training_of_a_model_has_another_fingerprint():
    assert fingerprint(str(TOY / "users" / "anna")) == fingerprint(str(TOY / "users" / "anna"))
    assert fingerprint(str(TOY / "users" / "anna")) != fingerprint(str(TOY / "users" / "ben"))
    assert fingerprint("runwayml/some-model") == "runwayml/some-model"


def save_model(folder, weights, side=64, base=None, family=FAMILIES[0]):
    """Of a model, what its fingerprint and its kind follow from."""
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    if base:
        (folder / "edgesplit.json").write_text(json.dumps({"base": base}))
    else:
        index = {name: [part.library, part.classes[0]] for name, part in family.PARTS.items()}
        (folder / "model_index.json").write_text(json.dumps({"_class_name": family.PIPELINES[0]} | index))
        (folder / "unet" / "config.json").write_text(json.dumps({"sample_size": side}))
    return str(folder)


def test_a_lora_s_fingerprint_changes_with_its_base(tmp_path):
    lora = save_model(tmp_path / "lora", b"adapter", base="../base")
    prints = set()
    for weights in (b"one", b"two", b"one"):
        save_model(tmp_path / "base", weights)
        prints.add(fingerprint(lora))
    assert len(prints) == 2


def test_any_changed_file_that_decides_is_another_model(tmp_path):
    """A byte in the middle of the weights, a setting of the scheduler, a word of the tokenizer; a README is none."""
    model = tmp_path / "model"
    save_model(model, bytes(300_000))
    for name in ("scheduler/scheduler_config.json", "tokenizer/merges.txt", "README.md", ".cache/x.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("{}")
    before = fingerprint(str(model))
    for name, decides in (("README.md", False), (".cache/x.json", False), ("tokenizer/merges.txt", True),
                          ("scheduler/scheduler_config.json", True)):  # fmt: skip
        (model / name).write_text('{"clip_sample": true}')
        assert (fingerprint(str(model)) != before) == decides, name
        before = fingerprint(str(model))
    save_model(model, bytes(150_000) + b"\1" + bytes(149_999))
    assert fingerprint(str(model)) != before


def test_files_that_have_not_changed_are_read_once(tmp_path, monkeypatch):
    models = {name: save_model(tmp_path / name, name.encode() * 99) for name in ("cluster", "anna", "clip", "lpips")}
    (tmp_path / "out").mkdir()
    read = []
    plain = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or plain(file, kind))

    def prints():
        read.clear()
        return fingerprints(
            models["cluster"], {"anna": models["anna"]}, models["clip"], models["lpips"], tmp_path / "out"
        )

    first = prints()
    assert len(read) == 12
    assert prints() == first
    assert read == []
    weights = tmp_path / "anna" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"other" * 99)
    second = prints()
    assert read == [str(weights)]
    assert {name for name in first if first[name] != second[name]} == {"users.anna"}
    (tmp_path / "out" / ".digests.json").write_text("no json")
    assert prints() == second


def test_toy_models_are_known_by_their_family_and_the_size_of_their_pictures(tmp_path):
    assert is_toy(str(TOY / "cluster"))
    assert is_toy(save_model(tmp_path / "small", b"", side=12))
    assert is_toy(save_model(tmp_path / "lora", b"", base="../small"))
    assert not is_toy(save_model(tmp_path / "real", b"", side=64))
    assert not is_toy(save_model(tmp_path / "other", b"", side=12, family=FAMILIES[1]))
    assert not is_toy("runwayml/some-model")
    (tmp_path / "real" / "unet" / "config.json").write_text("no json")
    assert not is_toy(str(tmp_path / "real"))


def request(**options):
    unset = dict.fromkeys(SweepRequest.__dataclass_fields__)
    lists = {"users": [], "words": [], "descriptions": []}
    usual = {"seeds": 1, "scheduler": "ddim", "batch": "auto", "dtype": "fp32", "long_prompts": "refuse"}
    usual |= {"engine": "local", "workers": 0, "device": ""}
    curve = CurveOptions(kappa=None, gain=30.0, threshold=0.1, personal=0.1, two_parameter=False)
    return SweepRequest(**unset | lists | usual | {"curve": curve} | options)


def test_a_cohort_and_its_models_one_by_one_are_the_same_from_anywhere(monkeypatch):
    monkeypatch.chdir(TOY.parent)
    users = [f"{name}=toyworld/users/{name}" for name in ("anna", "ben", "cleo")]
    ways = [
        request(),
        request(cohort=TOY),
        request(cohort=Path("toyworld")),
        request(cluster=str(TOY / "cluster"), users=users, prompts=data.sample("prompts.txt")),
    ]
    first, *others = [resolve(way) for way in ways]
    assert others == [first] * 3
    assert (first.total_steps, first.clip, first.lpips) == (50, "toyworld/clip", "toyworld")
    assert first.weights.keys() == {"cluster", "clip", "lpips", "users.anna", "users.ben", "users.cleo"}


def test_a_run_goes_on_with_the_batch_and_threads_it_had():
    stored = {"--batch": 7, "threads": 3}
    meant = resolve(request())
    again = on_machine(meant, "cuda", stored)
    assert (again.batch, again.threads, again.device) == (7, 3, "cuda")
    assert on_machine(resolve(request(batch="9")), "cuda", stored).batch == 9
    assert on_machine(meant, "cuda", {}).batch == 0  # the GPU has yet to say
    assert on_machine(meant, "cpu", {}).batch == 64
    assert on_machine(meant, "cpu", {}).threads == 0  # so has a step


def test_the_constants_are_the_paper_s_unless_others_are_wanted():
    assert request().curve.constants == PaiConstants() == PaiConstants(kappa=3.0, gain=30.0, threshold=0.1)


def test_shipped_models_have_the_same_name_on_every_machine():
    assert data.portable(str(TOY / "cluster")) == "toyworld/cluster"
    assert data.located("toyworld/cluster") == str(TOY / "cluster")
    assert data.located("some/model") == data.portable("some/model") == "some/model"


def refusal(*arguments):
    with pytest.raises(InputError) as caught:
        app([str(a) for a in arguments], standalone_mode=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CLUSTER, ANNA, BEN = TOY / "cluster", f"anna={TOY}/users/anna", f"ben={TOY}/users/ben"
HUB = ("--cluster", "some/model", "--user", "anna=some/anna", "--user", "ben=some/ben")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cluster", CLUSTER, "--user", ANNA), "--user: found one user, anna, accepted: two or more"),
        (("--cluster", CLUSTER), "--cluster: found no --user"),
        (("--user", ANNA), "--user: found no --cluster"),
        (("--cluster", CLUSTER, "--user", ANNA, "--user", ANNA), "each name once"),
        (("--cluster", CLUSTER, "--user", "anna"), "--user: found 'anna', accepted: NAME=VALUE"),
        (HUB, "--prompts: missing"),
        (("--prompts", "/no/prompts.txt"), "/no/prompts.txt: cannot read"),
        (("--splits", "0:60:10"), "--splits: found '0:60:10'"),
        (("--splits", "0:40:10"), "--splits: found 40 at most, accepted: with N = 50"),
        (("--seeds", "0"), "--seeds: found 0"),
        (("--steps", "2000"), "--steps: found 2000, accepted: 1 to 1000"),
        (("--steps", "1"), "--steps: found 1, accepted: 2 or more"),
        (("--guidance", "0"), "--guidance: found 0"),
        (("--guidance", "nan"), "--guidance: found nan"),
        (("--scheduler", "dpm"), "--scheduler: found 'dpm'"),
        (("--batch", "many"), "--batch: found 'many'"),
        (("--dtype", "fp8"), "--dtype: found 'fp8', accepted: fp32"),
        (("--lpips", "alexnet"), "--lpips: found 'alexnet', accepted: alex"),
        (("--engine", "spark"), "--engine: found 'spark', accepted: local, ray"),
        (("--long-prompts", "cut"), "--long-prompts: found 'cut', accepted: refuse, window"),
        (("--kappa", "0"), "--kappa: found 0"),
        (("--kappa", "inf"), "--kappa: found inf"),
        (("--kappa", "nan"), "--kappa: found nan"),
        (("--kappa", "1e300"), "--kappa: found 1e+300"),
        (("--gain", "nan"), "--gain: found nan"),
        (("--gain", "-30"), "--gain: found -30.0, accepted: above 0"),
        (("--threshold", "nan"), "--threshold: found nan"),
        (("--personal", "nan"), "--personal: found nan"),
        (("--workers", "-1", "--engine", "ray"), "--workers: found -1"),
        (("--device", "tpu"), "--device: found 'tpu', accepted: cpu, cuda"),
        (("--device", "tpu", "--engine", "ray"), "--device: found 'tpu', accepted: cpu, cuda"),
        (("--kappa", "2", "fit", "table.parquet"), "--kappa: found before fit, accepted: after it"),
        (("-o", "x", "fit", "table.parquet"), "-o: found before fit"),
        (("--lpips", "vgg", "--clip", "/no/clip"), "CLIP '/no/clip'"),
        (("--describe", "bob=a dog"), "--describe: found user 'bob'"),
        (("--subject", "cat"), "--subject"),
        (("--cohort", "/no/cohort"), "/no/cohort: found no finished cohort"),
        (("places.txt",), "--prompts places.txt"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--subject" in arguments:  # the shipped prompts have placeholders; a file with the class word has none of it
        (tmp_path / "p.txt").write_text("a photo of a dog\n")
        arguments = (*arguments, "--prompts", "p.txt")
    assert message in refusal(*arguments)
    assert not (tmp_path / "pai-sweep").exists()


def test_options_are_checked_before_torch_is_imported(tmp_path):
    """Which takes seconds, and is not there without the extra."""
    wrong = [
        ["--seeds", "0"], ["--splits", "0,1"], ["--steps", "0"], ["--dtype", "fp8"], ["--scheduler", "dpm"],
        ["--lpips", "x"], ["--engine", "x"], ["--workers", "-1"], ["--device", "tpu"], ["--batch", "x"],
        ["--words", "x"], ["--describe", "bob=x"], ["--prompts", "none.txt"], ["--cohort", "none"],
        ["--cluster", "none", "--user", "a=none", "--user", "b=none"], ["--kappa", "0"], ["--guidance", "x"],
    ]  # fmt: skip
    code = (
        "import json, sys\nfrom edgesplit.metrics.cli import main\ncodes = []\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:] = arguments\n"
        "    try:\n        main()\n    except SystemExit as left:\n        codes.append(left.code)\n"
        "print(json.dumps([codes, 'torch' in sys.modules]))"
    )
    command = [sys.executable, "-c", code, json.dumps(wrong)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [[2] * len(wrong), False], result.stderr
    assert result.stderr.count("\n") == len(wrong), result.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    assert "needs the module 'torch', which is not installed: pip install 'edgesplit[models]'" in refusal("-o", "x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--device: found cuda:0, but 0 NVIDIA GPUs are usable here" in refusal("--device", "cuda:0")


def test_words_and_descriptions_come_with_the_models():
    stored = json.loads((TOY / "users" / "anna" / "edgesplit.json").read_text())
    assert stored == {"subject": "sks dog", "description": "a golden dog with floppy ears"}
