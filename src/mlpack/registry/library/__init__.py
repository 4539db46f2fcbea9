"""The library's part for registries: what `mlpack.open_registry` and its neighbours give. See `mlpack.pipeline.library`."""
