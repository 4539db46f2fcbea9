"""An image is a value: what changes it, what it keeps of its base, and what validation finds."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from mlpack.core.digest import Digest, canonical_json, of_bytes
from mlpack.errors import PackError
from mlpack.oci import image, media
from mlpack.oci.image import Image, Layer

if TYPE_CHECKING:
    from pathlib import Path


def layer_of(data: bytes, kind: str = media.OCI.gzip) -> Layer:
    """A layer in memory whose tar is `data`."""
    stored = gzip.compress(data, mtime=0) if kind in media.GZIP_LAYERS else data
    return Layer(
        digest=of_bytes(stored),
        diff_id=of_bytes(data),
        size_bytes=len(stored),
        media_type=kind,
        uncompressed_bytes=len(data),
        open=lambda: io.BytesIO(stored),
    )


def docker_image(config: dict[str, Any], layers: list[Layer]) -> Image:
    """An image as Docker writes it, with what a manifest may carry besides."""
    config_bytes = json.dumps(config, indent=1).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_MANIFEST,
        "config": {
            "mediaType": media.DOCKER.config,
            "digest": str(of_bytes(config_bytes)),
            "size": len(config_bytes),
            "data": "e30=",
        },
        "layers": [{"mediaType": each.media_type, "digest": str(each.digest), "size": each.size_bytes} for each in layers],
        "annotations": {"com.amazonaws.soci": "index"},
    }
    known = {each.digest: each for each in layers}
    return image.parse(json.dumps(manifest).encode(), config_bytes, lambda name: known[name].open())


def docker_base() -> Image:
    """A Docker image of two layers and one line of history."""
    layers = [layer_of(b"\0" * 1024, media.DOCKER.gzip), layer_of(b"\0" * 2048, media.DOCKER.gzip)]
    config = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "config": {
            "Env": ["PATH=/bin", "LANG=C"],
            "Cmd": ["sh"],
            "User": "app",
            "WorkingDir": "/srv",
            "Labels": {"io.example.a": "1"},
        },
        "rootfs": {"type": "layers", "diff_ids": [str(each.diff_id) for each in layers]},
        "history": [{"created_by": "ADD"}, {"created_by": "ENV", "empty_layer": True}],
    }
    return docker_image(config, layers)


def test_append_to_docker_base_keeps_to_dockers_media_types() -> None:
    made = image.append(docker_base(), layer_of(b"\0" * 512), "mine")
    written = image.manifest(made)
    assert written["mediaType"] == media.DOCKER_MANIFEST
    assert {each["mediaType"] for each in written["layers"]} == {media.DOCKER.gzip}
    assert image.validate(made) == []


def test_append_pads_history_to_one_line_a_layer() -> None:
    made = image.append(docker_base(), layer_of(b"\0" * 512), "mine", comment="why")
    lines = [line for line in image.config(made)["history"] if not line.get("empty_layer")]
    assert [line["created_by"] for line in lines] == ["ADD", "unknown: the base image does not say", "mine"]
    assert lines[-1]["comment"] == "why"


def test_append_drops_what_describes_the_base_only() -> None:
    written = image.manifest(image.append(docker_base(), layer_of(b"\0" * 512), "mine"))
    assert "annotations" not in written
    assert set(written["config"]) == {"mediaType", "digest", "size"}


def test_append_dates_the_image_by_the_epoch_given() -> None:
    made = image.append(docker_base(), layer_of(b"\0" * 512), "mine", epoch_s=86400)
    assert image.config(made)["created"] == "1970-01-02T00:00:00Z"


def test_append_of_zstd_is_refused() -> None:
    zstd = dataclasses.replace(layer_of(b"x"), media_type=media.ZSTD_LAYER)
    with pytest.raises(PackError, match="cannot be added"):
        image.append(docker_base(), zstd, "mine")


def test_append_leaves_the_base_as_it_was() -> None:
    base = docker_base()
    before = image.digest(base)
    image.append(base, layer_of(b"\0" * 512), "mine")
    assert image.digest(base) == before
    assert len(base.layers) == 2


def test_with_config_merges_env_and_clears_cmd_by_entrypoint() -> None:
    made = image.with_config(docker_base(), env={"LANG": "C.UTF-8", "B": "2", "A": "1"}, entrypoint=["/run"])
    runtime = image.config(made)["config"]
    assert runtime["Env"] == ["PATH=/bin", "LANG=C.UTF-8", "A=1", "B=2"]
    assert image.env(made) == {"PATH": "/bin", "LANG": "C.UTF-8", "A": "1", "B": "2"}
    assert runtime["Entrypoint"] == ["/run"]
    assert "Cmd" not in runtime


def test_with_config_keeps_user_workdir_and_labels() -> None:
    made = image.with_config(docker_base(), cmd=["x"], labels={"io.example.b": "2", "org.opencontainers.image.revision": "abc"})
    runtime = image.config(made)["config"]
    assert (runtime["User"], runtime["WorkingDir"], runtime["Cmd"]) == ("app", "/srv", ["x"])
    assert runtime["Labels"] == {"io.example.a": "1", "io.example.b": "2", "org.opencontainers.image.revision": "abc"}
    assert image.platform(made) == ("linux", "arm64", "v8")


@pytest.mark.parametrize("key", ["plain", "org.opencontainers.image.mine", "com.docker.x", ".", "x."])
def test_label_without_reverse_dns_prefix_is_refused(key: str) -> None:
    with pytest.raises(PackError, match="label"):
        image.with_config(docker_base(), labels={key: "1"})


def test_parse_keeps_bytes_as_they_were() -> None:
    base = docker_base()
    again = image.parse(base.manifest_bytes, base.config_bytes, lambda name: io.BytesIO())
    assert again == base
    assert image.digest(again) == of_bytes(base.manifest_bytes)
    assert base.manifest_bytes != canonical_json(image.manifest(base))


def test_image_is_the_same_whichever_order_its_settings_come_in() -> None:
    one = image.with_config(docker_base(), env={"A": "1", "B": "2"}, labels={"io.a.x": "1", "io.a.y": "2"})
    two = image.with_config(docker_base(), env={"B": "2", "A": "1"}, labels={"io.a.y": "2", "io.a.x": "1"})
    assert image.digest(one) == image.digest(two)


def test_golden_digest_of_a_fixed_image() -> None:
    made = image.append(image.empty("x86_64", {"PATH": "/bin"}), layer_of(b"\0" * 1024, media.OCI.tar), "golden")
    made = image.with_config(made, entrypoint=["/run"], labels={"io.example.key": "value"})
    assert str(image.digest(made)) == "sha256:411ed15711ebbf43b21f9529a18de2007998b97ebfd20cb839d60b955b3fa6c3"


def altered(made: Image, **changes: Any) -> bytes:
    """The manifest with top-level fields changed."""
    return json.dumps({**image.manifest(made), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"mediaType": media.OCI_INDEX}, "not a single-platform image"),
        ({"config": None}, "config"),
        ({"config": {"mediaType": "application/vnd.example", "digest": "sha256:" + "0" * 64, "size": 2}}, "artifact"),
        ({"layers": {}}, "no list of layers"),
        ({"layers": []}, "do not match"),
        ({"layers": [{"mediaType": media.DOCKER.gzip, "digest": "sha256:../../etc/passwd", "size": 1}]}, "not a sha256 digest"),
        ({"layers": [{"mediaType": media.DOCKER.gzip, "digest": "sha256:" + "0" * 64, "size": -1}]}, "size"),
        ({"layers": [{"mediaType": media.DOCKER.gzip, "digest": "sha256:" + "0" * 64, "size": True}]}, "size"),
        (
            {
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                        "digest": "sha256:" + "0" * 64,
                        "size": 1,
                    }
                ]
            },
            "handed on",
        ),
    ],
)
def test_malformed_manifest_is_refused(changes: dict[str, Any], says: str) -> None:
    base = docker_base()
    with pytest.raises(PackError, match=says):
        image.parse(altered(base, **changes), base.config_bytes, lambda name: io.BytesIO())


def test_config_that_the_manifest_does_not_name_is_refused() -> None:
    base = docker_base()
    with pytest.raises(PackError, match="not the one the manifest names"):
        image.parse(base.manifest_bytes, base.config_bytes + b" ", lambda name: io.BytesIO())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a":1,"a":2}', "given twice"),
        (b'{"a":{"b":1,"b":1}}', "given twice"),
        (b"[]", "list"),
        (b"\xff", "UTF-8"),
        (b'{"a":NaN}', "NaN"),
        (b"{" * 100_000, "not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b'{"a":"' + b"x" * media.MAX_JSON_BYTES + b'"}', "bytes"),
    ],
)
def test_ambiguous_or_oversized_json_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PackError, match=says):
        media.load_json(data, "manifest")


def test_validate_finds_nothing_wrong_with_what_we_make(made: Image) -> None:
    assert image.validate(made) == []


def test_validate_finds_exchanged_layer_bytes(made: Image) -> None:
    first = dataclasses.replace(made.layers[0], open=lambda: io.BytesIO(b"other"))
    problems = image.validate(dataclasses.replace(made, layers=(first, *made.layers[1:])))
    assert any("digest" in each for each in problems)
    assert any("bytes" in each for each in problems)


def test_validate_finds_a_wrong_diff_id() -> None:
    wrong = dataclasses.replace(layer_of(b"\0" * 1024), diff_id=Digest("sha256:" + "0" * 64))
    made = image.append(image.empty("amd64"), wrong, "x")
    assert [each for each in image.validate(made) if "diff_id" in each]


def test_validate_finds_a_truncated_gzip() -> None:
    stored = gzip.compress(b"\0" * 4096)[:-6]
    cut = Layer(
        digest=of_bytes(stored),
        diff_id=of_bytes(b"\0" * 4096),
        size_bytes=len(stored),
        media_type=media.OCI.gzip,
        open=lambda: io.BytesIO(stored),
    )
    assert any("damaged" in each for each in image.validate(image.append(image.empty("amd64"), cut, "x")))


def test_validate_finds_history_and_platform_missing() -> None:
    layers = [layer_of(b"\0" * 1024, media.DOCKER.gzip)]
    config = {"rootfs": {"type": "x", "diff_ids": [str(layers[0].diff_id)]}, "history": [{}, {}]}
    problems = " ".join(image.validate(docker_image(config, layers)))
    for part in ("'architecture'", "'os'", "rootfs.type", "2 lines of history"):
        assert part in problems


def test_validate_finds_mixed_families() -> None:
    layers = [layer_of(b"\0" * 1024, media.OCI.gzip)]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [str(layers[0].diff_id)]}}
    assert any("type" in each for each in image.validate(docker_image(config, layers)))


def test_describe_names_layers_by_what_made_them(made: Image) -> None:
    told = image.describe(made)
    assert told["platform"] == "linux/amd64"
    assert [each["created_by"] for each in told["layers"]] == ["root file system", "code", "model"]
    assert told["size_bytes"] > sum(each["size_bytes"] for each in told["layers"])
    assert told["config"]["entrypoint"] == ["/usr/bin/python3"]
    json.dumps(told)


def test_local_blob_that_has_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="has gone"):
        image.opener_in(tmp_path, Digest("sha256:" + "0" * 64))()


@pytest.mark.parametrize("name", ["riscv64", "", "AMD64"])
def test_unknown_processor_is_refused(name: str) -> None:
    with pytest.raises(PackError, match="no images"):
        image.empty(name)
