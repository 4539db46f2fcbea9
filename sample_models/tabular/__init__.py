"""Handwritten digits as 64 columns: an ONNX model with its weights beside it, and rows to measure it with."""
