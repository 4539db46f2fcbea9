"""What passes share about ONNX graphs: files, the engine's answers, shapes, and the standard form of a foreign graph."""
