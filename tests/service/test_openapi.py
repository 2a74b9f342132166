"""Requests drawn from the server's own OpenAPI document: every answer is one that the document promises."""

import json
import string
from urllib.parse import quote

import httpx
import jsonschema
import numpy as np
import pytest
from servers import SCENARIO, make_rounds, serving

from edgesplit.service.protocol import MEDIA_PROBLEM

WAITS_S = 30
ODD = (None, True, -1, 0, 0.5, 1e308, 2**70, "", "x", "\x00", "\ud7ff", [], {}, [[]], {"a": 1})


@pytest.fixture(scope="module")
def server():
    with serving(make_rounds()) as (address, _), httpx.Client(base_url=address, timeout=WAITS_S) as http:
        yield http, http.get("/openapi.json").json()


def resolved(schema, document):
    """A schema without its references."""
    while "$ref" in schema:
        place = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        schema = place
    return schema


def drawn_number(schema, rng):
    """A number that a schema allows, often one of its bounds."""
    low, high = schema.get("minimum", -(2.0**53)), schema.get("maximum", 2.0**53)
    value = (low, high, float(rng.uniform(low, high)))[rng.integers(3)]
    if schema["type"] == "number":
        return value
    return min(max(int(value), int(low)), int(high))


def drawn_text(schema, rng):
    """A text that a schema allows."""
    letters = string.printable + "äß√漢🦓"
    length = int(rng.integers(schema.get("minLength", 0), min(schema.get("maxLength", 50), 50)))
    text = "".join(rng.choice(list(letters), length))
    return text + "{subject}" if "pattern" in schema else text


def drawn(schema, document, rng):
    """A value that a schema allows."""
    schema = resolved(schema, document)
    if "anyOf" in schema:
        return drawn(schema["anyOf"][rng.integers(len(schema["anyOf"]))], document, rng)
    kind = schema.get("type")
    if kind == "object":
        needed = schema.get("required", ())
        chosen = [name for name in schema["properties"] if name in needed or rng.random() < 0.5]
        return {name: drawn(schema["properties"][name], document, rng) for name in chosen}
    if kind == "array":
        return [drawn(schema["items"], document, rng) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return drawn_text(schema, rng)
    return None if kind == "null" else drawn_number(schema, rng)


def spoilt(body, rng):
    """The same with something wrong."""
    odd = ODD[rng.integers(len(ODD))]
    if not isinstance(body, dict) or rng.random() < 0.1:
        return odd
    name = str(rng.choice([*body, "more"]))
    return {key: value for key, value in body.items() if key != name} if rng.random() < 0.2 else body | {name: odd}


def check_answer(answer, operation, document):
    """Whether an answer is one of those that the document promises for an operation."""
    asked = (answer.request.method, str(answer.request.url), answer.request.content, answer.text[:500])
    assert answer.status_code < 500 or answer.status_code in (503, 504), asked
    assert str(answer.status_code) in operation["responses"], asked
    promised = operation["responses"][str(answer.status_code)].get("content", {})
    if not promised:
        assert answer.content == b"", asked
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in promised, asked
    if media in ("application/json", MEDIA_PROBLEM):
        schema = promised[media]["schema"] | {"components": document["components"]}
        jsonschema.validate(answer.json(), schema)


def called(http, document, path, method, name, rng):
    """One call of an operation with drawn parameters; its answer is checked."""
    operation = document["paths"][path][method]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    given = {}
    if body:
        value = drawn(body["schema"], document, rng)
        if path == "/v1/requests" and rng.random() < 0.7:  # one that the server can serve
            facts = {"total_steps": SCENARIO.total_steps, "scheduler_hash": None, "latent_shape": None}
            value |= facts
        given["content"] = json.dumps(spoilt(value, rng) if rng.random() < 0.3 else value).encode()
        given["headers"] = {"content-type": "application/json"}
        if rng.random() < 0.3:
            given["headers"]["Idempotency-Key"] = str(rng.integers(20))
    answer = http.request(method, path.replace("{name}", quote(name, safe="")), **given)
    check_answer(answer, operation, document)
    return answer


def run_through(http, document, count, seed):
    """So many calls of all operations; the names of requests come from answers, as the document's links say."""
    rng, names, seen = np.random.default_rng(seed), ["nobody"], set()
    operations = [(path, method) for path, methods in document["paths"].items() for method in methods]
    for _ in range(count):
        path, method = operations[rng.integers(len(operations))]
        name = str(rng.choice(names[-5:])) if rng.random() < 0.8 else drawn_text({"minLength": 1}, rng) or "x"
        answer = called(http, document, path, method, name, rng)
        seen.add((path, method, answer.status_code))
        if path == "/v1/requests" and answer.status_code == 200:
            names.append(answer.json()["id"])
    return seen


def test_every_answer_is_one_that_the_document_promises(server):
    seen = run_through(*server, 250, 0)
    assert {("/v1/requests", "post", 200), ("/v1/requests", "post", 422)} <= seen


@pytest.mark.slow
def test_two_thousand_answers_are_ones_that_the_document_promises(server):
    seen = run_through(*server, 2000, 1)
    wanted = {("/v1/requests/{name}/handoff", "get", status) for status in (200, 404, 409)}
    assert wanted | {("/v1/requests/{name}/report", "post", 204), ("/v1/requests/{name}", "delete", 204)} <= seen


def test_what_the_document_calls_valid_is_taken(server):
    http, document = server
    rng = np.random.default_rng(2)
    schema = document["paths"]["/v1/requests"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for _ in range(60):
        answer = http.post("/v1/requests", json=drawn(schema, document, rng))
        assert answer.status_code in (200, 409), answer.text
    whole = {"prompt_template": "{subject}", "seed": 1.0, "step_latency_s": 1, "alpha": 0, "total_steps": 20.0}
    assert http.post("/v1/requests", json=whole).status_code == 200  # JSON's schemas take 20.0 for an integer


def test_the_calls_of_a_request_are_linked_from_its_decision(server):
    _, document = server
    links = document["paths"]["/v1/requests"]["post"]["responses"]["200"]["links"]
    named = {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}
    assert {link["operationId"] for link in links.values()} == {"handoff", "report", "cancel"} <= named
