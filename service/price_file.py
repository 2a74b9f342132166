"""Files of trained prices: the numbers of the rule `trained`, what they were tuned on, and their held-out score."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .. import data
from ..common.errors import InputError, nearest, shown
from ..common.files import Record, read_record
from ..fitting.schemas import LARGEST, Provenance, Text
from .scheduler import Slopes, TrainedPrices

Share = Annotated[float, Field(ge=0, le=LARGEST)]
DEFAULT, DEFAULT_REVISED = "mixed", "revised"
"""The shipped prices, and those that were tuned for images that get new splits."""


class SlopesRecord(Record):
    """The numbers of one price; see `scheduler.Slopes`."""

    base_s: Share
    load: Share
    new: Share
    arrivals: Share

    def slopes(self) -> Slopes:
        """The numbers as the scheduler has them."""
        return Slopes(self.base_s, self.load, self.new, self.arrivals)


class Setting(Record):
    """One kind of world, and what the prices gained there.

    Attributes:
        arrivals: arrival process, as --arrivals has it.
        gpus: number of GPUs, or how it changes, as --gpus-over-time has it.
        bandwidth_mhz: shared bandwidth.
        gain_per_user: mean rise over all local on held-out worlds, seconds.
        price_gain_per_user: that of the rule `price` on the same worlds, seconds.
    """

    arrivals: Text
    gpus: int | Text
    bandwidth_mhz: Share
    gain_per_user: float
    price_gain_per_user: float


class PriceRecord(Record):
    """A file of trained prices."""

    schema_: Literal["edgesplit/price-rule@1"] = Field(default="edgesplit/price-rule@1", alias="schema")
    name: Text
    step: SlopesRecord
    grant: SlopesRecord
    settings: list[Setting]
    provenance: Provenance | None = None

    def rule(self) -> TrainedPrices:
        """The rule."""
        return TrainedPrices(self.step.slopes(), self.grant.slopes())


def load_prices(reference: str = DEFAULT) -> PriceRecord:
    """Trained prices by a shipped name or a file.

    Raises:
        InputError: one line naming what was found and what is accepted.
    """
    known = data.shipped("prices")
    path = known.get(reference, Path(reference))
    if path.suffix != ".json" and not path.exists():
        raise InputError(f"--prices: found {shown(reference)}, accepted: a name or a file; {nearest(reference, known)}")
    return read_record(path, PriceRecord)
