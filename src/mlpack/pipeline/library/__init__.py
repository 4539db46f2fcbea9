"""The library: what `import mlpack` offers, but for registries, which are `mlpack.registry.library`.

Users import its names from `mlpack`, where they are loaded at first use. The command line reaches the other rooms in the same way.
"""
