"""JSON as text: read with one kind of error, written so that a terminal shows all of it."""

import json
import re
from typing import Any

INVISIBLE = re.compile(
    r"[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
)
"""Characters that no terminal shows or that turn its text around, and halves of characters; JSON can escape them."""


def parse_json(text: str | bytes, **options: Any) -> Any:
    """What a JSON text holds; options as those of `json.loads`.

    Raises:
        ValueError: for what is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def visible(text: str) -> str:
    """A JSON text with escapes in place of the characters that no terminal shows; it means the same."""
    return text if text.isascii() else INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text)
