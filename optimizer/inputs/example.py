"""Files to start from with several servers: the shipped scenario's numbers, sample users, and curves made up for it."""

import csv
import io
from collections.abc import Mapping
from itertools import cycle

from ... import data
from ...common.files import read_record, record_json
from ...fitting.library import load_curve
from ...fitting.schemas import PaiCurveFile, Provenance
from .records import NO_SERVER, FleetFile, ModelRecord, ScenarioFile, ServerRecord

EDGES = (("h100-nvl", 4), ("a100-80gb-pcie", 4), ("l4", 8))
"""Profile and number of GPUs of the servers, over and over."""
CLUSTERS = ("animals", "faces", "things")
BASE = "everything"
RATES = (10.0, 6.0, 3.0)
"""Spectral efficiency of a user's link to the nearest server, the next one, and so on, bit/s/Hz."""
OTHERS = "others.json"
LATER_MIDPOINT = 40.0
"""Local steps by which the curve of other clusters' users rises later."""
EXAMPLE = Provenance(kind="estimated", source="an example, not measured", date="2026")


def example_files(servers: int) -> Mapping[str, str]:
    """The texts of a scenario, of the users and of a PAI curve for users of other clusters, by their names."""
    return {
        "scenario.json": record_json(_scenario(servers)),
        "users.csv": _users(servers),
        OTHERS: record_json(_others()),
    }


def _scenario(servers: int) -> FleetFile:
    """Servers with room for a base and two of its three adapters each."""
    one = read_record(data.sample("scenarios/default.json"), ScenarioFile)
    rounds = {name: getattr(one, name) for name in ("interval_s", "slots", "reference_batch", "total_steps")}
    places = [
        ServerRecord(
            name=f"edge-{number + 1}", edge=edge, gpus=gpus, max_batch=one.max_batch, radio=one.radio, memory_bytes=6e9
        )
        for number, (edge, gpus) in zip(range(servers), cycle(EDGES), strict=False)
    ]
    adapters = [
        ModelRecord(name=name, size_bytes=1e9, clusters=[name], pai_others=OTHERS, adapter_of=BASE) for name in CLUSTERS
    ]
    return FleetFile(
        **rounds,
        min_local_steps=one.min_local_steps,
        pai=one.pai,
        servers=places,
        models=[*adapters, ModelRecord(name=BASE, size_bytes=4e9, pai=OTHERS)],
        provenance=EXAMPLE,
    )


def _users(servers: int) -> str:
    """The sample users, each of one of the clusters and with links to a few servers; the last one has none."""
    with data.sample("users.csv").open(encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, "cluster", "servers"])
    for number, row in enumerate(rows):
        near = range(number, number + min(servers, len(RATES)))
        links = " ".join(f"edge-{m % servers + 1}:{rate:g}" for m, rate in zip(near, RATES, strict=False))
        writer.writerow([*row, CLUSTERS[number // 2 % 3], links if row is not rows[-1] else NO_SERVER])
    return text.getvalue()


def _others() -> PaiCurveFile:
    """The paper's curve, with its midpoint later: who is not of a model's cluster has to run more steps alone."""
    paper = load_curve("paper")
    later = paper.fit.model_copy(update={"midpoint": paper.fit.midpoint + LATER_MIDPOINT})
    return paper.model_copy(update={"fit": later, "models": ["an example"], "provenance": EXAMPLE})
