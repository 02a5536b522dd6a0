"""Which faces keep their labels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared import open_faces
from sspl.data.records import FaceSet
from sspl.data.subsets import count_for, every_kth, label_subset, load_subset, save_subset
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError, SettingsError

LABELS = hnp.arrays(
    np.int8,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.sampled_from((-1, 0, 1)),
)


@pytest.mark.parametrize(
    ("fraction", "faces", "count"),
    [
        (0.05, 5495, 275),
        (0.002, 162770, 326),
        (0.005, 162770, 814),
        (0.01, 162770, 1628),
        (0.145, 100, 15),
        (0.144, 100, 14),
        (1, 7, 7),
        (0.5, 1, 1),
        (0.25, 6, 2),
    ],
)
def test_fractions_round_half_up(fraction, faces, count):
    assert count_for(faces, fraction=fraction) == count


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fraction": 0.0}, "label fraction 0.0 is out of range"),
        ({"fraction": 1.01}, "label fraction 1.01 is out of range"),
        ({"fraction": float("nan")}, "label fraction nan is out of range"),
        ({"fraction": 0.001}, "0 labelled faces are out of range; there are 100"),
        ({"labels": 0}, "0 labelled faces are out of range"),
        ({"labels": 101}, "101 labelled faces are out of range; there are 100 faces"),
        ({}, "either a label fraction or a number"),
        ({"fraction": 0.5, "labels": 50}, "either a label fraction or a number"),
    ],
)
def test_impossible_counts(given, message):
    with pytest.raises(SettingsError, match=message):
        count_for(100, **given)


def test_a_number_of_labels_is_itself():
    assert [count_for(100, labels=n) for n in (1, 100)] == [1, 100]


# Stride, and the faces it gives, of the paper's fractions of CelebA's and LFWA's training faces.
PUBLISHED = [
    (162_770, 0.002, 500, 326),
    (162_770, 0.005, 200, 814),
    (162_770, 0.01, 100, 1_628),
    (162_770, 0.02, 50, 3_256),
    (162_770, 1.0, 1, 162_770),
    (6_263, 0.05, 20, 314),
    (6_263, 0.1, 10, 627),
    (6_263, 0.2, 5, 1_253),
    (6_263, 0.5, 2, 3_132),
    (6_263, 1.0, 1, 6_263),
]


@pytest.mark.parametrize(("faces", "fraction", "k", "count"), PUBLISHED)
def test_every_kth_of_the_paper(faces, fraction, k, count):
    labels = np.zeros((faces, 1), np.int8)
    chosen = label_subset(labels, fraction=fraction, rule="every_kth").tolist()
    assert chosen == list(range(0, faces, k))
    assert len(chosen) == count
    # The numbers that the paper gives name the same faces.
    assert label_subset(labels, count, rule="every_kth").tolist() == chosen


def test_every_kth_by_hand():
    labels = np.zeros((10, 1), dtype=np.int8)
    by_fraction = {0.1: [0], 0.25: [0, 4, 8], 0.3: [0, 3, 6, 9], 0.4: [0, 3, 6, 9], 0.001: [0]}
    for fraction, places in by_fraction.items():  # k = 10, 4, 3.33, 2.5 (half up), 1000
        assert label_subset(labels, fraction=fraction, rule="every_kth").tolist() == places
    by_count = {1: [0], 2: [0, 5], 3: [0, 4, 8], 4: [0, 3, 6, 9], 5: [0, 2, 4, 6, 8]}
    for count, places in by_count.items():
        assert label_subset(labels, count, rule="every_kth").tolist() == places
    with pytest.raises(SettingsError, match=r"no k takes 7 of 10 faces; 5 .* k=2, 10 for k=1"):
        label_subset(labels, 7, rule="every_kth")
    with pytest.raises(SettingsError, match="either a label fraction or a number"):
        label_subset(labels, rule="every_kth")


@settings(max_examples=100, deadline=None)
@given(faces=st.integers(1, 3000), k=st.integers(1, 400))
def test_every_kth_is_a_stride_from_the_first_face(faces, k):
    places = every_kth(faces, fraction=1 / k)
    assert places.tolist() == [i for i in range(faces) if i % k == 0]
    # A number of faces that a stride gives is given, by a stride too.
    again = every_kth(faces, labels=len(places))
    assert len(again) == len(places)
    assert again[0] == 0
    assert len(set(np.diff(again))) <= 1
    assert faces - again[-1] <= (again[1] if len(again) > 1 else faces)


@settings(max_examples=100, deadline=None)
@given(
    labels=LABELS,
    seed=st.integers(0, 9),
    data=st.data(),
)
def test_exactly_count_distinct_sorted_and_repeatable(labels, seed, data):
    count = data.draw(st.integers(1, len(labels)))
    chosen = label_subset(labels, count, rule="seeded", seed=seed)
    assert chosen.dtype == np.int64
    assert len(chosen) == len(set(chosen.tolist())) == count
    assert chosen.tolist() == sorted(chosen.tolist())
    assert 0 <= chosen[0] <= chosen[-1] < len(labels)
    assert label_subset(labels, count, rule="seeded", seed=seed).tolist() == chosen.tolist()


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 9))
def test_no_single_swap_could_bring_in_a_lost_value(labels, seed):
    """The promise itself, checked by trying every swap."""
    count = max(1, len(labels) // 3)
    chosen = label_subset(labels, count, rule="seeded", seed=seed).tolist()

    def held(faces):
        return {(a, v) for a in range(labels.shape[1]) for v in (0, 1) if v in labels[faces, a]}

    for leaver in chosen:
        for newcomer in set(range(len(labels))) - set(chosen):
            swapped = [newcomer if f == leaver else f for f in chosen]
            assert not held(swapped) > held(chosen)


@pytest.mark.parametrize("seed", range(20))
def test_a_single_positive_and_a_single_negative_are_kept(seed):
    labels = np.zeros((2000, 3), dtype=np.int8)
    labels[1234, 0] = 1
    labels[:, 1] = 1
    labels[77, 1] = 0
    labels[::2, 2] = -1
    labels[5, 2] = 1
    chosen = label_subset(labels, 20, rule="seeded", seed=seed)
    assert {1234, 77, 5} <= set(chosen.tolist())


def test_the_draw_is_uniform_where_nothing_is_rare():
    labels = np.tile(np.array([[0], [1]], dtype=np.int8), (20, 1))
    draws = np.zeros(40)
    for seed in range(400):
        draws[label_subset(labels, 20, rule="seeded", seed=seed)] += 1
    # Binomial(400, 1/2): mean 200, deviation 10.
    assert abs(draws - 200).max() < 50
    assert draws.std() > 2


def test_of_the_rarest_values_the_first_one_is_brought_in():
    """Attributes 0 to 19 have two holders, 20 to 49 one; face 70 has nothing; one face is kept."""
    labels = np.full((71, 50), -1, dtype=np.int8)
    labels[np.arange(70), np.arange(70) % 50] = 1
    nothing = [s for s in range(300) if np.random.default_rng(s).permutation(71)[0] == 70]
    assert nothing
    for seed in nothing:
        assert label_subset(labels, 1, rule="seeded", seed=seed).tolist() == [20]


def test_the_same_faces_are_drawn_for_ever():
    """Figures of other days can be compared with."""
    labels = np.zeros((20, 1), dtype=np.int8)
    assert label_subset(labels, 4, rule="seeded").tolist() == [2, 4, 6, 19]
    rare = np.zeros((20, 2), dtype=np.int8)
    rare[11, 0] = rare[12, 1] = 1
    assert label_subset(rare, 4, rule="seeded").tolist() == [2, 11, 12, 19]


def test_seeds_differ_and_the_rule_must_be_known():
    labels = np.zeros((500, 1), dtype=np.int8)
    first, second = (label_subset(labels, 50, rule="seeded", seed=s) for s in (1, 2))
    assert first.tolist() != second.tolist()
    with pytest.raises(SettingsError, match="unknown subset rule 'first'; use seeded or every_kth"):
        label_subset(labels, 5, rule="first")
    for count in (0, 501):
        with pytest.raises(SettingsError, match="out of range; there are 500 faces"):
            label_subset(labels, count, rule="seeded")


def faces_named(*names: str) -> FaceSet:
    n = len(names)
    return FaceSet(
        source="labels.csv",
        schema=AttributeSchema((), ()),
        names=names,
        images=tuple(map(Path, names)),
        masks=(None,) * n,
        splits=(None,) * n,
        labels=np.empty((n, 0), dtype=np.int8),
    )


def test_a_saved_subset_is_found_again_by_name(tmp_path):
    faces = faces_named("b.jpg", "a b/ü.jpg", "c.jpg", " d.jpg")
    save_subset(tmp_path / "subset.txt", [faces.names[i] for i in (1, 3)])
    assert load_subset(tmp_path / "subset.txt", faces).tolist() == [1, 3]
    moved = faces_named(*reversed(faces.names))
    assert load_subset(tmp_path / "subset.txt", moved).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg\n\nz.jpg\n", r"subset.txt, line 3: 'z.jpg' is not a face of labels.csv"),
        ("a.jpg\nb.jpg\na.jpg\n", r"subset.txt, line 3: 'a.jpg' was given before, in line 1"),
        ("\n", r"subset.txt: the file is empty"),
    ],
)
def test_faulty_subset_files(tmp_path, text, message):
    (tmp_path / "subset.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load_subset(tmp_path / "subset.txt", faces_named("a.jpg", "b.jpg"))


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\r.jpg", " ", ""])
def test_a_name_that_does_not_fit_on_a_line_is_not_saved(tmp_path, name):
    with pytest.raises(DataError, match="does not fit on a line"):
        save_subset(tmp_path / "subset.txt", ["ok.jpg", name])
    assert not (tmp_path / "subset.txt").exists()


@pytest.mark.real
def test_real_small_draws_keep_every_attribute(real_data):
    train = open_faces("celeba", real_data / "celeba10k").split("train")
    for seed in range(5):
        labels = train.labels[label_subset(train.labels, 55, rule="seeded", seed=seed)]
        assert (labels == 1).any(axis=0).all()
        assert (labels == 0).any(axis=0).all()
