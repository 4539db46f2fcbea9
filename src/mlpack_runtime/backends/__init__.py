"""What computes: the processor, CUDA; TensorRT has a folder of its own."""
