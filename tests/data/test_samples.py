"""The sample users and prompts that ship."""

import csv

from edgesplit import data

CAPTION = (
    "a photo of wearing a hat wearing a scarf with a ball on grass on the beach in snow at night in the forest "
    "in the desert in a red room in a purple room in the city on the left on the right"
)
CAPTION_WORDS = set(CAPTION.split())


def test_twenty_users_show_every_column_and_blank_cells():
    with open(data.sample("users.csv"), encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 20
    for column in ("device", "step_latency_s", "alpha", "emphasis", "request_slot"):
        filled = [bool(row[column]) for row in rows]
        assert any(filled), column
        assert not all(filled), column
    assert any(row["alpha"] == "" and row["emphasis"] == "" for row in rows)


def test_ten_prompts_hold_the_subject_and_only_caption_words():
    prompts = data.sample("prompts.txt").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == len(set(prompts)) == 10
    for prompt in prompts:
        words = prompt.split()
        assert words.count("{subject}") == 1
        assert set(words) - {"{subject}"} <= CAPTION_WORDS
