"""What `simulate tune` does: make worlds, search, score, write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.console import say
from ..common.errors import InputError
from ..common.files import write_record
from ..common.locks import only_run
from ..common.progress import progress_bar
from ..common.tables import plain_table, print_table
from ..fitting.schemas import Provenance, of_today
from .comparison import REVISED, TRAINED
from .price_file import PriceRecord
from .tuning import MIXTURE, Kind, WorldGroup, make_group, record_of, tune, worlds_of, worth

ROUNDS = 60


@dataclass(frozen=True, kw_only=True)
class TuneRequest:
    """The options of one `simulate tune`; see its help."""

    arrivals: Sequence[str]
    scenario: str
    gpus: int | None
    gpus_over_time: str | None
    bandwidth_mhz: float | None
    rounds: int | None
    worlds: int
    evaluations: int
    seed: int
    revise: bool
    output: Path


def run_tune(request: TuneRequest) -> None:
    """Tune prices and write them.

    Raises:
        InputError: one line.
    """
    if request.output.suffix != ".json":
        raise InputError(f"-o: found {request.output}, accepted: a file with the suffix .json")
    with only_run(request.output, "simulate tune"):
        training, held_out = _groups(request)
        with progress_bar("simulate tune", request.evaluations, "prices") as progress:
            prices = tune(
                training, request.evaluations, request.seed, lambda tried: progress(min(tried, request.evaluations))
            )
        record = record_of(request.output.stem, prices, held_out)
        record = record.model_copy(update={"provenance": _provenance(request, worth(training, prices))})
        write_record(request.output, record)
    _print(record)
    method = f"{TRAINED}{REVISED}" if request.revise else TRAINED
    say(f"wrote {request.output}; now: edgesplit simulate --method {method} --prices {request.output}")


def _groups(request: TuneRequest) -> tuple[list[WorldGroup], list[WorldGroup]]:
    own = [Kind(arrivals, request.bandwidth_mhz, request.gpus, request.gpus_over_time) for arrivals in request.arrivals]
    if not own and (request.gpus or request.gpus_over_time or request.bandwidth_mhz):
        raise InputError("--arrivals: found nothing beside options of a world, accepted: the arrivals as well")
    training, held_out = [], []
    for kind in own or MIXTURE:
        seconds = float(request.rounds or ROUNDS) if ":" in kind.arrivals else None
        seen, unseen = worlds_of(kind, request.scenario, seconds, request.seed, request.worlds)
        training.append(make_group(kind, seen, request.revise))
        held_out.append(make_group(kind, unseen, request.revise))
    return training, held_out


def _provenance(request: TuneRequest, trained_worth: float) -> Provenance:
    source = (
        f"edgesplit simulate tune{' --revise' * request.revise}: {request.evaluations} prices tried in "
        f"{request.worlds} training worlds of each kind, seed {request.seed}; there they gain "
        f"{trained_worth:.4f} of what the rule price does, on average"
    )
    return of_today("estimated", source, ("edgesplit",))


def _print(record: PriceRecord) -> None:
    table = plain_table("held-out arrivals", "GPUs", "MHz", "gain s", "of price's", right_from=1)
    for setting in record.settings:
        share = setting.gain_per_user / setting.price_gain_per_user if setting.price_gain_per_user else 1.0
        table.add_row(
            setting.arrivals,
            str(setting.gpus),
            f"{setting.bandwidth_mhz:g}",
            f"{setting.gain_per_user:.3f}",
            f"{share:.2%}",
        )
    print_table(table)
