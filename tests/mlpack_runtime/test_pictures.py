"""Picture files to pixels, and pixels to a model's input."""

from __future__ import annotations

import io
import random
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import PIL
import pytest
from PIL import Image
from tests.support.runtime.pictures import file, picture, scene

import mlpack_runtime
from mlpack_runtime.limits import Limits, RequestError
from mlpack_runtime.ort import Port
from mlpack_runtime.pictures import parts, reading
from mlpack_runtime.pictures.planes import Pixels, blank
from mlpack_runtime.pictures.shaping import Shaper

LIMITS = Limits({}, {})
PORT = Port("pixel_values", "FP32", ("batch", 3, "height", "width"))
PLAIN: dict[str, Any] = {"steps": [], "factors": [1.0, 1.0, 1.0], "terms": [0.0, 0.0, 0.0], "mode": "RGB"}


def reference(data: bytes) -> Any:
    """As transformers' `load_image` has it."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def refusal(data: bytes, limits: Limits = LIMITS) -> RequestError:
    with pytest.raises(RequestError) as caught:
        reading.pixels_of(data, "image", limits)
    return caught.value


def kinds() -> dict[str, bytes]:

    colours, gray = picture(37, 21), scene(64, 48).convert("L")
    palette = scene(64, 48).convert("P", palette=Image.Palette.ADAPTIVE, colors=7)
    frames = [scene(32, 32, seed) for seed in range(3)]
    sixteen = Image.frombytes("I;16", (5, 4), bytes(range(40)))
    return {
        "png": file(colours),
        "jpeg": file(colours, "JPEG"),
        "progressive": file(scene(200, 100), "JPEG", progressive=True, quality=70),
        "gray jpeg": file(gray, "JPEG"),
        "cmyk jpeg": file(scene(64, 48).convert("CMYK"), "JPEG"),
        "gray png": file(gray),
        "gray and alpha": file(gray.convert("LA")),
        "one bit": file(gray.convert("1")),
        "16 bit": file(sixteen),
        "alpha": file(picture(9, 9, mode="RGBA")),
        "palette": file(palette),
        "palette, transparent": file(palette, transparency=3),
        "palette, alpha": file(palette, transparency=bytes(range(7))),
        "webp": file(colours, "WEBP"),
        "lossless webp": file(colours, "WEBP", lossless=True),
        "webp, alpha": file(picture(9, 9, mode="RGBA"), "WEBP", lossless=True),
        "animated webp": file(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "gif": file(palette, "GIF"),
        "animated gif": file(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
def test_a_file_is_read_as_transformers_reads_it(kind: str) -> None:
    data = kinds()[kind]
    image, expected = reading.pixels_of(data, "image", LIMITS), reference(data)
    assert (image.mode, image.size, image.tobytes()) == ("RGB", expected.size, expected.tobytes())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(10))
def test_pictures_are_turned_as_exif_says(kind: str, turn: int) -> None:

    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = turn, "a camera"
    data = file(scene(48, 32), kind, exif=exif)
    assert reading.pixels_of(data, "image", LIMITS).tobytes() == reference(data).tobytes()


def test_pictures_are_turned_as_xmp_says() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = file(scene(48, 32), "JPEG", xmp=xmp)
    assert reading.pixels_of(data, "image", LIMITS).size == reference(data).size == (32, 48)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08"]
)
def test_damaged_exif_turns_nothing(exif: bytes) -> None:
    assert reading.orientation_of(exif) == 0


def test_damaged_files_are_refused_with_a_sentence() -> None:
    for kind, data in kinds().items():
        for cut in (3, 12, 20, 40, *([len(data) // 2] if "animated" not in kind else [])):
            error = refusal(data[:cut])
            assert (error.status, len(str(error)) < 300) == (400, True), kind
    for data in (b"%PDF-1.7", b"<svg/>", b"RIFF\0\0\0\0WAVEfmt ", b"BM1234", b"\0" * 50):
        assert "JPEG, PNG, WebP and GIF" in str(refusal(data))
    text = file(picture(9, 9), "JPEG").decode("utf-8", "replace").encode()
    assert "binaryMediaTypes" in str(refusal(text))


def test_pixels_are_counted_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Limits({"MLPACK_LIMIT_IMAGE_PIXELS": "1000"}, {})
    for name in ("_from_jpeg", "_from_plugin"):
        monkeypatch.setattr(reading, name, lambda *_: pytest.fail("it was decoded"))
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        for options in ({}, {"lossless": True}) if kind == "WEBP" else ({},):
            error = refusal(file(scene(64, 48), kind, **options), small)
            assert (error.status, "64 x 48" in str(error), "MLPACK_LIMIT_IMAGE_PIXELS" in str(error)) == (413, True, True)
    head = bytearray(file(scene(32, 32), "WEBP", save_all=True, append_images=[scene(32, 32, 1)]))
    assert head[12:16] == b"VP8X"
    head[24:30] = b"\xff\x3f\0\xff\x3f\0"
    assert "16384 x 16384" in str(refusal(bytes(head)))
    bomb = bytearray(file(picture(1, 1), "GIF"))
    bomb[6:10] = b"\xff\xff\xff\xff"
    assert "65535 x 65535" in str(refusal(bytes(bomb)))


@pytest.mark.filterwarnings("ignore:.*EXIF.*:UserWarning")
@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
def gif(canvas: tuple[int, int], frame: tuple[int, int], disposal: int) -> bytes:
    """A picture of one frame that says these sizes, with the pixels of almost none of them."""
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    control = b"\x21\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0])
    return head + control + b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0\x3b"


@pytest.mark.parametrize("canvas", [(2, 2), (65_535, 65_535)])
@pytest.mark.parametrize("frame", [(9_000, 9_000), (65_535, 65_535)])
def test_a_gifs_frame_is_counted_before_memory_is_taken_for_it(canvas: tuple[int, int], frame: tuple[int, int]) -> None:
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refusal(gif(canvas, frame, disposal=2), Limits({"MLPACK_LIMIT_IMAGE_PIXELS": "1000000"}, {}))
    assert error.status == 413
    assert "MLPACK_LIMIT_IMAGE_PIXELS" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - taken < 40 * 1024  # 81 MB, and 4 GB, as Pillow has it


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """One of a PNG's."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def parts_of(kind: str, number: int) -> bytes:
    """A picture with so many more parts."""
    empty, comment = b"\xff\xe1" + struct.pack(">H", 10) + b"Exif\0\0ab", b"\xff\xfe\0\x02"
    turned = b"\xff\xe1" + struct.pack(">H", 18) + b"tiff:Orientation"  # Pillow's plug-in reads these
    if kind == "PNG":
        data = file(picture(9, 7), "PNG")
        return data[:33] + number * chunk(b"abCd") + data[33:]
    if kind == "scans":
        data = file(picture(9, 7), "JPEG", progressive=True)
        scan = data[data.rindex(b"\xff\xda") : -2]
        return data[:-2] + number * scan + data[-2:]
    data = file(picture(9, 7), "JPEG")
    more = {"Exif": number * empty, "comments": number * comment, "plug-in": turned + number * empty, "filled": number * b"\xff"}
    return data[:2] + more[kind] + data[2:]


@pytest.mark.parametrize("kind", ["Exif", "comments", "plug-in", "filled", "PNG", "scans"])
def test_files_of_very_many_parts_are_refused_unread(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading.pixels_of(parts_of(kind, 80), "image", LIMITS)
    data = parts_of(kind, 150 if kind == "scans" else 100_000)
    for name in ("jpeg_header", "_plugin"):
        monkeypatch.setattr(reading, name, lambda *_: pytest.fail("it is read"))
    error = refusal(data)
    assert error.status == 413
    assert "save it anew" in str(error)


def test_what_looks_like_scans_in_another_part_is_none() -> None:
    data, video = file(picture(9, 7), "JPEG"), 500 * b"\xff\xda\xff\xd9ab"
    assert parts.too_many(data + video) == ""  # as phones put it behind their pictures
    assert parts.too_many(data[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(video)) + video + data[2:]) == ""
    assert parts.too_many(data[:-2] + b"\xff\xfe\0\x04\xff\xd9" + 500 * b"\xff\xda\0\x02" + data[-2:]) != ""


@pytest.mark.filterwarnings("ignore::UserWarning")  # of odd EXIF, by the reference: no refusal
def test_damaged_jpegs_are_read_as_pillow_reads_them() -> None:
    """Bytes at random places replaced, cut out and put in: the same pixels, or refused by both."""
    chosen, agreed = random.Random(4), 0
    whole = [file(scene(48, 32), "JPEG", **more) for more in ({}, {"progressive": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"})]
    for at in range(300):
        data = bytearray(whole[at % 3])
        for _ in range(chosen.randint(1, 3)):
            place = chosen.randrange(2, min(len(data), 700))
            data[place : place + chosen.randint(0, 2)] = bytes(chosen.randrange(256) for _ in range(chosen.randint(0, 2)))
        wanted = _or_none(lambda data=bytes(data): reference(data).tobytes())
        got = _or_none(lambda data=bytes(data): reading.pixels_of(data, "image", LIMITS).tobytes())
        assert got == wanted, at
        agreed += wanted is not None
    assert 30 < agreed < 290


def _or_none(work: Callable[[], bytes]) -> bytes | None:
    try:
        return work()
    except Exception:  # noqa: BLE001  (Pillow's are of a dozen types)
        return None


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_operations_are_those_of_pillow(mode: str) -> None:
    image = picture(23, 17, mode=mode)
    pixels_ = Pixels(image.im)
    for resample in range(6):
        for size in ((5, 40), (23, 17), (64, 1)):
            assert pixels_.resize(size, resample).tobytes() == image.resize(size, resample).tobytes()
    for box in ((1, 2, 9, 9), (-5, -4, 30, 40), (3, 3, 4, 4)):
        assert pixels_.crop(box).tobytes() == image.crop(box).tobytes()
    for turn in range(7):
        assert pixels_.turned(turn).tobytes() == image.transpose(turn).tobytes()
    band = image.split()[0]
    assert pixels_.split()[0].scaled(0.5, -3).tobytes() == band.convert("F").point(lambda value: value * 0.5 + -3).tobytes()
    whole, other = blank(mode, (30, 30)), Image.new(mode, (30, 30))
    whole.put(pixels_, 4, 5)
    other.paste(image, (4, 5))
    assert whole.tobytes() == other.tobytes()
    assert blank("RGB", (2, 2), (1, 2, 3)).tobytes() == bytes([1, 2, 3] * 4)


def test_a_jpeg_needs_the_extension_alone() -> None:
    code = """
import sys
from mlpack_runtime.limits import Limits
from mlpack_runtime.pictures import reading
print(reading.pixels_of(open(sys.argv[1], "rb").read(), "image", Limits({}, {})).size)
print(sorted(name for name in sys.modules if name.startswith("PIL") or name in ("logging", "re", "subprocess", "typing")))
"""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as made:
        made.write(file(scene(48, 32), "JPEG"))
        made.flush()
        places = [str(Path(each.__file__ or "").parent.parent) for each in (mlpack_runtime, PIL)]
        paths = f"import sys; sys.path[:0] = {places}\n"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", paths + code, made.name], capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["(48, 32)", "['PIL', 'PIL._imaging', 'PIL._version']"]


def test_large_pictures_are_read_one_at_a_time() -> None:
    most = Limits({"MLPACK_LIMIT_IMAGE_PIXELS": "64000"}, {})
    together, lock, seen = 0, threading.Lock(), []

    def work(pixels_: Pixels) -> Pixels:
        nonlocal together
        with lock:
            together += 1
            seen.append(together)
        sleep(0.01)
        with lock:
            together -= 1
        return pixels_

    with ThreadPoolExecutor(4) as pool:
        for size, number in (((40, 40), 1), ((20, 20), 2)):
            files = [file(picture(*size), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")]
            list(pool.map(lambda data: reading.pixels_of(data, "image", most, work), files))
            assert (max(seen) == 1) == (number == 1)
            seen.clear()
    with pytest.raises(ValueError, match="mine"):
        reading.pixels_of(files[0], "image", Limits({"MLPACK_LIMIT_IMAGE_PIXELS": "400"}, {}), _fails)
    assert reading.pixels_of(file(picture(40, 40)), "image", most).size == (40, 40)


def _fails(pixels_: Pixels) -> Pixels:
    raise ValueError(f"mine: {pixels_.size}")


def test_memory_decides_how_many_pixels_there_may_be() -> None:
    assert Limits({}, {"memory_mb": 4000}).image_pixels == 4000 * 2**20 // 40
    assert Limits({}, {"memory_mb": 64}).image_pixels > 1 << 20


def tensor(images: list[Any], port: Port = PORT, **settings: Any) -> Any:
    import numpy as np

    tensors, _ = Shaper(port, {**PLAIN, **settings}, LIMITS).inputs([file(each) for each in images], ["image"] * len(images))
    made = tensors[port.name]
    return np.frombuffer(made.data, {"FP32": np.float32, "UINT8": np.uint8}[made.datatype]).reshape(made.shape)


def pixels(image: Any) -> Any:
    import numpy as np

    return np.asarray(image.convert("RGB"))


def test_layouts_and_orders_of_channels() -> None:
    import numpy as np

    images = [picture(5, 4, 1), picture(5, 4, 2)]
    stacked = np.stack([pixels(each) for each in images])
    assert np.array_equal(tensor(images), stacked.transpose(0, 3, 1, 2))
    assert np.array_equal(tensor(images, layout="NHWC"), stacked)
    assert np.array_equal(tensor(images, layout="NHWC", flip=True), stacked[..., ::-1])
    bytes_ = Port("image", "UINT8", ("batch", "height", "width", 3))
    assert np.array_equal(tensor(images, bytes_, layout="NHWC"), stacked)
    assert np.array_equal(tensor(images, bytes_), stacked.transpose(0, 3, 1, 2))
    gray = tensor(images, factors=[1.0], terms=[0.0], mode="L")
    assert np.array_equal(gray[:, 0], np.stack([np.asarray(each.convert("L")) for each in images]))


def test_each_channel_has_its_factor_and_term() -> None:
    import numpy as np

    image = picture(3, 2)
    factors, terms = np.array([0.5, 2, -1], np.float32), np.array([1, -3, 0.25], np.float32)
    made = tensor([image], factors=factors.tolist(), terms=terms.tolist())
    assert np.allclose(made[0], (pixels(image) * factors + terms).transpose(2, 0, 1), atol=1e-5)


def test_pictures_of_several_sizes_need_a_mask() -> None:
    import numpy as np

    images = [picture(5, 4, 1), picture(3, 6, 2)]
    with pytest.raises(RequestError, match=r"3 x 6, 5 x 4.*one by one"):
        tensor(images)
    settings = {**PLAIN, "terms": [7.0, 7.0, 7.0], "mask": {"name": "pixel_mask", "datatype": "INT64"}}
    tensors, _ = Shaper(PORT, settings, LIMITS).inputs([file(each) for each in images], ["a", "b"])
    made, mask = tensors["pixel_values"], tensors["pixel_mask"]
    values = np.frombuffer(made.data, np.float32).reshape(made.shape)
    ones = np.frombuffer(mask.data, np.int64).reshape(mask.shape)
    assert (made.shape, mask.shape) == ((2, 3, 6, 5), (2, 6, 5))
    for at, image in enumerate(images):
        assert np.array_equal(values[at, :, : image.size[1], : image.size[0]], pixels(image).transpose(2, 0, 1) + 7.0)
        assert ones[at].sum() == image.size[0] * image.size[1]
    assert np.all(values[0, :, 4:] == 0)
    assert tensor([images[0]], pad_to=[9, 8]).shape == (1, 3, 9, 8)


def test_what_pictures_become_is_bounded() -> None:
    small = Limits({"MLPACK_LIMIT_BODY_BYTES": "100000"}, {})
    data = file(picture(1, 1))
    for number, side in ((1, 100), (40, 20)):
        settings = {**PLAIN, "steps": [["resize", {"height": side, "width": side, "resample": 2}]]}
        with pytest.raises(RequestError, match="bytes of the tensor"):
            Shaper(PORT, settings, small).inputs([data] * number, ["image"] * number)
    long = {**PLAIN, "steps": [["shortest", {"size": 224, "resample": 2}]]}
    with pytest.raises(RequestError, match="1 x 900000 pixels would be resized"):
        Shaper(PORT, long, LIMITS).inputs([file(picture(1, 900_000))], ["image"])


def test_letterboxes_are_in_the_middle_of_gray() -> None:
    made = tensor([picture(4, 2)], steps=[["letterbox", {"height": 8, "width": 8, "resample": 2, "fill": 114}]])
    assert made.shape == (1, 3, 8, 8)
    assert (made[:, :, :2] == 114).all()
    assert (made[:, :, 6:] == 114).all()
    assert not (made[:, :, 2:6] == 114).all()
