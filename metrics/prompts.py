"""The file of prompts: one prompt a line, each with a place for the subject's words."""

import re
from collections.abc import Collection
from pathlib import Path

from ..common.console import say
from ..common.errors import InputError, shown
from ..common.files import read_text
from ..diffusion.inference.templates import check_template, with_subject

ARTICLE = re.compile(r"\b(an?|the|my)\s+(?=\{subject\})", re.IGNORECASE)


def read_prompts(path: Path, class_word: str, words: Collection[str] = ()) -> list[str]:
    """The templates in a file: blank lines and lines that begin with # are skipped, a repeated prompt counts once.

    Args:
        path: file to read; lines end at newlines alone.
        class_word: word that may stand in a prompt instead of `{subject}`, such as "dog".
        words: words of the users' models that may stand there as well, such as "sks dog".

    Raises:
        InputError: for a file without prompts, or a prompt without a subject, naming the line.
    """
    templates: dict[str, int] = {}
    repeated = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path)), 1):
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        try:
            template = check_template(with_placeholder(text, class_word, words))
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        if template in templates:
            repeated.append(f"{number} (as line {templates[template]})")
        templates.setdefault(template, number)
    if not templates:
        raise InputError(f"{path}: found no prompts, accepted: one a line, such as 'a photo of {{subject}} in snow'")
    if repeated:
        say(f"pai-sweep: {path}: prompts that stand twice count once: line {', '.join(repeated)}")
    return list(templates)


def with_placeholder(prompt: str, class_word: str, words: Collection[str] = ()) -> str:
    """The prompt with `{subject}` where the subject's words go: as it is, or in place of the class word or the users'.

    Raises:
        InputError: for a prompt with none of them, or with a part of the users' words.
    """
    template = with_subject(prompt, {class_word, *words})
    if not {"{", "}"} & set(template):
        own = [shown(word) for word in dict.fromkeys(words) if word != class_word]
        raise InputError(
            f"prompt {shown(prompt)}: found no subject, accepted: {{subject}}, or the class word {class_word!r}"
            + (f" or {', '.join(own[:3])}" if own else "")
            + "; name another with --subject"
        )
    return template


def described(template: str, description: str) -> str:
    """The prompt with a personal description for the subject; the description's own article replaces the template's."""
    if re.match(r"(an?|the|my)\b", description, re.IGNORECASE):
        template = ARTICLE.sub("", template)
    return template.replace("{subject}", description)
