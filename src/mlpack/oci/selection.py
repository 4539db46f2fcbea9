"""Chooses one image of several, by one rule for OCI layouts, archives and indexes in registries.

Promises:
- A manifest that only describes an image (attestations, signatures, other artifacts) is never chosen.
- Two different images for one platform are an error that says how to name one of them.
- A variant of a processor is chosen only when every processor of its architecture runs it.
- It reads no more documents than the choice needs, each once, through the function that the caller gives. It does no I/O
  itself.

Sources: OCI image-spec 1.1 `image-index.md`, `manifest.md` ("subject", "artifactType"), `image-layout.md` (names in a layout);
BuildKit's "Image attestation storage"; podman's marks of images that were pushed with two compressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpack.core.text import words
from mlpack.errors import NamingError, PackError
from mlpack.oci import media, reference

if TYPE_CHECKING:
    from mlpack.core.digest import Digest
    from mlpack.oci.media import Descriptor

ANY = "any"
"""The only image, whatever its platform; of several the one for amd64."""

Read = Callable[["Descriptor"], bytes]
"""The verified bytes of a manifest, an index or a config. May raise MlpackError."""

_BASELINES = {"amd64": "v1", "arm64": "v8"}
"""The variant that every processor of the architecture runs: the same platform as no variant."""
_MACHINES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_IMAGE_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_DEEPEST = 8
"""At most so many indexes within each other are followed; image-spec has no use for more than two."""
_MOST = 10_000
"""At most so many lines of indexes are read: 4 MiB of JSON that name one index again and again would take hours."""
_SHOWN, _LONGEST = 8, 100
"""How many images a message lists, and how much of a name it repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """How the user selects an image at a place: a tag as in `DIR:TAG`, a digest as in `DIR@sha256:...`, or nothing."""

    tag: str | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedImage:
    """An image in an index. `names`: its names there. `within`: the indexes around it, outermost first."""

    descriptor: Descriptor
    names: tuple[str, ...] = ()
    within: tuple[Digest, ...] = ()
    platform: tuple[str, str, str] | None = None
    """Operating system, architecture, variant, in one spelling each; None when nobody has said it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen image. `others`: the number of other manifests, of other platforms, of other tags, and about images."""

    descriptor: Descriptor
    others: int


def choose(
    where: str, index: dict[str, Any], read: Read, arch: str | None, selector: Selector | None = None, *, tags: bool = True
) -> Selection:
    """The image that `arch` (`amd64`, `arm64`, `ANY`, or None: there must be only one) and `selector` mean in an untrusted index.

    `where` is how the user wrote the place; the message offers `where:TAG` (unless `tags` is false) and `where@DIGEST`.
    NamingError when there is no such image, or more than one. PackError when a document is malformed.
    """
    selector = selector or Selector()
    every = _Walk(read, tags=tags).manifests(index)
    matches = [each for each in every if _is_named(each, selector)]
    called = f" called {words.clean(selector.tag or selector.digest)[:_LONGEST]}" if selector != Selector() else ""
    if not matches and called:
        raise NamingError(f"{where} has nothing{called}: it has {_listing(every) or 'no image'}")
    images = _unique(_sorted_out(matches, read))
    if not images:
        raise NamingError(
            f"{where} holds no image{called}, only what speaks of images (attestations, signatures) or other artifacts: "
            f"{_listing(matches) or 'nothing'}"
        )
    if len(images) > 1 or (arch not in {None, ANY} and images[0].platform not in {None, ("linux", arch, "")}):
        images = _for_arch(where, images, read, arch)
    return Selection(descriptor=images[0].descriptor, others=len({each.descriptor.digest for each in every}) - 1)


class _Walk:
    """Every manifest of an index and of the indexes in it, each with the names of the line that led there."""

    def __init__(self, read: Read, *, tags: bool) -> None:
        self._read, self._tags, self._lines = read, tags, 0
        self._known: dict[Digest, tuple[Descriptor, ...]] = {}

    def manifests(self, index: dict[str, Any]) -> list[IndexedImage]:
        """See the class."""
        return list(self._below(reference.manifests(index), (), ()))

    def _below(self, lines: Sequence[Descriptor], names: tuple[str, ...], within: tuple[Digest, ...]) -> Iterator[IndexedImage]:
        for each in lines:
            self._lines += 1
            if self._lines > _MOST:
                raise PackError(f"an index lists more than {_MOST} manifests, which is the most that is looked at: take another")
            called = names or tuple(name for name in (each.ref_name, each.image_name) if name and self._tags)
            if each.media_type not in media.INDEXES:
                yield IndexedImage(descriptor=each, names=called, within=within, platform=_normal(each.platform))
            elif len(within) >= _DEEPEST:
                raise PackError(f"index {each.digest}: more than {_DEEPEST} indexes within each other are not followed")
            elif not each.about:
                yield from self._below(self._inside(each), called, (*within, each.digest))

    def _inside(self, each: Descriptor) -> tuple[Descriptor, ...]:
        if each.digest not in self._known:
            self._known[each.digest] = reference.manifests(media.load_json(self._read(each), f"index {each.digest}"))
        return self._known[each.digest]


def _is_named(each: IndexedImage, selector: Selector) -> bool:
    if selector.digest is not None and selector.digest not in (each.descriptor.digest, *each.within):
        return False
    # Docker and containerd write a whole name (docker.io/team/base:1), others the tag alone.
    return selector.tag is None or any(name == selector.tag or name.rpartition(":")[2] == selector.tag for name in each.names)


def _sorted_out(candidates: Sequence[IndexedImage], read: Read) -> Iterator[IndexedImage]:
    """The images among them. A manifest is read only if the index does not tell whether it is one."""
    for each in candidates:
        if each.descriptor.about or each.descriptor.media_type not in media.MANIFESTS:
            continue
        if each.platform is not None and each.descriptor.artifact_type in {None, media.OCI.config, media.DOCKER.config}:
            yield each
            continue
        document = media.load_json(read(each.descriptor), f"manifest {each.descriptor.digest}")
        if is_image(document):
            yield each if each.platform else replace(each, platform=_in_config(document, read))


def check_arch(where: str, platform: tuple[str, str, str], arch: str | None) -> None:
    """NamingError when an image is for another processor than the requested one."""
    if arch not in {None, ANY} and platform[:2] != ("linux", arch):
        made_for = _text(platform[:2]) or "a platform that it does not name"
        raise NamingError(f"{where} is made for {made_for}, not for linux/{arch}: choose another arch, or another image")


def is_image(document: dict[str, Any]) -> bool:
    """Whether an untrusted manifest is one of an image, and not of an attestation, a signature or another artifact."""
    config, layers = document.get("config"), document.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list):
        return False
    types = [str(layer.get("mediaType")) if isinstance(layer, dict) else "" for layer in layers]
    return str(config.get("mediaType")) in {media.OCI.config, media.DOCKER.config} and all(
        each.startswith(_IMAGE_LAYERS) for each in types
    )


def _in_config(document: dict[str, Any], read: Read) -> tuple[str, str, str] | None:
    """The platform in the config of an image."""
    descriptor = media.descriptor(document.get("config"), "manifest: config")
    config = media.load_json(read(descriptor), "image config")
    return _normal(tuple(str(config.get(key) or "") for key in ("os", "architecture", "variant")))  # type: ignore[arg-type]


def _normal(platform: tuple[str, str, str] | None) -> tuple[str, str, str] | None:
    """One spelling for one platform; None when there is none (BuildKit marks attestations as unknown/unknown)."""
    if platform is None:
        return None
    os_name, arch, variant = (part.lower() for part in platform)
    if not arch or not os_name or "unknown" in (os_name, arch):
        return None
    arch = _MACHINES.get(arch, arch)
    variant = f"v{variant}" if variant.isdigit() else variant
    return os_name, arch, "" if variant == _BASELINES.get(arch) else variant


def _unique(images: Iterator[IndexedImage]) -> list[IndexedImage]:
    """The images without repetitions: one image under two tags is one image."""
    first: dict[tuple[Digest, tuple[str, str, str] | None], IndexedImage] = {}
    for each in images:
        key = each.descriptor.digest, each.platform
        names = (*first[key].names, *each.names) if key in first else each.names
        first[key] = replace(first.get(key, each), names=tuple(dict.fromkeys(names)))
    return list(first.values())


def _for_arch(where: str, images: list[IndexedImage], read: Read, arch: str | None) -> list[IndexedImage]:
    """The images for a processor."""
    architecture = "amd64" if arch == ANY else arch
    fit = [each for each in images if architecture is None or each.platform == ("linux", architecture, "")]
    if not fit:
        there, instead = _platforms(images), "choose another arch, or another image"
        if len(there) == 1:
            raise NamingError(f"{where} is made for {there[0]}, not for linux/{architecture}: {instead}")
        raise NamingError(
            f"{where} is not made for linux/{architecture}, only for {', '.join(there) or 'unnamed platforms'}: {instead}"
        )
    rest = _plain(_no_referrers(fit, read) if len(fit) > 1 else fit)
    if len(rest) == 1:
        return rest
    platforms = _platforms(rest)
    if architecture is None and len(platforms) > 1:
        raise NamingError(
            f"{where} holds {len(rest)} images ({_listing(rest)}): say for which processor with --arch x86_64 or --arch arm64, "
            f"or name one, {_ways(where, rest)}"
        )
    what = f"{len(rest)} images for {platforms[0]}" if platforms else f"{len(rest)} images for unnamed platforms"
    raise NamingError(f"{where} holds {what} ({_listing(rest)}): name one, {_ways(where, rest)}")


def _no_referrers(fit: list[IndexedImage], read: Read) -> list[IndexedImage]:
    """The images without manifests that are no images, or that describe another one of them (OCI 1.1 `subject`)."""
    about: dict[Digest, str] = {}
    for each in fit:
        document = media.load_json(read(each.descriptor), f"manifest {each.descriptor.digest}")
        if is_image(document):
            subject = document.get("subject")
            about[each.descriptor.digest] = str(subject.get("digest")) if isinstance(subject, dict) else ""
    images = [each for each in fit if each.descriptor.digest in about]
    here = {str(each.descriptor.digest) for each in images}
    return [each for each in images if about[each.descriptor.digest] not in here] or images or fit


def _plain(fit: list[IndexedImage]) -> list[IndexedImage]:
    """The images without zstd copies of others: podman pushes an image with gzip and with zstd under one tag, and marks the
    latter."""
    return [each for each in fit if not each.descriptor.zstd_copy] or fit


def _platforms(images: Sequence[IndexedImage]) -> list[str]:
    """The platforms as the index writes them, where it does."""
    raw = ((each.descriptor.platform, each.platform) for each in images if each.platform)
    return sorted({_text(written if written and written[1] else normal) for written, normal in raw})


def _text(platform: tuple[str, ...]) -> str:
    return words.clean("/".join(part for part in platform if part))[:_LONGEST]


def _listing(images: Sequence[IndexedImage]) -> str:
    """The images, for people."""
    lines = []
    for each in images[:_SHOWN]:
        names = (words.clean(name)[:_LONGEST] for name in each.names[:1])
        parts = (*names, _text(each.descriptor.platform or ()), each.descriptor.digest.short)
        lines.append(" ".join(part for part in parts if part))
    return ", ".join(lines) + (f" and {len(images) - _SHOWN} more" if len(images) > _SHOWN else "")


def _ways(where: str, images: Sequence[IndexedImage]) -> str:
    """How to name one of them: by a tag that no other has, else by a whole name, and by its digest."""
    by_digest = f"{where}@{images[0].descriptor.digest}"
    called = [{words.clean(name)[:_LONGEST] for name in each.names} for each in images]
    for short in (True, False):
        spelt = [{name.rpartition(":")[2] for name in names} if short else names for names in called]
        every = [name for names in spelt for name in names]
        for name in sorted(name for names in spelt[:1] for name in names):
            if every.count(name) == 1 and name:
                return f"as in {where}:{name} or {by_digest}"
    return f"as in {by_digest}"
