"""What passes share of ONNX graphs: files, the engine's answers, shapes, the form that a foreign graph is brought into."""
