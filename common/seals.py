"""A digest of a whole message within the message itself, so that no bit of it can change unnoticed.

The message has the text `"sha256":"000..."` once; sealing puts in place of the zeros the SHA-256 of the message with
them.
"""

import hashlib
import re

UNSEALED = "0" * 64
"""What stands in the place of the digest while it is computed."""


def sealed(message: bytes) -> bytes:
    """The message with its digest in place of `UNSEALED`."""
    return message.replace(_text(UNSEALED), _text(hashlib.sha256(message).hexdigest()), 1)


def seal_holds(message: bytes, digest: str) -> bool:
    """Whether a message is as it was sealed.

    Args:
        message: the message.
        digest: the digest that it has.
    """
    if not re.fullmatch("[0-9a-f]{64}", digest) or message.count(_text(digest)) != 1:
        return False
    unsealed = message.replace(_text(digest), _text(UNSEALED), 1)
    return hashlib.sha256(unsealed).hexdigest() == digest


def _text(digest: str) -> bytes:
    """How a digest stands in JSON without spaces; no other text can look so, as quotes within one are escaped."""
    return f'"sha256":"{digest}"'.encode()
