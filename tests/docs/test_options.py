"""The documents describe every option of every command, and every field of the files."""

import re
from enum import Enum
from typing import Literal, get_args, get_origin

import pytest
from documents import README, ROOT, rows, section

from edgesplit.cli import COMMANDS, app
from edgesplit.common import console
from edgesplit.diffusion.train import cohort
from edgesplit.fitting.schemas import LatencyProfile, PaiCurveFile
from edgesplit.optimizer.inputs.records import FleetFile, ModelRecord, Radio, RoundFields, ScenarioFile, ServerRecord
from edgesplit.optimizer.inputs.users import COLUMNS
from edgesplit.optimizer.methods.registry import BUILT_IN
from edgesplit.optimizer.methods.scoring import Totals

DOCS = ROOT / "docs"
COMMON = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
"""What every command has; described once."""
ROOT_COMMAND = console.command_of(app)


def all_commands():
    for name in COMMANDS:
        command = ROOT_COMMAND.get_command(None, name)
        yield name, command
        for word, subcommand in getattr(command, "commands", {}).items():
            yield f"{name} {word}", subcommand


ALL = dict(all_commands())


def names_of(parameter):
    """How the documents name an option or an argument."""
    options = {*parameter.opts, *parameter.secondary_opts}
    return options if parameter.param_type_name == "option" else {parameter.name.upper()}


def choices_of(parameter):
    """The values that an option may have, where they are a list."""
    annotation = parameter.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [member.value for member in annotation]
    return get_args(annotation) if get_origin(annotation) is Literal else []


def described(command):
    """Option or argument -> its row in the table of its page; none for a command that has subcommands alone."""
    page = DOCS / f"{command.split()[0]}.md"
    found = {}
    if command in ("hwprof", "trace"):
        return found
    for row in rows(section(page, f"Options of `{command}`"))[1:]:
        texts = re.findall(r"`([^`]+)`", row[0])
        for name in texts:
            assert name.split()[0] not in found, f"{command}: {name} stands twice"
            found[name.split()[0]] = row
    return found


@pytest.mark.parametrize(("name", "command"), list(ALL.items()), ids=list(ALL))
def test_every_option_stands_in_its_table_and_no_other_does(name, command):
    names = set().union(*(names_of(parameter) for parameter in command.params), set()) - COMMON
    assert set(described(name)) == names


@pytest.mark.parametrize(("name", "command"), list(ALL.items()), ids=list(ALL))
def test_tables_have_the_defaults(name, command):
    table = described(name)
    for parameter in command.params:
        default = getattr(parameter.default, "value", parameter.default)
        first = next(iter(names_of(parameter)))
        if first in COMMON or default in (None, False, "") or parameter.required:
            continue
        shown = parameter.opts[0] if default is True else str(default)
        assert table[first][2] == f"`{shown}`", f"{name}: {first}"


@pytest.mark.parametrize(("name", "command"), list(ALL.items()), ids=list(ALL))
def test_tables_name_every_choice(name, command):
    table = described(name)
    for parameter in command.params:
        for word in choices_of(parameter):
            assert f"`{word}`" in " ".join(table[parameter.opts[0]]), f"{name}: {parameter.opts[0]} {word}"


def test_what_every_command_has_is_described_once():
    text = section(DOCS / "plan.md", "Options of `plan`")
    assert [option for option in sorted(COMMON) if f"`{option}`" not in text] == []


def test_the_readme_names_every_command():
    text = README.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`{name}`" not in text] == []


def names_in(page, heading):
    """The words in code of the first column of a section's tables."""
    return {name for row in rows(section(DOCS / page, heading)) for name in re.findall(r"`([^`]+)`", row[0])}


def fields(*records):
    return {field.alias or name for record in records for name, field in record.model_fields.items()}


def test_every_field_of_the_input_files_is_described():
    assert set(COLUMNS) == names_in("files.md", "The users file")
    assert fields(ScenarioFile, Radio) == names_in("files.md", "The scenario file")
    several = fields(FleetFile, ServerRecord, ModelRecord) - fields(RoundFields, ScenarioFile) | {"pai"}
    assert several == names_in("files.md", "The scenario file of several servers")
    records = (
        cohort.Cohort,
        cohort.Training,
        cohort.Class,
        cohort.Generated,
        cohort.Cluster,
        cohort.User,
        cohort.Judging,
    )
    assert fields(*records) == names_in("dreambooth.md", "The cohort file")


def test_the_cohort_table_has_the_defaults():
    table = rows(section(DOCS / "dreambooth.md", "The cohort file"))
    for name, field in (cohort.Cohort.model_fields | cohort.Training.model_fields).items():
        if isinstance(field.default, str | int | float):
            row = next(row for row in table if row[0] == f"`{name}`")
            assert row[2] == f"`{str(field.default).replace('False', 'false')}`", name


def test_the_parts_of_parameter_files_are_described():
    for record, heading in ((LatencyProfile, "Latency profiles"), (PaiCurveFile, "PAI curves")):
        text = section(DOCS / "files.md", heading)
        missing = {name for name in fields(record) if f"`{name}`" not in text}
        assert missing <= {"schema", "name", "provenance"}  # said of all files, above


def test_every_method_and_every_total_is_described():
    assert {*BUILT_IN, "package.module:function"} == names_in("plan.md", "Methods") - {"--method"}
    assert set(Totals.__dataclass_fields__) <= names_in("plan.md", "What comes out")


def test_plan_columns_are_described():
    from edgesplit import draw_instances, plan

    (instance,) = draw_instances(1, seed=0)
    columns = set(plan(instance.scenario, instance.users, "all-local").users.columns)
    assert columns | {"cell", "server", "model"} == names_in("files.md", "The plan file")
