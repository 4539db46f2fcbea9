"""Where a process listens, and for how long it goes on answering."""

from __future__ import annotations

import pytest

from mlpack_runtime.hosting.process import Process
from mlpack_runtime.hosting.serve import _settings
from mlpack_runtime.hosting.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, 9000),
        ({"PORT": "8081"}, 8081),
        ({"PORT": "0"}, 0),
        ({"PORT": ""}, 9000),
        ({"PORT": "8081", "MLPACK_PORT": "8082"}, 8082),
        ({"PORT": "8081", "SAGEMAKER_BIND_TO_PORT": "8083"}, 8083),
        ({"MLPACK_PORT": "tcp://10.0.12.7:80"}, 9000),
        ({"MLPACK_PORT": "tcp://10.0.12.7:80", "PORT": "8081"}, 8081),
        ({"MLPACK_PORT": "udp://[fd00::1]:53"}, 9000),
    ],
)
def test_the_platforms_port_comes_before_the_packages(environment: dict[str, str], port: int) -> None:
    told = Settings(environment, {"port": 9000})
    assert told.port == port
    assert [("enableServiceLinks" in warning) for warning in told.warnings] == [True] * (
        "://" in environment.get("MLPACK_PORT", "")
    )


def test_links_of_services_are_no_ports_of_ours() -> None:
    """Kubernetes sets NAME_PORT for each Service of a namespace, ours among them."""
    names = ("MLPACK_PORT", "MLPACK_METRICS_PORT")
    told = Settings(dict.fromkeys(names, "tcp://10.0.12.7:9090"), {"port": 9000})
    assert (told.port, told.metrics_port) == (9000, -1)
    assert [name in warning for name, warning in zip(sorted(names), sorted(told.warnings), strict=True)] == [True, True]
    assert "`mlpack-metrics`" in sorted(told.warnings)[0]


@pytest.mark.parametrize("name", ["PORT", "MLPACK_PORT", "SAGEMAKER_BIND_TO_PORT"])
@pytest.mark.parametrize("value", ["abc", "-1", "65536", "8080/tcp", "nan", ":8080", "http"])
def test_a_port_that_is_none_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is '{value}'"):
        Settings({name: value}, {})


def test_metrics_on_the_port_of_requests_need_no_setting() -> None:
    assert Settings({"MLPACK_METRICS_PORT": "9090"}, {}).metrics_port == 9090
    assert Settings({"MLPACK_METRICS_PORT": "0", "PORT": "0"}, {}).metrics_port == 0
    with pytest.raises(SettingsError, match="leave it out"):
        Settings({"MLPACK_METRICS_PORT": "8080"}, {})


@pytest.mark.parametrize(
    ("told", "drain_s", "hurried", "most"), [(3, 25, False, 3), (30, 25, False, 20), (9, 0, False, 0), (3, 25, True, 0)]
)
def test_a_lame_duck_leaves_time_to_finish(told: float, drain_s: float, hurried: bool, most: float) -> None:
    """What is taken at its very end is answered too."""
    one = Process(Settings({"MLPACK_LAME_DUCK_S": str(told), "MLPACK_DRAIN_S": str(drain_s), "MLPACK_PORT": "0"}, {}))
    assert [("MLPACK_DRAIN_S" in warning) for warning in one.settings.warnings] == [True] * (told > max(most, 3))
    one.stop.ask("SIGTERM", hurried=hurried)
    assert one._lame_duck_s() == most
    one.server.stop(0)


def test_a_lame_duck_is_told_by_environment_or_package() -> None:
    assert Settings({}, {}).lame_duck_s is None
    assert Settings({}, {"lame_duck_s": 5.0}).lame_duck_s == 5
    assert Settings({"MLPACK_LAME_DUCK_S": "0"}, {"lame_duck_s": 5.0}).lame_duck_s == 0
    assert Settings({"MLPACK_LAME_DUCK_S": "12"}, {}).lame_duck_s == 12
    with pytest.raises(SettingsError, match="MLPACK_LAME_DUCK_S"):
        Settings({"MLPACK_LAME_DUCK_S": "-1"}, {})


def test_a_container_has_no_queue() -> None:
    assert _settings({}, {"concurrency": 8}).concurrency == 8
    with pytest.raises(SettingsError, match="cpu-worker"):
        _settings({"MLPACK_QUEUE_URL": "https://sqs/q"}, {})
