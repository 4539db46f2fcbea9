"""Tables: the wheels that packages are made of, and which of their files ship, and why.

Promises:
- `rules_of` names a place, or a reason to leave it out, for every file of the wheels that a target needs. We unpacked and read
  them.
- The first match wins, and `*` crosses directories. `wheels.slim` refuses a file that no rule names.

Will not: read a wheel.
"""

from __future__ import annotations

from dataclasses import dataclass

ENGINE = "onnxruntime==1.31.1"
"""The oldest release with every session key that the runtime sets, and whose arm64 build starts without the CPU lists in /sys
that Lambda lacks (fixed by microsoft/onnxruntime pull request 28230). Its C API is what `mlpack_runtime.ort` was tested with."""
TOKENIZER = "tokenizers==0.22.2"
"""The release that the build's transformers needs (`tokenizers<0.23`): build and package tokenise with the same code."""
ENGINE_CUDA = "onnxruntime-gpu==1.31.1"
"""The same release with the CUDA provider beside it (284 MB); the base must have CUDA 13's libraries: `worker.CUDA_NEEDS`."""
AWS = ("botocore==1.44.5", "jmespath==1.1.0", "python-dateutil==2.9.0.post0", "six==1.17.0", "urllib3==2.8.0")
"""The client of a worker for SQS, S3 and DynamoDB: boto3's lower layer, without the resources and transfers of boto3."""
PILLOW = ("pillow==13.0.0",)
"""Reads and resizes pictures, for the tasks that take them."""
TENSORRT = {
    "rtx": ("tensorrt-rtx-cu12-bindings==1.7.1.116", "tensorrt-rtx-cu12-libs==1.7.1.116"),
    "lean": ("tensorrt-lean-cu12-bindings==11.4.0.106", "tensorrt-lean-cu12-libs==11.4.0.106"),
}
"""By flavour. Versions are exact, because only the version that built an engine can read it."""

NEEDS: dict[str, tuple[str, ...]] = {
    "engine": (ENGINE,),
    "engine-cuda": (ENGINE_CUDA,),
    "tokenizer": (TOKENIZER,),
    "aws": AWS,
    "pictures": PILLOW,
    "http": (),  # our own modules alone: `runtime_part.SERVER`
    **{f"tensorrt-{flavour}": distributions for flavour, distributions in TENSORRT.items()},
}
"""The needs of runtime parts, by name, and the distributions for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table: files that match `pattern` go `to` a place; with None they do not ship. A place that ends in `/` is a
    directory for the files, one that ends in `/*` a directory for their whole paths."""

    pattern: str
    to: str | None
    reason: str


_SERVICES = ("sqs", "s3", "dynamodb", "sts")
"""The services of a worker; sts is for the roles of web identities."""

_AWS_RULES: tuple[Rule, ...] = (
    *(
        Rule(pattern=f"botocore/data/{service}/*/{name}", to="site/*", reason="the service's own model")
        for service in _SERVICES
        for name in ("service-2*", "endpoint-rule-set-1.json.gz", "paginators-1*", "waiters-2.json")
    ),
    Rule(pattern="botocore/data/*/*", to=None, reason="models of 400 services that no worker speaks with, and examples (20 MB)"),
    Rule(pattern="botocore/*", to="site/*", reason="the client, its tables of regions and retries, and its CA certificates"),
    Rule(pattern="dateutil/zoneinfo/*", to=None, reason="a second copy of the time zones: botocore asks for UTC and offsets only"),
    Rule(pattern="dateutil/*", to="site/*", reason="botocore reads the times of answers with it"),
    Rule(pattern="jmespath/*", to="site/*", reason="botocore's paginators and waiters look into answers with it"),
    Rule(pattern="six.py", to="site/six.py", reason="python-dateutil needs it"),
    Rule(pattern="urllib3/contrib/emscripten/*", to=None, reason="for browsers"),
    Rule(pattern="urllib3/*", to="site/*", reason="botocore's HTTP"),
    Rule(pattern="bin/jp.py", to=None, reason="a console script"),
    *(
        Rule(pattern=f"{name}-*.dist-info/{file}", to=f"licenses/{name}/", reason="goes with every copy")
        for name in ("botocore", "jmespath", "python_dateutil", "six", "urllib3")
        for file in ("METADATA", "LICENSE*", "NOTICE", "licenses/*")
    ),
)

_PILLOW_MODULES = ("ExifTags", "GifImagePlugin", "GimpGradientFile", "GimpPaletteFile", "Image", "ImageChops", "ImageColor",
    "ImageFile", "ImageMath", "ImageMode", "ImageOps", "ImagePalette", "ImageSequence", "JpegImagePlugin", "JpegPresets",
    "MpoImagePlugin", "PaletteFile", "PngImagePlugin", "TiffImagePlugin", "TiffTags", "WebPImagePlugin", "__init__", "_binary",
    "_deprecate", "_typing", "_util", "_version")  # fmt: skip
_LINKED = "the extension is linked with it, or a library of its own is"
_PILLOW_LIBRARIES = {
    "jpeg": "JPEG",
    **dict.fromkeys(("webp", "webpmux", "webpdemux"), "WebP"),
    **dict.fromkeys(("tiff", "openjp2", "xcb", "Xau", "zstd", "lzma", "sharpyuv"), _LINKED),
}
_PILLOW_RULES: tuple[Rule, ...] = (
    *(
        Rule(pattern=f"PIL/{name}.py", to="site/PIL/", reason="opens, turns and resizes JPEG, PNG, WebP and GIF")
        for name in _PILLOW_MODULES
    ),
    *(
        Rule(pattern=f"PIL/{name}.cpython-*.so", to="site/PIL/", reason="decoders and the geometry")
        for name in ("_imaging", "_webp")
    ),
    *(
        Rule(pattern=f"pillow.libs/lib{name}-*.so*", to="site/pillow.libs/", reason=reason)
        for name, reason in _PILLOW_LIBRARIES.items()
    ),
    Rule(pattern="pillow.libs/*", to=None, reason="AVIF, fonts and colour profiles, which are not read (9 MB)"),
    Rule(pattern="PIL/*", to=None, reason="forty other formats, fonts, drawing and windows"),
    *(
        Rule(
            pattern=f"pillow-*.dist-info/{file}", to="licenses/pillow/", reason="goes with every copy: of Pillow and its libraries"
        )
        for file in ("METADATA", "licenses/*", "sboms/*")
    ),
)

_TENSORRT_RULES: tuple[Rule, ...] = (
    *(
        Rule(pattern=f"tensorrt_{flavour}_libs/{library}", to=f"lib/{place}", reason=reason)
        for flavour, library, place, reason in (
            ("rtx", "libtensorrt_rtx.so.1", "libtensorrt_rtx.so.1", "TensorRT for RTX: runs engines, builds deferred ones"),
            ("rtx", "libtensorrt_onnxparser_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1", "4 MB: the binding is linked with it"),
            ("lean", "libnvinfer_lean.so.11", "libnvinfer_lean.so.11", "TensorRT's lean runtime: runs engines, builds none"),
        )
    ),
    Rule(pattern="tensorrt_lean_libs/libnvinfer_vc_plugin.so.*", to=None, reason="plugins: mlpack's graphs have none"),
    Rule(pattern="tensorrt_*_libs/__init__.py", to=None, reason="opens the libraries, which lie in lib/: the runtime does that"),
    Rule(pattern="tensorrt_lean_bindings/plugin/*", to=None, reason="for writing plugins in Python"),
    *(Rule(pattern=f"tensorrt_{flavour}_bindings/*", to="site/*", reason="the runtime's way to TensorRT") for flavour in TENSORRT),
    *(
        Rule(pattern=f"tensorrt_{flavour}_cu12_{half}-*.dist-info/{file}", to=f"licenses/tensorrt_{flavour}_{half}/", reason=reason)
        for flavour in TENSORRT
        for half in ("libs", "bindings")
        for file, reason in (
            ("licenses/LICENSE.txt", "the TensorRT SLA: goes with every copy, and has to be accepted"),
            ("METADATA", "name, version and licence of what ships"),
        )
    ),
)

_CUDA_RULES: tuple[Rule, ...] = (
    *(
        Rule(pattern=f"onnxruntime/capi/libonnxruntime_providers_{name}.so", to="lib/", reason="the CUDA provider")
        for name in ("cuda", "shared")
    ),
    *(
        Rule(pattern=f"onnxruntime_gpu-*.dist-info/{file}", to="licenses/onnxruntime/", reason="goes with every copy")
        for file in ("METADATA", "licenses/*")
    ),
)
"""These come before `RULES`: files that the engine for processors does not use."""

RULES: tuple[Rule, ...] = (
    Rule(
        pattern="onnxruntime/capi/libonnxruntime.so.*",
        to="lib/libonnxruntime.so",
        reason="the engine: the runtime calls its C API through ctypes",
    ),
    Rule(
        pattern="onnxruntime/capi/onnxruntime_pybind11_state.*",
        to=None,
        reason="a second copy of the engine (31 MB), linked into the Python module that needs numpy",
    ),
    Rule(
        pattern="onnxruntime/capi/libonnxruntime_providers_shared.so",
        to=None,
        reason="the bridge to GPU providers: the CPU provider is inside the engine and never opens it",
    ),
    Rule(pattern="onnxruntime/LICENSE", to="licenses/onnxruntime/", reason="MIT: goes with every copy"),
    Rule(pattern="onnxruntime/ThirdPartyNotices.txt", to="licenses/onnxruntime/", reason="of what is linked into the engine"),
    Rule(pattern="onnxruntime/*", to=None, reason="the Python API, quantizers, converters and examples: used while building only"),
    Rule(pattern="bin/onnxruntime_test", to=None, reason="a console script"),
    Rule(
        pattern="tokenizers/tokenizers.abi3.so",
        to="site/tokenizers/",
        reason="the tokenizer itself: the runtime loads this extension module directly",
    ),
    Rule(pattern="tokenizers/*", to=None, reason="Python wrappers and stubs: importing them costs 20 ms and adds nothing"),
    Rule(pattern="onnxruntime-*.dist-info/METADATA", to="licenses/onnxruntime/", reason="name, version and licence of what ships"),
    Rule(pattern="tokenizers-*.dist-info/METADATA", to="licenses/tokenizers/", reason="names its licence: the wheel has no file"),
    Rule(pattern="onnxruntime-*.dist-info/licenses/*", to="licenses/onnxruntime/", reason="goes with every copy"),
    Rule(pattern="tokenizers-*.dist-info/licenses/*", to="licenses/tokenizers/", reason="goes with every copy"),
    *_AWS_RULES,
    *_TENSORRT_RULES,
    Rule(pattern="*.dist-info/*", to=None, reason="records of an installer that will never run again"),
    Rule(pattern=".lock", to=None, reason="uv's own"),
)
"""The first match wins; `*` crosses directories. A file that no rule names is refused, so somebody has to read a new release."""


def rules_of(needs: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules for these of `NEEDS`, in order."""
    return (*(_CUDA_RULES if "engine-cuda" in needs else ()), *(_PILLOW_RULES if "pictures" in needs else ()), *RULES)
