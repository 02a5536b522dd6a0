"""The optimisers are torch's, without what torch's compiler would add to the start of a command."""

import copy
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import nn

from sspl.optim import optimiser
from sspl.optim.optim_settings import OptimSettings
from sspl.optim.optimiser import make_optimiser, set_lr, step

ALONE = """
import sys, torch
from sspl.optim.optim_settings import OptimSettings
from sspl.optim.optimiser import make_optimiser, step
weight = torch.nn.Parameter(torch.ones(2, 2))
optimiser = make_optimiser([([weight], 1.0)], OptimSettings())
step(optimiser, weight.square().sum(), clip=5.0, where="step 1")
optimiser.load_state_dict(optimiser.state_dict())
import sspl.evaluation.evaluate, sspl.training.finetune
print({"torch._dynamo", "sklearn"} & set(sys.modules), weight.ne(1).all().item())
"""


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_steps_and_state_are_those_of_torch(name: Literal["adam", "adamw"]) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 3), nn.PReLU(), nn.Linear(3, 1))
    theirs = copy.deepcopy(ours)
    settings = OptimSettings(name=name, lr=0.1, weight_decay=0.1)
    mine = make_optimiser([(list(ours.parameters()), 1.0)], settings)
    set_lr(mine, 0.05)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    decayed = [p for p in theirs.parameters() if name == "adam" or p.ndim > 1]
    spared = [p for p in theirs.parameters() if not any(p is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
    plain = kind([g for g in groups if g["params"]], lr=0.05, fused=True)
    for i in range(4):
        x = torch.randn(5, 4)
        step(mine, ours(x).square().mean(), clip=0, where=f"step {i}")
        plain.zero_grad()
        theirs(x).square().mean().backward()
        plain.step()
        # What was kept goes on as it would have.
        again = make_optimiser([(list(ours.parameters()), 1.0)], settings)
        again.load_state_dict(copy.deepcopy(mine.state_dict()))
        mine = again
    assert all(p.grad is None for p in ours.parameters())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_group_learns_at_its_own_rate() -> None:
    whole, half = (nn.Linear(2, 2, bias=False) for _ in range(2))
    groups = [(list(whole.parameters()), 1.0), (list(half.parameters()), 0.5)]
    made = make_optimiser(groups, OptimSettings(lr=0.1))
    assert [group["lr"] for group in made.param_groups] == [0.1, 0.05]
    set_lr(made, 0.4)
    assert [group["lr"] for group in made.param_groups] == [0.4, 0.2]


@pytest.mark.parametrize(
    ("devices", "fused"),
    [("cpu", True), ("cuda", True), ("cpu cuda", True), ("mps", None), ("cpu mps", None)],
)
def test_all_tensors_are_updated_at_once_where_torch_can(
    devices: str, fused: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(optimiser, "_AdamW", lambda _, **options: given.update(options))
    weights: Any = [SimpleNamespace(ndim=2, device=torch.device(d)) for d in devices.split()]
    make_optimiser([(weights, 1.0)], OptimSettings(name="adamw"))
    assert given == {"fused": fused}


def test_training_and_judging_start_without_what_takes_seconds_to_import() -> None:
    said = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True
    ).stdout
    assert said == "set() True\n"
