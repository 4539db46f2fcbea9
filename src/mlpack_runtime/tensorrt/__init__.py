"""TensorRT on a device: its engines found, built, verified and kept, and the backend that runs them."""
