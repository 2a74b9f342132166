"""The prompts file."""

import pytest

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.metrics.prompts import described, read_prompts, with_placeholder


def written(folder, text):
    path = folder / "prompts.txt"
    path.write_text(text)
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
