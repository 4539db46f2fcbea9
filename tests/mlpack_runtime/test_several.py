"""Several models in one package: which answers, which are in memory, and what the repository's clients are told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.runtime.several_packages import ROW, WIDE, several
from tests.support.runtime.workers import Place, Process, add_botocore, until

from mlpack_runtime import model, ort
from mlpack_runtime.hosting import several as hosting
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Reply, open_service
from mlpack_runtime.several import shelf as shelves
from mlpack_runtime.several.service import Several
from mlpack_runtime.several.shelf import Shelf, ShelfError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that is only read."""
    return several(tmp_path_factory.mktemp("several") / "package", worker={"port": 0})


@pytest.fixture
def service(root: Path, monkeypatch: pytest.MonkeyPatch) -> Several:
    monkeypatch.setattr(model, "ROOT", str(root))
    made = open_service()
    assert isinstance(made, Several)
    return made


def ask(service: Several, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    reply: Reply = service.http(method, path, headers, b"" if body is None else json.dumps(body).encode())
    assert reply.headers["x-trace-id"]
    return reply.status, json.loads(reply.body)


def in_memory(service: Several) -> set[str]:
    return {opened.service.model.name for opened in service.shelf.values()}


def states(service: Several) -> dict[str, str]:
    return {row["name"]: row["state"] for row in ask(service, "POST", "/v2/repository/index")[1]}


# --- which model -------------------------------------------------------------------------------------------------------


def test_each_path_reaches_its_model(service: Several) -> None:
    assert in_memory(service) == {"affine"}
    status, answer = ask(service, "POST", "/v2/models/wide/infer", WIDE)
    assert (status, answer["model_name"], answer["outputs"][0]["data"]) == (200, "wide", [1, 2, 3])
    assert ask(service, "POST", "/stage/v2/models/affine/versions/3/infer", {"inputs": []})[1]["error_type"] != "NotFound"
    assert ask(service, "POST", "/v2/models/wide/versions/9/infer", WIDE)[0] == 404
    status, answer = ask(service, "POST", "/v2/models/none/infer", WIDE)
    assert status == 404
    assert "no model 'none' here; this package has affine, second, third, wide" in answer["error"]
    assert in_memory(service) == {"affine", "wide"}


def test_plain_requests_go_to_the_default_or_the_headers(service: Several) -> None:
    assert ask(service, "POST", "/", ROW)[1]["model_name"] == "affine"
    assert ask(service, "POST", "/anything", {"inputs": {"x": [1, 2]}}, **{"mlpack-model": "wide"})[1]["model_name"] == "wide"
    assert ask(service, "POST", "/", ROW, **{"mlpack-model": "none"})[0] == 404
    assert json.loads(service.value(ROW).body)["model_name"] == "affine"
    assert json.loads(service.value({"model_name": "wide", **WIDE}).body)["model_name"] == "wide"
    assert service.value({"model_name": "none", **WIDE}).status == 404
    message = service.message({"mlpack-model": "wide"}, json.dumps(WIDE).encode(), "r", {})
    assert json.loads(message.body)["model_name"] == "wide"


def test_what_is_only_asked_about_is_not_loaded(service: Several) -> None:
    assert ask(service, "GET", "/v2/models/second")[1]["inputs"][0]["name"] == "x"
    assert ask(service, "GET", "/v2/models/second/ready") == (200, {"name": "second", "ready": True})
    assert ask(service, "GET", "/v2/models/none/ready")[0] == 404
    assert ask(service, "GET", "/v2/health/ready")[0] == 200
    assert "model_repository" in ask(service, "GET", "/v2")[1]["extensions"]
    assert "model_repository" in ask(service, "GET", "/")[1]["extensions"]
    assert ask(service, "DELETE", "/v2")[0] == 405
    assert ask(service, "GET", "/v2/nothing")[0] == 404
    assert in_memory(service) == {"affine"}
    assert service.warmup().status == 200


# --- the repository ----------------------------------------------------------------------------------------------------


def test_the_least_recently_used_makes_room(service: Several) -> None:
    for name in ("wide", "affine", "second"):
        body = ROW if name == "affine" else {"inputs": {"x": [1]}}
        assert ask(service, "POST", "/", body, **{"mlpack-model": name})[0] == 200
    assert in_memory(service) == {"affine", "second"}
    assert set(states(service).values()) == {"READY"}


def test_loading_and_unloading(service: Several) -> None:
    load, unload = "/v2/repository/models/wide/load", "/v2/repository/models/wide/unload"
    assert ask(service, "POST", load, {"parameters": {}}) == (200, {})
    assert "wide" in in_memory(service)
    assert ask(service, "POST", unload, {"parameters": {"unload_dependents": False}}) == (200, {})
    assert in_memory(service) == {"affine"}
    assert states(service)["wide"] == "UNAVAILABLE"
    assert ask(service, "GET", "/v2/models/wide/ready")[0] == 503
    status, answer = ask(service, "POST", "/v2/models/wide/infer", WIDE)
    assert (status, answer["error_type"]) == (503, "ModelUnavailable")
    assert load in answer["error"]
    ready = ask(service, "POST", "/v2/repository/index", {"ready": True})[1]
    assert "wide" not in {row["name"] for row in ready}
    assert ask(service, "POST", load)[0] == 200
    assert ask(service, "POST", "/v2/models/wide/infer", WIDE)[0] == 200


def test_what_stands_around_a_model_goes_with_it(service: Several) -> None:
    """Its connections would stay open, and its cache in memory, at each turn of loading and letting go."""
    closed = []

    for name in ("wide", "second", "third"):
        assert ask(service, "POST", f"/v2/repository/models/{name}/load")[0] == 200
        for opened in service.shelf.values():
            if opened.service.model.name == name:
                opened.service.around = SimpleNamespace(close=lambda name=name: closed.append(name))
    assert closed == ["wide"]  # there is no room for all
    for name in ("second", "third"):
        assert ask(service, "POST", f"/v2/repository/models/{name}/unload")[0] == 200
    assert closed == ["wide", "second", "third"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v2/repository/models/none/load", None, 404),
        ("GET", "/v2/repository/models/wide/load", None, 405),
        ("POST", "/v2/repository/models/wide/reload", None, 404),
        ("POST", "/v2/repository", None, 404),
        ("POST", "/v2/repository/models/wide/load", {"parameters": {"config": "{}"}}, 400),
        ("POST", "/v2/repository/models/wide/load", {"parameters": {"file:1/model.onnx": "AA=="}}, 400),
        ("POST", "/v2/repository/models/wide/load", {"parameters": [1]}, 400),
        ("POST", "/v2/repository/index", [1], 400),
    ],
)
def test_what_the_repository_refuses(service: Several, method: str, path: str, body: object, status: int) -> None:
    answered, answer = ask(service, method, path, body)
    assert answered == status
    assert isinstance(answer["error"], str)


def test_a_model_that_cannot_be_loaded_fails_alone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "models"):
        shutil.copytree(root / name, tmp_path / name)
    (tmp_path / "models/second/model.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(tmp_path / "model"))
    service = open_service()
    assert isinstance(service, Several)
    status, answer = ask(service, "POST", "/v2/models/second/infer", WIDE)
    assert (status, answer["error_type"]) == (503, "ModelUnavailable")
    row = next(row for row in ask(service, "POST", "/v2/repository/index")[1] if row["name"] == "second")
    assert row["state"] == "UNAVAILABLE"
    assert row["reason"]
    assert ask(service, "GET", "/v2/models/second/ready")[0] == 503
    assert ask(service, "POST", "/", ROW)[0] == 200
    (tmp_path / "models/affine/model.onnx").write_bytes(b"no graph")  # the default has to load
    with pytest.raises(ort.OrtError):
        open_service()


@pytest.mark.parametrize(
    ("fault", "hosted"), [("hook", False), ("tokenizer", False), ("hook", True), ("tokenizer", True), ("probe", True)]
)
def test_what_cannot_be_served_is_let_go_of(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, hosted: bool
) -> None:
    """It is tried again every few seconds, and each try would keep a session, and a batcher's thread."""
    for name in ("model", "models"):
        shutil.copytree(root / name, tmp_path / name)
    path = tmp_path / "models/second/model.json"
    told = json.loads(path.read_bytes())
    if fault == "hook":
        told["preprocess"] = "nowhere_at_all:hook"
    elif fault == "tokenizer":
        told["tokenizer"] = {"file": "tokenizer.json"}
    path.write_text(json.dumps(told))
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(tmp_path / "model"))
    opened, stopped = [], []
    open_session, close = model.open_session, ort.Session.close
    monkeypatch.setattr(model, "open_session", lambda *parts: opened.append(open_session(*parts)) or opened[-1])
    monkeypatch.setattr(ort.Session, "close", lambda session: (session in opened and opened.remove(session), close(session)))

    def batch(loaded: Any, _: Any) -> Any:
        if fault == "probe" and loaded.name == "second":
            raise ort.OrtError("it fails at the first call")
        batcher = SimpleNamespace(busy_s=0.0, look=lambda: None, stop=lambda: stopped.append(loaded.name))
        return batcher, lambda call, _: {}, None

    if hosted:
        engine = ort.Engine(model.library("lib/libonnxruntime.so", "the engine"))
        process: Any = SimpleNamespace(
            open=lambda place: model.load(lambda folder, told: model.open_session(engine, folder, told), place),
            batch=batch,
            tell_start=lambda *_: None,
            server=SimpleNamespace(metrics=None),
            gather=lambda _: None,
        )
        service = hosting.serve(process, str(tmp_path / "model"), process.open(str(tmp_path / "models/affine")))
    else:
        several = open_service()
        assert isinstance(several, Several)
        service = several
    assert len(opened) == 1
    assert ask(service, "POST", "/v2/models/second/infer", WIDE)[0] in (500, 503)
    assert len(opened) == 1
    assert stopped == (["second"] if hosted and fault == "hook" else [])


# --- the shelf ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 10), min_size=1),
    budget=st.integers(1, 25),
    asked=st.lists(st.tuples(st.sampled_from(["use", "load", "unload"]), st.sampled_from("abcdef")), max_size=30),
)
def test_the_shelf_keeps_its_budget(sizes: dict[str, int], budget: int, asked: list[tuple[str, str]]) -> None:
    """One thread at a time: whatever is asked, what is in memory fits, and each model is closed as often as it was loaded."""
    loaded: Counter[str] = Counter()

    def load(name: str) -> str:
        loaded[name] += 1
        return name

    def close(name: str) -> None:
        loaded[name] -= 1

    shelf, there, gone = Shelf(sizes, budget, load, close), list[str](), set[str]()
    for verb, name in asked:
        if name not in sizes:
            continue
        if verb == "unload":
            shelf.unload(name)
            gone.add(name)
            there = [other for other in there if other != name]
            continue
        if verb == "use" and name in gone:
            with pytest.raises(ShelfError), shelf.use(name):
                pass
            continue
        gone.discard(name)
        if verb == "load":
            shelf.load(name)
        else:
            with shelf.use(name) as value:
                assert value == name
        there = [other for other in there if other != name] + [name]  # by their last use
        while sum(sizes[each] for each in there) > budget and len(there) > 1:
            del there[0]
        assert set(shelf.values()) == set(there)
        assert sum(sizes[each] for each in there) <= budget or there == [name]
        assert {each for each, count in loaded.items() if count} == set(there)
        assert set(loaded.values()) <= {0, 1}


def test_many_threads_share_a_shelf() -> None:
    sizes = dict.fromkeys("abcd", 1)
    loaded: Counter[str] = Counter()
    lock, most = threading.Lock(), 0

    def load(name: str) -> str:
        nonlocal most
        time.sleep(0.001)
        with lock:
            loaded[name] += 1
            most = max(most, sum(loaded.values()))
            assert loaded[name] == 1
        return name

    def close(name: str) -> None:
        with lock:
            loaded[name] -= 1

    shelf, wrong = Shelf(sizes, 2, load, close), list[object]()

    def work(number: int) -> None:
        for turn in range(25):
            name = "abcd"[(number + turn) % 4]
            with shelf.use(name) as value:
                if value != name or not loaded[name]:
                    wrong.append((name, value))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert most <= 2


def test_whoever_comes_while_it_loads_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "WAIT_S", 0.0)
    go, tries = threading.Event(), list[str]()

    def load(name: str) -> str:
        tries.append(name)
        assert go.wait(10)
        return name

    shelf, got = Shelf({"a": 1}, 1, load, lambda _: None), list[str]()

    def ask() -> None:
        with shelf.use("a") as value:
            got.append(value)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert (shelf.state("a")[0], got) == ("loading", [])
    go.set()
    for thread in threads:
        thread.join(10)
    assert (tries, got) == (["a"], ["a"] * 3)


def test_who_answers_requests_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "WAIT_S", 0.05)
    shelf = Shelf({"a": 2, "b": 2}, 2, str, lambda _: None)
    with shelf.use("a"):
        with pytest.raises(ShelfError, match="no memory for model 'b'"), shelf.use("b"):
            pass
        assert shelf.values() == ["a"]
    with shelf.use("b"):
        assert shelf.values() == ["b"]


def test_what_failed_is_tried_again_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def load(name: str) -> str:
        tries.append(name)
        raise RequestError("no")

    shelf = Shelf({"a": 1}, 2, load, lambda _: None)
    with pytest.raises(RequestError, match="no"), shelf.use("a"):
        pass
    with pytest.raises(ShelfError, match="cannot be loaded: no"), shelf.use("a"):
        pass
    assert (shelf.state("a"), len(tries)) == (("failed", "no"), 1)
    with pytest.raises(RequestError):  # somebody wants it now
        shelf.load("a")
    monkeypatch.setattr(shelves, "RETRY_S", 0.0)
    with pytest.raises(RequestError), shelf.use("a"):
        pass
    assert len(tries) == 3


def test_what_is_loaded_again_while_unloading_can_make_room() -> None:
    """Its last request is under way: the model stays, and is let go of like any other when room is needed."""
    shelf = Shelf({"a": 2, "b": 2}, 2, str, lambda _: None)
    unloading = threading.Thread(target=shelf.unload, args=("a",))
    with shelf.use("a"):
        unloading.start()
        while shelf.state("a")[0] != "unloaded":
            time.sleep(0.001)
        shelf.load("a")
        assert shelf.state("a")[0] == "loaded"
        unloading.join(10)
        assert not unloading.is_alive()
    with shelf.use("b"):
        assert shelf.values() == ["b"]


# --- as a process ------------------------------------------------------------------------------------------------------


def test_a_container_serves_them(root: Path) -> None:
    process = Process(root, entrance="serve", models_mb=100).ready()
    try:
        assert process.http("POST", "/v2/models/wide/infer", WIDE)[1]["outputs"][0]["data"] == [1, 2, 3]
        assert process.http("POST", "/", ROW)[0] == 200
        assert process.http("POST", "/v2/models/second/infer", WIDE)[0] == 200
        states = {row["name"]: row["reason"] for row in process.http("POST", "/v2/repository/index", {})[1]}
        assert (states["affine"], states["second"]) == ("", "")
        assert "first request" in states["wide"]  # it was the least recently used
        assert process.http("POST", "/v2/repository/models/affine/unload", {})[0] == 200
        assert process.http("POST", "/", ROW)[0] == 503
        assert process.http("GET", "/v2/health/ready")[0] == 200
        for name in ("second", "third", "wide"):  # no model, and no batcher, is left
            assert process.http("POST", f"/v2/repository/models/{name}/unload", {})[0] == 200
        assert process.http("GET", "/v2/health/ready")[0] == 200
        assert process.http("POST", "/v2/repository/models/affine/load", {})[0] == 200
        assert process.http("POST", "/", ROW)[0] == 200
    finally:
        assert process.end() == 0
    assert {line["model"] for line in process.answers} >= {"affine", "wide", "second"}


@pytest.mark.slow
def test_messages_say_which_model(root: Path, place: Place, tmp_path: Path) -> None:
    """Each result is under its model's name; a model that is not here goes to the dead-letter queue."""
    for name in ("model", "models", "lib", "mlpack_runtime", "app", "site"):
        (tmp_path / name).symlink_to(root / name)
    shutil.copy(root / "bootstrap.py", tmp_path)
    (tmp_path / "site").unlink()
    (tmp_path / "site").mkdir()
    worker = place.worker(add_botocore(tmp_path), models_mb=100).ready()
    try:
        place.send(WIDE, request_id="one", model="wide")
        place.send(ROW, request_id="two")
        place.send(WIDE, request_id="three", model="none")

        def result(model: str, request_id: str) -> Any:
            try:
                answer = place.s3.get_object(Bucket="results", Key=f"answers/{model}/{request_id}.json")
            except place.s3.exceptions.NoSuchKey:
                return None
            return json.loads(answer["Body"].read())

        one = until(lambda: result("wide", "one"), "the result of wide")
        two = until(lambda: result("affine", "two"), "the result of the default")
        three = until(lambda: result("affine", "three"), "what is told of a strange model")
    finally:
        assert worker.end() == 0
    assert (one["status"], json.loads(one["body"])["model_name"]) == (200, "wide")
    assert (two["status"], json.loads(two["body"])["model_name"]) == (200, "affine")
    assert three["status"] == 404
    assert len(place.dead()) == 1


def test_a_batch_is_answered_by_one_of_several(root: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(f'{{"inputs": {{"x": [{at}, 2]}}}}\n' for at in range(5)))
    code = (
        "import sys\nfrom mlpack_runtime import model\nmodel.ROOT = sys.argv.pop(1)\n"
        "from mlpack_runtime.batch.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(model.__file__).parents[1])}

    def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-c", code, str(root), str(manifest), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()[-1]

    status, line = run("--model", "wide", "--results", str(tmp_path / "out"))
    assert status == 0, line
    told = json.loads(line)
    assert (status, told["batch"]["answered"], told["batch"]["failed"], told["model"]) == (0, 5, 0, "wide")
    (piece,) = (tmp_path / "out/results").iterdir()
    answers = [json.loads(text)["answer"]["outputs"][0]["data"] for text in piece.read_text().splitlines()]
    assert answers == [[float(at), 2.0] for at in range(5)]
    status, line = run()  # the default one, which takes other inputs
    assert (status, json.loads(line)["batch"]["failed"]) == (0, 5)
    status, line = run("--model", "none")
    assert (status, "there is no model 'none' here; this package has affine, second, third, wide" in line) == (2, True)
