"""Where and in which precision the arithmetic runs."""

import ctypes
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.amp import GradScaler

from sspl.distributed.group import local_count, local_rank, process_count
from sspl.errors import SettingsError, first_line
from sspl.settings import Precision

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
M_ARENA_MAX = -8


def pick_device(name: str) -> torch.device:
    """Return a device; `auto` is the accelerator torch finds, else the CPU.

    Raises `SettingsError` when the named device is not there.
    """
    if name == "auto":
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        return _own(found) if found else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device: '{name}' cannot be used here ({reason}).") from None
    return _own(device)


def _own(device: torch.device) -> torch.device:
    """Return the accelerator that belongs to this process, of those that its machine has."""
    if process_count() == 1 or device.type == "cpu" or device.index is not None:
        return device
    found = torch.accelerator.device_count()
    if local_rank() >= found:
        raise SettingsError(
            f"device: this machine has {found} of kind {device.type} for {local_count()} "
            f"processes; start it with --nproc-per-node {found}."
        )
    torch.accelerator.set_device_index(local_rank())
    return torch.device(device.type, local_rank())


def spread(name: str, processes: int) -> list[str]:
    """Return a device for each of some processes on this machine that do not train together.

    `auto` deals out the accelerators in turn; else, and without any, all have the one named.
    """
    if name != "auto" or not torch.accelerator.is_available():
        return [name] * processes
    kind, count = torch.accelerator.current_accelerator(), torch.accelerator.device_count()
    assert kind is not None
    return [f"{kind.type}:{i % count}" for i in range(processes)]


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether bf16 arithmetic is native on the device, and so faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return a context in which matrix work is done as `arithmetic` says."""
    kind = arithmetic(device, precision)
    return torch.autocast(device.type, kind, enabled=kind != torch.float32)


def arithmetic(device: torch.device, precision: Precision) -> torch.dtype:
    """Return the kind of number that matrix work is done in.

    `auto` is bf16 where that is fast, else fp16 on a GPU with tensor cores, else fp32.
    """
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if has_fast_bf16(device):
        return torch.bfloat16
    return torch.float16 if has_fast_fp16(device) else torch.float32


def has_fast_fp16(device: torch.device) -> bool:
    """Tell whether a CUDA device has tensor cores for fp16: compute capability 7.0 and above."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def loss_scaler(device: torch.device, precision: Precision) -> GradScaler | None:
    """Return what keeps small gradients from vanishing in fp16, None for other arithmetic."""
    fp16 = arithmetic(device, precision) == torch.float16
    return GradScaler(device.type) if fp16 else None


def use_tensor_cores(device: torch.device, precision: Precision) -> None:
    """Let what stays in fp32 on a CUDA device be computed in TF32, but for precision fp32."""
    if device.type == "cuda":
        short = precision != "fp32"
        torch.set_float32_matmul_precision("high" if short else "highest")
        torch.backends.cudnn.allow_tf32 = short


@contextmanager
def compile_errors_explained() -> Iterator[None]:
    """Turn what torch raises where it cannot compile into one sentence."""
    try:
        yield
    except Exception as error:
        # Known by where they are defined: to import them takes seconds.
        homes = {kind.__module__.rpartition(".")[0] for kind in type(error).__mro__}
        if homes.isdisjoint({"torch._dynamo", "torch._inductor"}):
            raise
        raise SettingsError(
            f"runtime.compile: torch cannot compile the network here ({first_line(error)}); "
            "install a C++ compiler, or set runtime.compile=false."
        ) from None


def use_fixed_order(deterministic: bool) -> None:
    """Let torch use those kernels alone that give the same bits each time, or any.

    On a GPU sums that many threads add to come out differently each time. CPUs need no telling.
    Call it before the first product on a GPU, whose libraries read their environment then.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Saying what holds already would import torch's compiler, seconds of every command.
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)
    # Shapes seldom change here, so that it pays to try which convolution is fastest.
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    # Nothing is read here before it is written: no memory needs to be filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@cache
def places_on(places: tuple[int, ...], device: torch.device) -> Tensor:
    """Return int64 places on a device, sent there once: an index of numbers is sent each time."""
    return torch.tensor(places, device=device)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code draws from the global state
    torch.manual_seed(seed)


def drawn_state(device: torch.device) -> dict[str, str]:
    """Return where torch's own draws are, on the CPU and a CUDA device, as JSON values."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {name: bytes(state.tolist()).hex() for name, state in states.items()}


def restore_draws(device: torch.device, saved: Mapping[str, str]) -> None:
    """Go on with torch's own draws where they were; another kind of device begins its own."""
    states = {
        name: torch.tensor(list(bytes.fromhex(t)), dtype=torch.uint8) for name, t in saved.items()
    }
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def generator_for(*key: int) -> torch.Generator:
    """Return a CPU generator that is a function of the key alone, such as (seed, epoch, step)."""
    words = np.random.SeedSequence(list(key)).generate_state(2, np.uint64)
    generator = torch.Generator()
    generator.manual_seed(int(words[0] >> np.uint64(1)))
    return generator


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back at every training step.

    Activations are allocated and freed each step; returned pages must be zeroed anew by the
    kernel, which took about a third of a CPU training step. A no-op off glibc.
    """
    _tell_glibc((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> None:
    """Tell glibc to hand freed memory back, so that a process that runs for long stays small.

    By itself it raises both thresholds to what was freed once, and each thread has a heap of its
    own that keeps the most that it ever held. Call it before threads are started. A no-op off
    glibc.
    """
    _tell_glibc((M_MMAP_THRESHOLD, 2**22), (M_TRIM_THRESHOLD, 2**24), (M_ARENA_MAX, 2))


def _tell_glibc(*options: tuple[int, int]) -> None:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for name, value in options:
        mallopt(name, value)
