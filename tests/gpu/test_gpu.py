"""The checks of a GPU, one by one; `pytest -m gpu` where there is one."""

import pytest
import torch
from tests.gpu.checks import Bench, names

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench("cuda", tmp_path_factory.mktemp("gpu"))


@pytest.mark.parametrize("name", names("cuda"))
def test_on_a_gpu(bench: Bench, name: str) -> None:
    from tests.gpu.checks import CHECKS

    CHECKS[name](bench)
