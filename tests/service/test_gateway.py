"""The device's gateway: OpenAI's client gets one's own pictures, and errors in OpenAI's shape."""

import base64
import io
import json
import random
import socket
import time

import httpx
import openai
import pytest
from edges import ModelEngine
from models import as_model, make_pipeline
from oracles import make_scenario
from PIL import Image
from servers import free_port, make_rounds, serving

from edgesplit.diffusion.inference.batch import generate
from edgesplit.diffusion.inference.sampling import Sampling
from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.service import gateway
from edgesplit.service.client import EdgeClient
from edgesplit.service.own_pictures import PersonalDevice
from edgesplit.service.personal import PersonalModel, png

SCENARIO = make_scenario(
    edge=LatencyModel(0.001, 0.002, 0.0), gpus=1, interval_s=0.1, total_steps=6, min_local_steps=2, bandwidth_hz=2e7,
    pai=PaiCurve(0.9, 2.0),
)  # fmt: skip
SAMPLING = Sampling(total_steps=6, guidance_scale=3.0)
PROMPT = "a photo of sks dog"


@pytest.fixture(scope="module")
def own():
    return PersonalModel(model=as_model(make_pipeline(seed=1), "sks dog"), sampling=SAMPLING, words=("sks dog",))


def make_device(own, address):
    return PersonalDevice(client=EdgeClient(address), own=own, step_latency_s=0.5, alpha=None, emphasis=0.0)


@pytest.fixture(scope="module")
def address(own):
    """A gateway that has an edge."""
    rounds = make_rounds(ModelEngine(as_model(make_pipeline(seed=0)), SAMPLING), SCENARIO)
    with serving(rounds) as (edge, _), serving(gateway.make_gateway(make_device(own, edge), "anna")) as (here, _):
        yield here


@pytest.fixture(scope="module")
def alone(own):
    """A gateway whose edge is gone; the device makes everything."""
    device = make_device(own, f"http://127.0.0.1:{free_port()}")
    with serving(gateway.make_gateway(device, "anna")) as (here, _):
        yield here


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def post(address, body):
    return httpx.post(f"{address}/v1/images/generations", json=body, timeout=60)


def picture_of(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_the_openai_client_gets_pictures_that_the_edge_began(client):
    answer = client.images.generate(
        prompt=PROMPT, model="anna", n=3, size="32x32", response_format="b64_json", user="u", quality="high"
    )
    assert [picture_of(one.b64_json).size for one in answer.data] == [(32, 32)] * 3
    assert len({one.b64_json for one in answer.data}) == 3
    ways = answer.edgesplit
    assert [way["granted"] for way in ways] == [True] * 3
    assert [way["seed"] - ways[0]["seed"] for way in ways] == [0, 1, 2]
    assert all(way["planned"]["edge_s"] > 0 for way in ways)


def test_the_openai_client_lists_the_model(client):
    assert [model.id for model in client.models.list()] == ["anna"]


def test_the_same_seed_is_the_same_picture(client):
    first, second = (client.images.generate(prompt=PROMPT, extra_body={"seed": 5}) for _ in range(2))
    assert first.data[0].b64_json == second.data[0].b64_json
    assert first.edgesplit[0]["granted"]


def test_without_an_edge_the_picture_is_the_all_local_one(own, alone):
    answer = post(alone, {"prompt": PROMPT, "seed": 5}).json()
    expected = png(generate(own.model, [PROMPT], [5], SAMPLING)[0])
    assert base64.b64decode(answer["data"][0]["b64_json"]) == expected
    assert "cannot be reached" in answer["edgesplit"][0]["reason"]


def test_a_prompt_without_the_subject_is_made_here(own, address):
    answer = post(address, {"prompt": "a photo of a cat", "seed": 2}).json()
    assert "no {subject}" in answer["edgesplit"][0]["reason"]
    expected = png(generate(own.model, ["a photo of a cat"], [2], SAMPLING)[0])
    assert base64.b64decode(answer["data"][0]["b64_json"]) == expected


def test_the_openai_client_sees_a_picture_come_about(client):
    events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=1, extra_body={"seed": 5}))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[0].partial_image_index == 0
    assert [picture_of(event.b64_json).size for event in events] == [(32, 32)] * 2
    whole = client.images.generate(prompt=PROMPT, extra_body={"seed": 5})
    assert events[-1].b64_json == whole.data[0].b64_json


@pytest.mark.parametrize(
    ("changes", "status", "param", "said"),
    [
        ({"response_format": "url"}, 400, "response_format", "accepted: b64_json"),
        ({"size": "1024x1024"}, 400, "size", "accepted: auto or 32x32"),
        ({"output_format": "jpeg"}, 400, "output_format", "accepted: png"),
        ({"n": 0}, 400, "n", "greater than or equal to 1"),
        ({"n": 11}, 400, "n", "less than or equal to 10"),
        ({"n": 2, "stream": True}, 400, "n", "accepted with stream: 1"),
        ({"model": "gpt-image-1"}, 404, "model", "accepted: 'anna'"),
        ({"prompt": ""}, 400, "prompt", "at least 1 character"),
        ({"prompt": "a {dog} {subject}"}, 400, "prompt", "accepted in braces: {subject} alone"),
        ({"prompt": "a dog \U0001f993"}, 400, "prompt", "does not know"),
        ({"prompt": "sks dog " * 100}, 400, "prompt", "tokens"),
        ({"prompt": "x" * 70_000}, 413, None, "bytes at most"),
        ({"seed": -1}, 400, "seed", "greater than or equal to 0"),
    ],
)
def test_what_is_refused_has_the_shape_of_openais_errors(address, changes, status, param, said):
    answer = post(address, {"prompt": PROMPT} | changes)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert said in error["message"]


def test_the_openai_client_raises_its_own_error(client):
    with pytest.raises(openai.BadRequestError, match="response_format: found 'url', accepted: b64_json"):
        client.images.generate(prompt=PROMPT, response_format="url")


def test_bodies_of_any_kind_are_answered(address):
    """No body, whatever is in it, is a 5xx."""
    rng = random.Random(1)  # noqa: S311 - no secret
    url = f"{address}/v1/images/generations"
    bodies = [b"", b"null", b"[]", b"{", b'{"prompt": 1}', b"\xff\xfe", b'{"prompt": "x", "n": 1e99}', b"[" * 5000]
    bodies += [rng.randbytes(rng.randrange(200)) for _ in range(40)]
    values = [None, True, -1, 2**70, 0.5, "", "x", [], {}, ["x"]]
    bodies += [
        json.dumps(
            {"prompt": rng.choice(values), rng.choice(["n", "size", "model", "seed"]): rng.choice(values)}
        ).encode()
        for _ in range(40)
    ]
    with httpx.Client(timeout=60) as http:
        for body in bodies:
            answer = http.post(url, content=body, headers={"content-type": "application/json"})
            assert answer.status_code < 500, (body, answer.text)
            assert answer.status_code == 200 or answer.json()["error"]["message"], body


def test_other_paths_methods_and_hosts_are_refused(address):
    assert httpx.get(f"{address}/healthz").text == "ok"
    assert httpx.get(f"{address}/v1/nothing").json()["error"]["message"] == "Not Found"
    assert httpx.get(f"{address}/v1/images/generations").status_code == 405
    assert httpx.get(f"{address}/v1/models", headers={"host": "evil.example"}).status_code == 400


def test_too_many_pictures_are_answered_with_429(own, monkeypatch):
    monkeypatch.setattr(gateway, "MOST_WAITING", 2)
    with serving(gateway.make_gateway(make_device(own, f"http://127.0.0.1:{free_port()}"), "anna")) as (here, _):
        answer = post(here, {"prompt": PROMPT, "n": 3})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert post(here, {"prompt": PROMPT, "n": 2}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_stops_the_steps(own, monkeypatch, stream):
    """The steps of a caller who is gone end, so that the next one has the device."""
    steps = []
    original = PersonalModel.finish

    def slowly(self, handoff, watch, stop):
        from dataclasses import replace

        def step(left):
            steps.append(left)
            time.sleep(0.2)

        return original(self, handoff, replace(watch, step=step), stop)

    monkeypatch.setattr(PersonalModel, "finish", slowly)
    with serving(gateway.make_gateway(make_device(own, f"http://127.0.0.1:{free_port()}"), "anna")) as (here, _):
        body = json.dumps({"prompt": PROMPT, "stream": stream}).encode()
        head = f"POST /v1/images/generations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" \
               f"content-length: {len(body)}\r\n\r\n"  # fmt: skip
        with socket.create_connection(("127.0.0.1", int(here.rpartition(":")[2]))) as sock:
            sock.sendall(head.encode() + body)
            deadline = time.monotonic() + 60
            while not steps and time.monotonic() < deadline:
                time.sleep(0.01)
        assert len(steps) < 4
        time.sleep(2.0)  # all six steps would be over
        assert len(steps) < 6
