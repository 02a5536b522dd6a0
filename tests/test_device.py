"""Where arithmetic runs: what torch says is passed on as one sentence."""

import os

import pytest
import torch

from sspl.device import (
    arithmetic,
    compile_errors_explained,
    loss_scaler,
    use_fixed_order,
    use_tensor_cores,
)
from sspl.errors import SettingsError


def test_what_stops_the_compiler_is_one_sentence() -> None:
    class InductorError(RuntimeError):
        __module__ = "torch._inductor.exc"

    with (
        pytest.raises(SettingsError, match=r"runtime\.compile: .*\(no compiler\)") as caught,
        compile_errors_explained(),
    ):
        raise InductorError("no compiler\nand a long log")
    assert "\n" not in str(caught.value)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="another"), compile_errors_explained():
        raise RuntimeError("another")


def test_kernels_of_a_fixed_order_are_asked_for_and_left_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    use_fixed_order(False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert torch.backends.cudnn.benchmark
    use_fixed_order(True)
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    use_fixed_order(False)
    assert not torch.are_deterministic_algorithms_enabled()


CARDS = [
    # compute capability, bf16 in hardware, what `auto` is
    ((9, 0), True, torch.bfloat16),
    ((8, 0), True, torch.bfloat16),
    ((7, 5), False, torch.float16),
    ((7, 0), False, torch.float16),
    ((6, 1), False, torch.float32),
]


@pytest.mark.parametrize(("capability", "bf16", "kind"), CARDS)
def test_arithmetic_is_what_the_card_is_made_for(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], bf16: bool, kind: torch.dtype
) -> None:
    card = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert arithmetic(card, "auto") == kind
    assert arithmetic(card, "fp32") == torch.float32
    assert loss_scaler(card, "bf16") is None


def test_fp16_alone_scales_the_loss() -> None:
    cpu = torch.device("cpu")
    assert loss_scaler(cpu, "fp16") is not None
    assert loss_scaler(cpu, "fp32") is None
    assert loss_scaler(cpu, "auto") is None


def test_precision_fp32_means_all_of_it_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    use_tensor_cores(torch.device("cpu"), "fp32")
    assert (asked, torch.backends.cudnn.allow_tf32) == ([], True)
    use_tensor_cores(torch.device("cuda"), "fp32")
    assert (asked, torch.backends.cudnn.allow_tf32) == (["highest"], False)
    use_tensor_cores(torch.device("cuda"), "auto")
    assert (asked, torch.backends.cudnn.allow_tf32) == (["highest", "high"], True)
