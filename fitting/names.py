"""Names of devices and of their profiles: as tools write them, in any script, and as files bear them."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

LISTED = re.compile(r"^gpu \d+: | \(uuid: .*\)$")
"""What `nvidia-smi -L` writes around a name."""
CHIP = re.compile(r"^.*\[([^\]]+)\].*$")
"""What `lspci` writes around a name: the maker and the chip before it, a revision after it."""
MARKS = re.compile(r"[™®©]|\((?:tm|r|c)\)")
"""Signs of trade marks, which say nothing of the device."""
MAKER = re.compile(r"^(nvidia(corporation)?)?(geforce|tesla)?(?=.)")
"""Words that some tools write before a device's name and others leave out; in the form of `plain`."""
LETTER = re.compile(r"(?:LETTER|SYLLABLE|VOWEL SIGN)(?: SMALL)? (\w+)")
"""What a letter of any script is called in Unicode, such as CYRILLIC SMALL LETTER KA; the group sounds like it."""
NAME_LENGTH = 60
"""Most characters of a profile's name before the digest."""


def slug(name: str) -> str:
    """A profile's name from a device's: lower case, words joined by hyphens ("RTX 4090" -> "rtx-4090").

    Letters of other scripts become Latin ones as far as their names in Unicode tell. As that loses what tells one name
    from another, a digest of the whole name then ends the slug.
    """
    text = _folded(name)
    words = "-".join(re.findall(r"[a-z0-9]+", "".join(map(_latin, text))))
    if not any(_tells(character) for character in text):
        return words or "device"
    digest = hashlib.sha256(plain(text).encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{words[:NAME_LENGTH].strip('-') or 'device'}-{digest}"


def plain(name: str) -> str:
    """A name without case, spaces, hyphens and underscores."""
    return "".join(name.split()).replace("-", "").replace("_", "").casefold()


def bare(name: str) -> str:
    """A name as in `plain`, and without the maker's ("NVIDIA GeForce RTX 4090", "Tesla T4" -> "rtx4090", "t4")."""
    text = MARKS.sub("", name.casefold())
    text = CHIP.sub(r"\1", LISTED.sub("", " ".join(text.split())))
    return MAKER.sub("", plain(text))


def network_of(model: str) -> str:
    """The network that a model's name in a profile means, whatever its checkpoint is called.

    All models of Stable Diffusion 1 have one UNet, and all of Stable Diffusion 2; other names mean themselves.

    Args:
        model: name as profiles have it, such as "SD1.5", "sd21" or "SDXL".

    Returns:
        "SD 1.x", "SD 2.x", or the name in lower case without anything but letters and digits.
    """
    text = "".join(character for character in model.casefold() if character.isalnum())
    for start, network in (("sd1", "SD 1.x"), ("sd2", "SD 2.x")):
        if text.startswith(start):
            return network
    return text


def matching(name: str, known: Iterable[str]) -> str | None:
    """The one of some profiles' names that a name means; None where it means none of them.

    Args:
        name: name as a user or a tool writes it.
        known: names of profiles; of several that fit, the one that differs least counts, then the first.
    """
    known = list(known)
    if name in known:
        return name
    for form in (plain, bare):
        if matches := [candidate for candidate in known if form(candidate) == form(name)]:
            return matches[0]
    own = slug(name)
    return own if any(map(_tells, _folded(name))) and own in known else None


def _folded(name: str) -> str:
    """A name in one of the ways in which Unicode can write it, without case."""
    return unicodedata.normalize("NFKC", MARKS.sub("", name.casefold())).casefold()


def _tells(character: str) -> bool:
    """Whether a character outside ASCII tells one name from another, as punctuation and what is not seen do not."""
    kind = unicodedata.category(character)
    return not character.isascii() and kind[0] not in "PZ" and kind not in ("Cc", "Cf")


def _latin(character: str) -> str:
    """A character in ASCII, as far as its name in Unicode tells; else a space."""
    if character.isascii():
        return character
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    base = unicodedata.normalize("NFKD", character)[0]
    if base.isascii() or kind == "Mn":  # a letter with an accent, or an accent itself
        return base if base.isascii() else ""
    if kind == "Nd":
        return str(unicodedata.digit(character))
    if kind == "So":  # an emoji
        return f" {name.casefold()} "
    match = LETTER.search(name)
    return match[1].casefold() if match else " "
