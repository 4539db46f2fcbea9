"""Engines on the device: built once whoever asks, verified, published by key, and never loaded when a byte is another.

The device is a row of three values, and the builder is the real one: TensorRT for RTX builds without a GPU. What needs a device,
the comparison with the CPU engine's answers, is a function that the tests replace by the CPU engine itself.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.engine_library import engine_library
from tests.support.runtime.engine_packages import engine_package
from tests.support.runtime.workers import add_botocore, until
from tests.support.services.aws_server import REGION, AwsServer, Fault

import mlpack_runtime
from mlpack_runtime import ort
from mlpack_runtime.aws import promises
from mlpack_runtime.tensor import Tensor
from mlpack_runtime.tensorrt import (
    engine_key,
    engine_lease,
    engine_make,
    engine_opening,
    engine_plan,
    engine_store,
    engine_verify,
    verbs,
)
from mlpack_runtime.tensorrt.engine_lease import Lease
from mlpack_runtime.tensorrt.engine_make import Maker
from mlpack_runtime.tensorrt.engine_store import FAILED, MISS, SERVICE, EngineError, Shelf

pytestmark = pytest.mark.slow

L4 = {"name": "NVIDIA L4", "sm": "sm89", "driver": 12040}
A10G = {"name": "NVIDIA A10G", "sm": "sm86", "driver": 12040}


@cache
def client(aws: AwsServer, service: str) -> Any:
    """A boto3 client, once: reading a service's description takes most of a test's time."""
    return aws.client(service)


@cache
def shelf_of(aws: AwsServer) -> Shelf:
    """The bucket as the runtime sees it, its client made while the environment points at the server."""
    return Shelf("s3://engines/team")


@pytest.fixture
def places(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A bucket for engines and a table for leases, named by the environment."""
    s3, dynamodb = client(aws, "s3"), client(aws, "dynamodb")
    s3.create_bucket(Bucket="engines", CreateBucketConfiguration={"LocationConstraint": REGION})
    dynamodb.create_table(
        TableName="leases", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
    )  # fmt: skip
    named = {"MLPACK_ENGINES": "s3://engines/team", "MLPACK_LEASES": "dynamodb://leases"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLPACK_ENGINE_ON_MISS", raising=False)
    monkeypatch.setattr(engine_make, "POLL_S", 0.05)
    shelf_of(aws)
    return named


@pytest.fixture
def deferred(tmp_path: Path) -> Path:
    """A package whose engine is still to be built."""
    return engine_package(tmp_path / "model", builder="deferred")


PLANS: dict[str, bytes] = {}
"""What the real builder made, by architecture: all packages here have one graph."""


def build_once(directory: str, spec: Any, device: Any) -> bytes:
    """The real builder, once for an architecture."""
    if device["sm"] not in PLANS:
        PLANS[device["sm"]] = engine_make.build(directory, spec, device)
    return PLANS[device["sm"]]


class Bench(Maker):
    """A maker whose new engine is held against the CPU engine's answers by the CPU engine: no device."""

    builder = staticmethod(build_once)
    verifier = staticmethod(lambda directory, spec, plan: on_cpu(directory))


def on_cpu(directory: str) -> dict[str, Any]:
    session = ort.Session(ort.Engine(str(engine_library())), os.path.join(directory, "model.onnx"))
    try:
        return engine_verify.verify(directory, session.run)
    finally:
        session.close()


def maker(aws: AwsServer, directory: Path, device: dict[str, Any] = L4, said: list[str] | None = None) -> Maker:
    say = [].append if said is None else said.append
    return Bench(str(directory), engine_key.read(str(directory)), device, shelf_of(aws), say)


def objects(aws: AwsServer) -> dict[str, bytes]:
    """Engines and records: not what the bucket is asked with."""
    s3 = client(aws, "s3")
    listed = [row["Key"] for row in s3.list_objects_v2(Bucket="engines").get("Contents", [])]
    return {key: s3.get_object(Bucket="engines", Key=key)["Body"].read() for key in listed if not key.endswith(promises.NAME)}


def test_engine_is_built_verified_and_published_under_its_key(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    made = maker(aws, deferred)
    record = made.make()
    held = objects(aws)
    assert set(held) == {f"team/{record['digest'].removeprefix('sha256:')}.engine", f"team/{made.key}.json"}
    assert json.loads(held[f"team/{made.key}.json"]) == record
    assert (record["key"], record["sm"], record["device"]) == (made.key, "sm89", "NVIDIA L4")
    assert record["verified"] == {
        "calls": 3,
        "cosine": pytest.approx(1.0),
        "difference": pytest.approx(0.0, abs=1e-5),
        "equal": 1.0,
    }
    spec = engine_key.read(str(deferred))
    plan = engine_opening.plan(str(deferred), spec, L4, print)
    assert engine_plan.problems(plan, "rtx", spec["tensorrt"]["version"], "sm89", ["x", "y"]) == ([], [])
    assert client(aws, "dynamodb").scan(TableName="leases")["Items"] == []


def test_the_second_time_there_is_nothing_to_do(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    first, said = maker(aws, deferred).make(), []
    assert maker(aws, deferred, said=said).make() == first
    assert said == [f"engine {first['key'][:12]} for sm89 is there already"]
    other = maker(aws, deferred, A10G).make()
    assert other["key"] != first["key"]


def test_engine_of_package_is_same_as_one_that_the_image_builds(
    aws: AwsServer, places: dict[str, str], tmp_path: Path, deferred: Path
) -> None:
    ahead = engine_key.read(str(engine_package(tmp_path / "ahead")))["engines"][0]
    record = maker(aws, deferred).make()
    assert (record["key"], record["digest"]) == (ahead["key"], ahead["digest"])


def test_a_miss_fails_fast_with_what_to_do(places: dict[str, str], deferred: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = engine_key.read(str(deferred))
    with pytest.raises(EngineError, match="engine build") as caught:
        engine_opening.plan(str(deferred), spec, L4, print)
    assert caught.value.code == MISS
    assert engine_key.key(spec, "sm89") in str(caught.value)
    monkeypatch.delenv("MLPACK_ENGINES")
    with pytest.raises(EngineError, match="MLPACK_ENGINES does not say") as caught:
        engine_opening.plan(str(deferred), spec, L4, print)
    assert caught.value.code == MISS
    spec["refused"] = {"sm89": "no such kernels"}
    with pytest.raises(EngineError, match="no such kernels"):
        engine_opening.plan(str(deferred), spec, L4, print)


def test_a_worker_may_build_where_it_is_allowed_to(places: dict[str, str], deferred: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_ENGINE_ON_MISS", "build")
    monkeypatch.setattr(Maker, "verifier", staticmethod(Bench.verifier))
    spec = engine_key.read(str(deferred))
    plan = engine_opening.plan(str(deferred), spec, L4, lambda _: None)
    assert engine_opening.plan(str(deferred), spec, L4, lambda _: None) == plan


@pytest.mark.parametrize("damage", ["bytes", "length", "record", "gone"])
def test_what_is_not_what_was_published_is_never_handed_out(
    damage: str, aws: AwsServer, places: dict[str, str], deferred: Path
) -> None:
    record = maker(aws, deferred).make()
    s3 = client(aws, "s3")
    blob, name = f"team/{record['digest'][7:]}.engine", f"team/{record['key']}.json"
    data = s3.get_object(Bucket="engines", Key=blob)["Body"].read()
    if damage == "bytes":
        s3.put_object(Bucket="engines", Key=blob, Body=data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "length":
        s3.put_object(Bucket="engines", Key=blob, Body=data[:100])
    elif damage == "gone":
        s3.delete_object(Bucket="engines", Key=blob)
    else:
        s3.put_object(Bucket="engines", Key=name, Body=json.dumps({**record, "digest": "sha256:../../other"}).encode())
    with pytest.raises(EngineError) as caught:
        engine_opening.plan(str(deferred), engine_key.read(str(deferred)), L4, print)
    assert caught.value.code == FAILED


def test_engine_that_computes_something_else_is_not_published(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    made = maker(aws, deferred)

    def wrong(directory: str, spec: Any, plan: bytes) -> Any:
        def run(feeds: Any) -> dict[str, Tensor]:
            rows = feeds["x"].shape[0]
            return {"y": Tensor("FP32", (rows, 3), bytes(12 * rows))}

        return engine_verify.verify(directory, run)

    made.verifier = wrong
    with pytest.raises(engine_verify.VerifyError, match="cosine to the CPU engine"):
        made.make()
    assert objects(aws) == {}
    assert maker(aws, deferred).make()["key"] == made.key  # and the lease was given back


def test_a_builder_that_gives_another_architecture_is_found_out(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    made = maker(aws, deferred)
    made.builder = lambda directory, spec, device: engine_make.build(directory, spec, A10G)
    with pytest.raises(EngineError, match="it is for sm86, not for sm89"):
        made.make()
    assert objects(aws) == {}


def test_a_graph_that_tensorrt_refuses_is_said_with_its_node(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    made = maker(aws, deferred, {**L4, "sm": "sm75"})
    with pytest.raises(EngineError, match="FP32 GEMM is not supported"):
        made.make()


def test_the_second_publisher_loses_gracefully(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    spec = engine_key.read(str(deferred))
    shelf, key = shelf_of(aws), engine_key.key_here(spec, L4)
    first = engine_store.record_of(key, b"one", L4, spec, None)
    second = engine_store.record_of(key, b"two", L4, spec, None)
    assert shelf.publish(first, b"one") == (first, True)
    assert shelf.publish(second, b"two") == (first, False)
    assert shelf.engine(first) == b"one"
    assert shelf.publish(second, b"two", force=True) == (second, True)
    assert shelf.record(key) == second


CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from mlpack_runtime.tensorrt import engine_key, engine_make
from mlpack_runtime.tensorrt.engine_store import Shelf
engine_make.POLL_S = 0.05
class Maker(engine_make.Maker):
    verifier = staticmethod(lambda directory, spec, plan: "no device in this test")
directory = sys.argv[2]
say = lambda line: print(line, file=sys.stderr, flush=True)
made = Maker(directory, engine_key.read(directory), json.loads(sys.argv[3]), Shelf(os.environ["MLPACK_ENGINES"]), say)
print(json.dumps(made.make(), sort_keys=True))
"""


def test_of_eight_processes_exactly_one_builds(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    """Real processes, real HTTP, the real builder."""
    root = str(Path(mlpack_runtime.__file__).parents[1])
    command = [sys.executable, "-c", CHILD, root, str(deferred), json.dumps(L4)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(8)))
    assert [run.returncode for run in done] == [0] * 8, done[0].stderr
    assert len({run.stdout for run in done}) == 1
    assert sum("building engine" in run.stderr for run in done) == 1
    puts = [one.path for one in aws.log("s3") if one.operation == "PutObject" and one.status == 200]
    assert len([path for path in puts if not path.endswith(promises.NAME)]) == 2  # the engine and its record
    assert len(objects(aws)) == 2


@pytest.mark.parametrize("action", ["close", "error"])
def test_a_lease_whose_answer_was_lost_is_ours_at_the_next_try(action: str, aws: AwsServer, places: dict[str, str]) -> None:
    """The client's own next try must not be refused by what its first one wrote."""
    aws.plan(Fault(action, after=True, service="dynamodb", operation="PutItem"))
    lease = Lease(places["MLPACK_LEASES"], "engine/k")
    assert lease.take()
    assert [one.status for one in aws.log("dynamodb") if one.operation == "PutItem"][-1] == 200
    assert not Lease(places["MLPACK_LEASES"], "engine/k").take()


def test_unanswered_heartbeat_ends_well_within_the_lease(aws: AwsServer, places: dict[str, str]) -> None:
    lease = Lease(places["MLPACK_LEASES"], "engine/k")
    config = lease._client.meta.config
    tries = config.retries["total_max_attempts"]
    spent_s = tries * (config.connect_timeout + config.read_timeout) + 2**tries  # with the pauses between them
    assert engine_lease.HEARTBEAT_S + spent_s < engine_lease.LEASE_S / 2
    assert engine_make.LIMIT_S < engine_lease.MOST_S < engine_make.WAIT_S - engine_lease.LEASE_S


def test_a_holder_that_hangs_is_overtaken(places: dict[str, str]) -> None:
    hung = Lease(places["MLPACK_LEASES"], "engine/k", lease_s=0.4, heartbeat_s=0.1, most_s=0.3)
    assert hung.take()
    with hung:
        until(lambda: hung.lost, "it knows that its time is over")
        until(Lease(places["MLPACK_LEASES"], "engine/k").take, "another may take it")


def test_a_builder_that_hangs_is_ended_and_the_lease_given_back(
    aws: AwsServer, places: dict[str, str], deferred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_make, "_START", "import sys, time; print('at it', file=sys.stderr, flush=True); time.sleep(60)")
    monkeypatch.setattr(engine_make, "LIMIT_S", 5.0)
    made = maker(aws, deferred)
    made.builder = engine_make.build
    with pytest.raises(EngineError, match=r"was not done after 5.0 s, and was ended: at it") as caught:
        made.make()
    assert caught.value.code == FAILED
    assert client(aws, "dynamodb").scan(TableName="leases")["Items"] == []


def turned(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that leases tell each other, which moves where the test moves it: `now_s`."""
    clock = SimpleNamespace(now_s=1_800_000_000.0)
    monkeypatch.setattr(engine_lease, "time", SimpleNamespace(time=lambda: clock.now_s, monotonic=time.monotonic))
    return clock


def test_lease_is_one_at_a_time_and_ends_when_its_holder_dies(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = turned(monkeypatch)
    dead = Lease(places["MLPACK_LEASES"], "engine/k", lease_s=60)
    other = Lease(places["MLPACK_LEASES"], "engine/k")
    assert dead.take()
    assert not other.take()
    clock.now_s += 61
    assert other.take()
    assert not dead.renew()
    assert dead.lost
    with other:
        assert not dead.take()
    assert dead.take()  # given back


def test_a_heartbeat_keeps_a_lease_past_its_expiry(aws: AwsServer, places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = turned(monkeypatch)
    held = Lease(places["MLPACK_LEASES"], "engine/k", lease_s=60, heartbeat_s=0.02)
    assert held.take()
    table = client(aws, "dynamodb")
    with held:
        for _ in range(2):
            clock.now_s += 50
            expires = f"{clock.now_s + 60:.3f}"
            until(lambda: float(table.scan(TableName="leases")["Items"][0]["expires"]["N"]) == float(expires), "a heartbeat")  # noqa: B023
        assert not Lease(places["MLPACK_LEASES"], "engine/k").take()
        assert not held.lost


def test_overtaken_holder_does_not_give_back_what_is_anothers(places: dict[str, str]) -> None:
    slow = Lease(places["MLPACK_LEASES"], "engine/k", lease_s=0.2, heartbeat_s=60)
    assert slow.take()
    with slow:
        time.sleep(0.3)
        assert Lease(places["MLPACK_LEASES"], "engine/k").take()
    assert not Lease(places["MLPACK_LEASES"], "engine/k").take()


def test_without_leases_each_builds_and_one_engine_stands(
    aws: AwsServer, places: dict[str, str], deferred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLPACK_LEASES")
    record = maker(aws, deferred).make()
    assert maker(aws, deferred).make(force=True) == record


def test_a_wait_for_another_builder_ends(
    aws: AwsServer, places: dict[str, str], deferred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_make, "WAIT_S", 0.2)
    made = maker(aws, deferred)
    assert Lease(places["MLPACK_LEASES"], f"engine/{made.key}").take()
    with pytest.raises(EngineError, match="has held the lease"):
        made.make()


@pytest.mark.parametrize(("service", "operation"), [("s3", "GetObject"), ("s3", "PutObject"), ("dynamodb", "PutItem")])
def test_a_service_that_refuses_is_told_as_one(
    service: str, operation: str, aws: AwsServer, places: dict[str, str], deferred: Path
) -> None:
    aws.plan(Fault("error", service=service, operation=operation, onward=True, status=403, code="AccessDenied"))
    with pytest.raises(EngineError) as caught:
        maker(aws, deferred).make()
    assert caught.value.code == SERVICE


def test_a_write_beside_anothers_is_tried_again(aws: AwsServer, places: dict[str, str], deferred: Path) -> None:
    asked = 2  # whether the bucket keeps what is written once
    aws.plan(Fault("error", service="s3", operation="PutObject", number=asked + 2, status=409, code="ConditionalRequestConflict"))
    record = maker(aws, deferred).make()
    assert len(objects(aws)) == 2
    assert shelf_of(aws).record(record["key"]) == record


def test_addresses_of_another_form_are_refused(places: dict[str, str]) -> None:
    with pytest.raises(EngineError, match="MLPACK_ENGINES"):
        Shelf("https://engines")
    with pytest.raises(EngineError, match="MLPACK_LEASES"):
        Lease("s3://leases", "k")
    assert engine_lease.LEASE_S > 3 * engine_lease.HEARTBEAT_S


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime part of an image as it lies there: bootstrap.py, mlpack_runtime/, TensorRT in site/ and lib/."""
    import tensorrt_rtx_bindings

    root = tmp_path_factory.mktemp("image")
    module = Path(tensorrt_rtx_bindings.__file__).parent
    shutil.copytree(Path(mlpack_runtime.__file__).parent, root / "mlpack_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "mlpack_runtime/bootstrap.py", root / "bootstrap.py")
    for folder in ("site", "lib"):
        (root / folder).mkdir()
    (root / "site" / module.name).symlink_to(module)
    for library in (module.parent / "tensorrt_rtx_libs").glob("*.so.*"):
        (root / "lib" / library.name).symlink_to(library)
    return root


def bootstrap(image: Path, directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`bootstrap.py engine WORDS`, as the image starts it: no site-packages, nothing from the environment's Python."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLPACK_")}
    command = [sys.executable, "-I", "-S", str(image / "bootstrap.py"), "engine", *words]
    named = {**clean, "MLPACK_MODEL_DIR": str(directory), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=named)


def test_check_says_what_it_could_and_what_it_could_not(image: Path, tmp_path: Path) -> None:
    done = bootstrap(image, engine_package(tmp_path / "model"), "check")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "engines/sm89.engine: digest, version, architecture and names" in said["checked"]
    assert any("TensorRT 1.7.1.116" in line for line in said["checked"])
    assert any("device" in line or "runs" in line for line in said["not_checked"])


@pytest.mark.parametrize("damage", ["engine", "graph", "spec", "calls", "version"])
def test_check_finds_what_is_wrong(damage: str, image: Path, tmp_path: Path) -> None:
    directory = engine_package(tmp_path / "model")
    spec = json.loads((directory / "tensorrt.json").read_bytes())
    if damage == "engine":
        (directory / "engines/sm89.engine").write_bytes(b"x")
    elif damage == "graph":
        (directory / "model.onnx").write_bytes(b"x")
    elif damage == "spec":
        (directory / "tensorrt.json").write_text("{")
    elif damage == "calls":
        (directory / "tensorrt-check.bin").write_bytes(b"x")
    else:
        spec["tensorrt"]["version"] = "9.9"
        (directory / "tensorrt.json").write_text(json.dumps(spec))
    done = bootstrap(image, directory, "check")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("engine check: ")
    assert "Traceback" not in done.stderr


def test_key_needs_no_device_for_tensorrt_for_rtx(image: Path, tmp_path: Path) -> None:
    directory = engine_package(tmp_path / "model")
    done = bootstrap(image, directory, "key", "sm89")
    assert json.loads(done.stdout) == {
        "key": json.loads((directory / "tensorrt.json").read_bytes())["engines"][0]["key"],
        "sm": "sm89",
    }
    full = engine_package(tmp_path / "full", builder="deferred", flavour="standard")
    assert bootstrap(image, full, "key", "sm89").returncode == 2


def test_wrong_commands_and_missing_devices_have_words(image: Path, tmp_path: Path) -> None:
    directory = engine_package(tmp_path / "model")
    for words in ((), ("paint",), ("build", "--quickly"), ("fetch", "now"), ("key", "a", "b")):
        assert bootstrap(image, directory, *words, MLPACK_ENGINES="s3://b/p").returncode == 2
    assert bootstrap(image, directory, "build").returncode == 2  # where to?
    if not Path("/dev/nvidiactl").exists():
        for verb in ("fetch", "build", "key"):
            done = bootstrap(image, directory, verb, MLPACK_ENGINES="s3://b/p")
            assert done.returncode == 3
            assert "no CUDA driver" in done.stderr


def test_keys_differ_in_whatever_decides() -> None:
    spec = {
        "graph": "sha256:0", "precision": "fp16", "tensorrt": {"flavour": "standard", "version": "11.4.0.106", "cuda": "12"},
        "flags": {"hardware": "same_compute_capability"}, "workspace_bytes": None, "profiles": [],
    }  # fmt: skip
    here = engine_key.key_here(spec, L4)
    assert here == engine_key.key_here(spec, {**L4, "name": "NVIDIA L40S", "driver": 12080})
    changed = [
        engine_key.key_here(spec, {**L4, "driver": 13000}),
        engine_key.key_here(spec, A10G),
        engine_key.key_here({**spec, "flags": {"hardware": "none"}}, L4),
        engine_key.key_here({**spec, "graph": "sha256:1"}, L4),
        engine_key.key_here({**spec, "precision": "int8"}, L4),
        engine_key.key_here({**spec, "workspace_bytes": 1}, L4),
        engine_key.key_here({**spec, "profiles": [{}]}, L4),
        engine_key.key_here({**spec, "tensorrt": {**spec["tensorrt"], "version": "11.5"}}, L4),
    ]
    assert len({here, *changed}) == len(changed) + 1
    rtx = {**spec, "tensorrt": {"flavour": "rtx", "version": "1.7", "cuda": "12"}}
    assert engine_key.key_here(rtx, L4) == engine_key.key_here(rtx, {**L4, "name": "NVIDIA L40S", "driver": 13000})


def test_an_engine_for_ampere_and_newer_is_one_for_all_of_them() -> None:
    spec = {
        "graph": "sha256:0", "precision": "fp16", "tensorrt": {"flavour": "lean", "version": "11.4.0.106", "cuda": "12"},
        "flags": {"hardware": "ampere_plus"}, "workspace_bytes": None, "profiles": [], "engines": [{"sm": "sm86"}],
    }  # fmt: skip
    turing = {**L4, "name": "Tesla T4", "sm": "sm75"}
    keys = [engine_key.key_here(spec, {**L4, "sm": sm}) for sm in ("sm80", "sm86", "sm89", "sm90", "sm100", "sm120")]
    assert len(set(keys)) == 1
    assert engine_key.key_here(spec, turing) not in keys
    assert engine_key.key_here({**spec, "flags": {"hardware": "same_compute_capability"}}, A10G) not in keys
    assert engine_key.packaged(spec, "sm89") == engine_key.packaged(spec, "sm120") == {"sm": "sm86"}
    assert engine_key.packaged(spec, "sm75") is None
    assert engine_key.packaged({**spec, "flags": {"hardware": "none"}}, "sm89") is None


@pytest.mark.parametrize("value", ["[]", "{}", '{"schema": 2}', '{"schema": 1}', "\x00"])
def test_damaged_specifications_are_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(engine_key.SpecError):
        engine_key.read(str(tmp_path))
    (tmp_path / "tensorrt.json").write_text(value)
    with pytest.raises(engine_key.SpecError):
        engine_key.read(str(tmp_path))


def test_verify_compares_every_output(tmp_path: Path) -> None:
    directory = str(engine_package(tmp_path / "model"))
    session = ort.Session(ort.Engine(str(engine_library())), f"{directory}/model.onnx")
    assert engine_verify.verify(directory, session.run)["calls"] == 3

    def changed(change: Any) -> Any:
        return lambda feeds: change(session.run(feeds))

    nan = Tensor("FP32", (1, 3), b"\x00\x00\xc0\x7f" * 3)
    for change, words in (
        (lambda _: {}, "does not give it"),
        (lambda outputs: {"y": Tensor("FP64", outputs["y"].shape, bytes(2 * len(outputs["y"].data)))}, "gives Tensor"),
        (lambda outputs: {"y": nan if outputs["y"].shape == (1, 3) else outputs["y"]}, "cosine"),
    ):
        with pytest.raises(engine_verify.VerifyError, match=words):
            engine_verify.verify(directory, changed(change))
    session.close()
    assert engine_verify.compare(Tensor("INT32", (2,), bytes(8)), Tensor("INT32", (2,), bytes(4) + b"\1\0\0\0")) == {"equal": 0.5}
    assert verbs.main([]) == 2


def floats(*values: float, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor("FP32", shape or (len(values), 1), struct.pack(f"<{len(values)}f", *values))


def passes(ours: Tensor, reference: Tensor, precision: str) -> bool:
    """Whether `verify` takes these answers within the precision's own bounds."""
    from mlpack.passes.tensorrt.golden import TOLERANCES

    found = engine_verify.compare(ours, reference, None, TOLERANCES[precision]["difference"])
    try:
        engine_verify._hold("here", found, TOLERANCES[precision])
    except engine_verify.VerifyError:
        return False
    return True


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("ours", "reference", "precision", "taken"),
    [
        (floats(0.99, 0.98, 0.97), floats(0.01, 0.5, 1e-6), "int8", False),  # of a row of one, a cosine is the sign
        (floats(0.5), floats(0.1), "int8", False),
        (floats(0.52, 0.1, 0.3), floats(0.5, 0.12, 0.3), "int8", True),
        (floats(*range(0, 12_000, 1000), shape=(3, 4)), floats(*range(12), shape=(3, 4)), "int8", False),
        (floats(2e-3, 4e-3, 6e-3, 1, shape=(2, 2)), floats(2e-6, 4e-6, 6e-6, 1e-3, shape=(2, 2)), "int8", False),
        (floats(0.1, 0.2, -0.3, 0.31, shape=(2, 2)), floats(0.05, 0.1, -0.15, 0.155, shape=(2, 2)), "int8", False),  # twice as much
        (floats(1e-7), floats(-1e-7), "fp32", True),  # as good as zero
        (floats(1e-7, 2.0), floats(-1e-7, 2.0), "fp32", True),
        (floats(1e-7, -2e-7, 1, 2, shape=(2, 2)), floats(-1e-7, 1e-7, 1, 2, shape=(2, 2)), "fp32", True),
        (floats(-0.5), floats(0.5), "fp32", False),
        (floats(0.0, 0.0, shape=(1, 2)), floats(0.0, 0.0, shape=(1, 2)), "fp32", True),
        (floats(0.0, 0.0, shape=(1, 2)), floats(3.0, 4.0, shape=(1, 2)), "int8", False),
        (floats(-INF, 1.0), floats(INF, 1.0), "int8", False),
        (floats(INF, 1.0), floats(INF, 1.0), "fp32", True),
        (floats(1.0, INF), floats(INF, 1.0), "int8", False),
        (floats(NAN, 1.0), floats(INF, 1.0), "int8", False),
        (floats(NAN, 1.0), floats(NAN, 1.0), "fp32", True),
        (floats(NAN, 1.0), floats(1.0, 1.0), "int8", False),
    ],
)
def test_what_the_check_takes(ours: Tensor, reference: Tensor, precision: str, taken: bool) -> None:
    assert passes(ours, reference, precision) is taken


def test_an_output_is_held_to_its_size_in_all_calls(tmp_path: Path) -> None:
    """A call of one row that lies near zero is as exact as the others, not more."""
    calls, data = [], b""
    for value in (4.0, 1e-3):
        row = {"datatype": "FP32", "shape": [1, 1], "offset": len(data), "size": 4}
        calls.append({"inputs": {"x": row}, "outputs": {"y": row}})
        data += struct.pack("<f", value)
    (tmp_path / "tensorrt-check.bin").write_bytes(data)
    tolerance = {"cosine": 0.999, "difference": 2e-2, "equal": 0.95}
    (tmp_path / "tensorrt-check.json").write_text(json.dumps({"schema": 1, "tolerance": tolerance, "calls": calls}))

    def off(by: float) -> Any:
        return lambda feeds: {"y": floats(feeds["x"].flat()[0] + by)}

    assert engine_verify.verify(str(tmp_path), off(0.01))["difference"] == pytest.approx(0.01 / 4, rel=1e-3)
    with pytest.raises(engine_verify.VerifyError, match="difference"):
        engine_verify.verify(str(tmp_path), off(0.1))


def doubling(folder: Path) -> Path:
    """A package for the lean runtime whose graph doubles its input, as the imitation of TensorRT does; no engine yet."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from mlpack.graphs import files
    from mlpack.passes import tensorrt

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    made = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "g", ports[:1], ports[1:], [two])
    for name in ("m", "model"):
        (folder / name).mkdir(parents=True)
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "m")
    tensorrt.run(folder / "m", tensorrt.Tensorrt(builder="deferred", flavour="lean", hardware="ampere_plus"), folder / "model")
    (folder / "model/model.json").write_text("{}")
    return folder / "model"


def lean_image(root: Path) -> Path:
    """The runtime part of a lean image: its site/ has an imitation of the lean runtime, which builds nothing."""
    shutil.copytree(Path(mlpack_runtime.__file__).parent, root / "mlpack_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "mlpack_runtime/bootstrap.py", root / "bootstrap.py")
    (root / "lib").mkdir()
    (root / "site").mkdir()
    shutil.copy(Path(__file__).parents[1] / "support/runtime/fake_tensorrt.py", root / "site")
    runs = 'import ctypes\nfrom fake_tensorrt import *\n__version__ = "11.4.0.106"\nRuntime.driver = ctypes.CDLL("libcuda.so.1")\n'
    (root / "site/tensorrt_lean_bindings.py").write_text(runs)
    return add_botocore(root)


def test_engine_for_the_lean_runtime_comes_from_full_tensorrt(
    aws: AwsServer, places: dict[str, str], library: Path, tmp_path: Path
) -> None:
    directory, lean = doubling(tmp_path), lean_image(tmp_path / "image")
    named = {**places, "LD_LIBRARY_PATH": str(library.parent)}
    checked = json.loads(bootstrap(lean, directory, "check", **named).stdout)
    assert any("runs engines and builds none" in line for line in checked["not_checked"])
    for done, code in (
        (bootstrap(lean, directory, "build", **named), FAILED),
        (bootstrap(lean, directory, "fetch", **named), MISS),
        (bootstrap(lean, directory, "fetch", **named, MLPACK_ENGINE_ON_MISS="build"), FAILED),
        (bootstrap(lean, directory, "fetch", LD_LIBRARY_PATH=named["LD_LIBRARY_PATH"]), MISS),
    ):
        assert done.returncode == code, done.stderr
        assert "run `python -I bootstrap.py engine build`" in done.stderr
        assert "with this image" not in done.stderr
    assert objects(aws) == {}

    venv.create(tmp_path / "environment", symlinks=True)
    (site,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    shutil.copy(Path(__file__).parents[1] / "support/runtime/fake_tensorrt.py", site)
    (site / "tensorrt.py").write_text('from fake_tensorrt import *\n__version__ = "11.4.0.106"\n')
    built = subprocess.run(
        [str(tmp_path / "environment/bin/python"), "-I", str(lean / "bootstrap.py"), "engine", "build"],
        capture_output=True, text=True, check=False, env={**aws.environment, **named, "MLPACK_MODEL_DIR": str(directory)},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    record = json.loads(built.stdout)
    assert record["verified"] == {"calls": 3, "cosine": pytest.approx(1.0), "difference": 0.0, "equal": 1.0}
    assert len(objects(aws)) == 2
    fetched = bootstrap(lean, directory, "fetch", **named)
    assert (fetched.returncode, json.loads(fetched.stdout)["key"]) == (0, record["key"]), fetched.stderr


def test_images_command_publishes_nothing_that_no_device_ran(
    aws: AwsServer, places: dict[str, str], deferred: Path, image: Path, library: Path
) -> None:
    """All of `engine build` as the image starts it, with an imitated driver: it ends where TensorRT asks for a real device."""
    import botocore
    import dateutil
    import jmespath
    import six
    import urllib3

    for module in (botocore, dateutil, jmespath, urllib3):
        place = Path(module.__file__).parent
        if not (image / "site" / place.name).exists():
            (image / "site" / place.name).symlink_to(place)
    if not (image / "site/six.py").exists():
        (image / "site/six.py").symlink_to(six.__file__)
    done = bootstrap(image, deferred, "build", **places, LD_LIBRARY_PATH=str(library.parent))
    assert done.returncode == 3, done.stderr
    assert "for Imitation L4, sm89" in done.stderr
    assert "the engine was built, and is not published: TensorRT 1.7.1.116 does not take this engine" in done.stderr
    assert objects(aws) == {}
    assert client(aws, "dynamodb").scan(TableName="leases")["Items"] == []
    assert bootstrap(image, deferred, "fetch", **places, LD_LIBRARY_PATH=str(library.parent)).returncode == 5
