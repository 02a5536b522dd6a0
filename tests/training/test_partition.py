"""Which faces stage 2 learns from, is selected on, and leaves alone."""

from pathlib import Path

import pytest

from sspl.data.data_settings import CELEBA_BOX, DataSettings, parse_data_spec
from sspl.data.images import WHOLE_FRAME
from sspl.errors import SettingsError
from sspl.settings import build
from sspl.training.face_sources import unlabelled_sources
from sspl.training.partition import Partition, partition
from sspl.training.stage_settings import FinetuneSettings


def table(root: Path, splits: list[str], header: str = "Smiling") -> DataSettings:
    """A table of faces `0.jpg`, `1.jpg`, ... in these splits; every second one smiles."""
    rows = ["image,split" + (f",{header}" if header else "")]
    for i, split in enumerate(splits):
        (root / f"{i}.jpg").touch()
        rows.append(f"{i}.jpg,{split}" + (f",{i % 2}" if header else ""))
    (root / "faces.csv").write_text("\n".join(rows) + "\n")
    return parse_data_spec(f"csv:{root / 'faces.csv'}")


def parted(data: DataSettings, **labels: object) -> Partition:
    return partition(build(FinetuneSettings, {"data": dict(data), "labels": labels}))


def numbers(faces: object) -> list[int]:
    return [int(name.removesuffix(".jpg")) for name in faces.names]  # type: ignore[attr-defined]


def test_labels_come_from_the_training_split_and_selection_from_val(tmp_path: Path) -> None:
    splits = ["train", "val", "train", "test", "train", "", "train", "val", "train", "train"]
    data = table(tmp_path, splits)  # training faces 0, 2, 4, 6, 8, 9
    parts = parted(data, count=3, rule="every_kth")
    assert numbers(parts.train) == [0, 4, 8]  # k = 2
    assert numbers(parts.val) == [1, 7]
    assert numbers(parts.rest) == [2, 6, 9]
    # Half of six: k = 2 as before.
    assert numbers(parted(data, fraction=0.5, rule="every_kth").train) == [0, 4, 8]
    everything = parted(data)
    assert numbers(everything.train) == [0, 2, 4, 6, 8, 9]
    assert numbers(everything.rest) == []


def test_without_a_val_split_a_share_of_the_labelled_faces_is_held_out(tmp_path: Path) -> None:
    for splits in (["train"] * 10 + ["test"] * 4, [""] * 10):
        parts = parted(table(tmp_path, splits), count=5, rule="every_kth", val_fraction=0.4)
        # Faces 0, 2, 4, 6, 8 are labelled; two of them, 0.4 of 5, are selected on.
        assert len(parts.val) == 2
        assert sorted(numbers(parts.train) + numbers(parts.val)) == [0, 2, 4, 6, 8]
        assert numbers(parts.rest) == [1, 3, 5, 7, 9]
        assert numbers(parts.train) == sorted(numbers(parts.train))
        assert numbers(parts.val) == sorted(numbers(parts.val))


def test_without_a_share_to_hold_out_all_labels_are_learnt_from(tmp_path: Path) -> None:
    labels = {"count": 5, "rule": "every_kth", "val_fraction": 0}
    data = table(tmp_path, ["train"] * 10 + ["test"] * 4)

    def given(**more: object) -> FinetuneSettings:
        content = {"data": dict(data), "labels": labels, "select_by": "last", **more}
        return build(FinetuneSettings, content)

    parts = partition(given())
    assert numbers(parts.train) == [0, 2, 4, 6, 8]
    assert numbers(parts.val) == []
    assert numbers(parts.rest) == [1, 3, 5, 7, 9]
    # One labelled face is enough: none has to be spared.
    assert len(partition(given(labels=labels | {"count": 1})).train) == 1
    for more, remedy in (
        ({"select_by": "accuracy"}, "set select_by=last"),
        ({"patience": 2}, "set patience=null"),
        ({"thresholds": "f1"}, "set thresholds=half"),
        ({"sure_accuracy": 0.9}, "set sure_accuracy=null"),
    ):
        with pytest.raises(SettingsError, match=rf"labels\.val_fraction: at 0 .*{remedy}, or hold"):
            partition(given(**more))
    # A val split is no labelled face that could be learnt from.
    (tmp_path / "val").mkdir()
    split = table(tmp_path / "val", ["train", "val"])
    assert numbers(parted(split, val_fraction=0).val) == [1]


def test_which_are_held_out_is_drawn_by_the_subset_seed(tmp_path: Path) -> None:
    data = table(tmp_path, [""] * 40)
    held = [numbers(parted(data, rule="every_kth", subset_seed=s).val) for s in (0, 0, 1)]
    assert [len(h) for h in held] == [8, 8, 8]
    assert held[0] == held[1]
    assert held[0] != held[2]
    # The same faces for ever, so that figures of other days can be compared with.
    few = parted(table(tmp_path, [""] * 10), rule="every_kth", subset_seed=0).val
    assert numbers(few) == [1, 9]
    # Neither the first nor the last eight, which would all be of one kind in a sorted table.
    assert held[0] not in (list(range(8)), list(range(32, 40)))


def test_the_subset_seed_draws_the_labelled_faces(tmp_path: Path) -> None:
    data = table(tmp_path, ["train"] * 30 + ["val"])
    first, again, other = (numbers(parted(data, count=6, subset_seed=s).train) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_one_face_is_always_held_out_and_one_always_learnt_from(tmp_path: Path) -> None:
    data = table(tmp_path, [""] * 10)
    parts = parted(data, count=2, rule="every_kth", val_fraction=0.01)
    assert (len(parts.train), len(parts.val)) == (1, 1)
    parts = parted(data, count=2, rule="every_kth", val_fraction=0.7)  # 1.4 of 2 is about 1
    assert (len(parts.train), len(parts.val)) == (1, 1)
    for labels in ({"count": 1}, {"count": 2, "val_fraction": 0.9}):
        with pytest.raises(SettingsError, match="too few to hold some out for validation"):
            parted(data, **labels)


def test_without_faces_it_is_said_how_to_give_some() -> None:
    with pytest.raises(SettingsError) as caught:
        partition(build(FinetuneSettings, {}))
    assert str(caught.value) == "data: no faces given; add --data FORMAT:FOLDER."


def test_a_set_without_attributes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"faces\.csv carries no attribute labels"):
        parted(table(tmp_path, ["train", "val"], header=""))


def test_unlabelled_faces_are_those_of_the_named_splits(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    (tmp_path / "whole").mkdir()
    parted_set = table(tmp_path / "split", ["train", "test", "val", "train"])
    whole = table(tmp_path / "whole", ["", ""]).model_copy(update={"crop": "celeba"})
    one, other = unlabelled_sources([parted_set, whole], ["train", "val"])
    assert [numbers(one.faces), numbers(other.faces)] == [[0, 2, 3], [0, 1]]
    assert (one.box, other.box) == (WHOLE_FRAME, CELEBA_BOX)
    with pytest.raises(SettingsError, match=r"has no face in \('dev',\)"):
        unlabelled_sources([parted_set], ["dev"])
