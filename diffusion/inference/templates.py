"""Prompt templates: `{subject}` stands for words that are the class at the edge and the user's own subject at home."""

from ...common.errors import InputError, shown

SUBJECT = "{subject}"
PLAIN = f"a photo of {SUBJECT}"
"""The template of a photo without a caption."""


def fill(template: str, subject: str) -> str:
    """The prompt that a template becomes with words for the subject."""
    return template.replace(SUBJECT, subject)


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
