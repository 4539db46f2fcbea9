"""Settings: defaults, last good numbers, and every problem at once."""

from __future__ import annotations

import pytest

from mlpack_runtime.door.settings import Settings, SettingsError

QUEUE = {"MLPACK_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/q", "MLPACK_RESULTS": "s3://bucket/some/results/"}


def test_a_queue_is_waited_for_by_default() -> None:
    made = Settings(QUEUE)
    assert (made.mode, made.deadline_s, made.margin_s, made.message_bytes) == ("sync", 25.0, 1.0, 262_144)
    assert made.payloads == ("bucket", "some/results")


def test_a_worker_alone_is_asked_over_http() -> None:
    made = Settings({"MLPACK_WORKER_URL": "http://worker:8080"})
    assert (made.mode, made.payloads) == ("http", None)
    assert Settings({**QUEUE, "MLPACK_WORKER_URL": "http://worker:8080"}).mode == "sync"


def test_payloads_have_a_place_of_their_own() -> None:
    table = {**QUEUE, "MLPACK_RESULTS": "dynamodb://table"}
    assert Settings(table).payloads is None
    assert Settings({**table, "MLPACK_PAYLOADS": "s3://other"}).payloads == ("other", "")


@pytest.mark.parametrize(
    ("name", "last", "beyond"),
    [
        ("MLPACK_DEADLINE_MS", "900000", "900001"),
        ("MLPACK_MESSAGE_BYTES", "1048576", "1048577"),
        ("MLPACK_MESSAGE_BYTES", "1024", "1023"),
        ("MLPACK_BREAKER_FAILURES", "1", "0"),
        ("MLPACK_TICKET_S", "1209600", "1209601"),
        ("MLPACK_GRACE_MS", "0", "-1"),
        ("MLPACK_BACKLOG_LIMIT", "5", "5.0"),
        ("MLPACK_MARGIN_MS", "60000", "٣"),
        ("MLPACK_BREAKER_OPEN_MS", "100", "1" * 5000),
    ],
)
def test_numbers_end_where_they_should(name: str, last: str, beyond: str) -> None:
    Settings({**QUEUE, name: last})
    with pytest.raises(SettingsError, match=f"{name} is .*: a whole number from"):
        Settings({**QUEUE, name: beyond})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "neither MLPACK_QUEUE_URL nor MLPACK_WORKER_URL"),
        ({"MLPACK_QUEUE_URL": QUEUE["MLPACK_QUEUE_URL"]}, "belong together"),
        ({"MLPACK_RESULTS": "s3://b", "MLPACK_WORKER_URL": "http://w"}, "belong together"),
        ({**QUEUE, "MLPACK_MODE": "http"}, "MLPACK_WORKER_URL is not set"),
        ({**QUEUE, "MLPACK_MODE": "fast"}, "one of sync, ticket, http"),
        ({"MLPACK_WORKER_URL": "http://w", "MLPACK_MODE": "ticket"}, "neither MLPACK_QUEUE_URL"),
        ({**QUEUE, "MLPACK_RESULTS": "ftp://x"}, "MLPACK_RESULTS: 'ftp://x' is no address"),
        ({**QUEUE, "MLPACK_PAYLOADS": "dynamodb://x"}, "MLPACK_PAYLOADS: 'dynamodb://x' is no address"),
    ],
)
def test_what_makes_no_sense_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings(environ)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings({"MLPACK_DEADLINE_MS": "soon", "MLPACK_MODE": "fast", "MLPACK_RESULTS": "nowhere"})
    assert all(part in str(caught.value) for part in ("MLPACK_DEADLINE_MS", "MLPACK_MODE", "belong together", "'nowhere'"))
