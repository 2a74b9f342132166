"""Scenarios of one server or several: `plan` reads either kind of file, and several servers become a fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.errors import InputError, counted, nearest, shown
from ...common.files import read_record
from ...fitting.doubts import curve_doubts, profile_doubts
from ...fitting.library import load_curve, load_profile
from ...fitting.schemas import LatencyProfile, PaiCurveFile
from ..model.qoe import Scenario, numbers_of
from ..model.servers import Fleet, FleetServer, SharedModel, single
from .notices import curve_notices, memory_notice, shadow_notices
from .records import NO_SERVER, FleetFile, ModelRecord, ScenarioFile
from .scenario import (
    NO_OVERRIDES,
    Overrides,
    Place,
    Resolved,
    check_curve,
    find_scenario,
    one_server,
    overrides,
    resolve_file,
)

OF_ONE_SERVER = ("edge", "gpus", "max_batch", "bandwidth_mhz")
"""Options that replace what every server has of its own."""


@dataclass(frozen=True)
class FleetSource:
    """A scenario file of several servers, and what stands beside it.

    Attributes:
        path: the file.
        file: its content.
        curve: PAI curve of all local, and of models without one of their own.
        edges: latency profile of every server.
        options: options that replace fields.
    """

    path: Path
    file: FleetFile
    curve: PaiCurveFile
    edges: Sequence[LatencyProfile]
    options: Overrides


def load_fleet(reference: "str | Path", **options: Any) -> Fleet:
    """The numbers of a scenario of several servers, or of one as a fleet of one.

    Args:
        reference: path of a JSON file, or a shipped name.
        options: pai, latent_bits, total_steps or min_local_steps, each in place of the scenario's own.

    Raises:
        InputError: one line naming the file or option, what was found and what is accepted.
    """
    return single(resolve_system(str(reference), overrides(**options)).scenario)


def resolve_system(reference: str, options: Overrides = NO_OVERRIDES) -> Resolved:
    """A scenario of one server or several, with everything that a command says about it.

    Args:
        reference: a shipped name, or the path of a JSON file.
        options: options that replace fields; with several servers, those that all servers have in common.

    Raises:
        InputError: one line naming the file or option, what was found and what is accepted.
    """
    path = find_scenario(reference)
    file = read_record(path, ScenarioFile, FleetFile)
    if not isinstance(file, FleetFile):
        return resolve_file(path, file, options)
    _check_options(options)
    curve = load_curve(options.pai) if options.pai else load_curve(file.pai, path.parent)
    check_curve(options.pai or file.pai, curve)
    edges = [load_profile(server.edge, path.parent) for server in file.servers]
    return _resolve(FleetSource(path, file, curve, edges, options))


def _check_options(options: Overrides) -> None:
    for name in OF_ONE_SERVER:
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: found a scenario of several servers, accepted: one of one server; change "
                "the servers in the file"
            )


def _resolve(source: FleetSource) -> Resolved:
    _check_names(source.path, source.file)
    clusters = tuple(dict.fromkeys(name for model in source.file.models for name in model.clusters))
    models = tuple(_models(source, clusters))
    own = [_place(source, number) for number in range(len(source.edges))]
    scenarios = [each.with_gpus(each.gpus, edge.max_batch) for each, edge in zip(own, source.edges, strict=True)]
    servers = tuple(_servers(source, scenarios, models))
    fleet = Fleet(**numbers_of(scenarios[0]), servers=servers, models=models, clusters=clusters)
    for number in range(len(servers)):
        fleet.placements(number)  # refuses more than can be looked through
    return Resolved(
        scenario=fleet,
        for_alpha=Fleet(**numbers_of(own[0]), servers=servers, models=models, clusters=clusters),
        edge=source.edges[0],
        curve=source.curve,
        notices=[*_memory_notices(source, own, scenarios), *_file_notices(source, own[0]), *_homeless(fleet)],
        more_edges=tuple(source.edges[1:]),
    )


def _place(source: FleetSource, number: int) -> Scenario:
    """The system with one of the servers as its edge."""
    record = source.file.servers[number]
    place = Place(record.gpus, record.max_batch, record.radio, source.edges[number])
    return one_server(place, source.file, source.curve, source.options)


# -- models and servers -------------------------------------------------------------------------------------


def _check_names(path: Path, file: FleetFile) -> None:
    """Refuse names that stand twice, or that name nothing."""
    _check_unique(path, "servers", [server.name for server in file.servers])
    _check_unique(path, "models", [model.name for model in file.models])
    known = {model.name: model for model in file.models}
    for number, model in enumerate(file.models):
        if model.adapter_of is not None:
            _check_base(f"{path}: field 'models.{number}.adapter_of'", model, known)
    for number, server in enumerate(file.servers):
        strange = next((name for name in server.hosts or () if name not in known), None)
        if strange is not None:
            place = f"{path}: field 'servers.{number}.hosts'"
            raise InputError(f"{place}: found {shown(strange)}, accepted: names of models; {nearest(strange, known)}")


def _check_unique(path: Path, kind: str, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        place = f"{path}: field '{kind}.{number}.name'"
        if name in names[:number]:
            raise InputError(f"{place}: found {shown(name)} twice, accepted: a name of its own; rename one of them")
        if name == NO_SERVER:
            raise InputError(f"{place}: found {shown(name)}, accepted: another name, as this word means none at all")


def _check_base(place: str, model: ModelRecord, known: dict[str, ModelRecord]) -> None:
    base = known.get(str(model.adapter_of))
    if base is None or base is model:
        others = [name for name in known if name != model.name]
        raise InputError(
            f"{place}: found {shown(model.adapter_of)}, accepted: the name of another model; "
            f"{nearest(str(model.adapter_of), others)}"
        )
    if base.adapter_of is not None:
        raise InputError(
            f"{place}: found {shown(base.name)}, which is an adapter itself, accepted: a model that is none"
        )


def _models(source: FleetSource, clusters: Sequence[str]) -> Iterator[SharedModel]:
    """The models of the file; without any, one for everybody."""
    records = source.file.models or [ModelRecord(name="shared", size_bytes=0.0)]
    names = [record.name for record in records]
    for number, record in enumerate(records):
        own = source.curve if record.pai is None else _curve(source, record.pai)
        others = own if record.pai_others is None else _curve(source, record.pai_others)
        yield SharedModel(
            name=record.name,
            size_bytes=record.size_bytes,
            clusters=tuple(sorted({clusters.index(name) for name in record.clusters})),
            pai=own.fit.curve(),
            pai_others=others.fit.curve(),
            base=number if record.adapter_of is None else names.index(record.adapter_of),
        )


def _curve(source: FleetSource, reference: str) -> PaiCurveFile:
    curve = load_curve(reference, source.path.parent)
    check_curve(reference, curve)
    return curve


def _servers(
    source: FleetSource, scenarios: Sequence[Scenario], models: Sequence[SharedModel]
) -> Iterator[FleetServer]:
    names = [model.name for model in models]
    for number, (record, scenario) in enumerate(zip(source.file.servers, scenarios, strict=True)):
        hosts = range(len(models)) if record.hosts is None else {names.index(name) for name in record.hosts}
        server = FleetServer(
            name=record.name,
            scenario=scenario,
            hosts=tuple(sorted({*hosts, *(models[c].base for c in hosts)})),
            memory_bytes=record.memory_bytes,
        )
        if record.hosts is not None:
            _check_memory(f"{source.path}: field 'servers.{number}.hosts'", server, models)
        yield server


def _check_memory(place: str, server: FleetServer, models: Sequence[SharedModel]) -> None:
    """Refuse hosts that do not fit into their server."""
    size = sum(models[c].size_bytes for c in server.hosts)
    if size > server.memory:
        raise InputError(
            f"{place}: found models of {size:g} bytes with their bases, accepted: memory_bytes {server.memory:g} at "
            'most; host fewer, or write "choose"'
        )


# -- notices ------------------------------------------------------------------------------------------------


def _memory_notices(source: FleetSource, own: Sequence[Scenario], scenarios: Sequence[Scenario]) -> Iterator[str]:
    for record, asked, scenario, edge in zip(source.file.servers, own, scenarios, source.edges, strict=True):
        yield from (f"server {record.name}: {notice}" for notice in memory_notice(asked, scenario, edge))


def _file_notices(source: FleetSource, scenario: Scenario) -> Iterator[str]:
    """What should be known of the parameter files, each said once."""
    folder, options = source.path.parent, source.options
    yield from curve_notices(scenario, source.curve)
    first = options.pai or source.file.pai
    curves = {first: source.curve} | {name: _curve(source, name) for name in _named_curves(source.file)}
    for name, curve in curves.items():
        yield from (f"PAI curve {name}: {doubt}" for doubt in curve_doubts(curve))
    for edge in {edge.name: edge for edge in source.edges}.values():
        yield from (f"edge profile {edge.name}: {doubt}" for doubt in profile_doubts(edge))
    yield from shadow_notices("profiles", [(record.edge, folder) for record in source.file.servers])
    yield from shadow_notices("pai", [(name, None if name == options.pai else folder) for name in curves])


def _named_curves(file: FleetFile) -> Iterator[str]:
    """The curves that models have of their own."""
    for model in file.models:
        yield from (name for name in (model.pai, model.pai_others) if name is not None)


def _homeless(fleet: Fleet) -> Iterator[str]:
    """Says which models no server can hold."""
    held = {c for number in range(len(fleet.servers)) for placement in fleet.placements(number) for c in placement}
    missing = [model.name for c, model in enumerate(fleet.models) if c not in held]
    if missing:
        others = f" and {counted(len(missing) - 1, 'more model')}" if len(missing) > 1 else ""
        yield f"no server can hold the model {missing[0]}{others}: nobody is served by it"
