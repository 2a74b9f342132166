"""The files in deploy/: parsed, and held against the command line, the server's routes and the package."""

import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from servers import make_rounds, make_server

from edgesplit.cli import app
from edgesplit.common import console

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile*"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
SERVE = console.command_of(app).get_command(None, "serve")
PINNED = r"[a-z0-9/]+:[a-z0-9.-]*\d[a-z0-9.-]*"
"""An image of Docker's public registry with a version in its tag."""


def instructions(path):
    """The instructions of a Dockerfile, as (name, rest); none of its comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def last_stage(path):
    """What the last stage says, by instruction; where it says something twice, the last time counts."""
    found = instructions(path)
    begin = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[begin:])


def options_of(words):
    """The options of a command line of `edgesplit serve`, read as the command reads them."""
    assert words[:2] == ["edgesplit", "serve"]
    return SERVE.make_context("serve", words[2:]).params


def paths_of_routes():
    return {route.path for route in make_server(make_rounds()).routes}


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.name)
def dockerfile(request):
    return request.param


def test_both_images_are_described():
    assert [path.name for path in DOCKERFILES] == ["Dockerfile", "Dockerfile.cuda"]


def test_base_images_have_public_names_and_versions(dockerfile):
    stages = set()
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            image, *alias = rest.split()
            assert image in stages or re.fullmatch(PINNED, image), image
            stages |= set(alias[1:])
    assert all(re.fullmatch(PINNED, service["image"]) for service in COMPOSE["services"].values() if "image" in service)


def test_what_is_copied_from_the_context_is_there(dockerfile):
    for name, rest in instructions(dockerfile):
        if name == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
        if name == "RUN" and "--constraint" in rest:
            words = shlex.split(rest)
            assert (ROOT / words[words.index("--constraint") + 1]).is_file()
            extras = re.search(r"'\.\[(.*?)\]'", rest)[1].split(",")
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(extras) <= set(known)


def test_the_server_is_started_by_nobody_in_particular_with_options_that_it_has(dockerfile):
    stage = last_stage(dockerfile)
    assert int(stage["USER"]) > 0
    assert f"--uid {stage['USER']} " in runs_of(dockerfile)
    options = options_of(json.loads(stage["ENTRYPOINT"]))
    assert (options["host"], str(options["port"])) == ("0.0.0.0", stage["EXPOSE"])  # noqa: S104 - of a container
    assert options["device"] == ("cuda" if dockerfile.suffix == ".cuda" else "")


def runs_of(dockerfile):
    return " ".join(rest for name, rest in instructions(dockerfile) if name == "RUN")


def test_health_is_asked_of_a_route_that_needs_no_token(dockerfile):
    from edgesplit.service.server import OPEN_PATHS

    stage = last_stage(dockerfile)
    python = json.loads(stage["HEALTHCHECK"].partition("CMD ")[2])[-1]
    compile(python, "HEALTHCHECK", "exec")
    port, path = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", python).groups()
    assert port == stage["EXPOSE"]
    assert path in OPEN_PATHS
    assert path in paths_of_routes()


def test_the_models_volume_is_where_the_compose_file_mounts_one(dockerfile):
    stage = last_stage(dockerfile)
    mounts = dict(reversed(mount.split(":")[:2]) for mount in COMPOSE["services"]["edge"]["volumes"])
    assert mounts[stage["VOLUME"]] in COMPOSE["volumes"]
    home = re.search(r"HF_HOME=(\S+)", stage["ENV"])[1]
    assert Path(home).is_relative_to(stage["VOLUME"])


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_what_compose_files_name_exists(name):
    services = yaml.safe_load((DEPLOY / name).read_text())["services"]
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists()
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        for needed in service.get("depends_on", ()):
            assert needed in COMPOSE["services"]


def test_compose_publishes_the_server_and_waits_longer_than_it_needs_to_stop():
    edge = COMPOSE["services"]["edge"]
    stage = last_stage(ROOT / edge["build"]["dockerfile"])
    assert [port.rpartition(":")[2] for port in edge["ports"]] == [stage["EXPOSE"]]
    assert int(edge["stop_grace_period"].removesuffix("s")) > options_of(["edgesplit", "serve"])["grace_s"]


def test_prometheus_reads_what_the_server_serves():
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["metrics_path"] in paths_of_routes()
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    stage = last_stage(ROOT / COMPOSE["services"][host]["build"]["dockerfile"])
    assert port == stage["EXPOSE"]


def test_the_build_context_has_the_package_and_little_else():
    """`.dockerignore` leaves everything out but what its lines with ! name."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[-1] for name in project["tool"]["setuptools"]["packages"] if name.count(".") < 2}
    files = {"pyproject.toml", "constraints.txt", project["project"]["readme"], *project["project"]["license-files"]}
    assert kept == packages | files
    assert not any(fnmatch.fnmatch(name, line) for name in kept for line in lines[1:] if line[0] != "!")
