"""Names of devices: what tools write means the profile of that card and of no other; slugs stay apart in any script."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.fitting.library import load_profile
from edgesplit.fitting.names import bare, matching, slug
from edgesplit.fitting.published import CARDS

SHIPPED = sorted(data.shipped("profiles"))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 3060 Ti", "rtx-3060-ti"),
        ("GeForce GTX 1080 Ti", "gtx-1080-ti"),
        ("NVIDIA GeForce GTX 1060 6GB", "gtx-1060-6gb"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10", "a10"),
        ("Tesla T4", "tesla-t4"),
        ("NVIDIA T4", "tesla-t4"),
        ("Tesla V100-SXM2-16GB", "tesla-v100-sxm2-16gb"),
        ("NVIDIA GeForce RTX™ 3090", "rtx-3090"),
        ("NVIDIA(R) GeForce(R) RTX 3090", "rtx-3090"),
        ("GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-5a1f)", "rtx-3090"),
        ("NVIDIA-GeForce-RTX-3090", "rtx-3090"),
        ("nvidia_a100-sxm4-80gb", "a100-sxm4-80gb"),
        ("NVIDIA Corporation TU104GL [Tesla T4] (rev a1)", "tesla-t4"),
    ],
)
def test_what_tools_write_means_the_card_s_profile(written, name):
    assert matching(written, SHIPPED) == name
    assert load_profile(written).name == name


@pytest.mark.parametrize(
    "written",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 2080 with Max-Q Design",
        "NVIDIA A10G",
        "NVIDIA H100 80GB HBM3",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "Quadro RTX 4000",
        "NVIDIA",
        "GeForce",
        "Tesla",
        "",
    ],
)
def test_another_card_is_not_taken_for_a_shipped_one(written):
    assert matching(written, SHIPPED) is None


def test_an_unknown_card_with_no_near_name_is_told_where_all_names_are():
    with pytest.raises(InputError, match=r"found 'Quadro P400', accepted: a name .*; `hwprof list` shows all"):
        load_profile("Quadro P400")


def test_every_shipped_card_keeps_its_name_with_and_without_its_maker():
    assert [slug(card) for card in CARDS] == [plain_slug(card) for card in CARDS]
    assert len({bare(name) for name in SHIPPED}) == len(SHIPPED)
    for name in SHIPPED:
        assert matching(f"NVIDIA {name}", SHIPPED) == matching(name, SHIPPED) == name


def test_a_name_that_differs_less_comes_first():
    known = ["rtx4090", "rtx-4090", "nvidia-rtx-4090"]
    assert matching("rtx-4090", known) == "rtx-4090"
    assert matching("RTX 4090", known) == "rtx4090"
    assert matching("NVIDIA RTX 4090", known) == "nvidia-rtx-4090"


def plain_slug(name):
    return "-".join(re.findall(r"[a-z0-9]+", name.casefold())) or "device"


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_a_name_in_ascii_is_its_own_words(name):
    if not re.search(r"\((tm|r|c)\)", name, re.IGNORECASE):
        assert slug(name) == plain_slug(name)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("显卡一", "device"),
        ("显卡二", "device"),
        ("видеокарта", "veideieokaaertea"),
        ("Büro-Rechner", "buro-rechner"),
        ("グラボ", "gurabo"),
        ("그래픽 1", "geuraepig-1"),
        ("🚀 GPU", "rocket-gpu"),
        ("٤٠٩٠", "4090"),
    ],
)
def test_other_scripts_are_spelt_as_far_as_unicode_tells_and_end_in_a_digest(name, readable):
    assert re.fullmatch(rf"{readable}-[0-9a-f]{{8}}", slug(name))
    assert matching(name, [slug(name)]) == slug(name)


@given(st.text())
def test_slugs_fit_the_schema_and_stay_as_they_are(name):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(name))
    assert slug(slug(name)) == slug(name)


IDEOGRAPHS = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=5)


@given(IDEOGRAPHS, IDEOGRAPHS)
def test_names_that_nothing_spells_have_slugs_of_their_own(one, other):
    assert (slug(one) == slug(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [("Büro", "Buro"), ("卡 4090", "4090"), ("карта", "карты"), ("🚀", "🛰"), ("naïve", "naive")]
)
def test_names_that_differ_in_a_character_have_slugs_that_differ(one, other):
    assert slug(one) != slug(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Büro", "BÜRO"),
        ("Büro", "Bu\u0308ro"),
        ("显卡一", "显卡 一"),
        ("显卡一", "显卡_一"),
        ("ＲＴＸ　４０９０", "RTX 4090"),
        ("RTX® 4090", "rtx-4090"),
        ("\ufeffRTX 4090", "rtx-4090"),
    ],
)
def test_case_spaces_and_how_unicode_writes_a_name_make_no_difference(one, other):
    assert slug(one) == slug(other)
