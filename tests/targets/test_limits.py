"""Limits: compared in bytes, refused with by how much and what to cut."""

from __future__ import annotations

import pytest

from mlpack.errors import ExitCode, LimitError, RecipeError
from mlpack.targets import TARGETS, LambdaImage, LambdaZip, limits


def test_check_size_at_the_limit_is_accepted() -> None:
    limits.check_size(limits.ZIP_UNZIPPED, [("a", 262_144_000)])


def test_check_size_one_byte_over_names_the_largest_to_cut() -> None:
    sizes = [(f"small-{number}", number) for number in range(10)] + [("model.onnx.data", 262_144_000), ("lib.so", 1)]
    with pytest.raises(LimitError) as caught:
        limits.check_size(limits.ZIP_UNZIPPED, sizes)
    lines = str(caught.value).splitlines()
    assert "46 more than the 262,144,000" in lines[0]
    assert [line.split()[-1] for line in lines[1:]] == ["model.onnx.data", "small-9", "small-8", "small-7", "small-6"]
    assert caught.value.exit_code == ExitCode.OVER_BUDGET


def test_every_limit_names_its_source() -> None:
    for kind in TARGETS.values():
        assert kind.limits
        for limit in kind.limits:
            assert limit.value > 0
            assert limit.source
            assert limit.unit


@pytest.mark.parametrize("config", [LambdaZip, LambdaImage])
@pytest.mark.parametrize("memory_mb", [127, 10_241, 0, -1])
def test_memory_that_lambda_does_not_offer_is_refused(config: type, memory_mb: int) -> None:
    with pytest.raises(RecipeError, match="memory_mb"):
        config(memory_mb=memory_mb)
    assert config(memory_mb=128).memory_mb == 128
