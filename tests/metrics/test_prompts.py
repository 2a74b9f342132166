"""The prompts file."""

import re

import pytest

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.metrics.prompts import described, read_prompts, with_placeholder


def written(folder, text):
    path = folder / "prompts.txt"
    path.write_bytes(text.encode())
    return path


def test_the_shipped_prompts_all_have_a_subject():
    assert len(read_prompts(data.sample("prompts.txt"), "dog")) == 10


@pytest.mark.parametrize(
    ("prompt", "template"),
    [
        ("a photo of {subject} in snow", "a photo of {subject} in snow"),
        ("a photo of dog in snow", "a photo of {subject} in snow"),
        ("A Dog, a hotdog and a dog", "A {subject}, a hotdog and a {subject}"),
    ],
)
def test_the_class_word_stands_for_the_subject(prompt, template):
    assert with_placeholder(prompt, "dog") == template


@pytest.mark.parametrize(
    ("prompt", "template"),
    [
        ("a photo of sks dog on the beach", "a photo of {subject} on the beach"),
        ("a photo of Sks Dog and zwx dog", "a photo of {subject} and {subject}"),
        ("a hot-dog, a hotdog and a dog", "a hot-dog, a hotdog and a {subject}"),
    ],
)
def test_so_do_the_users_own_words(prompt, template):
    assert with_placeholder(prompt, "dog", ["sks dog", "zwx dog"]) == template


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("sks black dog", "found 'sks' apart from the other words of the subject"),
        ("a photo of sks", "found no subject, accepted: {subject}, or the class word 'dog' or 'sks dog'; name another"),
        ("dogs on the beach", "found no subject"),
    ],
)
def test_parts_of_the_words_are_refused(prompt, message):
    with pytest.raises(InputError, match=re.escape(message)):
        with_placeholder(prompt, "dog", ["sks dog", "dog"])


@pytest.mark.parametrize("sign", ["\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_lines_end_at_newlines_alone(tmp_path, sign):
    text = f"a photo of {{subject}}{sign}in snow\r\n{{subject}}\rmy {{subject}}\n\na cat"
    with pytest.raises(InputError, match="line 5: prompt 'a cat'"):
        read_prompts(written(tmp_path, text), "dog")
    templates = read_prompts(written(tmp_path, text.removesuffix("a cat")), "dog")
    assert templates == ["a photo of {subject} in snow", "{subject}", "my {subject}"]


def test_a_file_may_begin_with_a_byte_order_mark_or_be_utf_16(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "prompts.txt").write_bytes("ein Foto von {subject} im Grünen\n".encode(encoding))
        assert read_prompts(tmp_path / "prompts.txt", "dog") == ["ein Foto von {subject} im Grünen"]


def test_blank_lines_and_comments_are_skipped_and_repeats_count_once_with_a_word(tmp_path, capsys):
    text = "# places\n\na photo of {subject} in snow\na  photo of dog in snow\na photo of dog at night\n"
    templates = read_prompts(written(tmp_path, text), "dog")
    assert templates == ["a photo of {subject} in snow", "a photo of {subject} at night"]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no prompts"),
        ("# nothing\n\n", "found no prompts"),
        ("a photo of dog\na photo of a cat\n", "line 2: prompt 'a photo of a cat': found no subject.*--subject"),
        ("a photo of {dog}\n", "line 1: .*accepted in braces"),
    ],
)
def test_bad_prompts_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_prompts(written(tmp_path, text), "dog")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a photo of {subject} in snow", "a photo of a golden dog in snow"),
        ("a photo of a {subject} in snow", "a photo of a golden dog in snow"),
        ("the {subject}", "a golden dog"),
        ("A {subject} in snow", "a golden dog in snow"),
        ("My {subject} and the {subject}", "a golden dog and a golden dog"),
    ],
)
def test_a_description_with_an_article_replaces_the_template_s(template, text):
    assert described(template, "a golden dog") == text
    assert described("my {subject}", "golden dog") == "my golden dog"
    assert described("a {subject}", "The golden dog") == "The golden dog"
