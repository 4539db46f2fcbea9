"""Runners of a batch: ended at every call of their folder, several at once, asked to stop; nothing is lost, nothing is twice."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.runtime.batches_of_items import Echo, Killed, Mortal, cut, described, manifest, results, runner
from tests.support.runtime.workers import until

from mlpack_runtime.batch import jobs
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.jobs import Job, Settings
from mlpack_runtime.batch.orders import Order
from mlpack_runtime.batch.writing.claims import Claims
from mlpack_runtime.batch.writing.local_folder import LocalFolder
from mlpack_runtime.batch.writing.pieces import Chain, Line, note_of
from mlpack_runtime.protocol import error_body
from mlpack_runtime.service import Reply

ITEMS = 7


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    return LocalFolder(str(tmp_path / "out"), note_of)


def lines(number: int = ITEMS) -> str:
    """A manifest, with a wrong line in the middle of it."""
    rows = [json.dumps({"id": f"i{at}", "text": f"t{at}"}) for at in range(number)]
    return "\n".join("nope" if at == 3 else row for at, row in enumerate(rows))


def check(folder: Path, number: int = ITEMS) -> None:
    """That all is as if one runner had done it without a break."""
    found = results(folder)
    assert [row["item"] for row in found] == list(range(number))
    assert [row["status"] for row in found] == [400 if at == 3 else 200 for at in range(number)]
    assert all(
        row["answer"] == {"echo": f"t{row['item']}"} and row["id"] == f"i{row['item']}" for row in found if row["status"] == 200
    )
    errors = [json.loads(line) for path in sorted(folder.glob("errors/*")) for line in path.read_text().splitlines()]
    assert errors == [row for row in found if row["status"] >= 400]
    assert [(row["item"], row["line"]) for row in errors] == [(3, 4)]
    index = json.loads((folder / "index.json").read_text())
    assert (index["items"], index["answered"], index["failed"]) == (number, number - 1, 1)
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["items"], status["failed"]) == ("complete", number, 1)
    pieces = [piece for path in sorted(folder.glob("done/*")) for piece in json.loads(path.read_text())["pieces"]]
    for piece in pieces:
        told = note_of((folder / piece["name"]).read_bytes())
        assert (told["sha256"], told["items"]) == (piece["sha256"], str(piece["items"]))


def test_all_items_are_answered_in_order(tmp_path: Path, folder: LocalFolder) -> None:
    service = Echo()
    status = runner(folder, manifest(tmp_path / "m.jsonl", lines()), service).run()
    check(tmp_path / "out")
    assert (status["state"], status["answered"]) == ("complete", ITEMS - 1)
    assert len(service.asked) == ITEMS - 1
    assert runner(folder, manifest(tmp_path / "m.jsonl", lines()), Echo()).run()["state"] == "complete"
    check(tmp_path / "out")


@pytest.mark.parametrize("after", [False, True])
def test_a_runner_ended_at_any_call_is_followed_by_another(tmp_path: Path, after: bool) -> None:
    """Each boundary in turn: before the call has an effect, and right behind it."""
    at = 0
    while True:
        at += 1
        out = tmp_path / f"{at}"
        mortal = Mortal(LocalFolder(str(out), note_of), at, after=after)
        try:
            runner(mortal, manifest(tmp_path / "m.jsonl", lines()), Echo()).run()
        except Killed:
            service = Echo()
            free(out)
            runner(LocalFolder(str(out), note_of), manifest(tmp_path / "m.jsonl", lines()), service).run()
            check(out)
            continue
        break
    assert at > 20


def free(out: Path) -> None:
    """The claims of a runner that is gone: in these tests its process is not."""
    for path in out.glob("claims/*"):
        path.write_text(json.dumps({"owner": "gone", "until": 0}))


def run_at_once(place: Path, runners: int, *, items: int, **options: Any) -> None:
    """So many runners of one manifest, which write pieces of different sizes into `place / "out"`; none of them may fail."""
    failures: list[BaseException] = []

    def work(at: int) -> None:
        try:
            found = manifest(place / f"m{at}.jsonl", lines(items))
            one = runner(LocalFolder(str(place / "out"), note_of), found, Echo(), piece=1 + at, part=7, **options)
            one.wait = lambda seconds: threading.Event().wait(0.01)
            one.run()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=6), st.integers(1, 4), st.integers(1, 5))
def test_any_series_of_ends_leaves_one_result_an_item(ends: list[tuple[int, bool]], piece: int, part: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "m.jsonl", Path(place) / "out"
        for at, after in ends:
            mortal = Mortal(LocalFolder(str(out), note_of), at, after=after)
            try:
                runner(mortal, manifest(source, lines()), Echo(), piece=piece, part=part).run()
            except Killed:
                free(out)
        # The last one may write pieces of another size: where the next begins is what the one before says.
        runner(LocalFolder(str(out), note_of), manifest(source, lines()), Echo(), piece=2, part=part).run()
        check(out)


def taken_from_nobody(claims: Claims, part: Any) -> bool:
    """A claim that succeeds whoever has the part. As the real one it begins anew: nobody has died at this part."""
    claims._done, claims._deaths = None, 0
    return True


@pytest.mark.parametrize("claimed", [True, False])
def test_runners_at_once_have_one_result_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: bool) -> None:
    """With claims they share the parts; where claims say nothing (clocks that differ) pieces are still written once."""
    if not claimed:
        monkeypatch.setattr(Claims, "take", taken_from_nobody)
    run_at_once(tmp_path, 4, items=60, threads=2)
    check(tmp_path / "out", 60)


def test_a_runner_that_is_to_stop_writes_what_is_answered(tmp_path: Path, folder: LocalFolder) -> None:
    left = [5]

    def going() -> bool:
        left[0] -= 1
        return left[0] > 0

    one = runner(folder, manifest(tmp_path / "m.jsonl", lines()), Echo(), piece=100, part=100)
    one.going = going
    assert one.run()["state"] == "running"
    done = len(results(tmp_path / "out"))
    assert 0 < done < ITEMS
    service = Echo()
    assert runner(folder, manifest(tmp_path / "m.jsonl", lines()), service, piece=100, part=100).run()["state"] == "complete"
    assert len(service.asked) < ITEMS - 1
    check(tmp_path / "out")


def test_failures_are_tried_again_and_listed(tmp_path: Path, folder: LocalFolder) -> None:
    service = Echo(t0=[500, 500, 200], t1=[500], t2=[503, 503, 200])
    runner(folder, manifest(tmp_path / "m.jsonl", lines()), service).run()
    assert [row["status"] for row in results(tmp_path / "out")] == [200, 500, 200, 400, 200, 200, 200]
    assert [service.asked.count(f"t{at}") for at in range(3)] == [3, 3, 3]


def test_a_device_that_does_not_come_back_stops_the_batch(tmp_path: Path, folder: LocalFolder) -> None:
    """It is not the items' fault: they are not listed, and a later run answers them."""
    found = manifest(tmp_path / "m.jsonl", lines())
    with pytest.raises(BatchError, match="status 503") as caught:
        runner(folder, found, Echo(t4=[503]), piece=100, part=100).run()
    assert (caught.value.status, caught.value.is_final) == (3, False)
    assert len(results(tmp_path / "out")) == 4  # what came before is kept
    runner(folder, manifest(tmp_path / "m.jsonl", lines()), Echo(), part=100).run()
    check(tmp_path / "out")


@pytest.mark.parametrize("word", ["Failed to allocate memory for requested buffer", "std::bad_alloc", "CUDA out of memory"])
def test_an_item_that_there_is_no_memory_for_is_listed_at_last(tmp_path: Path, folder: LocalFolder, word: str) -> None:
    """An engine that says so kills nobody: without the others' ends the batch would stop at this item for ever."""

    class Small(Echo):
        def message(self, headers: Any, body: bytes, request_id: str, metrics: Any) -> Any:
            if json.loads(body)["text"] == "t4":
                return Reply(503, error_body("DeviceError", f"the engine: {word}", "t"), {})
            return super().message(headers, body, request_id, metrics)

    for _ in range(4):
        with pytest.raises(BatchError, match=word) as caught:
            runner(folder, manifest(tmp_path / "m.jsonl", lines(9)), Small(), piece=100, part=100).run()
        assert (caught.value.status, caught.value.at_item) == (3, True)
    runner(folder, manifest(tmp_path / "m.jsonl", lines(9)), Small(), piece=100, part=100).run()
    found = results(tmp_path / "out")
    assert [row["item"] for row in found] == list(range(9))
    assert [row["status"] for row in found] == [200, 200, 200, 400, 500, 200, 200, 200, 200]
    assert found[4]["type"] == "RunnerDied"


def test_a_device_that_is_away_costs_no_item(tmp_path: Path, folder: LocalFolder) -> None:
    for _ in range(8):
        with pytest.raises(BatchError, match="status 503"):
            runner(folder, manifest(tmp_path / "m.jsonl", lines()), Echo(t0=[503]), part=100).run()
    runner(folder, manifest(tmp_path / "m.jsonl", lines()), Echo(), part=100).run()
    check(tmp_path / "out")


class Place:
    """A folder whose clock is `now_s`; without `tells`, it does not say how old a file is."""

    def __init__(self, folder: LocalFolder, *, tells: bool = True) -> None:
        self._folder, self._tells = folder, tells
        self.now_s = 1000.0
        self._written: dict[str, float] = {}

    def held(self, name: str) -> Any:
        held = self._folder.held(name)
        return held and (*held[:2], self.now_s - self._written[name] if self._tells else None)

    def put_new(self, name: str, data: bytes) -> bool:
        return self._noted(name, self._folder.put_new(name, data))

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        return self._noted(name, self._folder.replace(name, data, tag))

    def read(self, name: str) -> Any:
        return self._folder.read(name)

    def _noted(self, name: str, written: bool) -> bool:
        if written:
            self._written[name] = self.now_s
        return written

    def claims(self, wrong_s: float = 0.0) -> Claims:
        """Of a runner of another machine, whose clock is wrong by so much, and whose steady one began whenever."""
        made = Claims(self, 60, lambda: self.now_s + wrong_s, lambda: self.now_s - 7 * wrong_s)  # type: ignore[arg-type]
        made._owner = f"{os.urandom(4).hex()} 1 2 {os.urandom(4).hex()}"
        return made


@pytest.mark.parametrize("skews_s", [(0, 0, 0, 0, 0, 0), (0, 7200, -7200, 86_400, 300, -300), (-400, -200, 0, 200, 400, 600)])
def test_clocks_that_differ_kill_no_runner(folder: LocalFolder, tmp_path: Path, skews_s: tuple[float, ...]) -> None:
    """Who had the fastest clock took every part, and each one that lost it counted as dead: after four a good item was given up."""
    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()))
    place = Place(folder)
    runners = [place.claims(skew_s) for skew_s in skews_s]
    owner = runners[2]
    assert owner.take(part)
    assert owner.deaths(part, 0) == 0
    for _ in range(60):  # half an hour, in which its one item takes that long
        place.now_s += 30
        owner.keep(part)
        assert not any(other.take(part) for other in runners if other is not owner)
    for dead, other in enumerate([runners[0], runners[5], runners[3]], 1):
        place.now_s += 59
        assert not other.take(part)
        place.now_s += 2
        assert other.take(part)
        assert other.deaths(part, 0) == dead  # it had not said a word for a lease


def test_a_claim_is_judged_by_its_own_runners_lease(folder: LocalFolder, tmp_path: Path) -> None:
    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()))
    place = Place(folder)
    slow, fast = place.claims(), place.claims()
    slow._lease_s, fast._lease_s = 600, 10
    assert slow.take(part)
    place.now_s += 599
    assert not fast.take(part)
    place.now_s += 1
    assert fast.take(part)


@pytest.mark.parametrize("tells", [True, False])
def test_a_claim_is_a_runners_until_its_time_is_over(folder: LocalFolder, tmp_path: Path, tells: bool) -> None:
    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()))
    place = Place(folder, tells=tells)
    first, second = place.claims(), place.claims()
    assert first.take(part)
    assert not second.take(part)
    place.now_s += 50
    first.keep(part)
    place.now_s += 50
    assert not second.take(part)
    place.now_s += 11
    assert second.take(part)
    first.keep(part)
    assert second.take(part)  # as after a write whose answer was lost
    first.give_back(part)  # it has it no more
    assert not first.take(part)
    second.give_back(part)
    assert first.take(part)


@pytest.mark.parametrize("careful", [False, True])
def test_a_part_stays_a_runners_while_an_item_takes_long(tmp_path: Path, folder: LocalFolder, careful: bool) -> None:
    """Another would take it, answer the same items, and after some such turns list the first one as the death of runners."""
    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()), 100)
    place = Place(folder)
    held, answers = threading.Event(), threading.Event()

    class Slow(Echo):
        def message(self, headers: Any, body: bytes, request_id: str, metrics: Any) -> Any:
            held.set()
            assert answers.wait(60)
            return super().message(headers, body, request_id, metrics)

    if careful:
        for at in range(3):
            dead = place.claims()
            assert dead.take(part), at
            dead.deaths(part, 0)
            dead.leave(part, 0)
    one = runner(folder, manifest(tmp_path / "m.jsonl", lines()), Slow(), threads=2, part=100)
    one._claims = place.claims()
    one._claims.pause_s = 0.01
    thread = threading.Thread(target=one.run)
    thread.start()
    assert held.wait(60)
    tries = []
    for _ in range(10):
        place.now_s += 25
        until(lambda: place.now_s in place._written.values(), "it says that it is at work still")
        tries.append(place.claims().take(part))
    answers.set()
    thread.join(60)
    assert tries == [False] * 10
    check(tmp_path / "out")


def test_functions_know_nothing_of_each_others_processes(
    folder: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines of one snapshot have the name of one boot: a process of another one is not gone because it is not here."""
    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()))
    monkeypatch.setattr("mlpack_runtime.batch.writing.claims._process", lambda number: f"boot {number} 7" if number else "")
    monkeypatch.setattr(os, "getpid", lambda: 8)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    first = Claims(folder, 60)
    assert first.take(part)
    monkeypatch.setattr("mlpack_runtime.batch.writing.claims._process", lambda number: f"boot {number} 9" if number else "")
    assert not any(Claims(folder, 60).take(part) for _ in range(3))


def test_strange_files_beside_what_is_done_are_passed_over(tmp_path: Path, folder: LocalFolder) -> None:
    for name in ("done/part-99999.json", "done/notes.txt", "done/part-x.json", "done/part-00000.json.bak"):
        folder.put_new(name, b"{}")
    runner(folder, manifest(tmp_path / "m.jsonl", lines()), Echo()).run()
    for path in (tmp_path / "out/done").glob("*"):
        if path.read_bytes() == b"{}":
            path.unlink()
    check(tmp_path / "out")


def test_a_claim_of_a_process_that_is_gone_is_free_at_once(folder: LocalFolder, tmp_path: Path) -> None:
    import subprocess
    import sys

    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()))
    program = (
        "import sys\nfrom mlpack_runtime.batch.reading import plans\n"
        "from mlpack_runtime.batch.writing import claims, local_folder, pieces\n"
        "folder = local_folder.LocalFolder(sys.argv[1], pieces.note_of)\n"
        "assert claims.Claims(folder).take(plans.Part(0, [0, 1, 0, 1, 0]))"
    )
    subprocess.run([sys.executable, "-c", program, folder.uri], check=True)
    assert Claims(folder).take(part)
    (folder_path := Path(folder.uri) / "claims/part-00000.json").write_text("?")
    assert folder_path.is_file()
    assert Claims(folder).take(part)  # what is no claim holds nobody up


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_links_has_each_result_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Claims, "take", lambda *_: True)  # all work on the same parts
    run_at_once(tmp_path, 3, items=30)
    check(tmp_path / "out", 30)
    assert not list((tmp_path / "out").glob(".draft*"))


def test_a_files_age_is_that_of_its_folders_clock(folder: LocalFolder) -> None:
    assert folder.held("claims/x") is None
    assert folder.put_new("claims/x", b"{}")
    path = Path(folder.uri) / "claims/x"
    os.utime(path, (0, path.stat().st_mtime - 500))
    held = folder.held("claims/x")
    assert held is not None
    assert held[:2] == folder.read("claims/x")
    assert held[2] is not None
    assert 500 <= held[2] < 560
    assert not list(Path(folder.uri).glob(".draft*"))


def test_drafts_of_those_who_are_gone_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    LocalFolder(str(out), note_of)
    (out / f".draft-00-999999999-{os.uname().nodename}").write_text("half")
    (out / ".draft-00-999999999-another-machine").write_text("half")
    LocalFolder(str(out), note_of)
    assert [path.name for path in out.glob(".draft*")] == [".draft-00-999999999-another-machine"]


def test_the_piece_that_is_there_says_where_the_next_begins(folder: LocalFolder, tmp_path: Path) -> None:
    (part, *_) = cut(manifest(tmp_path / "m.jsonl", lines()), 100)
    one, other = Chain(folder, part), Chain(folder, part)
    row: Any = [Line(f'{{"item":{at},"id":null,"status":200,"answer":1}}\n'.encode(), failed=False) for at in range(ITEMS)]
    assert one.add(row[:3])
    assert not other.add(row[:2])
    other.read()
    assert other.done == 3
    assert other.add(row[3:])
    one.read()
    assert one.is_whole


@pytest.mark.slow
def test_sigkill_at_any_boundary_loses_nothing(tmp_path: Path) -> None:
    """Real processes and files: whoever comes next finds the claim of a process that is gone, and goes on at once."""
    import subprocess
    import sys

    (tmp_path / "m.jsonl").write_text(lines(5))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.support.runtime.mortal_runner", str(tmp_path / "m.jsonl")]

    def run(out: Path, at: int) -> int:
        environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
        return subprocess.run([*command, str(out), str(at)], env=environment, stdout=subprocess.DEVNULL, check=False).returncode

    at, out = 0, tmp_path
    while True:
        at += 1
        out = tmp_path / f"{at}"
        if (status := run(out, at)) == 0:
            break
        assert status == -9
        if at % 7 == 0:
            run(out, 5)  # killed once more, soon after it has begun
        runner(LocalFolder(str(out), note_of), manifest(tmp_path / "m.jsonl", (tmp_path / "m.jsonl").read_bytes()), Echo()).run()
        check(out, 5)
        assert not list(out.glob(".draft*"))
    check(out, 5)
    assert at > 40


def test_an_item_that_ends_every_runner_is_listed_at_last(tmp_path: Path) -> None:
    """It takes all memory, say: the others around it are answered all the same."""

    class Deadly(Echo):
        def __init__(self, folder: Mortal) -> None:
            super().__init__()
            self.folder = folder

        def message(self, headers: Any, body: bytes, request_id: str, metrics: Any) -> Any:
            if json.loads(body)["text"] == "t5":
                self.folder.kill()
            return super().message(headers, body, request_id, metrics)

    out, runs = tmp_path / "out", 0
    while runs < 20:
        runs += 1
        folder = Mortal(LocalFolder(str(out), note_of), 10_000)
        try:
            runner(folder, manifest(tmp_path / "m.jsonl", lines(9)), Deadly(folder), piece=100, part=100).run()
            break
        except Killed:
            path = out / "claims/part-00000.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "until": 0}))
    assert runs == 5
    found = results(out)
    assert [row["status"] for row in found] == [200, 200, 200, 400, 200, 500, 200, 200, 200]
    assert found[5]["type"] == "RunnerDied"
    assert "more memory or time than there is" in found[5]["error"]


def test_runners_that_live_short_get_on_all_the_same(tmp_path: Path) -> None:
    """Each one ends before its first piece is full: from the third on pieces are of one item."""
    out, runs = tmp_path / "out", 0
    while runs < 40:
        runs += 1
        folder = Mortal(LocalFolder(str(out), note_of), 10_000)
        service, lives = Echo(), [3]
        answer = service.message

        def message(*arguments: Any, lives: list[int] = lives, answer: Any = answer, folder: Mortal = folder) -> Any:
            lives[0] -= 1
            if lives[0] < 0:
                folder.kill()
            return answer(*arguments)

        service.message = message  # type: ignore[method-assign]
        one = runner(folder, manifest(tmp_path / "m.jsonl", lines()), service, piece=100, part=100)
        try:
            one.run()
            break
        except Killed:
            path = out / "claims/part-00000.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "until": 0}))
    assert runs < 8
    check(out)


def test_a_plan_that_was_stopped_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that had too little time for it said that the manifest is too large, each time anew."""
    from mlpack_runtime.batch.reading import manifests

    monkeypatch.setattr(manifests, "_LOOK", 4)
    source, out = tmp_path / "m.jsonl", tmp_path / "out"
    source.write_text(lines(30))

    def run(looks: int, **settings: Any) -> dict[str, Any]:
        service: Any = Echo()
        service.model = described(**settings)
        job = Job(Order(str(source), str(out)), service, Settings({"MLPACK_BATCH_PART_ITEMS": "3"}), files=True)
        left = iter([True] * looks)
        job.going = lambda: next(left, False)
        return job.run()

    told = run(1)
    assert (told["state"], told["items"], (out / "job.json").exists()) == ("running", 0, False)
    assert json.loads((out / "planning.json").read_bytes())["state"]["begin"] is not None
    assert run(2)["items"] == 0
    assert run(100, limits={"body_bytes": 12_345})["state"] == "complete"  # whoever began may have had other limits
    check(out, 30)
    record_bytes = json.loads((out / "job.json").read_bytes())["record_bytes"]
    assert record_bytes != 12_345


def test_a_plan_that_gets_no_further_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpack_runtime.batch.reading import manifests

    monkeypatch.setattr(manifests.LinesManifest, "plan", lambda *_: None)
    (tmp_path / "m.jsonl").write_text(lines(30))
    with pytest.raises(BatchError, match="too large to be looked through in the time"):
        Job(Order(str(tmp_path / "m.jsonl")), Echo(), Settings({}), files=True).run()


@pytest.mark.parametrize("limits", [(80, 40), (40, 80)])
def test_runners_with_other_limits_have_the_same_records(tmp_path: Path, limits: tuple[int, int]) -> None:
    """A quote that is never closed ends its record where the plan says, whatever memory the next runner has."""
    source, out = tmp_path / "m.csv", tmp_path / "out"
    source.write_text('text\na\nb\nc\nd\n"never closed\n' + "".join(f"t{at}\n" for at in range(30)))

    def run(most: int) -> list[dict[str, Any]]:
        service: Any = Echo()
        service.model = described(limits={"body_bytes": most})
        Job(Order(str(source), str(out)), service, Settings({"MLPACK_BATCH_PART_ITEMS": "2"}), files=True).run()
        return results(out)

    whole = run(limits[0])
    assert len(whole) > 2
    for path in (*out.glob("done/*"), *out.glob("results/*"), *out.glob("claims/*"), out / "index.json"):
        if "part-00000-" not in path.name and path.name != "part-00000.json":
            path.unlink()
    assert run(limits[1]) == whole


def test_a_package_whose_hooks_have_changed_answers_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version is the model's: with it alone, what an older hook had answered would be taken for this one's."""
    source, app = tmp_path / "m.jsonl", tmp_path / "app"
    source.write_text(lines())
    monkeypatch.setattr(jobs, "ROOT", str(tmp_path))
    (app / "part").mkdir(parents=True)
    (app / "own.py").write_text("one")

    def run(results: str = "", **settings: Any) -> int:
        service: Any = Echo()
        service.model = described(**settings)
        assert Job(Order(str(source), results), service, Settings({}), files=True).run()["state"] == "complete"
        return len(service.asked)

    hook = {"postprocess": "own:answer"}
    assert [run(), run(), run(**hook), run(**hook)] == [ITEMS - 1, 0, ITEMS - 1, 0]
    assert run(**hook, target="worker", memory_mb=3538, limits={"rows": 7}, worker={"port": 1}) == 0
    (app / "own.py").write_text("two")
    assert [run(**hook), run(**hook)] == [ITEMS - 1, 0]
    (app / "part/labels.txt").write_text("a")
    (app / "part/__pycache__").mkdir()
    (app / "part/__pycache__/own.cpython-311.pyc").write_text("b")
    assert run(**hook) == ITEMS - 1
    (app / "part/__pycache__/own.cpython-311.pyc").write_text("c")
    assert [run(**hook), run()] == [0, 0]
    out = str(tmp_path / "out")
    assert run(out, task={"name": "text-classification", "labels": ["a"]}) == ITEMS - 1
    with pytest.raises(BatchError, match="its code is"):
        run(out, task={"name": "text-classification", "labels": ["b"]})


@pytest.mark.parametrize(
    "other",
    [
        {"tokenizer": {"file": "tokenizer.json", "max_length": 8}},
        {"tokenizer": {"file": "other.json"}},
        {"around": {"features": {"table": "b", "key": ["id"], "columns": {"x": ["a"]}}}},
        {"around": {"features": {"table": "a", "key": ["id"], "columns": {"x": ["a"]}, "defaults": {"a": 1}}}},
        {"task": {"name": "fill-mask"}},
        {},
    ],
)
def test_what_makes_answers_is_part_of_a_job(tmp_path: Path, other: dict[str, Any]) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "other.json").write_text("{ }")

    def code(settings: dict[str, Any]) -> str:
        made = described(**settings)
        made.directory = str(tmp_path)
        return jobs._code(made)

    base = {
        "tokenizer": {"file": "tokenizer.json"},
        "around": {"features": {"table": "a", "key": ["id"], "columns": {"x": ["a"]}, "deadline_ms": 40}},
    }
    faster = {"around": {"cache": {"ttl_s": 1}, "features": {**base["around"]["features"], "deadline_ms": 80}}}  # type: ignore[dict-item]
    assert code(base) == code(base | faster)
    assert (code(base) == code(base | other)) == (not other)
    assert code({}) == ""
