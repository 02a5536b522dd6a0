"""Labelling by hand: nothing that was acknowledged is lost, and nobody else gets in."""

import csv
import errno
import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_suggest import faces as faces
from test_suggest import pretrained as pretrained

from shared import refused
from sspl.apps.labelling.app import MOST_DECODED, make_app
from sspl.apps.labelling.coach import Coach, Report
from sspl.apps.labelling.desk import LEASE_SECONDS, ROUND, Desk
from sspl.apps.labelling.faces import first_order
from sspl.apps.labelling.features import extract
from sspl.apps.labelling.label_journal import ChangedError, LabelJournal
from sspl.apps.labelling.labelling_settings import LabellingSettings
from sspl.apps.labelling.probe import Standing
from sspl.apps.labelling.selection import choose
from sspl.apps.labelling.start import _remark_on_changed
from sspl.apps.labelling.suggest import Answers, judged
from sspl.apps.serving.rooms import BusyError, Share
from sspl.data.adapters.folder import read_folder
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSet
from sspl.errors import DataError, SsplError
from sspl.settings import build
from sspl.training.feature_source import load_source

ASKED = ("Smiling", "Bald")
KEY = "the-key"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty small pictures in two folders."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(50):
        file = root / ("sub" if i % 2 else ".") / f"{i:02d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (5 * i, 0, 0)).save(file)
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


@pytest.fixture
def journal(out: Path, folder: Path) -> Iterator[LabelJournal]:
    opened = LabelJournal(out, ASKED, lambda: folder)
    yield opened
    opened.close()


def reopened(out: Path, folder: Path, asked: tuple[str, ...] = ASKED) -> LabelJournal:
    found = LabelJournal(out, asked, lambda: folder)
    found.close()
    return found


def lines(out: Path) -> list[str]:
    return out.read_text().splitlines()


def test_an_answer_is_a_line_and_a_row(journal: LabelJournal, out: Path) -> None:
    assert lines(out) == ["image,Smiling,Bald"]
    number = journal.answer("sub/01.png", {"Smiling": 1})
    journal.answer("00.png", {"Smiling": 0, "Bald": None})
    journal.answer("sub/01.png", {"Bald": 0})
    assert lines(out) == ["image,Smiling,Bald", "sub/01.png,1,0", "00.png,0,"]
    written = lines(journal.path)
    assert json.loads(written[number - 1]) == {"image": "sub/01.png", "values": {"Smiling": 1}}
    assert len(written) == 5


def test_what_finetune_reads_is_what_was_answered(
    journal: LabelJournal, out: Path, folder: Path
) -> None:
    journal.answer("00.png", {"Smiling": 1, "Bald": None})
    journal.answer("sub/01.png", {"Smiling": 0})
    found = parse_data_spec(f"csv:{out},images={folder}").open()
    assert found.names == ("00.png", "sub/01.png")
    assert found.labels.tolist() == [[1, -1], [0, -1]]


def test_answers_are_taken_back_in_any_sensible_order(journal: LabelJournal, out: Path) -> None:
    first = journal.answer("00.png", {"Smiling": 1, "Bald": 1})
    second = journal.answer("00.png", {"Smiling": 0})
    other = journal.answer("02.png", {"Bald": 1})
    with pytest.raises(ChangedError, match="again since"):
        journal.undo(first)
    assert journal.undo(second) == ("00.png", ("Smiling",))
    assert lines(out)[1:] == ["00.png,1,1", "02.png,,1"]
    with pytest.raises(ChangedError, match="already"):
        journal.undo(second)
    assert journal.undo() == ("02.png", ("Bald",))
    assert journal.undo(first) == ("00.png", ("Smiling", "Bald"))
    assert lines(out)[1:] == []
    with pytest.raises(ChangedError, match="no answer"):
        journal.undo()
    with pytest.raises(ChangedError):
        journal.undo(other)


def test_it_goes_on_where_it_stopped(out: Path, folder: Path) -> None:
    first = LabelJournal(out, ASKED, lambda: folder)
    first.answer("00.png", {"Smiling": 1})
    first.answer("02.png", {"Smiling": None})
    first.close()
    again = LabelJournal(out, ("Hat",), lambda: folder)
    assert again.snapshot() == {"00.png": {"Smiling": 1}, "02.png": {"Smiling": None}}
    assert lines(out) == ["image,Smiling,Bald,Hat", "00.png,1,,", "02.png,,,"]
    assert again.undo() == ("02.png", ("Smiling",))
    again.close()


def test_a_line_that_was_cut_short_is_forgotten(out: Path, folder: Path) -> None:
    first = LabelJournal(out, ASKED, lambda: folder)
    first.answer("00.png", {"Smiling": 1})
    first.close()
    whole = first.path.read_bytes()
    for tail in (b'{"image":"02.p', b'{"image":"02.png","values":{"Bald":1}}', b"\0\0\0\n"):
        first.path.write_bytes(whole + tail)
        out.unlink()
        again = LabelJournal(out, ASKED, lambda: folder)
        again.answer("04.png", {"Bald": 1})
        again.close()
        assert lines(out)[1:] == ["00.png,1,", "04.png,,1"]
        assert reopened(out, folder).snapshot() == {"00.png": {"Smiling": 1}, "04.png": {"Bald": 1}}


@pytest.mark.parametrize(
    "wrong",
    [
        "no json", "[]", '{"undo":99}', '{"image":"a","values":{"B":2}}', "[" * 100_000,
        r'{"image":"\ud800","values":{"Bald":1}}', '{"image":"a","values":{"Bald":1,"Bald":0}}',
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_and_nothing_is_changed(
    out: Path, folder: Path, wrong: str
) -> None:
    first = LabelJournal(out, ASKED, lambda: folder)
    first.answer("00.png", {"Smiling": 1})
    first.answer("02.png", {"Smiling": 1})
    first.close()
    written = lines(first.path)
    written[2] = wrong
    first.path.write_text("\n".join(written) + "\n")
    before = first.path.read_bytes(), out.read_bytes()
    with pytest.raises(DataError, match="line 3: damaged"):
        LabelJournal(out, ASKED, lambda: folder)
    assert (first.path.read_bytes(), out.read_bytes()) == before


def test_a_csv_file_that_lags_behind_is_made_anew(out: Path, folder: Path) -> None:
    first = LabelJournal(out, ASKED, lambda: folder)
    first.answer("00.png", {"Smiling": 1})
    earlier = out.read_bytes()
    first.answer("02.png", {"Smiling": 0})
    first.answer("00.png", {"Smiling": 0})
    first.undo()
    latest = out.read_bytes()
    first.close()
    out.write_bytes(earlier)
    reopened(out, folder)
    assert out.read_bytes() == latest
    out.unlink()
    reopened(out, folder)
    assert out.read_bytes() == latest


def test_a_csv_file_that_was_edited_is_not_overwritten(out: Path, folder: Path) -> None:
    first = LabelJournal(out, ASKED, lambda: folder)
    first.answer("00.png", {"Smiling": 1})
    first.answer("02.png", {"Smiling": 0})
    first.close()
    edited = out.read_text().replace("02.png,0,", "02.png,1,")
    out.write_text(edited)
    with pytest.raises(DataError, match=r"changed by something else.*'02.png'"):
        LabelJournal(out, ASKED, lambda: folder)
    assert out.read_text() == edited
    first.path.unlink()
    again = LabelJournal(out, ASKED, lambda: folder)
    assert again.snapshot()["02.png"] == {"Smiling": 1, "Bald": None}
    again.close()


def test_a_csv_file_that_is_edited_meanwhile_is_left_alone(
    journal: LabelJournal, out: Path, folder: Path
) -> None:
    journal.answer("00.png", {"Smiling": 1})
    out.write_text("image,Smiling\n00.png,0\n")
    journal.answer("02.png", {"Smiling": 1})
    assert journal.trouble is not None
    assert "left as it is" in journal.trouble
    assert out.read_text() == "image,Smiling\n00.png,0\n"
    assert '"02.png"' in lines(journal.path)[-1]


def test_a_csv_file_of_ones_own_is_taken_over(out: Path, folder: Path) -> None:
    out.write_text("image,split,Male,Smiling\n00.png,test,-1,1\n02.png,,1,\n./04.png,train,1,-1\n")
    opened = LabelJournal(out, ASKED, lambda: folder)
    opened.answer("02.png", {"Smiling": 1, "Bald": 0})
    opened.answer("06.png", {"Bald": 1})
    rows = [
        "image,split,Male,Smiling,Bald",
        "00.png,test,0,1,",
        "02.png,,1,1,0",
        "04.png,train,1,0,",
        "06.png,train,,,1",
    ]
    assert lines(out) == rows
    opened.close()
    again = LabelJournal(out, ASKED, lambda: folder)
    again.undo()
    again.undo()
    assert lines(out)[1:] == ["00.png,test,0,1,", "02.png,,1,,", "04.png,train,1,0,"]
    with pytest.raises(ChangedError):
        again.undo()
    again.close()


def test_files_that_cannot_be_gone_on_with(out: Path, folder: Path) -> None:
    out.write_text("name,Smiling\n00.png,1\n")
    with pytest.raises(DataError, match="no column 'image'"):
        LabelJournal(out, ASKED, lambda: folder)
    out.write_text("image,Smiling\nelsewhere.png,1\n")
    with pytest.raises(DataError, match="elsewhere"):
        LabelJournal(out, ASKED, lambda: folder)
    # Put right, it can be gone on with.
    out.write_text("image,Smiling\n00.png,1\n")
    assert reopened(out, folder).snapshot() == {"00.png": {"Smiling": 1}}


@pytest.mark.parametrize(
    ("unknown", "first", "second"),
    [("0", None, 0), ("-1", 0, None), ("none", 0, 0)],
)
def test_a_file_with_two_kinds_of_no_needs_a_word_on_them(
    out: Path, folder: Path, unknown: str, first: int | None, second: int | None
) -> None:
    out.write_text("image,Smiling,Bald\n00.png,1,0\n02.png,-1,1\n")
    told = refused("label", folder, "--attributes", "Smiling", "--out", out)
    assert "say which with unknown=0, unknown=-1" in told
    assert lines(out)[1:] == ["00.png,1,0", "02.png,-1,1"]
    given = build(LabellingSettings, {}, [f"unknown={unknown}"]).unknown
    with closing(LabelJournal(out, ASKED, lambda: folder, given)) as journal:
        assert journal.snapshot() == {
            "00.png": {"Smiling": 1, "Bald": first},
            "02.png": {"Smiling": second, "Bald": 1},
        }
    assert parse_data_spec(f"csv:{out},images={folder}").open().labels.tolist() == [
        [1, -1 if first is None else 0],
        [-1 if second is None else 0, 1],
    ]
    assert reopened(out, folder).values("00.png") == {"Smiling": 1, "Bald": first}


def test_one_process_at_a_time(journal: LabelJournal, out: Path, folder: Path) -> None:
    journal.answer("00.png", {"Smiling": 1})
    before = journal.path.read_bytes()
    with pytest.raises(SsplError, match="being labelled by another"):
        LabelJournal(out, ASKED, lambda: folder)
    assert journal.path.read_bytes() == before
    journal.close()
    reopened(out, folder)


@pytest.mark.parametrize("part", [0, 7])
def test_a_full_disk_saves_nothing_by_halves(
    journal: LabelJournal, out: Path, folder: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.answer("00.png", {"Smiling": 1})
    before = journal.path.read_bytes(), out.read_bytes()
    write = os.write

    def full(file: int, content: bytes) -> int:
        if part:
            return write(file, content[:part])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SsplError, match="not saved"):
        journal.answer("02.png", {"Smiling": 1})
    with pytest.raises(SsplError, match="not saved"):
        journal.undo()
    monkeypatch.undo()
    assert (journal.path.read_bytes(), out.read_bytes()) == before
    assert journal.snapshot() == {"00.png": {"Smiling": 1}}
    journal.answer("02.png", {"Smiling": 0})
    assert lines(out)[1:] == ["00.png,1,", "02.png,0,"]


def test_threads_do_not_mix_their_lines(journal: LabelJournal, out: Path, folder: Path) -> None:
    numbers: dict[str, int] = {}

    def work(start: int) -> None:
        for i in range(start, 50, 5):
            numbers[str(i)] = journal.answer(f"{i}", {"Smiling": i % 2})

    threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.snapshot() == {str(i): {"Smiling": i % 2} for i in range(50)}
    written = lines(journal.path)
    assert {image: json.loads(written[n - 1])["image"] for image, n in numbers.items()} == {
        str(i): str(i) for i in range(50)
    }
    before = journal.snapshot()
    journal.close()
    assert reopened(out, folder).snapshot() == before
    assert len(lines(out)) == 51


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["00.png", "02.png"]), st.sampled_from([0, 1, None])),
        st.just("undo"),
    ),
    min_size=1,
    max_size=8,
)


@given(steps=STEPS, cut=st.integers(0, 400))
@settings(max_examples=25, deadline=None)
def test_cut_off_anywhere_it_holds_all_that_was_whole(
    steps: list, cut: int, tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    out = tmp_path_factory.mktemp("cut") / "labels.csv"
    opened = LabelJournal(out, ("Smiling",), lambda: folder)
    ends, states = [opened.path.stat().st_size], [opened.snapshot()]
    stack: list[tuple[str, dict]] = []
    for step in steps:
        if step == "undo":
            if not stack:
                continue
            image, before = stack.pop()
            assert opened.undo()[0] == image
            assert opened.values(image) == before
        else:
            image, value = step
            stack.append((image, opened.values(image)))
            opened.answer(image, {"Smiling": value})
        ends.append(opened.path.stat().st_size)
        states.append(opened.snapshot())
    opened.close()
    content = opened.path.read_bytes()
    kept = max(ends[0], min(cut, len(content)))
    opened.path.write_bytes(content[:kept])
    out.unlink()
    expected = states[max(i for i, end in enumerate(ends) if end <= kept)]
    assert reopened(out, folder, ("Smiling",)).snapshot() == expected
    with out.open(newline="") as file:
        rows = {row["image"]: row["Smiling"] for row in csv.DictReader(file)}
    assert rows == {
        image: "" if values["Smiling"] is None else str(values["Smiling"])
        for image, values in expected.items()
    }


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pictures(folder: Path) -> FaceSet:
    return read_folder(folder)


def test_two_tabs_get_different_faces_until_one_is_gone(
    journal: LabelJournal, pictures: FaceSet
) -> None:
    clock = Clock()
    desk = Desk(pictures, journal, ASKED, range(50), clock=clock)
    one, two = desk.round("one"), desk.round("two")
    assert one == list(range(ROUND))
    assert two == list(range(ROUND, 2 * ROUND))
    assert desk.round("one") == one
    clock.now = LEASE_SECONDS - 1
    desk.answer("one", one[0], {"Smiling": 1, "Bald": 0})
    clock.now = LEASE_SECONDS + 1
    assert desk.round("three") == two
    assert desk.round("one") == one[1:]


def test_faces_begun_come_first_then_suggested_ones(
    journal: LabelJournal, pictures: FaceSet
) -> None:
    desk = Desk(pictures, journal, ASKED, range(50), frozenset({pictures.names[0]}))
    desk.answer("t", 30, {"Smiling": 1})
    desk.answer("t", 31, {"Smiling": 1, "Bald": None})
    desk.suggested = [40, 31, 0, 41]
    assert desk.round("t")[:5] == [30, 40, 41, 1, 2]
    assert desk.done() == (1, 49)
    assert desk.counts()["Smiling"].yes == 2
    assert (desk.counts()["Bald"].unsure, desk.counts()["Bald"].no) == (1, 0)


def test_a_picture_that_changed_since_its_answer_is_asked_again(
    out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abcd":
        Image.new("RGB", (8, 8), (50, 0, 0)).save(tmp_path / f"{name}.png")
    faces = read_folder(tmp_path)

    def opened(*asked: str) -> Desk:
        book = LabelJournal(out, asked, lambda: tmp_path)
        stack.callback(book.close)
        return Desk(faces, book, asked, range(4))

    with ExitStack() as stack:
        desk = opened(*ASKED)
        for face in range(3):
            number = desk.answer("t", face, {"Smiling": 1, "Bald": 0})
        assert desk.changed == []
    before = lines(out)
    Image.new("RGB", (8, 8), (250, 9, 9)).save(tmp_path / "b.png")
    os.utime(tmp_path / "a.png", (1, 1))  # as copying does; the content is the same
    with ExitStack() as stack:
        desk = opened(*ASKED)
        assert desk.changed == ["b.png"]
        _remark_on_changed(desk)
        assert "b.png: not the picture that was answered" in caplog.text
        assert "asked for again" in caplog.text
        assert lines(out) == before  # until it is answered again
        assert desk.round("t") == [1, 3]
        assert desk.done() == (2, 4)
        assert desk.values(1) == {}
        assert desk.counts()["Smiling"].yes == 2
        assert desk.labels()[0].tolist() == [[1, 0], [-1, -1], [1, 0], [-1, -1]]
        number = desk.answer("t", 1, {"Smiling": 0})
        assert desk.values(1) == {"Smiling": 0}
        assert desk.changed == ["b.png"]  # Bald was answered for the other picture
        desk.undo("t", number)
        assert desk.values(1) == {}
        desk.answer("t", 1, {"Smiling": 0, "Bald": 1})
        assert (desk.changed, desk.done()) == ([], (3, 4))
    with ExitStack() as stack:
        desk = opened(*ASKED)
        assert (desk.changed, desk.done()) == ([], (3, 4))


def test_what_is_taken_back_is_before_the_tab_again(
    journal: LabelJournal, pictures: FaceSet
) -> None:
    desk = Desk(pictures, journal, ASKED, range(50))
    desk.round("t")
    number = desk.answer("t", 49, {"Smiling": 1, "Bald": 1})
    assert desk.undo("t", number) == (49, ("Smiling", "Bald"))
    assert desk.round("t")[:2] == [49, 0]


def test_labels_of_held_out_faces_are_not_looked_at(out: Path, folder: Path) -> None:
    out.write_text("image,split,Smiling,Bald\n00.png,test,1,1\n02.png,train,0,\n04.png,val,1,\n")
    opened = LabelJournal(out, ASKED, lambda: folder)
    desk = Desk(read_folder(folder), opened, ASKED, range(50))
    labels, taken = desk.labels()
    opened.close()
    place = desk.place
    assert list(np.flatnonzero(taken)) == sorted(place[n] for n in ("00.png", "02.png", "04.png"))
    assert labels[place["02.png"]].tolist() == [0, -1]
    assert (np.delete(labels, place["02.png"], axis=0) == -1).all()


def test_the_order_begins_with_the_list(pictures: FaceSet, tmp_path: Path) -> None:
    listed = tmp_path / "next.csv"
    listed.write_text("image,place\nsub/07.png,1\n04.png,2\n")
    order = first_order(pictures, listed, 0)
    assert [pictures.names[i] for i in order[:2]] == ["sub/07.png", "04.png"]
    assert sorted(order) == list(range(50))
    assert order[2:] != first_order(pictures, listed, 1)[2:]
    listed.write_text("image\nother.png\n")
    with pytest.raises(DataError, match=r"line 2: 'other\.png' is not a face"):
        first_order(pictures, listed, 0)


def test_the_mean_of_a_report() -> None:
    told = Standing(5, 5, 0.8, 0.6, 0.9)
    report = Report(10, {"a": told, "b": Standing(5, 5, 0.6, 0.4, 0.7), "c": Standing(1, 9)})
    assert report.mean() == pytest.approx((0.7, 0.5, 0.8))
    assert Report(0, {"c": Standing(0, 0)}).mean() is None


def test_the_coach_suggests_what_it_is_unsure_of(
    faces: Path, pretrained: Path, tmp_path: Path
) -> None:
    pictures = read_folder(faces / "img_align_celeba")
    opened = LabelJournal(tmp_path / "labels.csv", ("Smiling",), lambda: faces)
    desk = Desk(pictures, opened, ("Smiling",), range(60), frozenset({"000060.jpg"}))
    for face in range(12):
        desk.answer("t", face, {"Smiling": face % 2})
    source = load_source(pretrained)
    coach = Coach(source, desk, None, 5, 3, "cpu")
    coach.start()
    limit = time.monotonic() + 100
    while not coach.reports and time.monotonic() < limit:
        time.sleep(0.05)
    first = list(desk.suggested)
    assert coach.trouble is None
    assert coach.seen == 60
    assert not set(first) & {*range(12), 59}
    labels, taken = desk.labels()
    features = extract(source, pictures, device="cpu")
    views = judged(source, features, Answers(("Smiling",), labels, taken))
    rng = np.random.default_rng([3, 13])
    np.testing.assert_array_equal(first, choose(features.values, views, taken, 40, rng))
    assert coach.reports[0].faces == 12
    assert coach.reports[0].standings["Smiling"].balanced_accuracy is not None
    for face in range(12, 17):
        desk.answer("t", face, {"Smiling": 1})
        coach.answered()
    while len(coach.reports) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    coach.stop()
    opened.close()
    assert coach.reports[1].faces == 17
    assert not set(desk.suggested) & set(range(17))


def test_a_picture_that_cannot_be_read_stops_the_coach_alone(
    pretrained: Path, journal: LabelJournal, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    desk = Desk(read_folder(tmp_path), journal, ASKED, range(1))
    coach = Coach(load_source(pretrained), desk, None, 5, 0, "cpu")
    coach.start()
    coach._thread.join(60)
    assert coach.trouble is not None
    assert "broken.jpg" in coach.trouble


@pytest.fixture
def desk(journal: LabelJournal, pictures: FaceSet) -> Desk:
    return Desk(pictures, journal, ASKED, range(50))


def client_of(desk: Desk, **limits: object) -> TestClient:
    return TestClient(
        make_app(desk, None, LabellingSettings(**limits), KEY),  # type: ignore[arg-type]
        base_url="http://localhost",
        headers={"X-Sspl-Key": KEY},
        raise_server_exceptions=False,
    )


@pytest.fixture
def client(desk: Desk) -> TestClient:
    return client_of(desk)


def answer(face: int, name: str, **values: object) -> dict[str, object]:
    return {"tab": "t", "face": face, "name": name, "values": values}


def test_a_round_of_answers(client: TestClient, desk: Desk, out: Path) -> None:
    round_ = client.post("/v1/round", json={"tab": "t"}).json()
    assert len(round_["faces"]) == ROUND
    first = round_["faces"][0]
    assert first == {"face": 0, "name": desk.faces.names[0], "values": {}}
    reply = client.post("/v1/answer", json=answer(0, first["name"], Smiling=1, Bald=None))
    assert reply.status_code == 200
    # It is on the disk when it is acknowledged.
    assert f'"{first["name"]}"' in lines(desk.journal.path)[-1]
    assert lines(out)[1:] == [f"{first['name']},1,"]
    state = reply.json()["state"]
    assert (state["done"], state["total"], state["file"]) == (1, 50, "labels.csv")
    assert state["attributes"][0] == {
        "name": "Smiling",
        "yes": 1,
        "no": 0,
        "unsure": 0,
        "definition": "",
        "hint": "the corners of the mouth; say whether teeth must show",
        "lacks": [9, 10],
        "balanced_accuracy": None,
    }
    back = client.post("/v1/undo", json={"tab": "t", "number": reply.json()["number"]}).json()
    assert back["face"] == first
    assert back["attributes"] == list(ASKED)
    assert lines(out)[1:] == []
    assert client.post("/v1/undo", json={"tab": "t"}).status_code == 409
    assert client.get("/v1/state").json()["done"] == 0


def test_the_key_is_in_no_log(
    client: TestClient,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(tab: str) -> list[int]:
        raise RuntimeError("broken")

    monkeypatch.setattr(desk, "round", fail)
    with caplog.at_level(logging.DEBUG):
        assert client.post("/v1/round", json={"tab": "t"}).status_code == 500
        client.post("/v1/round", content=b"{" * 70_000)
        client.get("/v1/faces/99", headers={"X-Sspl-Key": "no" + KEY})
    assert "broken" in caplog.text
    assert KEY not in caplog.text


def test_pictures_of_faces_wait_for_memory(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes more than there is has it to itself."""
    asked: list[int] = []

    async def wait_for(self: object, amount: int, until: float) -> None:
        asked.append(amount)
        if len(asked) > 1:
            raise BusyError

    monkeypatch.setattr(Share, "wait_for", wait_for)
    monkeypatch.setattr("sspl.apps.labelling.app.decoding_bytes", lambda picture: 10**12)
    assert client.get("/v1/faces/0").status_code == 200
    reply = client.get("/v1/faces/1")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "2")
    assert asked == [MOST_DECODED] * 2


def test_head_is_answered_and_another_method_is_named(client: TestClient) -> None:
    assert (client.head("/v1/state").status_code, client.head("/v1/state").content) == (200, b"")
    assert client.options("/v1/state").headers["Allow"] == "GET, HEAD"
    assert client.get("/v1/answer").headers["Allow"] == "POST"


def test_the_face_is_upright_small_and_written_anew(journal: LabelJournal, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a secret"
    Image.new("RGB", (300, 100)).save(tmp_path / "a.jpg", exif=exif)
    secret = tmp_path.parent / "secret.txt"
    secret.write_text("a secret")
    (tmp_path / "b.jpg").symlink_to(secret)
    with client_of(Desk(read_folder(tmp_path), journal, ASKED, range(2)), picture_side=60) as http:
        shown = http.get("/v1/faces/0")
        assert shown.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(shown.content)).size == (20, 60)
        assert b"secret" not in shown.content
        linked = http.get("/v1/faces/1")
        assert linked.status_code == 404
        assert "secret" not in linked.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Sspl-Key": ""}, 403),
        ({"X-Sspl-Key": KEY + "x"}, 403),
        ({"X-Sspl-Key": "schlüssel".encode()}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_who_is_heard(client: TestClient, desk: Desk, headers: dict, status: int) -> None:
    body = answer(0, desk.faces.names[0], Smiling=1)
    asks = [
        client.post("/v1/answer", json=body, headers=headers),
        client.post("/v1/undo", json={"tab": "t"}, headers=headers),
        client.post("/v1/round", json={"tab": "t"}, headers=headers),
        client.get("/v1/state", headers=headers),
        client.get("/v1/faces/0", headers=headers),
    ]
    assert [ask.status_code for ask in asks] == [status] * 5
    if status != 200:
        assert len(lines(desk.journal.path)) == 2


def test_no_other_site_may_ask_first(client: TestClient) -> None:
    """A page of another site cannot send the key: a browser asks for leave before, in vain."""
    asked = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-sspl-key",
    }
    for path in ("/", "/v1/answer", "/v1/undo", "/v1/round"):
        reply = client.options(path, headers=asked)
        assert reply.status_code == 405
        assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_the_key_is_needed_even_without_a_browser(desk: Desk) -> None:
    bare = TestClient(make_app(desk, None, LabellingSettings(), KEY), base_url="http://localhost")
    assert bare.get("/v1/state").status_code == 403
    assert bare.get("/").status_code == 200
    assert KEY not in bare.get("/").text
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert bare.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["50", "-1", "x", "..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"],
)
def test_paths_do_not_leave_the_folder(client: TestClient, path: str) -> None:
    reply = client.get(f"/v1/faces/{path}")
    assert reply.status_code in {404, 422}
    assert "root:" not in reply.text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"face": 50}, "no such face"),
        ({"face": -1}, "face"),
        ({"face": True}, "face"),
        ({"name": "../../etc/passwd"}, "no such face"),
        ({"name": "sub/01.png"}, "no such face"),
        ({"values": {"Hat": 1}}, "not asked for"),
        ({"values": {"Smiling": 2}}, "use 1, 0 or null"),
        ({"values": {"Smiling": True}}, "values.Smiling"),
        ({"values": {"Smiling": "1"}}, "values.Smiling"),
        ({"values": {}}, "values"),
        ({"tab": ""}, "tab"),
        ({"tab": "x" * 65}, "tab"),
        ({"more": 1}, "more"),
    ],
)
def test_answers_that_are_refused(
    client: TestClient, desk: Desk, change: dict, sentence: str
) -> None:
    body = answer(0, desk.faces.names[0], Smiling=1) | change
    reply = client.post("/v1/answer", json=body)
    assert reply.status_code == 422
    assert sentence in reply.json()["error"]
    assert len(lines(desk.journal.path)) == 2


def test_requests_have_limits(desk: Desk) -> None:
    with client_of(desk, max_bytes=300) as http:
        body = answer(0, desk.faces.names[0], Smiling=1) | {"tab": "x" * 400}
        assert http.post("/v1/answer", json=body).status_code == 413
        assert http.post("/v1/answer", content=b"{").status_code == 422


def test_a_full_disk_is_told(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    reply = client.post("/v1/answer", json=answer(0, desk.faces.names[0], Smiling=1))
    monkeypatch.undo()
    assert reply.status_code == 507
    assert "not saved" in reply.json()["error"]


def test_only_the_csv_file_and_its_journal_are_written(
    client: TestClient, desk: Desk, out: Path, folder: Path
) -> None:
    before = sorted(folder.rglob("*"))
    client.post("/v1/answer", json=answer(0, desk.faces.names[0], Smiling=1))
    client.get("/v1/faces/0")
    assert sorted(folder.rglob("*")) == before
    assert sorted(file.name for file in out.parent.iterdir()) == [
        ".labels.csv.lock",
        "labels.csv",
        "labels.csv.journal",
    ]


def test_the_page_asks_nobody_else(client: TestClient) -> None:
    reply = client.get("/")
    text = reply.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(src|href)\s*=(?!\"data:)\s*[\"']|https?://|@import|url\(", text)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_commands_that_are_refused(folder: Path, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    told = refused("label", folder, "--attributes", "image", "--out", out)
    assert "cannot be the name" in told
    told = refused("label", folder, "--attributes", "Male,male", "--out", out)
    assert "--attributes: attributes 'Male' and 'male' differ by capital and small letters" in told
    everything = tmp_path / "all.csv"
    everything.write_text("image\n" + "\n".join(read_folder(folder).names) + "\n")
    told = refused("label", folder, "--attributes", "A", "--out", out, "--without", everything)
    assert "none is left" in told
    assert "every" in refused("label", folder, "every=0", "--attributes", "A", "--out", out)
    assert not out.exists()


KEPT = """image,identity,Smiling,note,race,split
a.jpg,anna,1,"x, y",Asian,train
b.jpg,,,nan,White,val
"""


def test_columns_that_are_no_labels_are_kept_as_they_are(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    out = tmp_path / "labels.csv"
    out.write_text(KEPT)
    with closing(LabelJournal(out, ("Smiling", "Male"), lambda: tmp_path)) as journal:
        assert journal.book.attributes == ["Smiling", "Male"]
        journal.answer("b.jpg", {"Male": 1})
        journal.answer("c.jpg", {"Smiling": 0})
        journal.undo(journal.answer("b.jpg", {"Smiling": 1}))
    expected = [
        "image,identity,Smiling,note,race,split,Male",
        'a.jpg,anna,1,"x, y",Asian,train,',
        "b.jpg,,,nan,White,val,1",
        "c.jpg,,0,,,train,",
    ]
    assert out.read_text().splitlines() == expected
    with closing(LabelJournal(out, ("Smiling",), lambda: tmp_path)):  # goes on from the journal
        assert out.read_text().splitlines() == expected
    with pytest.raises(DataError, match="column 'race' holds something else than labels"):
        LabelJournal(out, ("race",), lambda: tmp_path)
    out.with_name("labels.csv.journal").unlink()
    with closing(LabelJournal(out, ("Smiling",), lambda: tmp_path)):  # and from the file alone
        assert out.read_text().splitlines() == expected


@pytest.mark.parametrize("name", ["identity", "fold", "image_id"])
def test_no_attribute_gets_a_name_that_would_be_refused(tmp_path, name):
    (tmp_path / "a.jpg").touch()
    sentence = refused("label", tmp_path, "--attributes", name, "--out", tmp_path / "l.csv")
    assert f"a column '{name}' would be read as" in sentence
