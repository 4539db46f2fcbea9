"""onnxruntime's CUDA provider, as a backend: the same C library as on the processor, with one more provider in its options.

Promises: whatever the provider lacks (its library, CUDA's, a driver, a device) is a BackendError "package" in the engine's words;
an error of CUDA's own is "device", or "sticky" where CUDA says that its context is lost. What the provider has no kernel for runs
on the processor. Will not: restrict sizes, choose a GPU (the first that the process sees), or keep tensors on the device between
calls: inputs and outputs are the host's.

Never run: no machine of this project has had an NVIDIA GPU. What was run is everything up to the engine's refusal where there is
none.

Source of the numbers: `OrtApi` in onnxruntime_c_api.h, whose last function of version 10 is 203 and of version 11 is 209 (the
assertions at the end of onnxruntime_c_api.cc); the five between are CUDA's options. Of CUDA's errors: cudaError_t in
driver_types.h, whose numbers are cuda.h's.
"""

import os
from ctypes import CDLL, RTLD_GLOBAL, byref, c_char_p, c_size_t, c_void_p

from mlpack_runtime import model, ort
from mlpack_runtime.backend import BackendError
from mlpack_runtime.backends.cpu import CpuBackend
from mlpack_runtime.backends.cuda_driver import STICKY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_APPEND, _CREATE, _UPDATE, _RELEASE = 204, 205, 206, 208
_OPTIONS = {
    "device_id": "0",
    # Each new size would search for the fastest convolution, for seconds; batches have many sizes.
    "cudnn_conv_algo_search": "HEURISTIC",
    "do_copy_in_default_stream": "1",
    # Not the next power of two: what a large batch took once is then no more than it took.
    "arena_extend_strategy": "kSameAsRequested",
}


class CudaBackend(CpuBackend):
    """An open session whose first provider is CUDA's."""

    kind = "cuda"
    device = "cuda:0"

    @staticmethod
    def sort_of(message: str, code: int) -> str:
        """What an error means: by CUDA's number in its words ("CUDA failure 700: an illegal memory access ..."), where a library
        of CUDA's failed the device, and else as on a processor."""
        for mark in ("CUDA failure ", "CUDA error "):
            number = message.partition(mark)[2].partition(":")[0].strip()
            if number.isdecimal():
                return "sticky" if int(number) in STICKY else "device"
        if any(f"{library} failure" in message for library in ("CUDNN", "CUBLAS", "CURAND", "CUFFT")):
            return "device"
        return CpuBackend.sort_of(message, code)


def load(directory: str, settings: "Mapping[str, Any]") -> CudaBackend:
    """Open the graph that model.json names on the first GPU. Raises BackendError, ModelError for a package that is not whole."""
    library = model.library("lib/libonnxruntime.so", "the engine")
    _preload(os.path.dirname(library))
    try:
        engine = ort.Engine(library)
        return CudaBackend(model.open_session(engine, directory, settings, _append))
    except ort.OrtError as error:
        # Memory that another process still has comes back; a driver or a device that is missing does not.
        sort = "device" if "CUDA failure 2:" in str(error) or "out of memory" in str(error).lower() else "package"
        raise BackendError(f"onnxruntime's CUDA provider cannot be used: {error}", sort) from error


def _append(engine: ort.Engine, options: c_void_p) -> None:
    pointer = c_void_p
    made = c_void_p()
    engine.check(ort.function(engine.table, _CREATE, pointer, pointer)(byref(made)))
    try:
        names = (c_char_p * len(_OPTIONS))(*[name.encode() for name in _OPTIONS])
        values = (c_char_p * len(_OPTIONS))(*[value.encode() for value in _OPTIONS.values()])
        update = ort.function(engine.table, _UPDATE, pointer, pointer, pointer, pointer, c_size_t)
        engine.check(update(made, names, values, len(_OPTIONS)))
        engine.check(ort.function(engine.table, _APPEND, pointer, pointer, pointer)(options, made))
    finally:
        ort.function(engine.table, _RELEASE, None, pointer)(made)


def _preload(folder: str) -> None:
    """CUDA's libraries, where the package brings them: the provider asks the loader for them by name, which looks elsewhere."""
    left = sorted(name for name in os.listdir(folder) if name.startswith(("libcu", "libnv")) and ".so" in name)
    while left:
        kept = []
        for name in left:  # in whatever order: one that needs another comes again after it
            try:
                CDLL(os.path.join(folder, name), RTLD_GLOBAL)
            except OSError:
                kept.append(name)
        if len(kept) == len(left):
            return
        left = kept
