"""The page of the settings is what the models say."""

from tools.settings_page import PAGE, page

from sspl.training.stage_settings import PRESETS, preset


def test_the_page_is_of_the_settings_of_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tools/settings_page.py"


def test_the_page_says_what_presets_change() -> None:
    epochs = (preset(name, "pretrain")["optim"]["epochs"] for name in PRESETS)
    assert f"| `optim.epochs` | {' | '.join(f'`{n}`' for n in epochs)} |" in page()
