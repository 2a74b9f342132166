"""One model of a cohort: fine-tuned from the base, and written as a folder of its own."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ... import data
from ...common.errors import InputError
from ..inference.families.base import Model
from ..inference.gpu import free_memory
from ..inference.lora import add_lora
from ..inference.models import make_pipeline, save_half, weights_digest
from ..inference.references import SETTINGS
from ..inference.sampling import scheduler_to_save
from ..inference.weights import is_finite
from .cohort import Training
from .dreambooth import encode, make_recipe
from .job import Job
from .loop import make_accelerator, train
from .orders import Order
from .records import write_json

CHECKPOINTING = {"diffusers": "enable_gradient_checkpointing", "transformers": "gradient_checkpointing_enable"}


def fine_tuned(job: Job, order: Order, checkpoint: Path) -> dict[str, nn.Module]:
    """The trained parts, or their LoRAs; training goes on from the checkpoint if there is one."""
    how = job.cohort.training
    free_memory()  # of the model before
    torch.manual_seed(how.seed)
    modules = _trainable(job.base, how)
    own = encode(job.base, order.photos, order.subject)
    recipe = make_recipe(job.base, modules, own, order.prior.examples() if order.prior else None, how)
    with job.progress(order.name, how.steps, "steps") as progress:
        trained = train(recipe, checkpoint, make_accelerator(job.device, how.mixed_precision), progress)
    modules |= trained
    _check_weights(modules)
    del recipe, trained
    free_memory()  # of the optimizer
    return modules


def save_model(job: Job, order: Order, modules: dict[str, Any], folder: Path) -> None:
    """Write a model as a diffusers folder in fp16, or as its LoRAs and the name of the base that they belong to.

    Args:
        job: the cohort's job.
        order: the model that was ordered.
        modules: its trained parts, or their LoRAs, by name.
        folder: folder to fill, which becomes `order.folder` once it is complete.
    """
    settings = {"subject": order.subject}
    if order.user and order.user.description:
        settings["description"] = order.user.description
    if job.cohort.training.method == "lora":
        for part, module in modules.items():
            if hasattr(module, "peft_config"):
                module.save_pretrained(folder / part, safe_serialization=True)
        settings["base"] = _lasting_reference(job, order.folder)
        settings["base_digest"] = weights_digest(job.base.network, *job.base.text_encoders.values())
    else:
        save_half(_pipeline(job.base, modules), folder)
    write_json(folder / SETTINGS, settings)


def _check_weights(modules: dict[str, nn.Module]) -> None:
    """Refuse a training whose weights cannot be stored as fp16."""
    for part, module in modules.items():
        for name, weight in module.named_parameters():
            if weight.requires_grad and not is_finite(weight.detach().half()):
                raise InputError(
                    f"the training diverged: {part}: {name} is too large for fp16; lower the learning rate"
                )


def _trainable(base: Model, how: Training) -> dict[str, nn.Module]:
    """Copies of the parts that have a learning rate, or LoRAs on them."""
    trained = [part for part, rate in how.rates(base.NETWORK).items() if rate > 0]
    modules = {part: copy.deepcopy(base.parts[part]) for part in trained}
    for part, module in modules.items():
        if how.gradient_checkpointing:  # diffusers and transformers have own names for it
            getattr(module, CHECKPOINTING[base.PARTS[part].library])()
        module.requires_grad_(True)
        modules[part] = (add_lora(part, module, how.rank) if how.method == "lora" else module).train()
    return modules


def _lasting_reference(job: Job, folder: Path) -> str:
    """The base as a model in a folder names it: by a relative path where both would move together, else as it is."""
    base = Path(job.file.base_reference).resolve()
    if not base.exists():
        return job.file.base_reference
    if base.is_relative_to(job.output.resolve()):
        return os.path.relpath(base, folder.resolve())
    return data.portable(str(base))


def _pipeline(base: Model, modules: dict[str, Any]) -> Any:
    """A pipeline of copies, as saving one in fp16 changes the number format of its parts in place."""
    parts = {name: copy.deepcopy(modules.get(name, part)) for name, part in base.parts.items()}
    return make_pipeline(type(base), scheduler_to_save(base.scheduler_config, base.SCHEDULERS[0]), parts)
