"""Checkpoints: the newest and the one before, each with a checksum."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from sspl.errors import DataError
from sspl.io import checkpoints
from sspl.io.checkpoints import load_state, save_state
from sspl.io.weights import load_tensors, read_tensors, save_tensors
from sspl.optim.optim_settings import OptimSettings
from sspl.optim.optimiser import make_optimiser, step

NEWEST, BEFORE = "state.safetensors", "state.previous.safetensors"


def learner(value: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A layer whose weights are all `value`, and an optimiser that has made a step."""
    network = nn.Linear(2, 2, bias=False)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.0)
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    with torch.no_grad():
        network.weight.fill_(value)
    return network, optimiser


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder after its third epoch; weights hold the number of the epoch."""
    for epoch in (1, 2, 3):
        rows = [{"epoch": e} for e in range(1, epoch + 1)]
        save_state(tmp_path, *learner(epoch), {"rows": rows})
    return tmp_path


def epoch_of(run: Path) -> int:
    """Resume the run; return after which epoch it stands, by its log and by its weights."""
    network, optimiser = learner(0)
    metadata = load_state(run, network, optimiser)
    assert metadata is not None
    (weight,) = {float(w) for w in network.state_dict()["weight"].flatten()}
    assert len(metadata["rows"]) == weight
    return int(weight)


def test_the_last_two_are_kept(run: Path) -> None:
    assert {p.name for p in run.iterdir()} == {NEWEST, BEFORE}
    assert epoch_of(run) == 3
    (run / NEWEST).unlink()
    assert epoch_of(run) == 2


def damage_a_weight(file: Path) -> None:
    """Change one bit of the last number in the file."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def damage_the_log(file: Path) -> None:
    content = file.read_bytes()
    assert content.count(b'\\"epoch\\": 3') == 1
    file.write_bytes(content.replace(b'\\"epoch\\": 3', b'\\"epoch\\": 4'))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_a_weight, damage_the_log, cut_short, empty])
def test_a_damaged_newest_one_falls_back_and_says_so(
    run: Path, damage: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(checkpoints.log, "warning", lambda text, *of: told.append(text % of))
    assert callable(damage)
    damage(run / NEWEST)
    assert epoch_of(run) == 2
    assert len(told) == 1
    assert told[0].startswith(f"{run / NEWEST}: damaged model file (")
    assert told[0].endswith(f"). Going on from the checkpoint before it, {BEFORE}.")
    # The sound one takes its place, so that the next state keeps a sound one beside itself.
    save_state(run, *learner(3), {"rows": [{}, {}, {}]})
    assert epoch_of(run) == 3
    (run / NEWEST).unlink()
    assert epoch_of(run) == 2


def test_two_damaged_ones_are_an_error(run: Path) -> None:
    damage_a_weight(run / NEWEST)
    cut_short(run / BEFORE)
    with pytest.raises(DataError) as caught:
        load_state(run, *learner(0))
    assert str(caught.value) == (
        f"{run / NEWEST}: damaged model file (its content has another checksum). The checkpoint "
        "before it is of no use either; start again."
    )


def trained(channels: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A convolution whose weights lie in memory as a GPU's do; two steps with a fused optimiser."""
    network = nn.Conv2d(channels, 3, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = make_optimiser([(list(network.parameters()), 1.0)], OptimSettings(lr=0.1))
    for _ in range(2):
        train(network, optimiser, channels)
    return network, optimiser


def train(network: nn.Module, optimiser: torch.optim.Optimizer, channels: int) -> None:
    face = torch.linspace(-1, 1, channels * 16).view(1, channels, 4, 4)
    step(optimiser, network(face).square().sum(), clip=0, where="here")


def test_what_is_restored_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    learners = {2: trained(2), 4: trained(4)}
    fresh = {2: trained(2), 4: trained(4)}
    save_state(tmp_path, *learners[2], {"rows": [{"epoch": 1}], "n": 3}, {"critic": learners[4]})
    found = load_state(tmp_path, *fresh[2], {"critic": fresh[4]})
    assert found == {"rows": [{"epoch": 1}], "n": 3}
    for channels in (2, 4):
        for network, optimiser in (learners[channels], fresh[channels]):
            train(network, optimiser, channels)
        states = [network.state_dict() for network, _ in (learners[channels], fresh[channels])]
        for name, tensor in states[0].items():
            assert torch.equal(tensor, states[1][name]), name


def test_what_is_restored_keeps_the_settings_of_the_optimiser(tmp_path: Path) -> None:
    network, optimiser = trained(2)
    save_state(tmp_path, network, optimiser, {"rows": []})
    before = copy.deepcopy(optimiser.state_dict()["param_groups"])
    load_state(tmp_path, network, optimiser)
    assert optimiser.state_dict()["param_groups"] == before


def test_what_does_not_fit_is_named_with_its_network(tmp_path: Path) -> None:
    save_state(tmp_path, *trained(2), {"rows": []}, {"critic": trained(4)})
    path = tmp_path / NEWEST
    with pytest.raises(DataError) as caught:
        load_state(tmp_path, *trained(2), {"critic": trained(3)})
    assert str(caught.value) == (
        f"{path} (critic): tensor 'optimiser.0.exp_avg' has shape (3, 4, 2, 2), its parameter has "
        "(3, 3, 2, 2)."
    )
    with pytest.raises(DataError) as caught:
        load_state(tmp_path, *trained(2))
    assert str(caught.value) == (f"{path}: tensor 'critic.network.bias' has no place in this run.")


def test_a_folder_without_any_starts_from_scratch(tmp_path: Path) -> None:
    assert load_state(tmp_path, *learner(0)) is None


def test_a_state_that_cannot_be_written_leaves_both(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = {p.name: p.read_bytes() for p in run.iterdir()}
    monkeypatch.setattr("sspl.io.weights.save_file", full)
    with pytest.raises(Exception, match="No space left"):
        save_state(run, *learner(4), {"rows": []})
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


@pytest.mark.parametrize(
    "name",
    [
        "optimiser.9.step",
        "optimiser.1.step",
        "optimiser.x.step",
        "optimiser",
        "network",
        "thing.0.step",
        "",
    ],
)
def test_a_tensor_with_a_strange_name_is_refused(tmp_path: Path, name: str) -> None:
    network, optimiser = learner(1)
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    save_tensors(tmp_path / NEWEST, tensors | {name: torch.ones(())}, {"rows": []})
    with pytest.raises(DataError, match="no place in this"):
        load_state(tmp_path, network, optimiser)


def test_a_moment_of_another_shape_is_refused(tmp_path: Path) -> None:
    network, optimiser = learner(1)
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors["optimiser.0.exp_avg"] = torch.ones(3)
    save_tensors(tmp_path / NEWEST, tensors, {"rows": []})
    with pytest.raises(DataError, match=r"has shape \(3,\), its parameter has \(2, 2\)"):
        load_state(tmp_path, network, optimiser)


@pytest.mark.parametrize("rows", [None, 3, "x", [1], [{}, 1], {}, {"a": 1}])
def test_a_log_that_is_none_is_refused(tmp_path: Path, rows: object) -> None:
    save_tensors(tmp_path / NEWEST, {}, {"rows": rows})
    with pytest.raises(DataError, match=r"damaged checkpoint \(it holds no log of its run\)\. The"):
        load_state(tmp_path, *learner(0))


def test_the_checksum_covers_names_shapes_kinds_and_metadata(tmp_path: Path) -> None:
    """Files that differ in one of them have different checksums; equal ones have the same."""
    ones = torch.ones(4)
    variants: list[tuple[dict[str, torch.Tensor], dict[str, int]]] = [
        ({"a": ones}, {"x": 1}),
        ({"b": ones}, {"x": 1}),
        ({"a": ones.view(2, 2)}, {"x": 1}),
        ({"a": ones.view(torch.int32)}, {"x": 1}),
        ({"a": ones}, {"x": 2}),
        ({"a": ones, "c": ones[:0]}, {"x": 1}),
    ]
    sums = []
    for tensors, metadata in (*variants, variants[0]):
        path = tmp_path / "x.safetensors"
        save_tensors(path, tensors, metadata)
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        sums.append(header["__metadata__"]["sspl_sha256"])
        assert load_tensors(path)[1] == metadata
    assert sums[0] == sums[-1]
    assert len(set(sums)) == len(variants)


def test_files_without_a_checksum_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    tensors, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata is None
    assert tensors["a"].tolist() == [1, 1]
