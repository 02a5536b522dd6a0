"""Where arithmetic runs: what torch says is passed on as one sentence."""

import pytest

from sspl.device import compile_errors_explained
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
