"""ONNX files: read without trust, run on the CPU.

Importing this module without the packages of the extra `export` says what to install.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sspl.errors import DataError, SsplError
from sspl.io.cores import usable_cores


def not_installed(absent: ImportError) -> SsplError:
    """Return the error for a package of the extra that is not there."""
    return SsplError(
        f"ONNX files need a package that is not installed ({absent.name}); "
        "run in the clone of sspl: pip install '.[export]'."
    )


try:
    import onnx as onnx
    import onnxruntime as onnxruntime
except ImportError as absent:
    raise not_installed(absent) from None


def parse_onnx(content: bytes, where: str) -> onnx.ModelProto:
    """Return the message in an ONNX file; raise `DataError` naming `where` when it is none."""
    try:
        proto = onnx.load_model_from_string(content)
    except Exception:  # protobuf's class of this error differs between its implementations
        proto = None
    # An empty file is a valid message, of a model without a graph.
    if proto is None or not proto.HasField("graph"):
        raise DataError(f"{where}: not an ONNX file, or a damaged one; export it again.")
    return proto


def messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all within it, tensors of attributes and subgraphs too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in (value,) if hasattr(value, "ListFields") else value:
                yield from messages(child)


def external_tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the tensors whose values lie in another file."""
    external = onnx.TensorProto.EXTERNAL
    return [
        part
        for part in messages(proto)
        if isinstance(part, onnx.TensorProto) and part.data_location == external
    ]


def external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """Return the files beside `path` that hold some of its graph's tensors.

    Raises `DataError` when one of them lies outside the folder of `path`, or is not there.
    """
    folder = path.resolve().parent
    files = set()
    for tensor in external_tensors(proto):
        named = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        file = (folder / named).resolve()
        if not named or not file.is_relative_to(folder):
            raise DataError(
                f"{path}: wants to read '{named}', which is outside its folder; save the model "
                "in one file, or its data beside it."
            )
        if not file.is_file():
            raise DataError(f"{path}: keeps weights in '{named}', which is not in its folder.")
        files.add(file)
    return sorted(files)


def start_session(model: bytes | Path, where: str) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU; raise `DataError` naming `where` when it cannot run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    # Threads that wait by spinning would take the cores from those that decode pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if not inputs or not outputs:
            raise ValueError("it has no input or no output")
        # Names that are no UTF-8 come to light here.
        _ = [(value.name, value.shape) for value in (*inputs, *outputs)]
        return session
    except Exception as error:  # onnxruntime's errors have no base class of their own
        reason = " ".join(str(error).split())
        raise DataError(f"{where}: onnxruntime cannot run this graph ({reason}).") from None


def run_in_batches(
    session: onnxruntime.InferenceSession,
    output: str,
    pictures: NDArray[Any],
    batch: int | None,
    where: str,
) -> NDArray[Any]:
    """Return one output for all pictures, (n, ...), of a graph with one input.

    `batch` is how many it takes at once, None for any number; the last are filled up. Raises
    `DataError` naming `where` when the graph cannot take them or gives no row for each.
    """
    step = batch or len(pictures)
    filled = np.concatenate([pictures, np.repeat(pictures[-1:], -len(pictures) % step, axis=0)])
    name = session.get_inputs()[0].name
    found = []
    for start in range(0, len(filled), step):
        part = np.ascontiguousarray(filled[start : start + step])
        try:
            rows = session.run([output], {name: part})[0]
        except Exception as error:  # onnxruntime's errors have no base class of their own
            reason = " ".join(str(error).split())
            raise DataError(f"{where}: the graph cannot take these pictures ({reason}).") from None
        if not isinstance(rows, np.ndarray) or rows.shape[:1] != (step,):
            shape = list(getattr(rows, "shape", ()))
            raise DataError(
                f"{where}: made {shape} of {step} pictures; it must give a row for each."
            )
        found.append(rows)
    return np.concatenate(found)[: len(pictures)]


def whole_graph(path: Path) -> bytes:
    """Return the bytes of a graph with all its weights, also those in files beside it.

    Raises `DataError` as `parse_onnx` and `external_files`, and for one beyond 2 GB.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give an ONNX file.") from None
    proto = parse_onnx(content, str(path))
    if not external_files(proto, path):
        return content
    try:
        onnx.load_external_data_for_model(proto, str(path.resolve().parent))
        whole: bytes = proto.SerializeToString()
    except Exception as error:  # protobuf's class of this error differs between its implementations
        raise DataError(f"{path}: its weights cannot be read into one file ({error}).") from None
    return whole
