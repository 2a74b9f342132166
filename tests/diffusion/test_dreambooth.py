"""The `dreambooth` command: cohort files, the chain of models, resuming, and refusals."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from commands import BIN, refused, run
from models import save_cohort

from edgesplit.diffusion.models import load_model
from edgesplit.diffusion.run import cohort_models

LONG = 300


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return save_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def trained(cohort):
    result = run("dreambooth", cohort, "--device", "cpu", "--json", timeout=LONG)
    assert result.returncode == 0, result.stderr
    return cohort.with_suffix(""), json.loads(result.stdout)


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_chain_makes_a_cluster_wide_model_and_one_per_user(trained):
    folder, report = trained
    assert [gate["model"] for gate in report["gates"]] == ["cluster", "anna", "ben"]
    cluster, users = cohort_models(folder)
    assert list(users) == ["anna", "ben"]
    assert load_model(cluster).subject == "dog"
    assert load_model(users["anna"]).subject == "sks dog"
    for gate in report["gates"]:
        assert set(gate["after"]) == {"anna", "ben"}
        assert all(-1 <= value <= 1 for value in gate["after"].values())
    stored = json.loads((folder / "users" / "anna" / "gate.json").read_text())
    assert stored["after"] == report["gates"][1]["after"]
    assert not (folder / ".state").exists()


def test_every_model_has_its_own_weights_and_shares_the_decoder(trained):
    _, users = cohort_models(trained[0])
    models = [load_model(reference) for reference in (cohort_models(trained[0])[0], *users.values())]
    unets = [next(iter(model.unet.parameters())) for model in models]
    decoders = [next(iter(model.vae.parameters())) for model in models]
    for i in range(len(models)):
        for j in range(i):
            assert not unets[i].equal(unets[j])
            assert decoders[i].equal(decoders[j])


def test_a_second_run_trains_nothing_again(cohort, trained):
    folder, report = trained
    before = stamps(folder)
    result = run("dreambooth", cohort, "--device", "cpu", "--json", timeout=LONG)
    assert result.returncode == 0
    assert json.loads(result.stdout)["gates"] == report["gates"]
    assert "trained" not in result.stderr
    assert stamps(folder) == before


def test_the_table_fits_a_terminal(cohort, trained):
    result = run("dreambooth", cohort, "--device", "cpu", timeout=LONG)
    assert all(len(line) <= 80 for line in result.stdout.splitlines()), result.stdout
    assert "anna" in result.stdout


def test_other_settings_for_a_finished_model_are_refused(cohort, trained):
    changed = cohort.with_name("changed.toml")
    changed.write_text(cohort.read_text().replace("steps = 4", "steps = 6", 1))
    message = refused(run("dreambooth", changed, "-o", trained[0], "--device", "cpu", timeout=LONG))
    assert "was trained with steps 4, and it is 6 now" in message


def test_a_lora_cohort_is_small_and_loads_on_its_base(tmp_path):
    path = save_cohort(tmp_path, names=("anna",), method="lora", rank=2, text_encoder_learning_rate=1e-3)
    result = run("dreambooth", path, "--device", "cpu", timeout=LONG)
    assert result.returncode == 0, result.stderr
    _, users = cohort_models(path.with_suffix(""))
    weights = list(path.with_suffix("").glob("users/anna/**/*.safetensors"))
    assert {weight.name for weight in weights} == {"adapter_model.safetensors"}
    base, personal = load_model(tmp_path / "base"), load_model(users["anna"])
    assert personal.subject == "sks dog"
    difference = sum(
        float((a - b).abs().max()) for a, b in zip(base.unet.parameters(), personal.unet.parameters(), strict=True)
    )
    assert difference > 0


def killed(path, after):
    """Start the command, kill it hard after some seconds; whether it had ended before."""
    process = subprocess.Popen(
        [BIN / "dreambooth", path, "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        process.wait(after)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False


def kill_and_resume(folder, times, seed, **training):
    path = save_cohort(folder, **training)
    start = time.perf_counter()
    assert killed(path.with_name(path.name), LONG)
    whole = time.perf_counter() - start
    finished = path.with_suffix("")
    expected = {p.relative_to(finished): p.read_bytes() for p in finished.rglob("*.safetensors")}
    finished.rename(folder / "expected")
    rng, seen = np.random.default_rng(seed), {}
    for _ in range(times):
        killed(path, rng.uniform(0.3, 1.0) * whole)
        for model in finished.glob("users/[!.]*"):  # finished models are never touched again
            assert seen.setdefault(model.name, stamps(model)) == stamps(model)
    assert killed(path, LONG)
    found = {p.relative_to(finished): p.read_bytes() for p in finished.rglob("*.safetensors")}
    assert found == expected


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    kill_and_resume(tmp_path, times=2, seed=0, steps=20)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_harm_nothing(tmp_path):
    kill_and_resume(tmp_path, times=20, seed=1, steps=30)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.fixture(scope="module")
def spoilable(tmp_path_factory):
    return save_cohort(tmp_path_factory.mktemp("spoilable"), names=("anna",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[training]", "[trainning]", "field 'trainning': unknown; did you mean 'training'?"),
        ("batch_size = 2", "batch_size = 0", "field 'training.batch_size': found 0"),
        ("batch_size = 2", "batch_size = 'two'", "field 'training.batch_size': found 'two'"),
        ("batch_size = 2", "batch_size = ", "not valid TOML (Invalid value (at line"),
        ('"photos/anna"', '"photos/ann"', "cannot read: No such file or directory"),
        ('"photos/anna"', '"clip"', "found no pictures, accepted: .bmp"),
        ("sampling_steps = 2", 'sampling_steps = 2\ntoken = "poodle"', "field 'token': found 'poodle', which"),
        ("sampling_steps = 2", 'sampling_steps = 2\ntoken = "№"', "accepted: a word that is one token"),
        ('base = "', 'base = "no', "no such folder"),
        ("sampling_steps = 2", "sampling_steps = 0", "field 'sampling_steps': found 0"),
        ("samples = 2", 'samples = 2\n[cluster]\nshared = ["bob"]', "found 'bob', accepted: names of users"),
        ('name = "anna"', 'name = "../anna"', "field 'users.0.name': found '../anna'"),
    ],
)
def test_a_bad_cohort_is_refused_in_one_line(spoilable, old, new, message):
    path = spoilable.with_name("bad.toml")
    path.write_text(spoilable.read_text())
    edit(path, old, new)
    assert message in refused(run("dreambooth", path, "--device", "cpu", timeout=LONG))
    assert not path.with_suffix("").exists()


def test_a_truncated_picture_is_refused_by_name(spoilable, tmp_path):
    path = save_cohort(tmp_path, names=("anna",), base=spoilable.with_name("base"))
    truncate(tmp_path / "photos" / "anna" / "01.png")
    message = refused(run("dreambooth", path, "--device", "cpu", timeout=LONG))
    assert "01.png: not a whole picture" in message


def test_a_caption_without_the_subject_is_refused(spoilable, tmp_path):
    path = save_cohort(tmp_path, names=("anna",), base=spoilable.with_name("base"))
    (tmp_path / "photos" / "anna" / "01.txt").write_text("a photo of my dog")
    assert "accepted: a caption with {subject} once" in refused(run("dreambooth", path, timeout=LONG))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.toml"], "nowhere.toml: cannot read"),
        (["--device", "tpu"], "--device: found 'tpu', accepted: cpu, cuda or cuda:NUMBER"),
    ],
)
def test_bad_options_are_refused(spoilable, arguments, message):
    given = arguments if arguments[0].endswith(".toml") else [spoilable, *arguments]
    assert message in refused(run("dreambooth", *given, timeout=LONG))
