"""What several test files do in the same way."""

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from click.testing import CliRunner, Result

from sspl.cli.main import cli
from sspl.errors import SsplError
from sspl.models.splnet import AnyAttributeNetwork
from sspl.training.finetune import freeze_statistics, parameter_groups
from sspl.training.settings import FinetuneSettings


def sspl(*arguments: object) -> Result:
    """Run a command that must succeed."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*arguments: object) -> str:
    """Run a command that must be refused; return the sentence."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert isinstance(result.exception, SsplError), (result.output, result.exception)
    sentence = str(result.exception)
    assert "\n" not in sentence
    return sentence


def import_file(path: Path) -> ModuleType:
    """Import a Python file that is no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed_by_a_step(network: AnyAttributeNetwork, freeze: int, size: int) -> set[str]:
    """Train one step on what `freeze` leaves free; return the names of tensors that changed."""
    network.train()
    groups = parameter_groups(network, FinetuneSettings(freeze=freeze))
    freeze_statistics(network, freeze)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for group, _ in groups for p in group], lr=1.0)
    network(torch.randn(4, 3, size, size)).square().sum().backward()
    optimiser.step()
    return {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
