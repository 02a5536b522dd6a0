"""ONNX graphs: read without trust, written without traces."""
