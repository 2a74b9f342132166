"""The run of `dreambooth cohort.toml`: class images once, the cluster-wide model, then every user's model.

A finished model is a folder that appeared whole; a run that was killed goes on from the last checkpoint.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ...common.errors import InputError, reason_of
from ...common.files import make_folder
from ..inference.batch import timed_step
from ..inference.models import weights_digest
from .cohort import CLUSTER
from .finetune import fine_tuned, save_model
from .gate import Gate, judge
from .job import STATE, Job
from .kept_threads import keep_threads
from .orders import USERS, Order, make_orders
from .records import digest, photos_digest, store_record, stored_record

THREADS = "threads.json"
"""File for the number of CPU threads, beside the checkpoints."""


def run_job(job: Job) -> Iterator[Gate]:
    """Train the models that are not finished yet; yields every model's gate, the cluster-wide one's first.

    Raises:
        InputError: for a finished model that was trained with other settings.
    """
    orders = list(make_orders(job))
    for order in orders:
        if order.folder.exists():
            stored_record(order.folder, _settings(job, order))  # refuses before anything is trained
    for order in orders:
        yield _finish(job, order) if order.folder.exists() else _make(job, order)
    shutil.rmtree(job.output / STATE, ignore_errors=True)


def choose_threads(job: Job, command: str) -> None:
    """Let torch compute with as many CPU threads as a step is fastest with, if any model is unfinished.

    Args:
        job: the cohort's job.
        command: name of the command, which says on stderr what was chosen.
    """
    folders = [job.output / CLUSTER, *(job.output / USERS / user.name for user in job.cohort.users)]
    if job.device == "cpu" and not all(folder.exists() for folder in folders):
        step = timed_step(job.base, job.cohort.training.batch_size, job.sampling)
        keep_threads(job.output / STATE / THREADS, step, command)


def _finish(job: Job, order: Order) -> Gate:
    """The gate of a finished model, judged again where the gate's settings have changed."""
    settings, judged_by = _settings(job, order), _judged_by(job)
    record = stored_record(order.folder, settings)
    if record["judged_by"] == judged_by:
        return Gate(order.name, record["before"], record["after"], reused=True)
    gate = judge(job, order, order.folder, reused=True)
    store_record(order.folder, settings, judged_by, gate.as_json())
    return gate


def _make(job: Job, order: Order) -> Gate:
    """Train a model, write its folder and judge it."""
    settings = _settings(job, order)
    checkpoint = job.output / STATE / f"{order.name}-{digest(settings)}.safetensors"
    with _about(order):
        modules = fine_tuned(job, order, checkpoint)
    with _about(order), _whole_folder(order.folder) as unfinished:
        save_model(job, order, modules, unfinished)
        gate = judge(job, order, unfinished)
        store_record(unfinished, settings, _judged_by(job), gate.as_json())
    checkpoint.unlink(missing_ok=True)
    return gate


@contextmanager
def _about(order: Order) -> Iterator[None]:
    """Put the model that was ordered before the message of a refusal."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{order.name}: {error}") from error


def _settings(job: Job, order: Order) -> dict[str, Any]:
    """Everything that decides a model, as flat JSON."""
    return {
        "base": job.base_digest,
        "scheduler": job.scheduler_digest,
        "subject": order.subject,
        "photos": photos_digest(order.photos),
        "prior": order.prior.digest if order.prior else None,
        **job.cohort.training.model_dump(exclude={"save_every"}),
    }


def _judged_by(job: Job) -> dict[str, Any]:
    """Everything beside the model that decides its gate; where it has changed, finished models are judged again."""
    return {
        "clip": job.file.clip_name,
        "clip_digest": weights_digest(job.encoder.clip),
        "scheduler": job.scheduler_digest,
        "samples": job.cohort.gate.samples,
        "sampling_steps": job.cohort.sampling_steps,
        "guidance_scale": job.cohort.guidance_scale,
        "users": {name: photos_digest(photos) for name, photos in job.photos.items()},
    }


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that appears complete or not at all."""
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished)
    try:
        yield unfinished
        os.replace(unfinished, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{folder}: cannot write: {reason_of(error)}; free some space or choose another output"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
