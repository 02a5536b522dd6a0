"""The quick PReLU has the values and gradients of torch's."""

import pytest
import torch
from torch import nn

from sspl.models.activation import PReLU


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
def test_values_and_gradients_are_those_of_torch(
    layout: torch.memory_format, dtype: torch.dtype, tolerance: float
) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, 4, 6, generator=draw).to(dtype, memory_format=layout)
    x[0, 0, 0, :2] = 0.0
    weights = torch.randn(3, 5, 4, 6, generator=draw)
    results = []
    for kind in (nn.PReLU, PReLU):
        layer, mine = kind(5), x.clone().requires_grad_()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([-0.5, 0.0, 0.25, 1.0, 2.0]))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            y = layer(mine)
        assert y.dtype == dtype
        (y.float() * weights).sum().backward()
        assert layer.weight.grad is not None
        results.append((y.detach(), mine.grad, layer.weight.grad))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_outside_training_it_is_torchs_own() -> None:
    layer = PReLU(2).eval()
    y = layer(torch.ones(1, 2, 1, 1, requires_grad=True))
    assert type(y.grad_fn).__name__ == "PreluKernelBackward0"
