"""Photos: what cameras and programs write is read as it looks, and what is left out is named in one notice."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from edgesplit.common.errors import InputError
from edgesplit.diffusion.train import photos as photos_module
from edgesplit.diffusion.train import picture_files
from edgesplit.diffusion.train.photos import read_photos

SIDE = 16
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.uint8)
COLOURS = np.dstack([16 * COLUMNS, 16 * ROWS, np.full_like(ROWS, 90)])
PICTURE = Image.fromarray(COLOURS)
RAMP = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
"""Grey that rises from black to white."""


def levels(pixels):
    """Pixels from 0 to 255, shape (height, width, 3), as `read_photos` returns pictures."""
    return torch.from_numpy(np.asarray(pixels, np.float32)).permute(2, 0, 1) / 127.5 - 1


EXPECTED = levels(COLOURS)


def read(folder, **options):
    return read_photos(folder, SIDE, **options)


@pytest.mark.parametrize(
    ("name", "written", "most"),
    [
        ("a.png", {}, 0.0),
        ("a.tif", {}, 0.0),
        ("a.tiff", {"compression": "tiff_lzw"}, 0.0),
        ("a.bmp", {}, 0.0),
        ("a.ppm", {}, 0.0),
        ("a.webp", {"lossless": True}, 0.0),
        ("a.JPG", {"quality": 98, "subsampling": 0}, 0.1),
        ("a.jfif", {"format": "JPEG", "quality": 98, "subsampling": 0}, 0.1),
        ("a.avif", {"quality": 98}, 0.2),
        ("a.jp2", {}, 0.05),
        ("a.gif", {}, 0.2),
        ("a.jpg", {"format": "PNG"}, 0.0),  # of another suffix
    ],
)
def test_pictures_of_every_usual_format_are_read(tmp_path, name, written, most):
    PICTURE.save(tmp_path / name, **written)
    assert float((read(tmp_path).images[0] - EXPECTED).abs().max()) <= most


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P"])
def test_other_colour_models_look_as_pillow_shows_them(tmp_path, mode):
    changed = PICTURE.quantize(64) if mode == "P" else PICTURE.convert(mode)
    changed.save(tmp_path / "a.tif")
    assert torch.equal(read(tmp_path).images[0], levels(np.asarray(changed.convert("RGB"))))


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", (RAMP * 65535).astype(np.uint16)),
        ("a.tif", (RAMP * 65535).astype(np.uint16)),
        ("a.tif", (RAMP * 65535).astype(np.int32)),
        ("a.tif", (RAMP * 255).astype(np.int32)),
        ("a.tif", RAMP.astype(np.float32)),
        ("a.tif", (RAMP * 255).astype(np.float32)),
    ],
)
def test_grey_of_more_than_eight_bits_keeps_its_levels(tmp_path, name, pixels):
    Image.fromarray(pixels).save(tmp_path / name)
    expected = levels(np.repeat(255 * RAMP[:, :, None], 3, axis=2))
    assert float((read(tmp_path).images[0] - expected).abs().max()) < 0.01


def test_grey_that_is_not_finite_is_refused(tmp_path):
    Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: not a whole picture \(it holds NaN or infinity\)"):
        read(tmp_path)


def transparent(hidden):
    """A picture whose left half is transparent, with hidden colours there."""
    pixels = COLOURS.copy()
    pixels[:, : SIDE // 2] = hidden
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:, : SIDE // 2] = 0
    return Image.fromarray(np.dstack([pixels, alpha]))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_what_is_transparent_is_white_whatever_colours_hide_there(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE // 2, 3))
    transparent(noise).save(tmp_path / name, **({"lossless": True, "exact": True} if "webp" in name else {}))
    expected = COLOURS.copy()
    expected[:, : SIDE // 2] = 255
    assert torch.equal(read(tmp_path).images[0], levels(expected))


def test_half_transparent_grey_and_a_palette_s_transparent_colour_are_on_white_too(tmp_path):
    Image.fromarray(np.dstack([np.zeros_like(ROWS), np.full_like(ROWS, 128)])).save(tmp_path / "a.png")
    palette = transparent(0).convert("RGB").quantize(32)
    black = palette.getpixel((0, 0))
    palette.save(tmp_path / "b.png", transparency=black)
    grey, half = read(tmp_path).images
    assert float(grey.min()) == float(grey.max()) == pytest.approx(127 / 127.5 - 1, abs=0.01)
    assert torch.equal(half[:, :, : SIDE // 2], torch.ones(3, SIDE, SIDE // 2))
    assert float(half[:, :, SIDE // 2 :].min()) < 0.5


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read(tmp_path).images[0], levels(np.rot90(COLOURS, -1).copy()))


# -- what is left out ---------------------------------------------------------------------------------------


def test_what_is_left_out_is_named_with_its_reason_in_one_notice(tmp_path, capsys):
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / "b.gif", save_all=True, append_images=[PICTURE.rotate(90)])
    for name in ("more/c.png", "more/deeper/d.jpg", "more/.hidden/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(tmp_path / name)
    for name in ("film.mp4", "metadata.jsonl", "a.caption", "lonely.txt"):
        (tmp_path / name).write_text("a photo of {subject}")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert len(read(tmp_path).images) == 2
    said = capsys.readouterr().err
    reasons = [
        "3 neither pictures nor captions in .txt (a.caption, film.mp4, metadata.jsonl)",
        "1 not files (gone.png)",
        "2 in subfolders (more/c.png, more/deeper/d.jpg)",
        "1 captions without a picture (lonely.txt)",
        "1 moving pictures but for their first frame (b.gif)",
    ]
    assert said == f"dreambooth: {tmp_path}: skipped: {'; '.join(reasons)}\n"


@pytest.mark.parametrize("name", ["b.png", "a.txt", "b.txt", "b"])
def test_a_pipe_among_photos_is_named_and_nobody_waits_for_it(tmp_path, capsys, name):
    PICTURE.save(tmp_path / "a.png")
    os.mkfifo(tmp_path / name)
    assert len(read(tmp_path).images) == 1
    assert capsys.readouterr().err == f"dreambooth: {tmp_path}: skipped: 1 not files ({name})\n"


def test_a_pipe_in_place_of_photos_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "photos")
    with pytest.raises(InputError, match="name a folder of photos"):
        read(tmp_path / "photos")
    (tmp_path / "only").mkdir()
    os.mkfifo(tmp_path / "only" / "a.png")
    with pytest.raises(InputError, match=r"found no pictures, .*skipped: 1 not files \(a\.png\)"):
        read(tmp_path / "only")


def test_what_other_systems_leave_in_folders_is_skipped_without_a_word(tmp_path, capsys):
    PICTURE.save(tmp_path / "a.png")
    for name in ("._a.png", ".DS_Store", "desktop.ini", "Thumbs.db", "Icon\r", ".a.png.swp"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for name in (".ipynb_checkpoints", "__MACOSX", "empty"):
        (tmp_path / name).mkdir()
        if name != "empty":
            shutil.copy(tmp_path / "a.png", tmp_path / name / "a.png")
    assert len(read(tmp_path).images) == 1
    assert capsys.readouterr().err == ""


def test_a_phone_s_photos_need_another_library(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(photos_module, "has_heif", lambda: False)
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(InputError, match=r"found no pictures, .*; skipped: 1 need pillow-heif: pip install") as caught:
        read(tmp_path)
    assert "IMG_0001.HEIC" in str(caught.value)
    PICTURE.save(tmp_path / "a.png")
    assert len(read(tmp_path).images) == 1
    assert "skipped: 1 need pillow-heif: pip install 'edgesplit[photos]' (IMG_0001.HEIC)" in capsys.readouterr().err


def test_a_phone_s_photos_are_read_with_it(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    PICTURE.save(tmp_path / "IMG_0001.HEIC", quality=98)
    assert float((read(tmp_path).images[0] - EXPECTED).abs().max()) < 0.3


def test_a_folder_without_pictures_says_what_is_in_it(tmp_path):
    (tmp_path / "more").mkdir()
    PICTURE.save(tmp_path / "more" / "a.png")
    with pytest.raises(InputError, match=r"found no pictures, accepted: such as \.jpg.*; skipped: 1 in subfolders"):
        read(tmp_path)


# -- damaged and huge ---------------------------------------------------------------------------------------


def test_a_file_of_no_picture_s_format_is_refused_and_no_program_is_run_for_it(tmp_path):
    """PostScript under another name would reach Ghostscript."""
    for content in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<html></html>", b""):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.png: not a picture of a known format; replace or remove it"):
            read(tmp_path)


def test_a_truncated_picture_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-300])
    with pytest.raises(InputError, match=r"a\.jpg: not a whole picture \(image file is truncated"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_huge_photo_is_read_small_where_its_format_allows_that_and_else_refused_by_its_size(
    tmp_path, monkeypatch, name
):
    monkeypatch.setattr(picture_files, "DRAFT_ABOVE", 1000)
    monkeypatch.setattr(picture_files, "MOST_WHOLE", 200 * 200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # what Pillow refuses, or warns of
    pixels = np.kron(COLOURS, np.ones((32, 32, 1), np.uint8))
    Image.fromarray(pixels).save(tmp_path / name, quality=95)
    read_at = []
    monkeypatch.setattr(
        picture_files, "_on_white", lambda image, own=picture_files._on_white: read_at.append(image.size) or own(image)
    )
    if name.endswith("png"):
        with pytest.raises(InputError, match=r"a\.png: found 0 megapixels, accepted: up to 0 in PNG; scale it down"):
            read(tmp_path)
    else:
        assert float((read(tmp_path).images[0] - EXPECTED).abs().mean()) < 0.05
        assert read_at == [(64, 64)]  # an eighth, and still four times the side
    assert Image.MAX_IMAGE_PIXELS == 1000


# -- captions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "template"),
    [
        ("a photo of {subject} in snow", "a photo of {subject} in snow"),
        ("\ufeffa photo of {subject}\r\n", "a photo of {subject}"),
        ("a photo of sks dog on a beach", "a photo of {subject} on a beach"),
        ("Sks  dog, grass, sitting", "{subject}, grass, sitting"),
        ("a photo of a dog with hotdogs", "a photo of a {subject} with hotdogs"),
    ],
)
def test_the_subject_s_words_in_a_caption_are_its_placeholder(tmp_path, caption, template):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(caption, encoding="utf-8", newline="")
    assert read(tmp_path).templates == [template]


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        (
            "a photo of a cat",
            "found 'a photo of a cat', accepted: a caption with {subject} once, or 'sks dog' or 'dog'",
        ),
        ("a dog beside a dog", "accepted: a caption with {subject} once"),
        ("", "found '', accepted: a caption with {subject} once"),
        ("a sks brown dog", "found 'sks' apart from the other words of the subject"),
    ],
)
def test_a_caption_without_its_subject_once_is_refused(tmp_path, caption, message):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(caption)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / "a.txt") in str(caught.value)


def test_the_words_are_the_cohort_s_own(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a drawing of zwx backpack near a dog")
    assert read(tmp_path, words=("zwx backpack", "backpack")).templates == ["a drawing of {subject} near a dog"]
