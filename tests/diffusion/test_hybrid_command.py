"""The `hybrid` command: on the shipped toy world as it stands, on plans, and what it refuses."""

import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from models import make_pipeline, save_finished_cohort
from PIL import Image
from safetensors.torch import save_file

from edgesplit import data
from edgesplit.common.tables import write_table
from edgesplit.diffusion.cli import hybrid_main
from edgesplit.diffusion.inference.grid import draw_grid
from edgesplit.diffusion.inference.lora import add_lora
from edgesplit.diffusion.inference.models import load_model, weights_digest
from edgesplit.diffusion.inference.splits import read_plan
from edgesplit.optimizer.cli import main as plan_main

TOY = data.FOLDER / "toyworld"
TEMPLATE = "a photo of {subject} in snow"


@pytest.fixture
def hybrid(command, tmp_path):
    """Run the command in this process; returns its report."""

    def run(*arguments):
        code, output, talk = command(hybrid_main, *arguments, "-o", tmp_path / "out", "--json")
        assert code == 0, talk
        return json.loads(output)

    return run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A finished cohort with random weights, quick to run."""
    return save_finished_cohort(tmp_path_factory.mktemp("finished"))


def test_hybrid_runs_on_the_toy_world_and_says_what_ran_where(hybrid, tmp_path):
    report = hybrid("--steps", "4", "--local-steps", "0,2,4")
    assert report["edge_sample_steps"] == report["edge_passes"] == 4  # one trajectory serves all splits
    assert report["handoff_payload_bits"] == 16 * 12 * 12 * 16
    assert len(list((tmp_path / "out").glob("*-n*.png"))) == report["pictures"] == 9
    assert (tmp_path / "out" / "grid.png").exists()


def test_the_table_fits_a_terminal(command, cohort, tmp_path):
    options = ["--cohort", cohort, "--prompt", TEMPLATE, "--steps", "4", "--local-steps", "0:4:2"]
    _, output, _ = command(hybrid_main, *options, "-o", tmp_path)
    assert all(len(line) <= 80 for line in output.splitlines())
    assert "0, 2, 4" in output


def test_users_with_own_splits_share_one_pass_of_the_edge(hybrid, cohort, tmp_path):
    """Two prompts of three users: exactly the offloaded steps, in one batch that shrinks."""
    own = {"anna": 1, "ben": 4, "cleo": 0}
    splits = ",".join(f"{name}={n}" for name, n in own.items())
    prompts = ["--prompt", TEMPLATE, "--prompt", "a photo of {subject} at night"]
    report = hybrid("--cohort", cohort, *prompts, "--steps", "4", "--local-steps", splits)
    assert report["local_steps"] == own
    assert report["edge_sample_steps"] == 2 * sum(4 - n for n in own.values())
    assert report["edge_passes"] == 4
    made = sorted(path.name for path in (tmp_path / "out").glob("*-n*.png"))
    assert made == [f"0{row}-{name}-n00{n}.png" for row in (1, 2) for name, n in own.items()]


def test_a_model_that_names_no_subject_is_told_so(command, cohort, tmp_path):
    """As the folder of another program, which has no `edgesplit.json`."""
    own = shutil.copytree(cohort, tmp_path / "own")
    (own / "users" / "ben" / "edgesplit.json").unlink()
    options = ["--cohort", own, "--prompt", TEMPLATE, "--steps", "2", "--local-steps", "2", "-o", tmp_path / "out"]
    code, _, talk = command(hybrid_main, *options)
    assert code == 0, talk
    assert "is missing in the models of ben: it is 'dog' there" in talk


def test_a_plan_is_executed_as_plan_wrote_it(command, hybrid, cohort, tmp_path):
    """The number of steps is the plan's, too."""
    users = tmp_path / "users.csv"
    users.write_text("user_id,step_latency_s,emphasis\nanna,0.01,0.2\nben,0.3,0.1\ncleo,0.4,0.6\n")
    assert command(plan_main, "--users", users, "--pai", "toyworld", "-o", tmp_path / "plan.parquet")[0] == 0
    plan = read_plan(tmp_path / "plan.parquet")
    assert len(set(plan.local_steps.values())) == 3
    report = hybrid("--cohort", cohort, "--prompt", TEMPLATE, "--plan", tmp_path / "plan.parquet")
    assert report["total_steps"] == plan.total_steps == 50
    assert report["local_steps"] == {name: int(n) for name, n in plan.local_steps.items()}
    assert report["edge_sample_steps"] == sum(50 - int(n) for n in plan.local_steps.values())


def planned(path):
    """A plan for the cohort, as the file's suffix says: as Spark, Excel or pandas might have written it."""
    columns = {"user_id": ["anna", "ben", "cleo"], "local_steps": [3, 0, 4], "offloaded_steps": [1, 4, 0]}
    if path.suffix == ".parquet":
        columns["user_id"] = [name.encode() for name in columns["user_id"]]
        columns["local_steps"] = [float(n) for n in columns["local_steps"]]
        write_table(path, columns)
        return path
    separator = {".tsv": "\t", ".csv": ";"}[path.suffix]
    rows = [["User ID", "Local Steps", "Offloaded Steps", "pai"], *zip(*columns.values(), ["0,5"] * 3, strict=True)]
    path.write_text("\n".join(separator.join(map(str, row)) for row in rows) + "\n" + 3 * separator + "\n")
    return path


@pytest.mark.parametrize("name", ["plan.parquet", "plan.tsv", "plan.csv"])
def test_a_plan_is_read_from_any_table(tmp_path, name):
    plan = read_plan(planned(tmp_path / name))
    assert plan.local_steps == {"anna": "3", "ben": "0", "cleo": "4"}
    assert plan.total_steps == 4


@pytest.fixture(scope="module")
def run(command, cohort, tmp_path_factory):
    """Report, folder and commands that timed a step, of a run in a cohort's folder where other programs left files."""
    folder, timed = tmp_path_factory.mktemp("run"), []

    def fastest_threads(step, name):
        step()
        timed.append(name)

    own = shutil.copytree(cohort, folder / "own")
    for name in ("desktop.ini", "._anna", "notes.txt"):
        (own / "users" / name).write_text("")
    (own / "users" / "__MACOSX").mkdir()
    options = ["--prompt", "a photo of SKS dog in snow", "--steps", 2, "--local-steps", "0,1,2", "--device", "cpu"]
    with mock.patch("edgesplit.diffusion.inference.threads.fastest_threads", fastest_threads):
        code, output, talk = command(hybrid_main, "--cohort", own, *options, "-o", folder / "out", "--json")
    assert code == 0, talk
    return json.loads(output), folder / "out", timed


def test_the_subject_s_words_in_a_prompt_are_its_placeholder(run):
    assert run[0]["prompts"] == [TEMPLATE]


def test_only_folders_are_users(run):
    assert run[0]["users"] == ["anna", "ben", "cleo"]


def test_a_step_is_timed_to_choose_the_number_of_threads(run):
    assert run[2] == ["hybrid"]


def test_the_grid_has_titles_and_large_pictures(run):
    """Pictures of 32 pixels are five times as large in it, and where they stand follows from their file's name."""
    grid = np.asarray(Image.open(run[1] / "grid.png"), float)
    first = Image.open(run[1] / "01-anna-n002.png")
    side, gap = 5 * 32, 6
    left, above = grid.shape[1] - 3 * (side + gap), grid.shape[0] - 3 * (side + gap)
    enlarged = np.asarray(first.resize((side, side), Image.Resampling.BICUBIC), float)
    assert np.array_equal(grid[above : above + side, left : left + side], enlarged)
    for titles in (grid[:above, left:], grid[above : above + side, :left], grid[above + side : -side, :left]):
        assert titles.max() == 255
        assert titles.min() == 0  # there are letters
    assert grid[:above, :left].min() == 255  # and none in the corner


def test_titles_are_wrapped_and_cut_to_the_width_of_their_pictures():
    pictures = [[Image.new("RGB", (48, 48), "red")] * 2] * 2
    words = ["a photo of {subject} " + "on the beach " * 30, "x" * 500, "\x1b[31mred", ""]
    sizes = {draw_grid(pictures, ["n = 0", title], [title, "anna"]).size for title in words}
    assert max(width for width, _ in sizes) <= 3 * (144 + 2 * 6)
    assert max(height for _, height in sizes) < 2 * (144 + 6) + 200


HEAD = "user_id,local_steps,offloaded_steps"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEAD, "anna,2,2", "ben,4,0"], "user 'cleo': found no split, accepted: one for each of anna, ben, cleo"),
        ([HEAD, "anna,2,2", "ben,4,0", "cleo,0,4", "bob,0,4"], "user 'bob': found no model of that name"),
        ([HEAD, "anna,2,2", "anna,4,0"], "row 2 (line 3): has the user_id of row 1, 'anna'; keep one of them"),
        ([HEAD, "anna,2,2", "anna,2,2"], "row 2 (line 3): repeats row 1, 'anna'"),
        ([HEAD, "anna,two,2"], "row 1 (line 2), column 'local_steps': found 'two', accepted: a whole number"),
        ([HEAD, "anna,2.5,2"], "row 1 (line 2), column 'local_steps': found '2.5', accepted: a whole number"),
        ([HEAD, "anna,2,NA"], "row 1 (line 2), column 'offloaded_steps': found nothing, accepted: a whole number"),
        ([HEAD, "anna,2"], "line 2: found 2 fields, accepted: 3 as in the header"),
        ([HEAD, ",2,2"], "row 1 (line 2), column 'user_id': found nothing, accepted: a name"),
        ([HEAD, "anna,2,2", "ben,4,1", "cleo,0,4"], "found 2 numbers of steps in all, accepted: one"),
        ([HEAD], "found 0 numbers of steps in all"),
        (["user_id,n", "anna,2"], "column 'local_steps': missing; name a table that plan -o wrote"),
        ([], "the file is empty"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_name(refusal, cohort, tmp_path, lines, message):
    path = tmp_path / "plan.csv"
    path.write_text("\n".join(lines) + "\n" if lines else "")
    options = ["--cohort", cohort, "--prompt", TEMPLATE, "--plan", path, "-o", tmp_path / "out"]
    line = refusal(hybrid_main, *options)
    assert message in line
    assert str(path) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "unipc"], "scheduler: found 'unipc', accepted: one whose step needs the current sample alone"),
        (["--local-steps", "0:60"], "--local-steps: found '0:60', accepted: numbers from 0 to 50"),
        (["--local-steps", "anna=3"], "--local-steps: user 'ben': found no split"),
        (["--local-steps", "anna=3,ben=51,cleo=0"], "--local-steps: user 'ben': found '51', accepted: 0 to N = 50"),
        (["--local-steps", "anna=3,anna=4"], "--local-steps: found 'anna=4', accepted: NAME=VALUE, each name once"),
        (["--local-steps", "0", "--plan", "plan.csv"], "--plan: found --local-steps as well"),
        (["--plan", "nowhere.csv"], "nowhere.csv: cannot read"),
        (["--cluster", "x"], "--cluster: found no --user"),
        (["--user", "anna=x"], "--user: found no --cluster"),
        (["--cohort", "nowhere", "--prompt", "a photo of {subject}"], "found no finished cohort"),
        (["--cohort", str(TOY)], "--prompt: missing"),
        (["--prompt", "a photo of {dog}"], "accepted in braces: {subject} alone"),
        (["--prompt", "a photo of cats"], "found no {subject}, accepted: such as"),
        (["--prompt", "a photo of sks black dog"], "found 'sks' apart from the other words of the subject"),
        (["--prompt", "a photo of {subject} " + "on the beach " * 8], "accepted: 22"),
        (["--steps", "0"], "total_steps: found 0"),
        (["--steps", "1000"], "total_steps: found 1000, accepted: fewer"),
        (["--seed", "-1"], "seed: found -1, accepted: 0 to 9223372036854775807"),
        (["--seed", str(2**63)], "seed: found 9223372036854775808, accepted"),
        (["--guidance", "0"], "guidance_scale: found 0"),
        (["--dtype", "fp8"], "--dtype: found 'fp8', accepted: fp32, fp16, bf16"),
        (["--device", "cuda:9"], "NVIDIA GPUs are usable here; use --device cpu"),
    ],
)
def test_bad_options_are_refused(refusal, tmp_path, arguments, message):
    assert message in refusal(hybrid_main, *arguments, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def other_latents(folder):
    make_pipeline(seed=1, channels=8).save_pretrained(folder)
    return "latent shape is (4, 8, 8) and (8, 8, 8)"


def other_prediction(folder):
    make_pipeline(seed=1, prediction_type="epsilon").save_pretrained(folder)
    return "prediction_type is v_prediction and epsilon"


def pickled(folder):
    make_pipeline(seed=1).save_pretrained(folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    return "unet: found pickled weights, accepted: safetensors only"


def checkpoint(folder):
    folder.write_bytes(b"\x80\x04K\x01.")
    return (
        "found a file, accepted: a folder in diffusers' format or a .safetensors checkpoint (pickle checkpoints are ref"
    )


def tensors_named(*names):
    """A safetensors file with these weights."""

    def make(folder):
        save_file({name: torch.zeros(1) for name in names}, folder)

    return make


def with_file(name, content=b""):
    def make(folder):
        folder.mkdir()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return make


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (
            "sd.safetensors",
            tensors_named("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"),
            "a checkpoint of Stable Diffusion 1.x or 2.x of other sizes than the published ones; put it into a folder",
        ),
        ("kohya.safetensors", tensors_named("lora_unet_x.lora_down.weight"), "found a LoRA in one file"),
        (
            "peft.safetensors",
            tensors_named("base_model.model.x.lora_A.weight"),
            "put peft.safetensors into a folder with edgesplit.json",
        ),
        ("unet.safetensors", tensors_named(*map(str, range(10))), "found the weights of one network alone, accepted"),
        ("sks.safetensors", tensors_named("emb_params"), "found 1 tensors, as of a textual inversion, accepted"),
        ("empty.safetensors", lambda path: path.write_bytes(b""), "found a file that is not whole safetensors"),
        ("model.ckpt", lambda path: path.write_bytes(b"x"), "(pickle checkpoints are refused: they can run code)"),
        ("model", lambda path: path.write_bytes(b"PK\x03\x04"), "(pickle checkpoints are refused: they can run code)"),
        ("model.gguf", lambda path: path.write_bytes(b"GGUF"), "found a file, accepted: a folder in diffusers' format"),
        (
            "lora",
            with_file("adapter_config.json"),
            "found no model_index.json, accepted: a folder in diffusers' format or a .safetensors checkpoint; this is",
        ),
        ("files", with_file("sd15.safetensors"), "sd15.safetensors"),
        ("above", with_file("inner/model_index.json"), "there are models in it: inner"),
        ("pipe", os.mkfifo, "found neither a file nor a folder"),
        ("nowhere", lambda path: None, "no such folder; name a model"),
        ("~", lambda path: None, "no model_index.json"),
    ],
)
def test_what_is_no_model_is_told_by_what_it_is_before_torch_is_needed(
    refusal, tmp_path, monkeypatch, name, make, message
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("edgesplit.diffusion.hybrid_command.pick_device", lambda _: pytest.fail("torch is asked"))
    path = name if name == "~" else tmp_path / name
    if name != "~":
        make(path)
    line = refusal(hybrid_main, "--cluster", TOY / "cluster", "--user", f"me={path}", "--prompt", TEMPLATE)
    assert message in line
    assert str(tmp_path) in line


def test_a_part_of_a_model_is_told_from_the_whole(refusal, cohort):
    options = ["--cluster", cohort / "cluster", "--prompt", TEMPLATE]
    assert "this is a part of one: name" in refusal(hybrid_main, *options, "--user", f"me={cohort / 'cluster/unet'}")
    assert "this is a cohort: use --cohort" in refusal(hybrid_main, *options, "--user", f"me={cohort}")


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (["model_index.json"], "this is one model, for --cluster or --user"),
        (["cluster/model_index.json"], "it holds a cluster-wide model and no user's"),
        (
            ["cluster/model_index.json", "users/desktop.ini", "users/.DS_Store"],
            "it holds a cluster-wide model and no user's",
        ),
        ([], "accepted: a folder that dreambooth wrote"),
    ],
)
def test_what_is_no_cohort_is_told_by_what_it_is(refusal, tmp_path, inside, message):
    for name in inside:
        (tmp_path / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "it" / name).write_text("")
    (tmp_path / "it").mkdir(exist_ok=True)
    assert message in refusal(hybrid_main, "--cohort", tmp_path / "it", "--prompt", TEMPLATE)


def lora_of_another_base(folder):
    pipeline = make_pipeline(seed=2)
    pipeline.save_pretrained(folder / "base")
    add_lora("unet", make_pipeline(seed=3).unet, 2).save_pretrained(folder / "unet")
    digest = weights_digest(make_pipeline(seed=3).unet, make_pipeline(seed=3).text_encoder)
    (folder / "edgesplit.json").write_text(json.dumps({"base": "base", "base_digest": digest}))
    return "its LoRA was made for a base with weights"


@pytest.mark.parametrize("make", [other_latents, other_prediction, pickled, checkpoint, lora_of_another_base])
def test_a_model_that_cannot_take_part_is_refused_before_any_step(refusal, cohort, tmp_path, monkeypatch, make):
    monkeypatch.setattr(
        "edgesplit.diffusion.inference.in_flight.predict", lambda *_, **__: pytest.fail("a step was run")
    )
    message = make(tmp_path / "stranger")
    options = ["--cluster", cohort / "cluster", "--user", f"anna={tmp_path / 'stranger'}", "--prompt", TEMPLATE]
    line = refusal(hybrid_main, *options, "-o", tmp_path / "out")
    assert message in line
    assert "stranger" in line
    assert not (tmp_path / "out").exists()


def test_a_hub_id_without_network_is_refused_at_once(refusal, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it tries again"))
    options = ["--cluster", "someone/a-model", "--user", "anna=someone/hers", "--prompt", TEMPLATE]
    line = refusal(hybrid_main, *options, "-o", tmp_path / "out")
    assert "someone/a-model: cannot load" in line
    assert not (tmp_path / "out").exists()


def test_models_of_a_cohort_are_found_by_name(cohort, hybrid, run, tmp_path):
    """A cohort's folder and its models named one by one are the same."""
    users = [part for name in ("anna", "ben") for part in ("--user", f"{name}={cohort / 'users' / name}")]
    options = ["--prompt", TEMPLATE, "--steps", "2", "--local-steps", "0,1,2"]
    assert hybrid("--cluster", cohort / "cluster", *users, *options)["pictures"] == 6
    for path in (tmp_path / "out").glob("*-n*.png"):
        assert path.read_bytes() == (run[1] / path.name).read_bytes()
    assert load_model(cohort / "users" / "anna").subject == "sks dog"
