"""CUDA's driver library through ctypes: the few calls that a backend needs, and their errors.

Promises: every status is checked, and becomes a BackendError of the sort that its number means; memory given out is known by its
address. It is the host's library (`libcuda.so.1`), put into a container by NVIDIA's container toolkit; without it everything here
ends with words that say so. Will not: know TensorRT, or several GPUs; the first that the container sees is the one.

    python -c "from mlpack_runtime.backends.cuda_driver import main; main(['ANSWER.json'])"    {"name", "sm", "driver"} of that GPU

Numbers are those of cuda.h; functions with `_v2` are the ones that its macros select since CUDA 3.2 and 4.0.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import sys
from ctypes import CDLL, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p, create_string_buffer

from mlpack_runtime.backend import BackendError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIBRARY = "libcuda.so.1"

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_NAME_BYTES = 256
_PACKAGE = {34, 35, 100, 101, 209, 222, 801, 802, 803, 804}
"""No device, a stub, a driver that is too old or does not fit, no kernel for this GPU: nothing that waiting mends."""
STICKY = frozenset((214, 219, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 999))
"""Uncorrectable memory, illegal accesses and instructions, a kernel's time-out, a failed launch: the context is lost."""


def error_of(code: int, what: str) -> BackendError:
    """What a status other than 0 means. `what`: what was tried, with the driver's own name for the error."""
    if code in STICKY:
        return BackendError(f"{what}. The device's context is lost, and with it this process: start another", "sticky")
    if code in _PACKAGE:
        return BackendError(f"{what}. This package cannot run here", "package")
    return BackendError(what, "device")


class Cuda:
    """The first device and its primary context, with memory and one stream at a time. Raises BackendError."""

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            self._library = CDLL(library)
            self._declare()
        except (OSError, AttributeError) as error:
            raise BackendError(
                f"no CUDA driver: {error}. The driver comes from the host: run on a machine with an NVIDIA GPU, through NVIDIA's "
                "container toolkit (--gpus all), with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
                "package",
            ) from None
        self._call("cuInit", 0)
        self._device = c_int()
        self._call("cuDeviceGet", byref(self._device), 0)
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self.enter()

    def _declare(self) -> None:
        for name, arguments in (
            ("cuInit", (c_uint,)), ("cuDriverGetVersion", (c_void_p,)), ("cuDeviceGet", (c_void_p, c_int)),
            ("cuDeviceGetName", (c_char_p, c_int, c_int)), ("cuDeviceGetAttribute", (c_void_p, c_int, c_int)),
            ("cuDevicePrimaryCtxRetain", (c_void_p, c_int)), ("cuDevicePrimaryCtxRelease_v2", (c_int,)),
            ("cuCtxSetCurrent", (c_void_p,)), ("cuMemAlloc_v2", (c_void_p, c_size_t)), ("cuMemFree_v2", (c_uint64,)),
            ("cuMemHostAlloc", (c_void_p, c_size_t, c_uint)), ("cuMemFreeHost", (c_void_p,)),
            ("cuMemcpyHtoDAsync_v2", (c_uint64, c_void_p, c_size_t, c_void_p)),
            ("cuMemcpyDtoHAsync_v2", (c_void_p, c_uint64, c_size_t, c_void_p)),
            ("cuStreamCreate", (c_void_p, c_uint)), ("cuStreamSynchronize", (c_void_p,)), ("cuStreamDestroy_v2", (c_void_p,)),
            ("cuGetErrorName", (c_int, c_void_p)), ("cuGetErrorString", (c_int, c_void_p)),
        ):  # fmt: skip
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int

    def _call(self, name: str, *arguments: "Any") -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise error_of(code, f"{name} failed: {self._words(code)}")

    def _words(self, code: int) -> str:
        """The driver's name and words for an error."""
        found = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            if getattr(self._library, function)(code, byref(text)) == 0 and text.value:
                found.append(text.value.decode("utf-8", "replace"))
        return f"{', '.join(found) or 'an unknown error'} ({code})"

    def describe(self) -> "dict[str, Any]":
        """{"name": "NVIDIA L4", "sm": "sm89", "driver": 12040}; `driver`: the newest CUDA version that the driver knows."""
        name, number = create_string_buffer(_NAME_BYTES), c_int()
        self._call("cuDeviceGetName", name, _NAME_BYTES, self._device)
        capability = []
        for attribute in (_MAJOR, _MINOR):
            self._call("cuDeviceGetAttribute", byref(number), attribute, self._device)
            capability.append(number.value)
        self._call("cuDriverGetVersion", byref(number))
        return {"name": name.value.decode("utf-8", "replace"), "sm": "sm{}{}".format(*capability), "driver": number.value}

    def enter(self) -> None:
        """Make the context the calling thread's own: to do once in each thread before anything else."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size_bytes: int) -> int:
        """Device memory; its address. One byte at least: CUDA refuses none, and an empty tensor needs an address too."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), max(1, size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree_v2", address)

    def allocate_host(self, size_bytes: int) -> int:
        """Pinned memory of the host, which copies run beside kernels from; its address."""
        address = c_void_p()
        self._call("cuMemHostAlloc", byref(address), max(1, size_bytes), 0)
        return address.value or 0

    def free_host(self, address: int) -> None:
        """Give pinned memory back."""
        self._call("cuMemFreeHost", address)

    def stream(self) -> int:
        """A new stream, which waits for no other."""
        stream = c_void_p()
        self._call("cuStreamCreate", byref(stream), _NON_BLOCKING)
        return stream.value or 0

    def close_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cuStreamDestroy_v2", stream)

    def upload(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Start a copy to the device."""
        if size_bytes:
            self._call("cuMemcpyHtoDAsync_v2", device, host, size_bytes, stream)

    def download(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Start a copy from the device."""
        if size_bytes:
            self._call("cuMemcpyDtoHAsync_v2", host, device, size_bytes, stream)

    def wait(self, stream: int) -> None:
        """Until all that was started on the stream is done; errors of kernels show here."""
        self._call("cuStreamSynchronize", stream)

    def close(self) -> None:
        """Let go of the context."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)


def main(arguments: "list[str]") -> int:
    """Writes what the GPU is as JSON: 0; 3 with the reason on stderr when there is none."""
    import json

    try:
        cuda = Cuda()
        found = cuda.describe()
        cuda.close()
    except BackendError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    with open(arguments[0], "w", encoding="utf-8") as stream:
        json.dump(found, stream)
    return 0
