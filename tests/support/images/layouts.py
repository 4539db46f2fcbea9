"""OCI layouts as other tools leave them: BuildKit's with attestations, containerd's and podman's, cosign's, docker save's."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image."
INDEX, MANIFEST, CONFIG = f"{OCI}index.v1+json", f"{OCI}manifest.v1+json", f"{OCI}config.v1+json"
LAYER = f"{OCI}layer.v1.tar+gzip"
NAME, CONTAINERD = "org.opencontainers.image.ref.name", "io.containerd.image.name"
EMPTY_TAR = bytes(10240)
Line = dict[str, Any]


class Maker:
    """A layout that grows. Lines of indexes are plain dictionaries, to be changed before they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content: bytes | Line) -> Line:
        """Put a blob there; digest and size."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / named).write_bytes(data)
        return {"digest": f"sha256:{named}", "size": len(data)}

    def image(self, arch: str = "amd64", variant: str = "", *, os: str = "linux", mark: str = "", **manifest: Any) -> Line:
        """An image of one layer, and the line an index has for it. `mark` makes it another; `manifest`: more of its keys."""
        tar = EMPTY_TAR
        platform = {"os": os, "architecture": arch} | ({"variant": variant} if variant else {})
        diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
        config = {**platform, "config": {"Env": [f"MARK={mark}"]}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
        layers = [{"mediaType": LAYER, **self.blob(gzip.compress(tar, mtime=0))}]
        made = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, **self.blob(config)}, "layers": layers}
        return {"mediaType": MANIFEST, **self.blob({**made, **manifest}), "platform": platform}

    def artifact(self, config: str = CONFIG, layer: str = "application/vnd.in-toto+json", of: str = "", **manifest: Any) -> Line:
        """A manifest that is no image: by its layer, or by its config."""
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
        said = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs}
        made = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": config, **self.blob(said if config == CONFIG else {})},
            "layers": [{"mediaType": layer, **self.blob({"_type": "https://in-toto.io/Statement/v0.1", "subject": of})}],
        }
        return {"mediaType": MANIFEST, **self.blob({**made, **manifest})}

    def attestation(self, of: Line) -> Line:
        """As BuildKit stores provenance."""
        said = {"vnd.docker.reference.digest": of["digest"], "vnd.docker.reference.type": "attestation-manifest"}
        return {**self.artifact(of=of["digest"]), "annotations": said, "platform": {"architecture": "unknown", "os": "unknown"}}

    def index(self, *lines: Line) -> Line:
        """An index among the blobs, and the line for it."""
        return {"mediaType": INDEX, **self.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(lines)})}

    def done(self, *lines: Line) -> Path:
        """The layout, with these lines in its index.json."""
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(lines)}))
        return self.path


def called(line: Line, name: str, **more: str) -> Line:
    """The same line under a name."""
    return {**line, "annotations": {**line.get("annotations", {}), NAME: name, **more}}


def unmarked(line: Line) -> Line:
    """The same line without a platform, as umoci, skopeo and docker save write it."""
    return {key: value for key, value in line.items() if key != "platform"}


def buildx(path: Path, *arches: str) -> Path:
    """What `docker buildx build --output type=oci` leaves: one index with each image and its provenance."""
    maker = Maker(path)
    images = [maker.image(arch) for arch in arches or ("amd64",)]
    inner = maker.index(*images, *(maker.attestation(each) for each in images))
    return maker.done(called(inner, "1", **{CONTAINERD: "docker.io/team/base:1"}))


def archived(folder: Path, path: Path) -> Path:
    """The same layout as a tar."""
    with tarfile.open(path, "w") as archive:
        archive.add(folder, ".")
    return path
