"""The subject's words in prompts and captions: whole words, the user's own before the class, nothing left over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.templates import SUBJECT, fill, with_subject

WORDS = ("dog", "sks dog", "zwx Dog")


@pytest.mark.parametrize(
    ("prompt", "template"),
    [
        ("a photo of sks dog on the beach", "a photo of {subject} on the beach"),
        ("a photo of dog on the beach", "a photo of {subject} on the beach"),
        ("A photo of SKS  Dog.", "A photo of {subject}."),
        ("zwx dog and a dog", "{subject} and a {subject}"),
        ("dog's bowl, (dog), 'sks dog'", "{subject}'s bowl, ({subject}), '{subject}'"),
        ("a hotdog, a hot-dog, dogs and dog-eared books", "a hotdog, a hot-dog, dogs and dog-eared books"),
        ("a photo of {subject}, no dog", "a photo of {subject}, no dog"),
        ("a {dog}", "a {dog}"),
        ("a photo of sks", "a photo of sks"),
        ("a cat", "a cat"),
    ],
)
def test_whole_words_of_the_subject_are_the_placeholder(prompt, template):
    assert with_subject(prompt, WORDS) == template


@pytest.mark.parametrize(
    ("prompt", "words", "template"),
    [
        ("一只狗在雪地里", ["狗"], "一只{subject}在雪地里"),
        ("雪の中のsks犬", ["犬", "sks犬"], "雪の中の{subject}"),
        ("눈 속의 강아지가", ["강아지"], "눈 속의 {subject}가"),
        ("собака и собаки", ["собака"], "{subject} и собаки"),
        ("a c++ toy", ["c++ toy"], "a {subject}"),
        ("my dog in my garden", ["dog", "my dog"], "{subject} in my garden"),
        ("a dog", ["", " "], "a dog"),
        ("a dog", [], "a dog"),
    ],
)
def test_words_may_be_of_any_script_and_hold_any_sign(prompt, words, template):
    assert with_subject(prompt, words) == template


@pytest.mark.parametrize("prompt", ["sks black dog", "a dog named SKS", "zwx, a dog"])
def test_a_part_of_the_words_that_is_left_over_is_refused(prompt):
    with pytest.raises(
        InputError, match=r"found '(sks|zwx)' apart from the other words of the subject, accepted: \{sub"
    ):
        with_subject(prompt, WORDS)


@given(st.text(alphabet="skdogzw x-.'", max_size=30))
def test_filling_the_class_in_again_changes_no_other_word(prompt):
    try:
        template = with_subject(prompt, WORDS[:1])
    except InputError:
        return
    assert fill(template, "dog") == prompt
    assert with_subject(template, WORDS) == template or SUBJECT not in template
