"""What attributes mean: kept beside the answers, shown on the page; and what to type next."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from browser import browsing, needs_chromium
from shared import labelling, thirty_pictures
from sspl.apps.labelling.app import make_app
from sspl.apps.labelling.definitions import LONGEST, Definitions, plain
from sspl.apps.labelling.desk import ENOUGH, Desk
from sspl.apps.labelling.label_journal import LabelJournal
from sspl.apps.labelling.labelling_settings import LabellingSettings
from sspl.apps.labelling.start import finetune_command
from sspl.data.adapters.folder import read_folder
from sspl.data.data_settings import parse_data_spec
from sspl.domain.attributes import attribute_hints, celeba_schema
from sspl.errors import DataError
from sspl.learn.learn_settings import LearnSettings
from sspl.learn.plan import learn_command

ASKED = ("Smiling", "Mole")
COMMAND = "sspl finetune --data csv:x"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return thirty_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def desk(folder: Path, tmp_path: Path) -> Iterator[Desk]:
    with closing(LabelJournal(tmp_path / "labels.csv", ASKED, lambda: folder)) as journal:
        yield Desk(read_folder(folder), journal, ASKED, range(30), held_out=[29])


@pytest.fixture
def client(desk: Desk) -> TestClient:
    app = make_app(desk, None, LabellingSettings(), "key", COMMAND)
    return TestClient(app, base_url="http://localhost", headers={"X-Sspl-Key": "key"})


@pytest.mark.parametrize("name", ["d.yaml", "d.csv"])
def test_two_pages_share_a_file_and_keep_what_neither_asks_for(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(
        "Hat: on the head\n" if name == "d.yaml" else "attribute,definition\nHat,on it\n"
    )
    one, other = Definitions(file, given=True), Definitions(file, given=True)
    one.define("Smiling", "  teeth\n\u202eor corners  ")
    other.define("Mole", "=1+1, “dark”")
    other.define("Hat", "")
    expected = {"Smiling": "teeth or corners", "Mole": "=1+1, “dark”"}
    assert other.texts == Definitions(file, given=True).texts == expected


def test_beside_the_answers_there_need_be_none(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv.definitions.yaml"
    found = Definitions(file)
    assert (found.texts, file.exists()) == ({}, False)
    with pytest.raises(DataError, match="no such file"):
        Definitions(tmp_path / "named.yaml", given=True)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.sampled_from([*ASKED, "No", "3", "é: x"]), st.text(max_size=40)))
@pytest.mark.parametrize("name", ["d.yaml", "d.csv"])
def test_any_text_comes_back_in_one_line(tmp_path: Path, name: str, texts: dict[str, str]) -> None:
    file = tmp_path / name
    file.unlink(missing_ok=True)
    found = Definitions(file)
    for attribute, text in texts.items():
        found.define(attribute, text)
    again = Definitions(file).texts
    assert again == {a: plain(t) for a, t in texts.items() if plain(t)}
    assert all("\n" not in text and text == text.strip() for text in again.values())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("d.yaml", "- Smiling\n", "expected one 'attribute: definition' a line"),
        ("d.yaml", "Smiling: 1\n", "the definition of 'Smiling' must be a text"),
        ("d.yaml", "Smiling: a\nSmiling: b\n", "comes twice"),
        ("d.yaml", f"Smiling: {'a' * (LONGEST + 1)}\n", "the definition of 'Smiling' must be"),
        ("d.csv", "name,text\nSmiling,a\n", "line 1: expected the columns attribute,definition"),
        ("d.csv", "attribute,definition\nS,a\nS,b\n", "line 3: 'S' is defined twice"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as refusal:
        Definitions(tmp_path / name, given=True)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / name))


def test_hints_are_of_celebas_attributes_and_define_nothing(client: TestClient) -> None:
    assert tuple(attribute_hints()) == celeba_schema().names
    shown = client.get("/v1/state").json()["attributes"]
    assert [(a["definition"], bool(a["hint"])) for a in shown] == [("", True), ("", False)]


def test_the_page_defines(client: TestClient, desk: Desk) -> None:
    body = {"tab": "t", "attribute": "Mole", "text": "dark and round"}
    reply = client.post("/v1/define", json=body)
    assert reply.json()["state"]["attributes"][1]["definition"] == "dark and round"
    kept = desk.journal.out.with_name("labels.csv.definitions.yaml")
    assert kept.read_text() == "Mole: dark and round\n"
    assert client.post("/v1/define", json=body, headers={"X-Sspl-Key": "no"}).status_code == 403
    for changed in ({"attribute": "Hat"}, {"text": "a" * (LONGEST + 1)}, {"text": 3}):
        assert client.post("/v1/define", json=body | changed).status_code == 422
    assert kept.read_text() == "Mole: dark and round\n"


def test_there_is_enough_with_ten_of_either_to_learn_from(client: TestClient, desk: Desk) -> None:
    def lacks() -> list[list[int] | None]:
        return [a["lacks"] for a in client.get("/v1/state").json()["attributes"]]

    assert lacks() == [[ENOUGH, ENOUGH]] * 2
    for face in range(2 * ENOUGH - 1):
        desk.answer("t", face, {"Smiling": face % 2, "Mole": 1})
    desk.answer("t", 29, {"Smiling": 1})  # Held out for the test.
    assert lacks() == [[1, 0], [0, ENOUGH]]
    desk.answer("t", 19, {"Smiling": 1})
    assert lacks() == [None, [0, ENOUGH]]
    assert client.get("/v1/state").json()["then"] == COMMAND


def test_the_command_is_of_these_faces(folder: Path, tmp_path: Path) -> None:
    data = parse_data_spec(f"folder:{folder},crop=celeba")
    faces, out = data.open(), tmp_path / "my labels.csv"
    assert finetune_command(data, faces, out, Path("pre")) == (
        f"sspl finetune --data 'csv:{out},images={folder},crop=celeba' --from pre "
        f"--out '{tmp_path}/my labels-model'"
    )
    plain_data = parse_data_spec(str(folder))
    assert finetune_command(plain_data, faces, Path("l.csv"), None) == (
        f"sspl finetune --data csv:l.csv,images={folder} --out l-model"
    )


def test_learn_names_itself() -> None:
    settings = LearnSettings(photographs=Path("p q"), attributes=ASKED, test=0.3)
    assert learn_command(settings, Path("m"), ("ema=0.9",)) == (
        "sspl learn 'p q' --attributes Smiling,Mole --test 0.3 --out m ema=0.9"
    )


def test_no_address_is_given_without_the_key(folder: Path, tmp_path: Path) -> None:
    out_file, pipe = tmp_path / "labels.csv", subprocess.PIPE
    with labelling(folder, out_file, ASKED, errors=pipe) as (server, _, key):
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    assert len(key) > 20
    assert re.findall(r"http\S+|\S*127\.0\.0\.1\S*|\S*localhost\S*", out + err) == []


@needs_chromium
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)])
def test_a_definition_is_read_and_written_beside_the_question(
    folder: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    out = tmp_path / "labels.csv"
    with labelling(folder, out, ASKED) as (_, address, key), browsing() as browser:
        page = browser.page(*size)
        page.goto(f"{address}#{key}")
        page.wait_visible("#picture")
        assert page.text("#definition").startswith("Hint: the corners of the mouth")
        page.click("#define")
        for letter in "yes n":
            page.press("Space" if letter == " " else letter)
        assert page.find("document.activeElement.value") == "yes n"
        page.click("#all-definitions .definition:first-child button")
        page.wait_text("#said", "Smiling is defined anew")
        assert page.text("#definition") == "yes n"
        assert (tmp_path / "labels.csv.definitions.yaml").read_text() == "Smiling: yes n\n"
        # No key that was typed there was an answer.
        assert out.read_text() == "image,Smiling,Mole\n"
        assert not page.is_visible("#enough")
        assert "counted: Smiling 10 more yes and 10 more no; Mole" in page.text("#lacking")
        for number in range(20):
            page.wait_visible("#yes:enabled")
            page.press("y" if number % 2 else "n")
        page.wait_visible("#enough")
        assert page.text("#ready") == "Enough for a first model of Smiling."
        spec = f"csv:{out},images={folder}"
        assert page.text("#then") == f"sspl finetune --data {spec} --out {tmp_path}/labels-model"
        page.press("m")
        page.wait_text("#sheet li:first-child", "yes n")
        assert page.width() <= size[0]
        assert page.complaints == []
