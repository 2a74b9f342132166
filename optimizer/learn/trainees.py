"""The two agents in training behind one interface: the one place that chooses between them by the network's name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..agent.instances import Instance
from ..agent.names import NetworkName
from ..agent.paper_agent import PLACES
from .networks import PaperNetwork, SetNetwork
from .paper_tables import paper_training_tables
from .set_tables import set_tables
from .tables import State, Tables


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """What a training needs to know of an agent.

    Attributes:
        places: number of users that its network has room for; None for any number.
        make_tables: function that turns training instances into tables; InputError for instances that it cannot learn.
        make_network: function that makes an untrained network for states of these tables.
    """

    places: int | None
    make_tables: Callable[[Sequence[Instance]], Tables]
    make_network: Callable[[Tables], nn.Module]


TRAINEES: Mapping[NetworkName, Trainee] = {
    "flat": Trainee(
        places=PLACES,
        make_tables=paper_training_tables,
        make_network=lambda tables: PaperNetwork(tables.places),
    ),
    "set": Trainee(places=None, make_tables=set_tables, make_network=lambda _: SetNetwork()),
}


def tensors(state: State) -> dict[str, Tensor]:
    """A state as a network takes it: indicators stay whole numbers, everything else becomes float32."""
    arrays = {name: torch.from_numpy(array) for name, array in state.items()}
    return {name: tensor if tensor.dtype == torch.int64 else tensor.float() for name, tensor in arrays.items()}
