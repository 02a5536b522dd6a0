"""The page of the settings is what the models say."""

from tools.settings_page import PAGE, page


def test_the_page_is_of_the_settings_of_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tools/settings_page.py"


def test_the_page_says_what_presets_change() -> None:
    assert "| `optim.epochs` | `80` | `80` | `20` | `20` |" in page()
