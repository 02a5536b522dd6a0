"""The packages of the extra `export`; importing this module without them says what to install."""

from sspl.errors import SsplError


def not_installed(absent: ImportError) -> SsplError:
    """Return the error for a package of the extra that is not there."""
    return SsplError(
        f"ONNX files need a package that is not installed ({absent.name}); "
        "run: pip install 'sspl[export]'."
    )


try:
    import onnx as onnx
    import onnxruntime as onnxruntime
except ImportError as absent:
    raise not_installed(absent) from None
