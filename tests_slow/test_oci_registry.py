"""Against the programs that others use: Debian's docker-registry on loopback, skopeo and umoci.

What the fast tests say of our own fake registry is said here of a real one; what we write is read by tools we did not write.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.images import layouts
from tests.support.services.real_registry import PASSWORD, USER, Registry

from mlpack.core.digest import Digest, of_tree
from mlpack.errors import NamingError, ServiceError
from mlpack.oci import image, layout
from mlpack.oci.base import resolve_base
from mlpack.oci.distribution import keychain, remote
from mlpack.oci.distribution.remote import TransportOptions
from mlpack.oci.layers import layer, paths

if TYPE_CHECKING:
    from mlpack.oci.image import Image

ELF_AMD64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00"
WEIGHTS_BYTES = 512 << 20


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    """The programs these tests are about; what is missing is named."""
    packages = {"docker-registry": "docker-registry", "skopeo": "skopeo", "umoci": "umoci"}
    if missing := [package for program, package in packages.items() if not shutil.which(program)]:
        pytest.fail(f"missing for these tests: apt-get install {' '.join(missing)}")


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system with a merged `/usr`, hard links and a file of every mode that matters."""
    root = tmp_path / "rootfs"
    for folder in ("usr/lib", "usr/bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/libc.so").write_bytes(b"libc" * 10_000)
    (root / "usr/bin/true").write_bytes(ELF_AMD64)
    (root / "usr/bin/true").chmod(0o755)
    (root / "usr/bin/false").hardlink_to(root / "usr/bin/true")
    (root / "etc/secret").write_text("x")
    (root / "etc/secret").chmod(0o600)
    (root / "etc/Főtanúsítvány.crt").write_text("x")
    return root


@pytest.fixture
def made(rootfs: Path, tmp_path: Path) -> Image:
    """An image with a file through the base's link, a long name, and a layer of stored blocks."""
    base = resolve_base(str(rootfs), "x86_64", tmp_path / "cache").image
    below = paths.base_paths(base)
    code, model = tmp_path / "code", tmp_path / "model"
    (code / "lib").mkdir(parents=True)
    (code / "lib/new.so").write_bytes(b"new")
    (code / ("deep/" * 30)).mkdir(parents=True)
    (code / ("deep/" * 30) / "app.py").write_text("print(1)\n")
    model.mkdir()
    (model / "model.onnx").write_bytes(bytes(range(256)) * 40_000)
    found = image.append(base, layer.layer_from_tree(code, "", below, tmp_path / "blobs"), "code")
    found = image.append(found, layer.layer_from_tree(model, "opt/model", below, tmp_path / "blobs", "stored"), "model")
    return image.with_config(found, entrypoint=["/usr/bin/true"], env={"A": "1"}, labels={"io.example.key": "value"})


def run(*command: str | Path) -> str:
    """A program's standard output; its standard error when it fails."""
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_push_then_pull_is_the_same_image(registry: Registry, made: Image, tmp_path: Path) -> None:
    digest = remote.push(made, f"{registry.host}/team/model:v1")
    again = remote.pull(f"{registry.host}/team/model:v1", "x86_64", tmp_path / "pulled")
    assert again == made
    assert image.validate(again) == []
    head = urllib.request.Request(
        f"http://{registry.host}/v2/team/model/manifests/v1", method="HEAD", headers={"Accept": image.family(made).manifest}
    )
    with urllib.request.urlopen(head, timeout=30) as answer:
        assert answer.headers["Docker-Content-Digest"] == str(digest)


def test_second_push_moves_nothing_another_repository_mounts(registry: Registry, made: Image) -> None:
    remote.push(made, f"{registry.host}/one:v1")
    for ref, state in (("one:v2", "present"), ("two:v1", "mounted")):
        states: list[str] = []
        options = TransportOptions(mount_from=("one",), progress=lambda each, seen=states: seen.append(each.state))
        remote.push(made, f"{registry.host}/{ref}", options=options)
        assert set(states) == {state}


def test_skopeo_reads_what_we_push(registry: Registry, made: Image, tmp_path: Path) -> None:
    digest = remote.push(made, f"{registry.host}/model:v1")
    told = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/model:v1"))
    assert Digest(told["Digest"]) == digest
    assert told["Layers"] == [str(each.digest) for each in made.layers]
    assert told["Labels"] == {"io.example.key": "value"}
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry.host}/model:v1", f"oci:{tmp_path / 'copy'}:v1")
    copied = layout.read(tmp_path / "copy")
    assert copied == made
    assert image.validate(copied) == []


def test_we_read_what_skopeo_pushes(registry: Registry, made: Image, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "layout", "v1")
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:v1", f"docker://{registry.host}/model:v1")
    assert remote.pull(f"{registry.host}/model:v1", "amd64", tmp_path / "pulled") == made
    run(
        "skopeo",
        "copy",
        "--dest-tls-verify=false",
        "--format=v2s2",
        f"oci:{tmp_path / 'layout'}:v1",
        f"docker://{registry.host}/model:docker",
    )
    docker = remote.pull(f"{registry.host}/model:docker", "amd64", tmp_path / "pulled")
    assert image.family(docker).manifest == "application/vnd.docker.distribution.manifest.v2+json"
    assert [each.diff_id for each in docker.layers] == [each.diff_id for each in made.layers]
    grown = image.append(docker, made.layers[-1], "again")
    assert image.validate(grown) == []
    assert remote.push(grown, f"{registry.host}/model:grown") == image.digest(grown)
    run("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/model:grown")


def test_archive_is_an_oci_and_a_docker_archive(made: Image, tmp_path: Path) -> None:
    layout.write_archive(made, tmp_path / "image.tar", "team/model:v1")
    for kind in ("oci-archive", "docker-archive"):
        run("skopeo", "copy", f"{kind}:{tmp_path / 'image.tar'}", f"oci:{tmp_path / kind}:v1")
        copied = layout.read(tmp_path / kind)
        assert [each.diff_id for each in copied.layers] == [each.diff_id for each in made.layers]


def test_umoci_unpacks_what_we_packed(made: Image, rootfs: Path, tmp_path: Path) -> None:
    layout.write(made, tmp_path / "layout", "v1")
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'layout'}:v1", tmp_path / "bundle")
    unpacked = tmp_path / "bundle/rootfs"
    assert (unpacked / "lib").readlink() == Path("usr/lib")
    assert sorted(each.name for each in (unpacked / "usr/lib").iterdir()) == ["libc.so", "new.so"]
    assert (unpacked / "opt/model/model.onnx").stat().st_size == 256 * 40_000
    assert (unpacked / ("deep/" * 30) / "app.py").is_file()
    assert (unpacked / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (unpacked / "etc/secret").stat().st_mode & 0o7777 == 0o600
    assert (unpacked / "usr/bin/true").stat().st_ino == (unpacked / "usr/bin/false").stat().st_ino
    for each in ("opt", "deep", "usr/lib/new.so"):
        path = unpacked / each
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert of_tree(unpacked) == of_tree(rootfs)


def test_layout_by_umoci_is_a_base(rootfs: Path, tmp_path: Path) -> None:
    run("umoci", "init", "--layout", tmp_path / "made")
    run("umoci", "new", "--image", f"{tmp_path / 'made'}:v1")
    run("umoci", "config", "--image", f"{tmp_path / 'made'}:v1", "--architecture", "arm64")
    run("umoci", "insert", "--rootless", "--image", f"{tmp_path / 'made'}:v1", rootfs, "/")
    found = resolve_base(str(tmp_path / "made"), "arm64", tmp_path / "cache")
    assert image.validate(found.image) == []
    assert paths.base_paths(found.image).resolve("lib/x") == "usr/lib/x"


def test_private_registry_wants_the_password(made: Image, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    registry = Registry(tmp_path / "private", private=True)
    registry.start()
    try:
        ref = f"{registry.host}/model:v1"
        digest = remote.push(made, ref, lambda host: (USER, PASSWORD))
        told = run("skopeo", "inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", f"docker://{ref}")
        assert json.loads(told)["Digest"] == str(digest)
        for wrong in (None, lambda host: (USER, "wrong")):
            with pytest.raises(ServiceError, match="docker login"):
                remote.pull(ref, "amd64", tmp_path / "pulled", wrong)
    finally:
        registry.kill()


@pytest.mark.parametrize("program", ["skopeo", "podman", "buildah"])
def test_who_signed_in_with_another_program_is_known(program: str, made: Image, tmp_path: Path) -> None:
    if not shutil.which(program):
        pytest.fail(f"missing for these tests: apt-get install {program}")
    (tmp_path / "private").mkdir()
    registry = Registry(tmp_path / "private", private=True)
    registry.start()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    (tmp_path / "run").mkdir()
    login = [program, "login", "--tls-verify=false", "--username", USER, "--password-stdin", registry.host]
    ref, keys = f"{registry.host}/team/model:v1", keychain.of_environment(environ, tmp_path)
    try:
        with pytest.raises(ServiceError, match=rf"no credentials for {registry.host}: mlpack looked in {tmp_path}/run"):
            remote.push(made, ref, keys)
        done = subprocess.run(login, env=environ, input=PASSWORD, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "run/containers/auth.json").is_file()
        assert remote.push(made, ref, keys) == image.digest(made)
        assert remote.pull(ref, "amd64", tmp_path / "pulled", keys) == made
        kept = json.loads((tmp_path / "run/containers/auth.json").read_bytes())
        (entry,) = kept["auths"].values()
        host = registry.host
        for key, known in ((f"{host}/team", True), (f"{host}/other", False), (f"https://{host}/v2/", True)):
            (tmp_path / "named.json").write_text(json.dumps({"auths": {key: entry}}))
            told = subprocess.run(
                ["skopeo", "inspect", "--tls-verify=false", f"--authfile={tmp_path / 'named.json'}", f"docker://{ref}"],
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            found = keychain.Keychain([tmp_path / "named.json"]).find(registry.host, "team/model")
            assert (told.returncode == 0) == known == (found is not None)
    finally:
        registry.kill()


def test_layouts_with_attestations_go_where_skopeo_sends_them(registry: Registry, tmp_path: Path) -> None:
    """What we push of a layout by BuildKit is what skopeo pushes of it; with --all skopeo sends an index, which we pull from."""
    out = layouts.buildx(tmp_path / "both", "amd64", "arm64")
    for arch in ("amd64", "arm64"):
        made, others = layout.read_named(f"oci:{out}:1", arch)
        assert others == 3
        digest = remote.push(made, f"{registry.host}/ours:{arch}")
        theirs = f"docker://{registry.host}/theirs:{arch}"
        run("skopeo", f"--override-arch={arch}", "copy", "--dest-tls-verify=false", f"oci:{out}:1", theirs)
        told = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/theirs:{arch}"))
        assert told["Digest"] == str(digest)
    run("skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{out}:1", f"docker://{registry.host}/all:1")
    assert remote.pull(f"{registry.host}/all:1", "arm64", tmp_path / "pulled") == made


def test_tags_of_umoci_and_skopeo_choose(made: Image, tmp_path: Path) -> None:
    other = image.with_config(made, env={"OTHER": "1"})
    for tag, each in (("v1", made), ("v2", other)):
        layout.write(each, tmp_path / tag, tag)
        run("skopeo", "copy", f"oci:{tmp_path / tag}:{tag}", f"oci:{tmp_path / 'both'}:{tag}")
    run("umoci", "tag", "--image", f"{tmp_path / 'both'}:v1", "latest")
    for tag, each in (("v1", made), ("latest", made), ("v2", other)):
        assert resolve_base(f"{tmp_path / 'both'}:{tag}", "amd64", tmp_path / "cache").image == each
    with pytest.raises(NamingError, match="2 images for linux/amd64"):
        resolve_base(str(tmp_path / "both"), "amd64", tmp_path / "cache")


def test_push_outlives_a_crash_of_the_registry(registry: Registry, made: Image, tmp_path: Path) -> None:
    crashed: list[str] = []

    def crash(told: remote.TransferProgress) -> None:
        if told.state == "moving" and not crashed:
            crashed.append(told.digest)
            registry.kill()

    def restart(seconds: float) -> None:
        if crashed and len(crashed) == 1:
            crashed.append("started again")
            registry.start()

    remote.push(made, f"{registry.host}/model:v1", options=TransportOptions(parallel=1, progress=crash, sleep=restart))
    assert len(crashed) == 2
    assert remote.pull(f"{registry.host}/model:v1", "amd64", tmp_path / "pulled") == made


LARGE = """
import sys
from pathlib import Path
from mlpack.oci import image, layout; from mlpack.oci.layers import layer; from mlpack.oci.distribution import remote
where, host = Path(sys.argv[1]), sys.argv[2]
heavy = layer.layer_from_tree(where / "weights", "opt/model", None, where / "blobs", "stored")
made = image.append(image.empty("amd64"), heavy, "model")
layout.write(made, where / "layout")
remote.push(layout.read(where / "layout"), f"{host}/large:v1")
pulled = remote.pull(f"{host}/large:v1", "amd64", where / "pulled")
assert pulled == made and image.validate(pulled) == []
# Not getrusage: its peak is the parent's, here a test process with torch, until this process outgrows it.
status = Path("/proc/self/status").read_text()
print(next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")))
"""


def test_large_weights_are_streamed(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with (tmp_path / "weights/model.onnx").open("wb") as file:
        file.truncate(WEIGHTS_BYTES)
    source = Path(__file__).parent.parent / "src"
    done = subprocess.run(
        [sys.executable, "-c", LARGE, tmp_path, registry.host],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < WEIGHTS_BYTES / 4, f"{done.stdout} bytes were held at once"
