"""What a GPU may lack; and whole commands on a pretended GPU, which fails where the host's tensors mix with its own."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
import torch
from models import save_cohort, save_finished_cohort
from PIL import Image
from torch.utils import backend_registration

from edgesplit.common.errors import InputError
from edgesplit.diffusion.cli import dreambooth_main, hybrid_main
from edgesplit.diffusion.inference.gpu import check_bf16, gpu_memory, out_of_memory
from edgesplit.metrics.cli import main as pai_sweep_main


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_full_memory_is_one_line_whichever_library_says_so(error, expected):
    assert out_of_memory(error) == expected
    with pytest.raises(InputError if expected else type(error)) as caught, gpu_memory("the models", "free some"):
        raise error
    assert not expected or str(caught.value) == "--device: the GPU's memory does not hold the models; free some"


def test_bf16_is_refused_on_a_gpu_that_emulates_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Quadro RTX 8000")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    check_bf16("cpu")
    with pytest.raises(InputError, match="found bf16, which Quadro RTX 8000 lacks; use fp16"):
        check_bf16("cuda:0")


# -- whole commands on a pretended GPU --------------------------------------------------------------------------

pretending = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a GPU",
)
GPU = Path(commands.__file__).with_name("pretended_gpu.py")
TEMPLATE = "a photo of {subject} in snow"
MAINS = {"dreambooth": dreambooth_main, "hybrid": hybrid_main, "pai-sweep": pai_sweep_main}
TRAININGS = {
    "full": {"average": 0.5, "text_encoder_learning_rate": 1e-4},
    "lora": {"method": "lora", "rank": 2},
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Name -> a command: all commands whose results the tests below compare."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "prompts.txt").write_text(f"{TEMPLATE}\na photo of {{subject}} at night\n")
    cohort = save_finished_cohort(folder / "finished")
    own = ["hybrid", "--cohort", cohort, "--prompt", TEMPLATE, "--local-steps", "anna=1,ben=3,cleo=0", "--steps"]
    sweep = ["pai-sweep", "--cohort", cohort, "--prompts", folder / "prompts.txt", "--batch", 4, "--steps", 4]
    chains = {
        name: ["dreambooth", save_cohort(folder / name, names=("anna",), steps=2, **training)]
        for name, training in TRAININGS.items()
    }
    return {
        "few steps": [*own, 4],
        "more steps": [*own, 6],
        "sweep": [*sweep, "--splits", "0,2,4", "--seeds", 1, "--kappa", 1],
        **chains,
    }


@pytest.fixture(scope="module")
def cpu(arguments, command, tmp_path_factory):
    """Run one of the commands on the CPU; returns its folder."""

    def run(name):
        program, *options = arguments[name]
        folder = tmp_path_factory.mktemp("cpu") / "out"
        code, _, talk = command(MAINS[program], *options, "--device", "cpu", "-o", folder)
        assert code == 0, talk
        return folder

    return run


@pytest.fixture(scope="module")
def gpu(arguments, tmp_path_factory):
    """Name -> folder and counts of every command on the pretended GPU, all of them in one process."""
    folders = {name: tmp_path_factory.mktemp("gpu") / "out" for name in arguments}
    texts = [[*map(str, command), "-o", str(folders[name])] for name, command in arguments.items()]
    result = commands.run(sys.executable, GPU, json.dumps(texts), timeout=300)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stderr.splitlines()[-1])
    assert all(count["tensors"] > 1000 for count in counts)
    return {name: (folders[name], count) for name, count in zip(arguments, counts, strict=True)}


@pretending
def test_hybrid_makes_the_same_pictures_on_a_gpu_and_no_step_waits_for_the_host(cpu, gpu):
    few, more = (gpu[name][1]["crossings"] for name in ("few steps", "more steps"))
    assert few == more  # the batch at the edge shrinks as often
    ours, theirs = (
        np.asarray(Image.open(folder / "grid.png"), int) for folder in (cpu("more steps"), gpu["more steps"][0])
    )
    assert np.abs(ours - theirs).max() <= 1


@pretending
def test_a_sweep_measures_the_same_on_a_gpu(cpu, gpu):
    ours, theirs = (pd.read_parquet(folder / "measurements.parquet") for folder in (cpu("sweep"), gpu["sweep"][0]))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=False, rtol=0, atol=1e-3)


@pretending
@pytest.mark.parametrize("training", TRAININGS)
def test_dreambooth_trains_the_same_on_a_gpu(cpu, gpu, training):
    folders = cpu(training), gpu[training][0]
    for name in ("cluster", "users/anna"):
        ours, theirs = (json.loads((folder / name / "gate.json").read_text()) for folder in folders)
        assert theirs["after"] == pytest.approx(ours["after"], abs=0.01)
