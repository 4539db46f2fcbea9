"""The library that `import mlpack` offers, except for registries, which are `mlpack.registry.library`.

Users import its names from `mlpack`, which loads them at first use. The command line reaches the other rooms in the same way.
"""
