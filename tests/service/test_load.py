"""`edgesplit load`: emulated devices against a server on this machine, and the report of planned against measured."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import call_root, refused
from oracles import make_scenario
from servers import free_port, make_rounds, serving

from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.service.client import served_scenario
from edgesplit.service.engines import EmulatedEngine
from edgesplit.service.load_report import LEAST_S, relative_errors

SCENARIO = make_scenario(
    edge=LatencyModel(0.001, 0.002, 0.0), gpus=1, interval_s=0.2, total_steps=20, min_local_steps=5, bandwidth_hz=2e7,
    pai=PaiCurve(0.4, 7.0),
)  # fmt: skip


def test_every_request_of_a_load_gets_its_image_and_the_report_says_how(tmp_path):
    users = tmp_path / "users.csv"
    users.write_text("user_id,step_latency_s,alpha\n" + "".join(f"u{i},{0.05 + 0.005 * i},1\n" for i in range(6)))
    rounds = make_rounds(EmulatedEngine(SCENARIO.edge, SCENARIO.gpus), SCENARIO, emulate_radio=True)
    with serving(rounds) as (address, _):
        options = ["--server", address, "--users", users, "--arrivals", "poisson:15", "--duration", "2"]
        result = call_root("load", *options, "--json", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["requests"] == report["granted"] + report["denied"] > 10
    assert report["lost"] == report["fell_back"] == 0
    assert set(report["planned_against_measured"]) == {"latency_s", "wait_s", "edge_s", "transmit_s", "local_s"}
    rows = pd.read_parquet(tmp_path / "out" / "load.parquet")
    parts = rows[["wait_s", "edge_s", "transmit_s", "local_s"]].sum(axis=1)
    assert np.allclose(parts, rows["latency_s"])
    assert {"load.html", "load.json", "load.png", "load.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert rounds.counters.granted == report["granted"]
    assert rounds.in_flight == rounds.on_radio == rounds.pending == 0


def test_a_server_that_is_not_there_is_one_line():
    line = refused(call_root("load", "--server", f"http://127.0.0.1:{free_port()}", "--duration", "1"))
    assert "cannot be reached" in line
    assert "start one with `edgesplit serve`" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "127.0.0.1"], "--server: found '127.0.0.1', accepted: an address such as http://"),
        (["--server", "http://x/y z"], "--server: found"),
    ],
)
def test_an_address_that_is_none_is_refused(options, said):
    assert said in refused(call_root("load", *options))


def test_the_servers_scenario_comes_back_as_it_is():
    from dataclasses import asdict

    assert served_scenario(json.dumps(asdict(SCENARIO)).encode()) == SCENARIO


def test_errors_are_relative_to_what_was_measured():
    errors = relative_errors(np.array([1.1, 0.5, 0.001]), np.array([1.0, 1.0, 0.0]))
    assert errors == pytest.approx([0.1, 0.5, 0.001 / LEAST_S])
