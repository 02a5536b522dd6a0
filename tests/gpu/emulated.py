"""A device that computes on the CPU and is as strict as a GPU, for machines without one.

`install()` makes it known to torch as `emulated`, for the whole process: it is then also what
`auto` picks. Its tensors wrap those of the CPU. What a GPU refuses raises:

- operations on tensors of both devices (numbers and, as indices, whole tensors may be the CPU's);
- numpy arrays of its tensors;
- with `runtime.deterministic`, those operations that CUDA has in no fixed order.

In autocast it casts as CUDA does, whose rules are not the CPU's. Not shown are speed, memory,
rounding and errors of CUDA's own kernels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

NAME: Final = "emulated"

COPIES: Final = {"copy_", "_to_copy", "_copy_from"}
INDEXED: Final = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operations whose indices may lie on the CPU."""

NO_FIXED_ORDER: Final = {
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "grid_sampler_2d_backward",
    "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward", "nll_loss2d_forward",
    "reflection_pad2d_backward", "histc", "put_",
}  # fmt: skip
"""Operations of which CUDA has no deterministic kernel (torch.use_deterministic_algorithms)."""

LOWER: Final = (
    "conv2d", "prelu", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm",
)  # fmt: skip
FULL: Final = (
    "binary_cross_entropy_with_logits", "cosine_similarity", "cross_entropy_loss", "cumsum", "exp",
    "kl_div", "l1_loss", "layer_norm", "log", "log1p", "log_softmax.int", "mse_loss", "nll_loss",
    "norm.Scalar", "pow.Tensor_Scalar", "prod", "reciprocal", "rsqrt", "smooth_l1_loss",
    "softmax.int", "sum", "sum.dim_IntList",
)  # fmt: skip
WIDEST: Final = ("addcmul", "cat", "grid_sampler", "index_put", "scatter_add", "stack")
"""Operations that CUDA's autocast does in bf16, in float32, and in the widest of their inputs."""

FAULTS: Final[list[str]] = []
"""What was refused in backward passes, where an error would end the process without a word."""

_libraries: list[torch.library.Library] = []


class EmulatedTensor(torch.Tensor):
    """A tensor of the device, around the one on the CPU that has its numbers."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "EmulatedTensor":
        made: EmulatedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.removeprefix("aten::")
        _require_one_device(function, name, args, kwargs)
        if name in NO_FIXED_ORDER and torch.are_deterministic_algorithms_enabled():
            _refuse(f"{name} on '{NAME}' does not have a deterministic implementation")
        there = torch.device(kwargs.get("device") or NAME)
        given: dict[str, Any] = tree_map_only(EmulatedTensor, _raw, kwargs)
        if "device" in given:
            given["device"] = torch.device("cpu")
        found = function(*tree_map_only(EmulatedTensor, _raw, args), **given)
        if name == "copy_" and not _is_emulated(args[0]):
            return args[0]
        if there.type == "cpu":
            return found
        return return_and_correct_aliasing(
            function, args, kwargs, tree_map_only(Tensor, EmulatedTensor, found)
        )


def _raw(tensor: EmulatedTensor) -> Tensor:
    return tensor.raw


def _is_emulated(value: object) -> bool:
    return isinstance(value, EmulatedTensor)


def _refuse(fault: str) -> None:
    # On its way out of a backward pass an error meets torch's C++ asking the device's guard, which
    # is written in Python, too.
    if torch._C._current_graph_task_id() == -1:
        raise RuntimeError(fault)
    FAULTS.append(fault)


def _require_one_device(function: Any, name: str, args: Any, kwargs: Any) -> None:
    if name in COPIES:
        return
    if name in INDEXED and _is_emulated(args[0]):
        args = (args[0], *args[2:])
    # A number may come from the CPU where each element is worked on by itself.
    numbers = torch.Tag.pointwise in function.tags
    for tensor in tree_leaves((args, kwargs)):
        if not isinstance(tensor, Tensor) or _is_emulated(tensor):
            continue
        if not (numbers and tensor.ndim == 0):
            _refuse(
                f"{name}: expected all tensors to be on the same device, but found '{NAME}' and "
                f"one {tuple(tensor.shape)} on {tensor.device}"
            )


class Module:
    """What torch expects of a backend, as `torch.emulated`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def can_install() -> bool:
    """Tell whether this torch can have a device that is written in Python."""
    from torch.utils import backend_registration

    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def install() -> None:
    """Make the device known to torch, until the process ends."""
    from torch.utils import backend_registration

    if _libraries:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    # A module's parameters stay the same objects when it moves, as between a CPU and a GPU.
    torch.__future__.set_swap_module_params_on_conversion(True)
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    kinds = ((LOWER, torch.bfloat16), (FULL, torch.float32), (WIDEST, None))
    for operations, kind in kinds:
        for operation in operations:
            library.impl(operation, _cast(operation, kind), "AutocastPrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _libraries.extend((library, others))


def _empty(
    size: Sequence[int],
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    how = memory_format or torch.contiguous_format
    return EmulatedTensor(torch.empty(size, dtype=dtype, memory_format=how))


def _empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Tensor:
    return EmulatedTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    # torch.tensor copies so, past `__torch_dispatch__`.
    there, here = (t.raw if isinstance(t, EmulatedTensor) else t for t in (target, source))
    there.copy_(here)
    return target


def _cast(operation: str, kind: torch.dtype | None) -> Callable[..., Any]:
    """Return an operation that brings its inputs to a kind, the widest of them where None."""
    name, _, overload = operation.partition(".")
    function = getattr(getattr(torch.ops.aten, name), overload or "default")
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]

    def call(*args: Any, **kwargs: Any) -> Any:
        given = [t for t in tree_leaves(args) if _is_emulated(t) and t.is_floating_point()]
        widest = max((t.dtype for t in given), key=lambda k: k.itemsize, default=torch.float32)

        def cast(value: Tensor) -> Tensor:
            there = _is_emulated(value) and value.is_floating_point()
            return value.to(kind or widest) if there else value

        with torch._C._ExcludeDispatchKeyGuard(autocast):  # type: ignore[attr-defined]
            return function(*tree_map_only(Tensor, cast, args), **kwargs)

    return call
