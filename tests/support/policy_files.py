"""Policies with random weights, in memory and as files."""

import numpy as np
import torch
from safetensors.torch import save_file

from edgesplit.common.files import write_record
from edgesplit.fitting.schemas import Provenance
from edgesplit.optimizer.agent.instances import Range, paper_instance
from edgesplit.optimizer.agent.paper_agent import PLACES
from edgesplit.optimizer.agent.policies import Policy, PolicyCard
from edgesplit.optimizer.agent.ranges import training_range
from edgesplit.optimizer.learn.networks import PaperNetwork, SetNetwork

ROUNDS = [paper_instance(np.random.default_rng(n), Range(users=(1 + n % PLACES, 1 + n % PLACES))) for n in range(90)]
RANGE = training_range((round_.scenario, round_.users) for round_ in ROUNDS) | {"alpha_s": [0.0, 200.0]}


def make_card(network="set", **changes):
    """The card of a policy that knows rounds like `ROUNDS`."""
    flat = network == "flat"
    values = {
        "name": "made",
        "network": network,
        "scope": "general",
        "preset": "flat-gain" if flat else "set",
        "places": PLACES if flat else None,
        "gpus": None,
        "range": RANGE,
        "seeds": 1,
        "steps": 1,
        "minutes": 0.0,
        "scores": [],
        "provenance": Provenance(kind="measured", source="a test", date="2026-11-23", versions={}, notes=[]),
    }
    return PolicyCard(**(values | changes))


def random_policy(network, seed=0, **changes):
    """A torch network with random weights, and the policy that has the same ones."""
    torch.manual_seed(seed)
    made = PaperNetwork(PLACES) if network == "flat" else SetNetwork()
    for values in made.parameters():  # a fresh network nearly always prefers one action
        torch.nn.init.normal_(values, std=0.3)
    weights = {name: value.numpy().astype(float) for name, value in made.state_dict().items()}
    return made, Policy(make_card(network, **changes), weights)


def save_policy(folder, network="set", **changes):
    """The files of a random policy; returns the path of its weights."""
    made, policy = random_policy(network)
    save_file(made.state_dict(), folder / "made.safetensors")
    write_record(folder / "made.json", policy.card.model_copy(update=changes))
    return folder / "made.safetensors"
