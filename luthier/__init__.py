"""Luthier: compile ONNX models to native CPU code and tune that code on the machine that runs it."""

__version__ = "0.1.0"
