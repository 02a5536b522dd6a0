"""BatchNorm whose statistics are those of all processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from sspl.distributed.group import process_count
from sspl.errors import SettingsError


def synchronise_norms(network: nn.Module) -> None:
    """Let the BatchNorm layers take their statistics over all processes, in place.

    torch's own layer does so on accelerators, `BatchNormOverProcesses` on a CPU. Raises
    `SettingsError` for a layer that is more than a BatchNorm.
    """
    if process_count() == 1:
        return
    for parent_name, parent in list(network.named_modules()):
        for name, layer in list(parent.named_children()):
            if not isinstance(layer, _BatchNorm):
                continue
            if type(layer) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise SettingsError(
                    f"optim.sync_batchnorm: {parent_name}.{name} is a {type(layer).__name__}, "
                    "whose statistics cannot be shared; set optim.sync_batchnorm=false."
                )
            setattr(parent, name, _synchronised(layer))


def _synchronised(layer: _BatchNorm) -> nn.Module:
    if next(layer.buffers()).device.type != "cpu":
        on_accelerator: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(layer)  # type: ignore[no-untyped-call]
        return on_accelerator
    shared = BatchNormOverProcesses(layer.num_features, layer.eps, layer.momentum, layer.affine)
    # The very same parameters: an optimiser may hold them already.
    shared.weight, shared.bias = layer.weight, layer.bias
    shared._buffers.update(layer._buffers)
    return shared.train(layer.training)


class BatchNormOverProcesses(_BatchNorm):
    """BatchNorm whose statistics in training are those of all processes, for CPUs.

    torch.nn.SyncBatchNorm, its equal, needs an accelerator.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # any number of dimensions will do

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c) or (n, c, h, w) to the same shape."""
        if not self.training:
            unchanged: Tensor = super().forward(x)
            return unchanged
        with torch.autocast(x.device.type, enabled=False):
            return self._normalised(x.float()).to(x.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        places, axes = x.numel() // x.shape[1], [0, *range(2, x.ndim)]
        across = (-1, *[1] * (x.ndim - 2))
        summed = _summed(torch.cat([x.sum(axes), x.new_full((1,), places)]))
        total = summed[-1].detach()
        centred = x - (summed[:-1] / total).view(across)
        variance = _summed(centred.square().sum(axes)) / total
        self._learn((summed[:-1] / total).detach(), variance.detach() * total / (total - 1))
        factor = (variance + self.eps).rsqrt()
        if self.affine:
            return centred * (factor * self.weight).view(across) + self.bias.view(across)
        return centred * factor.view(across)

    def _learn(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def _summed(mine: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(mine)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
