"""What an argument of a command that looks at pictures stands for."""

import pytest

from sspl.data.data_settings import parse_data_spec
from sspl.errors import DataError, SettingsError
from sspl.inference.sources import Moving, open_source


def opened(text):
    source = open_source(text, lambda spec: parse_data_spec(spec).open())
    return source.place if isinstance(source, Moving) else source.names


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "run[1]/ok.csv",
        "a [2020]/1.jpg",
        "a [2020]/2.jpg",
        "b,c/3.jpg",
        "d/x1.jpg",
        "d/y2.png",
        "d/x3.gif",
        "d/[x].jpg",
        "film,1.mp4",
        "photo,1.jpg",
        "old.gif",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "run[1]" / "ok.csv").write_text("image\n1.jpg\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("csv:run[1]/ok.csv,images=a [2020]", ("1.jpg",)),
        ("run[1]/ok.csv,images=a [2020]", ("1.jpg",)),
        ("folder:a [2020]", ("1.jpg", "2.jpg")),
        ("a [2020]", ("1.jpg", "2.jpg")),
        ("a [2020]/*.jpg", ("a [2020]/1.jpg", "a [2020]/2.jpg")),
        ("a [2020]/[12].jpg", ("a [2020]/1.jpg", "a [2020]/2.jpg")),
        ("folder:b,c", ("3.jpg",)),
        ("b,c", ("3.jpg",)),
        ("b,c/*", ("b,c/3.jpg",)),
        ("photo,1.jpg", ("photo,1.jpg",)),
        ("d/[x].jpg", ("d/[x].jpg",)),
        ("d/[xy]*.*g", ("d/x1.jpg", "d/y2.png")),
        ("?/x1.jpg", ("d/x1.jpg",)),
    ],
)
def test_what_exists_is_itself_and_all_else_a_pattern(here, text, names):
    assert opened(text) == names


def test_videos_with_commas(here):
    assert opened("film,1.mp4").name == "film,1.mp4"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("old.gif", DataError, "old.gif: a file .gif is not read"),
        ("no,1.jpg", DataError, "no,1.jpg: no such file"),
        ("d/*.gif", DataError, r"no picture fits this pattern; .*; not read: 1 .gif"),
        ("z [1]/*.jpg", DataError, "no picture fits this pattern"),
        ("folder:b,d", SettingsError, "'d' is not key=value"),
    ],
)
def test_what_is_nothing_is_said(here, text, error, message):
    with pytest.raises(error, match=message):
        opened(text)


def test_a_pattern_counts_what_it_leaves_out(here, caplog):
    opened("d/x*")
    assert caplog.messages == ["d/x*: not read: 1 .gif"]
