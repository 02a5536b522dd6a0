"""Where arithmetic runs: what torch says is passed on as one sentence."""

import os

import pytest
import torch

from sspl.device import compile_errors_explained, use_fixed_order
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
    use_fixed_order(True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    use_fixed_order(False)
    assert not torch.are_deterministic_algorithms_enabled()
