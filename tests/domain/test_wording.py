"""Names as people read them."""

import pytest

from sspl.domain.attributes import celeba_schema
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.domain.wording import ABBREVIATED, in_words


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Wearing_Lipstick", "Wearing lipstick"),
        ("5_o_Clock_Shadow", "5 o'clock shadow"),
        ("not Wearing_Hat", "not Wearing hat"),
        ("u_lip", "upper lip"),
        ("TV_HDR_X", "TV HDR X"),
        ("hair", "hair"),
    ],
)
def test_names_in_words(name: str, wanted: str) -> None:
    assert in_words(name) == wanted


def test_no_two_of_a_list_are_called_alike() -> None:
    for names in (celeba_schema().names, built_in_taxonomy("celebamask19").classes):
        said = [in_words(name) for name in names]
        assert len({text.casefold() for text in said}) == len(names)
        assert not any("_" in text for text in said)
    known = (*celeba_schema().names, *built_in_taxonomy("celebamask19").classes)
    assert set(ABBREVIATED) <= set(known)
