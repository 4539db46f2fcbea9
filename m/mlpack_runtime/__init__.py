"""What every package carries: a model behind the engine's C library, and the thinnest way from a request to its answer.

Promises: standard library only, plus `libonnxruntime.so` through ctypes and, for text models, the `tokenizers` extension module.
A cold start imports as little as it can: the modules below are imported where they are needed, never here.
Will not: import `mlpack`, know that a build exists, reach for a cloud SDK, or load a model during a call.
"""
