"""Which models and which device the options name, and what a cohort file's references mean; nothing is loaded."""

import json
import sys

import pytest
import torch
from commands import run

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference import hub
from edgesplit.diffusion.inference.families.known import FAMILIES
from edgesplit.diffusion.inference.references import (
    check_models,
    cohort_models,
    model_references,
    named,
    pick_device,
    usual_guidance,
    usual_scheduler,
)
from edgesplit.diffusion.inference.templates import check_template, fill
from edgesplit.diffusion.train.cohort import read_cohort


@pytest.fixture
def gpus(monkeypatch):
    """Call it with a number of GPUs to pretend."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("count", "name", "device"),
    [(0, "", "cpu"), (2, "", "cuda:0"), (2, "cpu", "cpu"), (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1")],
)
def test_the_first_gpu_is_used_unless_a_device_is_named(gpus, count, name, device):
    gpus(count)
    assert pick_device(name) == device


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", "found cuda:2, but 2 NVIDIA GPUs are usable here"),
        ("cuda:x", "accepted: cpu, cuda or cuda:NUMBER"),
        ("cuda:-1", "accepted: cpu, cuda or cuda:NUMBER"),
        ("gpu", "accepted: cpu, cuda or cuda:NUMBER"),
    ],
)
def test_a_device_that_is_not_there_is_refused(gpus, name, message):
    gpus(2)
    with pytest.raises(InputError, match=message):
        pick_device(name)


def test_names_and_values_are_parted_at_the_first_equals_sign():
    assert named("--user", ["a=b", "c.d-e_f=/path/with=sign"]) == {"a": "b", "c.d-e_f": "/path/with=sign"}


@pytest.mark.parametrize("texts", [["a"], ["a="], ["=b"], ["../a=b"], ["a=b", "a=c"], ["a" * 65 + "=b"]])
def test_a_pair_without_a_good_name_or_value_is_refused(texts):
    with pytest.raises(InputError, match=r"--user: found .*, accepted: NAME=VALUE, each name once"):
        named("--user", texts)


def test_a_cohort_has_its_cluster_wide_model_and_its_users_but_no_unfinished_one(tmp_path):
    for name in ("cluster", "users/ben", "users/anna", "users/.cleo.tmp"):
        (tmp_path / name).mkdir(parents=True)
    expected = str(tmp_path / "cluster"), {name: str(tmp_path / "users" / name) for name in ("anna", "ben")}
    assert cohort_models(tmp_path) == expected
    assert model_references(None, [], tmp_path) == expected


def test_without_options_it_is_the_toy_world():
    cluster, users = model_references(None, [], None)
    assert cluster == data.located("toyworld/cluster")
    assert list(users) == ["anna", "ben", "cleo"]


def test_models_that_are_named_need_no_cohort_and_allow_none(tmp_path):
    assert model_references("base", ["anna=hers"], None) == ("base", {"anna": "hers"})
    with pytest.raises(InputError, match="--cluster: found --cohort as well"):
        model_references("base", ["anna=hers"], tmp_path)


def test_a_template_takes_the_words_of_a_model():
    assert fill(check_template("a photo of {subject}, {subject}"), "sks dog") == "a photo of sks dog, sks dog"


@pytest.mark.parametrize(
    ("head", "base", "clip", "name"),
    [
        ("", data.located("toyworld/base"), data.located("toyworld/clip"), "toyworld"),
        ('base = "here"', "{folder}/here", "ViT-B-32/openai", "ViT-B-32/openai"),
        ('base = "some/one"', "some/one", "ViT-B-32/openai", "ViT-B-32/openai"),
        ('base = "some/one"\ngate = {clip = "here"}', "some/one", "{folder}/here", "here"),
        ('gate = {clip = "ViT-L-14/openai"}', data.located("toyworld/base"), "ViT-L-14/openai", "ViT-L-14/openai"),
    ],
)
def test_references_of_a_cohort_file_start_in_its_folder(tmp_path, head, base, clip, name):
    (tmp_path / "here").mkdir()
    path = tmp_path / "cohort.toml"
    path.write_text(head + '\n[[users]]\nname = "anna"\nphotos = "photos"\n')
    file = read_cohort(path)
    assert file.base_reference == base.replace("{folder}", str(tmp_path))
    assert file.clip_reference == clip.replace("{folder}", str(tmp_path))
    assert file.clip_name == name


def test_files_and_options_are_read_without_torch():
    rooms = ["inference.references", "inference.sampling", "inference.splits", "inference.templates", "train.cohort"]
    code = "\n".join(["import sys", *(f"import edgesplit.diffusion.{room}" for room in rooms)])
    result = run(sys.executable, "-c", f"{code}\nassert 'torch' not in sys.modules", timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("method", "rate"), [("full", 5e-6), ("lora", 1e-4)])
def test_each_method_has_its_own_learning_rate_unless_one_is_set(tmp_path, method, rate):
    path = tmp_path / "cohort.toml"
    users = '[[users]]\nname = "anna"\nphotos = "photos"\n'
    path.write_text(f'[training]\nmethod = "{method}"\n{users}')
    assert read_cohort(path).cohort.training.rates("unet") == {"unet": rate, "text_encoder": 0.0}
    path.write_text(f'[training]\nmethod = "{method}"\nlearning_rate = 0.5\ntext_encoder_learning_rate = 0.25\n{users}')
    assert read_cohort(path).cohort.training.rates("unet") == {"unet": 0.5, "text_encoder": 0.25}


@pytest.fixture
def on_hub(tmp_path, monkeypatch):
    """Call it with a hub id and a pipeline's name: a cache of the hub, out of reach itself, that holds its index."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def keep(repository, pipeline):
        folder, commit = cache / f"models--{repository.replace('/', '--')}", "0" * 40
        index = folder / "snapshots" / commit / "model_index.json"
        named = [family.PARTS for family in FAMILIES if pipeline in family.PIPELINES]
        parts = {name: [part.library, part.classes[0]] for own in named for name, part in own.items()}
        for path, text in (
            (folder / "refs" / "main", commit),
            (index, json.dumps({"_class_name": pipeline} | parts)),
        ):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        return repository

    return keep


def test_what_is_usual_for_a_model_of_the_hub_is_what_its_family_has(on_hub, tmp_path):
    on_hub("someone/xl", "StableDiffusionXLPipeline")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "edgesplit.json").write_text('{"base": "someone/xl"}')
    for reference in ("someone/xl", str(tmp_path / "lora")):
        assert (usual_scheduler(reference, None), usual_guidance(reference, None, toy=False)) == ("euler", 5.0)
    three = on_hub("someone/three", "StableDiffusion3Pipeline")
    assert (usual_scheduler(three, None), usual_guidance(three, None, toy=False)) == ("flow-euler", 7.0)


def test_a_model_of_the_hub_of_no_family_is_refused_before_it_is_loaded(on_hub):
    with pytest.raises(InputError, match="someone/kandinsky: found a model for 'KandinskyPipeline', accepted"):
        check_models([on_hub("someone/kandinsky", "KandinskyPipeline")])


@pytest.mark.parametrize("network", ["unet", "transformer"])
@pytest.mark.parametrize(("variant", "asked"), [("", [None]), (".fp16", [None, "fp16"])])
def test_the_half_weights_of_a_model_of_the_hub_are_asked_for_where_it_has_no_others(
    tmp_path, monkeypatch, network, variant, asked
):
    (tmp_path / network).mkdir()
    seen = []

    def download(repository, wanted, held):
        seen.append(wanted)
        if not variant and wanted:
            raise OSError("no files of this variant")
        if variant in ("", f".{wanted}"):
            (tmp_path / network / f"diffusion_pytorch_model{variant}.safetensors").touch()
        return tmp_path

    monkeypatch.setattr(hub, "_download", download)
    assert hub.hub_model("someone/model", network) == tmp_path
    assert seen == asked
