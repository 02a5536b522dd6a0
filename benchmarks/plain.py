"""The straightforward way to train a network, which benchmarks compare with.

fp32, contiguous tensors, torch's own PReLU, and an optimiser that updates one tensor after the
other. Everything else is the package's own: views, network, tasks, losses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from sspl.models.activation import PReLU
from sspl.models.backbones.base import Backbone
from sspl.settings import build
from sspl.tasks.prt import PatchRotation
from sspl.training import finetune as stage2
from sspl.training import pretrain as stage1
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

S = TypeVar("S", PretrainSettings, FinetuneSettings)


def fp32(settings: S) -> S:
    return build(type(settings), settings.model_dump(mode="json"), ["runtime.precision=fp32"])


def straightforward(run: stage1.Pretraining | stage2.Finetuning) -> None:
    """Lay a run's tensors out contiguously and update them one by one."""
    run.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in run.network.modules():
        if isinstance(module, Backbone):
            module.register_forward_pre_hook(_contiguous)
        if isinstance(module, PatchRotation):
            module.reduce.register_forward_pre_hook(_contiguous)
        if isinstance(module, PReLU):
            module.__class__ = nn.PReLU
    for group in (run.optimiser.defaults, *run.optimiser.param_groups):
        group["fused"], group["foreach"] = False, False


def _contiguous(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].contiguous(), *given[1:])


class PlainPretraining(stage1.Pretraining):
    def __init__(self, settings: PretrainSettings) -> None:
        super().__init__(fp32(settings))
        straightforward(self)


class PlainFinetuning(stage2.Finetuning):
    def __init__(self, settings: FinetuneSettings) -> None:
        super().__init__(fp32(settings))
        straightforward(self)


@contextmanager
def plainly() -> Iterator[None]:
    """Let `pretrain` and `finetune` go the straightforward way meanwhile."""
    kept = stage1.Pretraining, stage2.Finetuning
    stage1.Pretraining, stage2.Finetuning = PlainPretraining, PlainFinetuning  # type: ignore[misc]
    try:
        yield
    finally:
        stage1.Pretraining, stage2.Finetuning = kept  # type: ignore[misc]
