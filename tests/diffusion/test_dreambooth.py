"""The `dreambooth` command: cohort files, the chain of models, resuming, and refusals."""

import json
import os
import re
import shutil
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
from disks import files_up_to
from models import make_pipeline, save_cohort
from safetensors import safe_open
from safetensors.torch import load_file

from edgesplit import data
from edgesplit.common.locks import only_run
from edgesplit.common.progress import progress_bar
from edgesplit.diffusion.cli import dreambooth_main
from edgesplit.diffusion.inference.models import load_model
from edgesplit.diffusion.inference.references import cohort_models
from edgesplit.diffusion.train import dreambooth as dreambooth_module
from edgesplit.diffusion.train import kept_threads
from edgesplit.diffusion.train.checkpoint import TrainingState
from edgesplit.diffusion.train.cohort import read_cohort
from edgesplit.diffusion.train.gate import Gate
from edgesplit.diffusion.train.job import prepare_job
from edgesplit.diffusion.train.run import run_job

PATIENCE_S = 300


@pytest.fixture(scope="module")
def dreambooth(command, imported):
    """Run the command in this process; returns its report."""

    def run(path, *arguments):
        code, output, talk = command(dreambooth_main, path, "--device", "cpu", "--json", *arguments)
        assert code == 0, talk
        return json.loads(output) | {"talk": talk}

    return run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return save_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def trained(cohort, dreambooth):
    return cohort.with_suffix(""), dreambooth(cohort)


@pytest.fixture
def own(cohort, trained, tmp_path):
    """The file of a copy of the finished cohort, which a test may change."""
    path = tmp_path / "cohort.toml"
    shutil.copytree(trained[0], path.with_suffix(""))
    shutil.copytree(cohort.with_name("photos"), tmp_path / "photos")
    shutil.copy(cohort, path)
    return path


@pytest.fixture
def late_refusal(command):
    """Run the command; returns the line of its refusal, which comes after images that the base has to make first."""

    def run(path):
        code, output, talk = command(dreambooth_main, path, "--device", "cpu")
        *progress, line = talk.splitlines()
        assert (code, output) == (2, "")
        assert all(" images: " in made for made in progress)
        return line

    return run


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def weights(folder):
    return {path: stamp for path, stamp in stamps(folder).items() if path.suffix == ".safetensors"}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# -- the chain ------------------------------------------------------------------------------------------------


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
    for name in ("cluster", "anna", "ben"):
        assert re.search(rf"^dreambooth: {name}: 4 of 4 steps, loss \d+\.\d{{3}}$", report["talk"], re.MULTILINE)


def test_every_model_has_its_own_weights_and_shares_the_decoder(trained):
    _, users = cohort_models(trained[0])
    models = [load_model(reference) for reference in (cohort_models(trained[0])[0], *users.values())]
    unets = [next(iter(model.unet.parameters())) for model in models]
    decoders = [next(iter(model.vae.parameters())) for model in models]
    for i in range(len(models)):
        for j in range(i):
            assert not unets[i].equal(unets[j])
            assert decoders[i].equal(decoders[j])


def test_no_configuration_says_where_on_a_machine_its_weights_came_from(trained):
    configs = [path for folder in (trained[0], data.FOLDER / "toyworld") for path in folder.rglob("config.json")]
    assert len(configs) > 20
    assert not [path for path in configs if "_name_or_path" in json.loads(path.read_text())]


def test_a_second_run_trains_nothing_again(cohort, trained, dreambooth):
    folder, report = trained
    before = stamps(folder)
    again = dreambooth(cohort)
    assert again["gates"] == report["gates"]
    assert again["talk"].count("finished before") == 3
    assert stamps(folder) == before


def test_each_gate_is_printed_after_its_model_and_all_of_them_at_the_end(cohort, trained, command):
    code, output, talk = command(dreambooth_main, cohort, "--device", "cpu")
    assert code == 0
    for line, name in zip(talk.splitlines(), ("cluster", "anna", "ben"), strict=False):
        assert line.startswith(f"dreambooth: {name}: finished before; similarity to ")
    assert "raises its own most: " in talk
    assert all(len(line) <= 80 for line in output.splitlines()), output
    assert "anna" in output


def test_other_settings_for_a_finished_model_are_refused_with_what_differs(own, refusal):
    edit(own, "steps = 4", "steps = 6")
    assert "was trained with steps 4, and it is 6 now" in refusal(dreambooth_main, own, "--device", "cpu")


def test_a_finished_model_of_another_base_is_refused(own, late_refusal):
    make_pipeline(seed=6).save_pretrained(own.with_name("other"))
    text = own.read_text().splitlines()
    own.write_text("\n".join(['base = "other"', *text[1:]]) + "\n")
    assert "was trained with a base of other weights; remove the folder" in late_refusal(own)


def test_a_finished_model_of_other_class_images_is_refused(own, late_refusal):
    """Class images depend on the sampling as well, so that other settings make others."""
    edit(own, "sampling_steps = 2", "sampling_steps = 3")
    assert "anna: was trained with other class images; remove the folder" in late_refusal(own)
    assert len(list((own.with_suffix("") / "images").iterdir())) == 2


def test_finished_models_are_judged_again_where_the_gate_changed(own, trained, dreambooth):
    """All gates of a table then come from the same samples; no weights are written."""
    folder = own.with_suffix("")
    before = weights(folder)
    edit(own, "samples = 2", "samples = 3")
    report = dreambooth(own)
    assert weights(folder) == before
    assert report["talk"].count("finished before") == 3
    for gate, old in zip(report["gates"], trained[1]["gates"], strict=True):
        assert gate["before"] != old["before"]
        assert gate["after"] != old["after"]
    assert dreambooth(own)["gates"] == report["gates"]


def test_a_user_who_is_replaced_or_joins_changes_no_other_users_model(own, dreambooth):
    """The cluster-wide model learns from named users here, so that it does not change either."""
    folder = own.with_suffix("")
    shutil.rmtree(folder / "cluster")
    edit(own, "[gate]", '[cluster]\nshared = ["anna"]\n[gate]')
    dreambooth(own)
    before = weights(folder / "cluster") | weights(folder / "users" / "anna")
    edit(own, 'name = "ben"', 'name = "cleo"')  # with ben's photos
    own.write_text(own.read_text() + '[[users]]\nname = "dan"\nphotos = "photos/anna"\n')
    report = dreambooth(own)
    assert [gate["model"] for gate in report["gates"]] == ["cluster", "anna", "cleo", "dan"]
    assert all(set(gate["gains"]) == {"anna", "cleo", "dan"} for gate in report["gates"])
    assert weights(folder / "cluster") | weights(folder / "users" / "anna") == before


def test_the_cluster_wide_model_learns_from_all_its_sources(own, dreambooth, late_refusal):
    """Further folders and pictures that the base makes, without any user's photos."""
    edit(
        own,
        "[gate]",
        '[cluster]\nshared = []\nphotos = ["photos/ben"]\n'
        'generated = [{template = "a photo of {subject} in snow", description = "a black dog", images = 2}]\n[gate]',
    )
    assert "cluster: was trained with other photos or captions" in late_refusal(own)
    shutil.rmtree(own.with_suffix("") / "cluster")
    dreambooth(own)
    (made,) = own.with_suffix("").glob("images/generated-0-*")
    assert sorted(path.name for path in made.glob("*.png")) == ["00000.png", "00001.png"]
    assert (made / "00000.txt").read_text() == "a photo of {subject} in snow\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": []}', '{"settings": {}}'])
def test_a_finished_model_without_a_record_is_refused(own, refusal, text):
    (own.with_suffix("") / "users" / "ben" / "gate.json").write_text(text)
    message = refusal(dreambooth_main, own, "--device", "cpu")
    assert "ben: found no readable gate.json; remove this folder to train it again" in message


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"anna": 0.2, "ben": 0.1}, True),
        ({"anna": 0.2, "ben": -0.1}, True),
        ({"anna": 0.1, "ben": 0.2}, False),
        ({"anna": -0.1, "ben": -0.2}, False),  # least bad is not good
        ({"anna": 0.0, "ben": -0.2}, False),
        ({"anna": 0.1}, True),
        ({"anna": -0.1}, False),
    ],
)
def test_a_model_passes_its_gate_by_a_gain_of_its_own_that_is_the_largest(gains, verdict):
    before = dict.fromkeys(gains, 0.5)
    assert Gate("anna", before, {user: 0.5 + gain for user, gain in gains.items()}).is_its_own is verdict


def test_the_base_is_judged_on_the_prompts_of_the_model(own, dreambooth):
    """Photos that differ in their captions alone: each model's gate has the base's samples of its own captions."""
    for name, place in (("anna", "in snow"), ("ben", "at night")):
        for photo in (own.parent / "photos" / name).glob("*.png"):
            photo.with_suffix(".txt").write_text(f"a photo of {{subject}} {place}")
    shutil.rmtree(own.with_suffix(""))
    cluster, anna, ben = dreambooth(own)["gates"]
    assert len({gate["before"]["anna"] for gate in (cluster, anna, ben)}) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora", "rank": 2, "text_encoder_learning_rate": 1e-3},
        {"method": "lora", "rank": 2, "gradient_checkpointing": True, "mixed_precision": "bf16", "average": 0.5},
    ],
)
def test_a_lora_cohort_is_small_and_loads_on_its_base(tmp_path, dreambooth, settings):
    path = save_cohort(tmp_path / "here", names=("anna",), steps=2, **settings)
    dreambooth(path)
    _, users = cohort_models(path.with_suffix(""))
    files = list(path.with_suffix("").glob("users/anna/**/*.safetensors"))
    assert {file.name for file in files} == {"adapter_model.safetensors"}
    base, personal = load_model(path.with_name("base")), load_model(users["anna"])
    assert personal.subject == "sks dog"
    assert difference(base.unet, personal.unet) > 0
    moved = shutil.move(path.with_suffix(""), tmp_path / "elsewhere")
    assert difference(load_model(moved / "users" / "anna").unet, personal.unet) == 0


def test_a_lora_moves_with_a_base_inside_its_cohort(tmp_path, dreambooth):
    path = save_cohort(tmp_path / "here", names=("anna",), steps=1, method="lora", rank=2)
    shutil.move(path.with_name("base"), path.with_suffix("") / "base")
    path.write_text(path.read_text().replace(str(path.with_name("base")), "cohort/base"))
    dreambooth(path)
    moved = shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_model(moved / "cohort" / "users" / "anna").subject == "sks dog"


def difference(unet, other):
    """Euclidean distance of all weights."""
    squares = [(a - b).square().sum() for a, b in zip(unet.parameters(), other.parameters(), strict=True)]
    return float(sum(squares)) ** 0.5


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("setting", "most"), [('mixed_precision = "bf16"', 0.2), ("gradient_checkpointing = true", 1e-3)]
)
def test_memory_savers_change_the_result_little(own, trained, setting, most):
    """bf16 rounds, gradient checkpointing computes the same twice; differences are shares of the way from the base."""
    for folder in ("cluster", "users"):
        shutil.rmtree(own.with_suffix("") / folder)
    edit(own, "[training]", f"[training]\n{setting}")
    next(run_job(prepare_job(read_cohort(own), own.with_suffix(""), "cpu", progress_bar)))  # the cluster-wide model
    base, plain, saving = (
        load_model(f).unet for f in (base_of(own), trained[0] / "cluster", own.with_suffix("") / "cluster")
    )
    assert difference(plain, saving) < most * difference(base, plain)
    assert (difference(plain, saving) > 0) == ("bf16" in setting)


def base_of(path):
    return path.read_text().splitlines()[0].split('"')[1]


# -- schedulers, captions, gates ------------------------------------------------------------------------------


def rewrite(base, **options):
    """The base's scheduler file as EulerDiscreteScheduler writes it, without a word on clipping, and some options."""
    from diffusers import EulerDiscreteScheduler

    path = base / "scheduler" / "scheduler_config.json"
    said = json.loads(path.read_text()) | {"timestep_spacing": "leading"} | options
    EulerDiscreteScheduler.from_config(said).save_pretrained(path.parent)
    words = json.loads(path.read_text())
    path.write_text(
        json.dumps({name: value for name, value in words.items() if "clip" not in name and "alpha" not in name})
    )


def made_images(folder):
    return [path.read_bytes() for path in sorted(folder.glob("images/*/*.png"))]


def test_a_base_with_another_scheduler_s_file_makes_the_same_images_and_models(own, trained):
    """Class images and the base's samples used to be clipped, which destroyed them."""
    base = shutil.copytree(base_of(own), own.with_name("euler"))
    rewrite(base)
    edit(own, base_of(own), str(base))
    shutil.rmtree(own.with_suffix(""))
    gate = next(run_job(prepare_job(read_cohort(own), own.with_suffix(""), "cpu", progress_bar)))
    assert gate.as_json() == trained[1]["gates"][0]
    assert made_images(own.with_suffix("")) == made_images(trained[0])
    saved = json.loads((own.with_suffix("") / "cluster" / "scheduler" / "scheduler_config.json").read_text())
    assert (saved["_class_name"], saved["clip_sample"], saved["set_alpha_to_one"]) == ("DDIMScheduler", False, False)


def test_a_finished_model_of_a_base_with_another_scheduler_is_refused(own, late_refusal):
    base = shutil.copytree(base_of(own), own.with_name("other"))
    rewrite(base, beta_end=0.02)
    edit(own, base_of(own), str(base))
    assert "was trained with another scheduler_config.json of the base; remove the folder" in late_refusal(own)


def test_records_of_earlier_versions_do_not_say_which_scheduler_it_was(own, dreambooth):
    for path in own.with_suffix("").rglob("gate.json"):
        record = json.loads(path.read_text())
        del record["settings"]["scheduler"]
        path.write_text(json.dumps(record))
    assert dreambooth(own)["talk"].count("finished before") == 3


def test_templates_and_captions_may_have_the_subject_s_words(own):
    edit(own, "images = 3", 'images = 3\nprompts = ["a photo of a dog in snow", "sks dog at night"]')
    edit(
        own,
        "[gate]",
        '[cluster]\ngenerated = [{template = "a drawing of dog", description = "a black dog", images = 2}]\n[gate]',
    )
    cohort = read_cohort(own).cohort
    assert cohort.class_.prompts == ["a photo of a {subject} in snow", "{subject} at night"]
    assert [group.template for group in cohort.cluster.generated] == ["a drawing of {subject}"]
    (own.parent / "photos" / "anna" / "01.txt").write_text("a photo of sks dog on a beach")
    job = prepare_job(read_cohort(own), own.with_suffix(""), "cpu", progress_bar)
    assert "a photo of {subject} on a beach" in job.photos["anna"].templates


def test_each_gate_has_its_progress(trained):
    for name in ("cluster", "anna", "ben"):
        assert f"dreambooth: {name}: gate: 8 of 8 steps\n" in trained[1]["talk"]


# -- divergence -----------------------------------------------------------------------------------------------


def test_a_training_that_diverges_stops_at_its_step_and_keeps_the_last_checkpoint(tmp_path, command, monkeypatch):
    path = save_cohort(tmp_path, names=("anna",), steps=8, save_every=2)
    own = dreambooth_module.denoising_losses
    calls = []

    def losses(*arguments):
        calls.append(arguments)
        return own(*arguments) * (float("nan") if len(calls) == 6 else 1.0)

    monkeypatch.setattr(dreambooth_module, "denoising_losses", losses)
    code, output, talk = command(dreambooth_main, path, "--device", "cpu")
    assert (code, output) == (2, "")
    line = talk.splitlines()[-1]
    assert (
        "cluster: step 6 of 8: the training diverged, with a loss of nan, at a learning rate of up to 0.001 (unet)"
        in line
    )
    (checkpoint,) = path.with_suffix("").glob(".state/*.safetensors")
    assert steps_done(checkpoint) == 4
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint).values())
    assert not (path.with_suffix("") / "cluster").exists()


def test_weights_that_fp16_cannot_hold_are_not_written(tmp_path, command, monkeypatch):
    path = save_cohort(tmp_path, names=("anna",))

    def train(recipe, *_):
        with torch.no_grad():
            recipe.modules["unet"].conv_out.bias.fill_(1e6)
        return dict(recipe.modules)

    monkeypatch.setattr("edgesplit.diffusion.train.finetune.train", train)
    code, _, talk = command(dreambooth_main, path, "--device", "cpu")
    assert code == 2
    assert "cluster: the training diverged: unet: conv_out.bias is too large for fp16; lower" in talk.splitlines()[-1]
    assert not (path.with_suffix("") / "cluster").exists()


def test_what_cannot_be_written_is_one_line_and_the_next_run_goes_on(tmp_path, command, dreambooth, monkeypatch):
    """At a checkpoint, and while the finished model is saved."""
    path = save_cohort(tmp_path, names=("anna",))
    folder = path.with_suffix("")

    def refused():
        with files_up_to(20_000):
            code, output, talk = command(dreambooth_main, path, "--device", "cpu")
        assert (code, output) == (2, "")
        assert re.search("cluster: .*cannot write: .*[Ff]ile too large.*; free some space", talk.splitlines()[-1]), talk
        assert not [left for left in folder.rglob(".*") if left.suffix == ".tmp"]
        assert not (folder / "cluster").exists()

    refused()
    with monkeypatch.context() as patched:
        patched.setattr(TrainingState, "save", lambda *_: None)
        refused()
    dreambooth(path)
    assert sorted(folder.iterdir()) == sorted(folder.glob("[!.]*"))


def test_an_example_that_cannot_be_written_leaves_no_half_a_picture(tmp_path, refusal):
    with files_up_to(1000):
        line = refusal(dreambooth_main, "--example", tmp_path / "example")
    assert re.search(r"photos/anna/\d\d\.png: cannot write: File too large", line)
    assert all(path.stat().st_size for path in tmp_path.rglob("*.*"))
    assert not list(tmp_path.rglob(".*"))


# -- one run at a time, threads -------------------------------------------------------------------------------


def test_a_second_run_in_the_same_folder_says_so_at_once(cohort, trained, refusal):
    with only_run(trained[0], "dreambooth"):
        line = refusal(dreambooth_main, cohort, "--device", "cpu")
    assert f"{trained[0]}: another dreambooth is at work here; wait for it" in line


def test_an_interrupted_run_says_that_the_same_command_goes_on(spoilable, command, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgesplit.diffusion.train.job.load_model", interrupt)
    code, _, talk = command(dreambooth_main, spoilable, "--device", "cpu")
    assert code == 130
    assert talk == "dreambooth: interrupted; the same command goes on from here\n"


def test_the_number_of_threads_is_measured_once_and_kept_until_all_models_are_finished(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    measured, before = [], torch.get_num_threads()
    monkeypatch.setattr(kept_threads, "fastest_threads", lambda step, command: measured.append(step()) or 2)
    try:
        kept_threads.keep_threads(tmp_path / "threads.json", lambda: "a step", "command")
        torch.set_num_threads(1)
        kept_threads.keep_threads(tmp_path / "threads.json", pytest.fail, "command")
        assert torch.get_num_threads() == 2
        assert capsys.readouterr().err.startswith(
            "command: computes with 2 CPU threads, as the run that it goes on with"
        )
        for text in ("", "[]", '{"threads": 5}', '{"threads": "2"}'):
            (tmp_path / "threads.json").write_text(text)
            kept_threads.keep_threads(tmp_path / "threads.json", lambda: text, "command")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        kept_threads.keep_threads(tmp_path / "threads.json", lambda: "own", "command")
    finally:
        torch.set_num_threads(before)
    assert measured == ["a step", "", "[]", '{"threads": 5}', '{"threads": "2"}', "own"]


# -- kills ----------------------------------------------------------------------------------------------------

EVERY = 3
"""Number of steps between checkpoints."""
MARGIN = 7
"""Number of steps that are left at a kill, so that it strikes before the model is done."""


def kill_in_training(path, steps, checkpoints, delay_s):
    """Run the command in a copy of this process that dies at once, some CPU seconds after its last checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of copies of processes with threads; one works here
        child = os.fork()
    if not child:
        try:
            die_in_training(path, steps, checkpoints, delay_s)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended before it could be killed"
    assert os.WTERMSIG(status) == signal.SIGVTALRM
    left = {p.name: steps_done(p) for p in path.with_suffix("").glob(".state/[!.]*.safetensors")}
    assert left
    assert all(step < steps for step in left.values()), left


def be_quiet():
    """Let a copy of this process say nothing, and end where it would wait for ever."""
    signal.alarm(PATIENCE_S)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))


def die_in_training(path, steps, checkpoints, delay_s):
    save, seen = TrainingState.save, []

    def saved(state, file, step):
        save(state, file, step)
        if step <= steps - MARGIN:
            seen.append(step)
        if len(seen) == checkpoints:
            signal.setitimer(signal.ITIMER_VIRTUAL, delay_s)  # its signal ends a process as hard as a kill

    TrainingState.save = saved
    be_quiet()
    sys.argv = ["dreambooth", str(path), "--device", "cpu"]
    dreambooth_main()


def steps_done(checkpoint):
    with safe_open(checkpoint, framework="pt") as file:
        return int(file.metadata()["step"])


def kill_and_resume(dreambooth, folder, times, seed, steps, names=("anna", "ben")):
    path = save_cohort(folder, names, steps=steps, save_every=EVERY)
    dreambooth(path)
    finished = path.with_suffix("")
    expected = {p.relative_to(finished): p.read_bytes() for p in finished.rglob("*.safetensors")}
    finished.rename(folder / "expected")
    rng, seen = np.random.default_rng(seed), {}
    for _ in range(times):
        kill_in_training(path, steps, int(rng.integers(1, 4)), rng.uniform(0.001, 0.06))
        for model in (*finished.glob("cluster"), *finished.glob("users/[!.]*")):  # finished: never touched again
            assert seen.setdefault(model.name, stamps(model)) == stamps(model)
    dreambooth(path)
    assert {p.relative_to(finished): p.read_bytes() for p in finished.rglob("*.safetensors")} == expected
    assert not list(finished.rglob(".*"))
    assert all(
        stamps(finished / name if name == "cluster" else finished / "users" / name) == s for name, s in seen.items()
    )


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, dreambooth):
    kill_and_resume(dreambooth, tmp_path, times=2, seed=1, steps=16, names=["anna"])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_thirty_kills_at_random_moments_of_the_training_harm_nothing(tmp_path, dreambooth):
    kill_and_resume(dreambooth, tmp_path, times=30, seed=1, steps=150)


def exit_codes_of_two(path):
    """The exit codes of two runs that begin at once, in copies of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        children = [os.fork() or run_quietly(path) for _ in range(2)]
    return sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def run_quietly(path):
    """Run the command and end this process with its exit code."""
    try:
        be_quiet()
        sys.argv = ["dreambooth", str(path), "--device", "cpu"]
        dreambooth_main()
    except SystemExit as left:
        os._exit(int(left.code or 0))
    finally:
        os._exit(99)


def run_pairs(folder, cohort, trained, pairs):
    expected = {p.relative_to(trained): p.read_bytes() for p in trained.rglob("*.safetensors")}
    for number in range(pairs):
        path = folder / str(number) / "cohort.toml"
        shutil.copytree(cohort.with_name("photos"), path.with_name("photos"))
        shutil.copy(cohort, path)
        assert exit_codes_of_two(path) == [0, 2]
        made = path.with_suffix("")
        assert {p.relative_to(made): p.read_bytes() for p in made.rglob("*.safetensors")} == expected


@pytest.mark.usefixtures("one_thread")
def test_of_two_runs_at_once_one_works_and_one_says_so(tmp_path, cohort, trained):
    run_pairs(tmp_path, cohort, trained[0], 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_so_it_is_with_twenty_pairs(tmp_path, cohort, trained):
    run_pairs(tmp_path, cohort, trained[0], 20)


# -- refusals -------------------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.fixture(scope="module")
def spoilable(tmp_path_factory):
    return save_cohort(tmp_path_factory.mktemp("spoilable"), names=("anna",))


LONG_CAPTION = "a photo of {subject} " + "on the beach " * 8
SAMPLING = "sampling_steps = 2"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[training]", "[trainning]", "field 'trainning': unknown; did you mean 'training'?"),
        ("batch_size = 2", "batch_size = 0", "field 'training.batch_size': found 0"),
        ("batch_size = 2", "batch_size = 'two'", "field 'training.batch_size': found 'two'"),
        ("batch_size = 2", "batch_size = ", "not valid TOML (Invalid value (at line"),
        (
            "batch_size = 2",
            'mixed_precision = "fp16"',
            "field 'training.mixed_precision': found 'fp16', accepted on a CPU",
        ),
        ('"photos/anna"', '"photos/ann"', "field 'users.0.photos': "),
        ('"photos/anna"', '"photos/ann"', "cannot read: No such file or directory"),
        ('"photos/anna"', '"clip"', "found no pictures, accepted: such as .jpg, .png"),
        (SAMPLING, f'{SAMPLING}\ntoken = "poodle"', "field 'token': found 'poodle', which"),
        (SAMPLING, f'{SAMPLING}\ntoken = "№"', "accepted: a word that is one token"),
        (SAMPLING, f'{SAMPLING}\ntoken = "Dog"', "field 'token': found 'Dog', which the class word says already"),
        (SAMPLING, f'{SAMPLING}\nclass_word = "№"', "field 'class_word': prompt '№': holds what the tokenizer"),
        ('base = "', 'base = "no', "field 'base': "),
        (SAMPLING, "sampling_steps = 0", "field 'sampling_steps': found 0"),
        (SAMPLING, "sampling_steps = 1000", "field 'sampling_steps': total_steps: found 1000, accepted: fewer"),
        ("samples = 2", 'samples = 2\n[cluster]\nshared = ["bob"]', "found 'bob', accepted: names of users"),
        ("samples = 2", "samples = 2\n[cluster]\nshared = []", "field 'cluster': found no pictures"),
        ("samples = 2", 'samples = 2\n[cluster]\nphotos = ["away"]', "field 'cluster.photos.0': "),
        (
            "samples = 2",
            f'samples = 2\n[[cluster.generated]]\ndescription = "a dog"\ntemplate = "{LONG_CAPTION}"',
            "field 'cluster.generated.0': prompt 'a photo of dog on the beach",
        ),
        (
            "images = 3",
            'images = 3\nprompts = ["a photo of cats"]',
            "field 'class.prompts.0': prompt 'a photo of cats': found no",
        ),
        ("images = 3", f'images = 3\nprompts = ["{LONG_CAPTION}"]', "field 'class.prompts': prompt"),
        ('name = "anna"', 'name = "../anna"', "field 'users.0.name': found '../anna'"),
        ('name = "anna"', 'name = "cluster"', "field 'users': found the name 'cluster'"),
        ('/clip"', '/photos"', "field 'gate.clip': CLIP"),
        ('clip = "', 'clip = "no', "neither a folder here nor an open_clip model"),
    ],
)
def test_a_bad_cohort_is_refused_in_one_line(spoilable, refusal, old, new, message):
    path = spoilable.with_name("bad.toml")
    path.write_text(spoilable.read_text())
    edit(path, old, new)
    line = refusal(dreambooth_main, path, "--device", "cpu")
    assert message in line
    assert str(path) in line
    assert not path.with_suffix("").exists()


def test_a_truncated_picture_is_refused_by_name(spoilable, tmp_path, refusal):
    path = save_cohort(tmp_path, names=("anna",), base=spoilable.with_name("base"))
    truncate(tmp_path / "photos" / "anna" / "01.png")
    assert "01.png: not a whole picture" in refusal(dreambooth_main, path, "--device", "cpu")


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a photo of my puppy", "accepted: a caption with {subject} once, or 'sks dog' or 'dog', such as"),
        (LONG_CAPTION, "field 'users.0.photos': prompt 'a photo of dog on the beach"),
    ],
)
def test_a_caption_that_cannot_be_trained_with_is_refused(spoilable, tmp_path, refusal, caption, message):
    path = save_cohort(tmp_path, names=("anna",), base=spoilable.with_name("base"))
    (tmp_path / "photos" / "anna" / "01.txt").write_text(caption)
    assert message in refusal(dreambooth_main, path, "--device", "cpu")


def test_several_processes_are_refused(spoilable, refusal, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "found 2 processes (WORLD_SIZE), accepted: one" in refusal(dreambooth_main, spoilable, "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.toml"], "nowhere.toml: cannot read"),
        (["--device", "tpu"], "--device: found 'tpu', accepted: cpu, cuda or cuda:NUMBER"),
    ],
)
def test_bad_options_are_refused(spoilable, refusal, arguments, message):
    given = arguments if arguments[0].endswith(".toml") else [spoilable, *arguments]
    assert message in refusal(dreambooth_main, *given)
