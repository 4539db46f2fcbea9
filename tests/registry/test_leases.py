"""Who relies on bytes and who collects them: one of the two sees the other, whatever the clocks say."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from tests.support.registry.builds import build

from mlpack.core.digest import of_bytes
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import Delete, Key, Place, Put
from mlpack.registry.local import directory
from mlpack.registry.rows import leases, rows

A, B = of_bytes(b"a"), of_bytes(b"b")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return directory.open_registry(tmp_path / "registry").place


@pytest.fixture
def renewing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed at each check."""
    monkeypatch.setattr(leases, "_RENEW_S", leases.LEASE_S + 1)


def later(place: Place, seconds: float) -> Place:
    now = place.now()
    return dataclasses.replace(place, now=lambda: now + seconds)


def lease(place: Place) -> dict[str, object] | None:
    row = place.table.get(rows.LEASE)
    return dict(row.head) if row else None


def test_an_intent_is_there_for_as_long_as_it_is_needed(place: Place) -> None:
    with leases.intent(place, [B, A]) as row:
        (standing,), past = leases.intents(place)
        assert (standing.row.key, standing.digests, past) == (row.key, {A, B}, [])
        leases.done(place, row)
        leases.done(place, row)
        assert leases.intents(place) == ([], [])
    with pytest.raises(ZeroDivisionError), leases.intent(place, [A]):
        1 / 0  # noqa: B018
    assert leases.intents(place) == ([], [])


def test_an_intent_ends_by_itself(place: Place) -> None:
    with leases.intent(place, [A]):
        standing, past = leases.intents(later(place, leases.INTENT_S + 1))
        assert (standing, len(past)) == ([], 1)


def test_a_lease_is_one_at_a_time_and_given_back(place: Place) -> None:
    with leases.collecting(place, "alice") as held:
        held.check()
        said = lease(place)
        assert said is not None
        assert (said["who"], said["until"]) == ("alice", pytest.approx(place.now() + leases.LEASE_S, abs=30))
    assert lease(place) is None


def test_a_publisher_waits_for_a_collection(place: Place) -> None:
    ended = threading.Event()

    def publish() -> None:
        with leases.intent(place, [A]):
            assert ended.is_set()

    with leases.collecting(place, "alice"):
        thread = threading.Thread(target=publish)
        thread.start()
        while not leases.intents(place)[0]:
            pass
        ended.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.usefixtures("renewing")
def test_a_publisher_does_not_wait_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_PATIENCE_S", 0.5)
    with leases.collecting(place, "alice") as held:
        stop = threading.Event()

        def keep() -> None:
            while not stop.wait(0.05):
                held.check()

        thread = threading.Thread(target=keep)
        thread.start()
        with pytest.raises(ServiceError, match="alice is collecting garbage since") as caught, leases.intent(place, [A]):
            pass
        with pytest.raises(ServiceError, match="alice is collecting garbage since"), leases.collecting(place, "bob"):
            pass
        stop.set()
        thread.join()
        assert caught.value.retryable
        assert leases.intents(place) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("clock", [-3600.0, 0.0, 600.0])
def test_dead_collector_is_taken_over_whatever_the_clock_says(place: Place, clock: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.5)
    leases.DeletionLease(later(place, clock), "dead").take()
    with leases.intent(place, [A]):
        pass
    with leases.collecting(place, "bob"):
        said = lease(place)
        assert said is not None
        assert said["who"] == "bob"


def test_one_that_is_long_past_is_not_waited_for(place: Place) -> None:
    leases.DeletionLease(place, "dead").take()
    with leases.intent(later(place, leases.LEASE_S + leases.SKEW_S + 1), [A]):
        pass


def test_a_collector_that_was_too_slow_stops(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with leases.collecting(place, "alice") as held:
        held.check()
        monkeypatch.setattr(leases, "MARGIN_S", leases.LEASE_S)
        with pytest.raises(ServiceError, match="too slow for its lease") as caught:
            held.check()
    assert caught.value.retryable


@pytest.mark.usefixtures("renewing")
def test_a_collector_whose_lease_was_taken_stops(place: Place) -> None:
    with leases.collecting(place, "alice") as held:
        held.check()
        row = place.table.get(rows.LEASE)
        assert row is not None
        place.table.commit(Put(key=rows.LEASE, head={**row.head, "who": "bob", "id": "other"}, expect=row.revision))
        with pytest.raises(ServiceError, match="bob is collecting"):
            held.check()
        place.table.commit(Delete(key=rows.LEASE, expect=row.revision + 1))
        with pytest.raises(ServiceError, match="began or ended at this moment"):
            held.check()
    assert lease(place) is None


@pytest.mark.usefixtures("renewing")
def test_answer_lost_and_asked_for_again_is_no_conflict(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = place.table.commit

    def twice(*writes: Put | Delete) -> None:
        commit(*writes)
        commit(*writes)

    monkeypatch.setattr(place.table, "commit", twice)
    with leases.collecting(place, "alice") as held:
        held.check()
        held.check()
    assert lease(place) is None
    with leases.intent(place, [A]) as row:
        leases.done(place, row)
    assert leases.intents(place) == ([], [])


def test_only_an_old_release_needs_an_intent_to_refer_to_it(tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry")
    release = registry.publish(build(tmp_path / "out"))
    with leases.protected(registry.place, release):
        assert leases.intents(registry.place) == ([], [])
    old = later(registry.place, leases.YOUNG_S + 60)
    with leases.protected(old, release):
        (intent,), _ = leases.intents(old)
        assert intent.digests == set(release.files.values())
    assert leases.intents(old) == ([], [])
    old.table.commit(Delete(key=Key(rows.releases("minilm"), "000000001"), expect=1))
    with pytest.raises(RecipeError, match="minilm@1 was collected"), leases.protected(old, release):
        pass
    assert leases.intents(old) == ([], [])
