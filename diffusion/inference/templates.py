"""Prompt templates: `{subject}` stands for words that are the class at the edge and the user's own subject at home."""

import re
from collections.abc import Collection

from ...common.errors import InputError, shown

SUBJECT = "{subject}"
PLAIN = f"a photo of {SUBJECT}"
"""The template of a photo without a caption."""
DETERMINERS = frozenset(["a", "an", "the", "my", "our", "your", "his", "her", "its", "their", "this", "that"])
"""Words that may stand in the subject's words as well as anywhere else."""
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Letters of scripts that put no spaces around words, or none behind them: Thai, Lao, Burmese, Khmer, kana, Chinese
characters, hangul; as ranges for a pattern."""


def fill(template: str, subject: str) -> str:
    """The prompt that a template becomes with words for the subject."""
    return template.replace(SUBJECT, subject)


def with_subject(prompt: str, words: Collection[str]) -> str:
    """The template that a prompt means: `{subject}` in place of the subject's words, where they stand as whole words.

    A prompt with braces stays as it is, and so does one that has none of the words.

    Args:
        prompt: prompt or caption.
        words: what stands for the subject, such as "dog" and "sks dog".

    Raises:
        InputError: where a part of the words is left over, such as "sks" in "sks black dog".
    """
    if "{" in prompt or "}" in prompt:
        return prompt
    phrases = sorted({" ".join(phrase.casefold().split()) for phrase in words} - {""}, key=len, reverse=True)
    if not phrases:
        return prompt
    template = re.sub("|".join(map(_whole, phrases)), SUBJECT, prompt, flags=re.IGNORECASE)
    parts = {part for phrase in phrases for part in phrase.split()} - DETERMINERS - set(phrases)
    for part in sorted(parts) if template != prompt else ():
        if re.search(_whole(part), template, re.IGNORECASE):
            raise InputError(
                f"prompt {shown(prompt)}: found {part!r} apart from the other words of the subject, accepted: "
                f"{SUBJECT} in place of them all, such as {PLAIN!r}"
            )
    return template


def _whole(phrase: str) -> str:
    """A pattern of words where they are no part of longer ones; in scripts without spaces, wherever they stand."""
    inside = rf"[^\W{UNSPACED}]"
    before = "" if _unspaced(phrase[0]) else rf"(?<!{inside})(?<!-)"
    after = "" if _unspaced(phrase[-1]) else rf"(?!{inside})(?!-)"
    return before + r"\s+".join(map(re.escape, phrase.split())) + after


def _unspaced(letter: str) -> bool:
    return re.match(f"[{UNSPACED}]", letter) is not None


def check_template(template: str) -> str:
    """Return the template if it can be used.

    Raises:
        InputError: for one without `{subject}`, which would be the same prompt on all models, or with another
            placeholder.
    """
    rest = template.replace(SUBJECT, "")
    if "{" in rest or "}" in rest:
        raise InputError(f"prompt {shown(template)}: accepted in braces: {SUBJECT} alone")
    if rest == template:
        raise InputError(f"prompt {shown(template)}: found no {SUBJECT}, accepted: such as {PLAIN!r}")
    return template
