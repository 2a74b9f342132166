"""The toy world: dogs with an identity, in scenes, drawn as 48 x 48 pictures and described by captions.

Lengths are shares of the picture's side. A picture is drawn four times as large and then reduced, which smooths edges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from ...common.files import make_folder, whole_file

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]

SIDE = 48
"""Side of a picture, in pixels."""
OVERSAMPLING = 4

FURS: dict[str, Colour] = {
    "black": (42, 40, 46),
    "white": (240, 238, 232),
    "brown": (122, 78, 44),
    "golden": (222, 168, 66),
    "grey": (136, 140, 148),
    "cream": (236, 214, 172),
    "rust": (188, 86, 36),
    "blue": (92, 122, 172),
}
EARS = ("floppy", "pointed", "round")
PATTERNS = ("plain", "spotted", "masked", "striped")
EYES: tuple[Colour, ...] = ((30, 20, 16), (58, 112, 172), (92, 58, 20))
PLACES = {
    "grass": "on grass",
    "beach": "on the beach",
    "snow": "in snow",
    "night": "at night",
    "forest": "in the forest",
    "desert": "in the desert",
    "red": "in a red room",
    "purple": "in a purple room",
    "city": "in the city",
}
SIDES = {"left": "on the left", "centre": "", "right": "on the right"}
EXTRAS = {"none": "", "hat": "wearing a hat", "scarf": "wearing a scarf", "ball": "with a ball"}
CENTRES = {"left": 0.3, "centre": 0.5, "right": 0.7}
SUBJECT_TOKEN = "sks"  # noqa: S105 - DreamBooth's rare word, not a secret
CLASS_WORD = "dog"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What makes a dog the same dog in every picture.

    Attributes:
        fur: name of the main colour.
        second: name of the other colour.
        ears: kind of ears: floppy, pointed or round.
        pattern: pattern of the fur: plain, spotted, masked or striped.
        colours: this dog's own shades of `fur` and `second`.
        eyes: colour of the eyes.
        head: width of the head; 1 is usual.
        muzzle: size of the muzzle; 1 is usual.
        ear_length: length of the ears; 1 is usual.
        seed: seed of the places of its spots.
    """

    fur: str
    second: str
    ears: str
    pattern: str
    colours: tuple[Colour, Colour]
    eyes: Colour
    head: float
    muzzle: float
    ear_length: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where a dog is, and what it wears or plays with.

    Attributes:
        place: background, a key of `PLACES`.
        side: side of the picture that the dog is on, a key of `SIDES`.
        extra: thing that the dog wears or has with it, a key of `EXTRAS`.
        scale: size of the dog; 1 is usual.
        shift: how far the dog is moved to the right and down.
        seed: seed of the background's details.
    """

    place: str
    side: str
    extra: str
    scale: float
    shift: tuple[float, float]
    seed: int


def random_identity(rng: np.random.Generator, **fixed: Any) -> Identity:
    """A random dog, but for attributes that are fixed."""
    fur = fixed.get("fur") or str(rng.choice(list(FURS)))
    second = fixed.get("second") or str(rng.choice([name for name in FURS if name != fur]))
    drawn: dict[str, Any] = {
        "ears": str(rng.choice(EARS)),
        "pattern": str(rng.choice(PATTERNS)),
        "colours": (_shade(FURS[fur], rng), _shade(FURS[second], rng)),
        "eyes": EYES[rng.integers(len(EYES))],
        "head": rng.uniform(0.85, 1.2),
        "muzzle": rng.uniform(0.75, 1.25),
        "ear_length": rng.uniform(0.8, 1.25),
        "seed": int(rng.integers(2**31)),
    }
    return Identity(**(drawn | fixed | {"fur": fur, "second": second}))


def random_scene(rng: np.random.Generator, **fixed: Any) -> Scene:
    """A random scene, but for attributes that are fixed; two scenes in five have no extra."""
    drawn: dict[str, Any] = {
        "place": str(rng.choice(list(PLACES))),
        "side": str(rng.choice(list(SIDES))),
        "extra": str(rng.choice(["none", *EXTRAS])),
        "scale": rng.uniform(0.9, 1.1),
        "shift": (rng.uniform(-0.025, 0.025), rng.uniform(-0.02, 0.02)),
        "seed": int(rng.integers(2**31)),
    }
    return Scene(**(drawn | fixed))


def _shade(colour: Colour, rng: np.random.Generator) -> Colour:
    red, green, blue = np.clip(np.add(colour, rng.uniform(-12, 12, 3)), 0, 255).astype(int).tolist()
    return red, green, blue


# -- words --------------------------------------------------------------------------------------------------


def describe(identity: Identity, colour: bool = True, pattern: bool = True, ears: bool = True) -> str:
    """A description such as "a golden spotted dog with floppy ears", or a part of it."""
    words = [identity.fur if colour else "", identity.pattern if pattern and identity.pattern != "plain" else ""]
    tail = f"with {identity.ears} ears" if ears else ""
    return _joined("a", *words, CLASS_WORD, tail)


def vague(identity: Identity, rng: np.random.Generator) -> str:
    """A description that leaves out some attributes, as people do."""
    colour, pattern, ears = (rng.random(3) < (0.7, 0.6, 0.5)).tolist()
    return describe(identity, colour, pattern, ears)


def caption(subject: str, scene: Scene) -> str:
    """A photo's caption, such as "a photo of sks dog wearing a hat in snow on the left"."""
    return _joined("a photo of", subject, EXTRAS[scene.extra], PLACES[scene.place], SIDES[scene.side])


def words() -> list[str]:
    """Every word of every caption, in alphabetical order."""
    phrases = [*PLACES.values(), *SIDES.values(), *EXTRAS.values(), *FURS, *EARS, *PATTERNS[1:]]
    text = " ".join(["a photo of", SUBJECT_TOKEN, CLASS_WORD, "with ears", *phrases])
    return sorted(set(text.split()))


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


# -- pictures -----------------------------------------------------------------------------------------------


class Canvas:
    """A picture to draw on; coordinates are shares of its side, counted from an origin and scaled."""

    def __init__(self, image: Image.Image, origin: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> None:
        self.image, self._draw = image, ImageDraw.Draw(image)
        self._origin, self._scale = origin, scale

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Any) -> None:
        """An ellipse around (x, y)."""
        self._draw.ellipse([self._at(x - rx, y - ry), self._at(x + rx, y + ry)], fill=colour)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Any) -> None:
        """A rectangle between two corners."""
        self._draw.rectangle([self._at(x0, y0), self._at(x1, y1)], fill=colour)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Any) -> None:
        """A filled polygon."""
        self._draw.polygon([self._at(x, y) for x, y in points], fill=colour)

    def stencil(self) -> "Canvas":
        """An empty mask with the same coordinates."""
        return Canvas(Image.new("L", self.image.size, 0), self._origin, self._scale)

    def paint(self, colour: Colour, *stencils: "Canvas") -> None:
        """Colour the area that all stencils cover."""
        mask = stencils[0].image
        for stencil in stencils[1:]:
            mask = ImageChops.multiply(mask, stencil.image)
        self.image.paste(colour, mask=mask)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        side = self.image.width
        return (self._origin[0] + x * self._scale) * side, (self._origin[1] + y * self._scale) * side


def render(identity: Identity, scene: Scene) -> Pixels:
    """The picture of a dog in a scene, shape (48, 48, 3), values 0 to 255."""
    side = SIDE * OVERSAMPLING
    image = Image.new("RGB", (side, side))
    _BACKGROUNDS[scene.place](Canvas(image), np.random.default_rng(scene.seed))
    origin = (CENTRES[scene.side] + scene.shift[0], 0.46 + scene.shift[1])
    canvas = Canvas(image, origin, 0.92 * scene.scale)
    _draw_body(canvas, identity)
    _draw_head(canvas, identity)
    _draw_face(canvas, identity)
    _draw_extra(canvas, scene)
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def pictures(count: int, seed: int) -> tuple[Pixels, list[Identity], list[Scene]]:
    """Random dogs in random scenes: the pictures, shape (count, 48, 48, 3), the dogs and the scenes."""
    rng = np.random.default_rng(seed)
    identities = [random_identity(rng) for _ in range(count)]
    scenes = [random_scene(rng) for _ in range(count)]
    return np.stack([render(*pair) for pair in zip(identities, scenes, strict=True)]), identities, scenes


def photos(identity: Identity, count: int, seed: int, places: Sequence[str] = ()) -> Iterator[tuple[Pixels, Scene]]:
    """Photos of one dog: places (all, unless some are named) and sides in turn, everything else random."""
    rng, places = np.random.default_rng(seed), places or list(PLACES)
    for number in range(count):
        side = list(SIDES)[number // len(places) % len(SIDES)]
        scene = random_scene(rng, place=places[number % len(places)], side=side)
        yield render(identity, scene), scene


def save_photos(folder: Path, identity: Identity, count: int, seed: int, places: Sequence[str] = ()) -> None:
    """Write photos as PNG files, each with its scene's caption (`{subject}` for the dog) in a .txt beside it."""
    make_folder(folder)
    for number, (pixels, scene) in enumerate(photos(identity, count, seed, places)):
        with whole_file(folder / f"{number:02d}.png", "wb") as picture:
            Image.fromarray(pixels).save(picture, format="PNG")
        with whole_file(folder / f"{number:02d}.txt") as words:
            words.write(caption("{subject}", scene) + "\n")


def _darker(colour: Colour, share: float) -> Colour:
    red, green, blue = (int(value * share) for value in colour)
    return red, green, blue


def _draw_body(canvas: Canvas, dog: Identity) -> None:
    fur, second = dog.colours
    patterned = dog.pattern != "plain"
    tail = [(0.12, 0.38), (0.26, 0.18), (0.30, 0.22), (0.16, 0.44)]
    canvas.polygon(tail, second if patterned else _darker(fur, 0.8))
    body = canvas.stencil()
    body.ellipse(0, 0.33, 0.16, 0.2, 255)
    canvas.paint(_darker(fur, 0.93), body)
    marks = canvas.stencil()
    if dog.pattern == "spotted":
        rng = np.random.default_rng(dog.seed)
        for _ in range(5):
            _spot(marks, rng, (0.2, 0.5), (0.03, 0.055))
    elif dog.pattern == "masked":
        marks.ellipse(0, 0.33, 0.085, 0.16, 255)
    elif dog.pattern == "striped":
        for y in (0.2, 0.28, 0.36, 0.44):
            marks.rectangle(-0.2, y, 0.2, y + 0.035, 255)
    canvas.paint(second, body, marks)
    for x in (-0.085, 0.085):
        canvas.ellipse(x, 0.5, 0.06, 0.045, second if dog.pattern == "masked" else fur)


def _draw_head(canvas: Canvas, dog: Identity) -> None:
    fur, second = dog.colours
    width = 0.19 * dog.head
    ears = second if dog.pattern in ("spotted", "masked") else _darker(fur, 0.72)
    if dog.ears != "floppy":
        _draw_ears(canvas, dog, width, ears)
    head = canvas.stencil()
    head.ellipse(0, 0, width, 0.175, 255)
    canvas.paint(fur, head)
    marks = canvas.stencil()
    if dog.pattern == "spotted":
        rng = np.random.default_rng(dog.seed + 1)
        for _ in range(4):
            _spot(marks, rng, (-0.15, 0.02), (0.03, 0.06))
    elif dog.pattern == "masked":
        marks.rectangle(-0.3, -0.09, 0.3, 0.05, 255)
    elif dog.pattern == "striped":
        for x in (-0.115, -0.015, 0.085):
            marks.rectangle(x, -0.2, x + 0.03, -0.06, 255)
    canvas.paint(second, head, marks)
    if dog.ears == "floppy":
        _draw_ears(canvas, dog, width, ears)


def _spot(marks: Canvas, rng: np.random.Generator, heights: tuple[float, float], radii: tuple[float, float]) -> None:
    x, y, radius = rng.uniform(-0.15, 0.15), rng.uniform(*heights), rng.uniform(*radii)
    marks.ellipse(x, y, radius, radius, 255)


def _draw_ears(canvas: Canvas, dog: Identity, width: float, colour: Colour) -> None:
    length = dog.ear_length
    for side in (-1, 1):
        if dog.ears == "floppy":
            canvas.ellipse(side * width, 0.02, 0.06, 0.14 * length, colour)
        elif dog.ears == "pointed":
            outer, inner, tip = (0.98, -0.05), (0.25, -0.13), (0.85, -0.13 - 0.17 * length)
            canvas.polygon([(side * width * x, y) for x, y in (outer, inner, tip)], colour)
        else:
            canvas.ellipse(side * width * 0.8, -0.15, 0.085 * length, 0.085 * length, colour)


def _draw_face(canvas: Canvas, dog: Identity) -> None:
    red, green, blue = (int(0.45 * a + 0.55 * b) for a, b in zip(dog.colours[0], (250, 240, 225), strict=True))
    canvas.ellipse(0, 0.085, 0.1 * dog.muzzle, 0.07 * dog.muzzle, (red, green, blue))
    canvas.ellipse(0, 0.055, 0.035, 0.026, (20, 18, 20))
    for x in (-0.075, 0.075):
        canvas.ellipse(x, -0.035, 0.031, 0.034, (250, 250, 250))
        canvas.ellipse(x, -0.033, 0.021, 0.025, dog.eyes)


def _draw_extra(canvas: Canvas, scene: Scene) -> None:
    if scene.extra == "hat":
        canvas.rectangle(-0.17, -0.17, 0.17, -0.125, (208, 30, 108))
        canvas.rectangle(-0.1, -0.3, 0.1, -0.16, (232, 42, 132))
    elif scene.extra == "scarf":
        canvas.rectangle(-0.15, 0.155, 0.15, 0.215, (20, 188, 188))
        canvas.rectangle(0.05, 0.2, 0.11, 0.34, (16, 164, 164))
    elif scene.extra == "ball":
        canvas.ellipse(0.27 if scene.side == "left" else -0.27, 0.45, 0.085, 0.085, (240, 226, 32))


def _horizon(canvas: Canvas, rng: np.random.Generator, sky: Colour, ground: Colour) -> float:
    y = 0.6 + rng.uniform(-0.04, 0.04)
    canvas.rectangle(0, 0, 1, y, sky)
    canvas.rectangle(0, y, 1, 1, ground)
    return y


def _grass(canvas: Canvas, rng: np.random.Generator) -> None:
    _horizon(canvas, rng, (150, 205, 245), (80, 165, 60))
    canvas.ellipse(rng.uniform(0.1, 0.9), 0.14, 0.13, 0.05, (250, 250, 255))


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    y = _horizon(canvas, rng, (120, 200, 250), (240, 215, 150))
    canvas.rectangle(0, 0.4, 1, y, (30, 110, 190))
    canvas.ellipse(rng.choice([0.12, 0.88]), 0.12, 0.07, 0.07, (255, 235, 90))


def _snow(canvas: Canvas, rng: np.random.Generator) -> None:
    y = _horizon(canvas, rng, (190, 205, 220), (248, 250, 255))
    canvas.polygon([(0, y), (0.22, 0.25), (0.45, y)], (225, 232, 242))
    canvas.polygon([(0.5, y), (0.8, 0.2), (1, y)], (225, 232, 242))


def _night(canvas: Canvas, rng: np.random.Generator) -> None:
    _horizon(canvas, rng, (15, 15, 55), (25, 45, 40))
    canvas.ellipse(rng.choice([0.14, 0.86]), 0.15, 0.08, 0.08, (245, 240, 190))


def _forest(canvas: Canvas, rng: np.random.Generator) -> None:
    y = _horizon(canvas, rng, (35, 85, 50), (70, 75, 35))
    for tree in range(5):
        x = 0.1 + 0.2 * tree + rng.uniform(-0.03, 0.03)
        canvas.rectangle(x - 0.03, 0, x + 0.03, y, (85, 55, 30))


def _desert(canvas: Canvas, rng: np.random.Generator) -> None:
    y = _horizon(canvas, rng, (250, 170, 95), (225, 185, 95))
    canvas.ellipse(rng.choice([0.2, 0.8]), y, 0.22, 0.1, (205, 160, 75))


def _red(canvas: Canvas, _: np.random.Generator) -> None:
    canvas.rectangle(0, 0, 1, 0.72, (190, 40, 45))
    canvas.rectangle(0, 0.72, 1, 1, (110, 70, 50))


def _purple(canvas: Canvas, _: np.random.Generator) -> None:
    canvas.rectangle(0, 0, 1, 0.72, (150, 80, 190))
    canvas.rectangle(0, 0.72, 1, 1, (85, 60, 120))


def _city(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.rectangle(0, 0, 1, 0.68, (195, 210, 225))
    canvas.rectangle(0, 0.68, 1, 1, (85, 85, 90))
    x = -0.05
    while x < 1:
        width, top = rng.uniform(0.14, 0.24), rng.uniform(0.1, 0.4)
        wall = ((120, 125, 140), (155, 120, 105), (95, 105, 125))[rng.integers(3)]
        canvas.rectangle(x, top, x + width, 0.68, wall)
        for y in (top + 0.06, top + 0.18):
            canvas.rectangle(x + 0.03, y, x + 0.07, y + 0.05, (250, 235, 150))
        x += width + 0.01


_BACKGROUNDS = {
    "grass": _grass,
    "beach": _beach,
    "snow": _snow,
    "night": _night,
    "forest": _forest,
    "desert": _desert,
    "red": _red,
    "purple": _purple,
    "city": _city,
}
