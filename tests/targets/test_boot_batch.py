"""What a batch's process is told: unlike a boot that tries a package, it works with what is real."""

from __future__ import annotations

from pathlib import Path

from mlpack.targets.boot.batch import Order, environment
from mlpack.targets.boot.process import AROUND_VARIABLE, Means


def test_a_batch_asks_the_tables_where_a_boot_invents(tmp_path: Path) -> None:
    means = Means(timeout_s=1, memory_mb=1769)
    assert means.variables("/tmp")[AROUND_VARIABLE] == "stub"
    order = Order(words=(), variables={"AWS_REGION": "eu-central-1"}, memory_mb=512)
    told = environment(order, means, tmp_path)
    assert told[AROUND_VARIABLE] == ""
    assert (told["AWS_REGION"], told["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) == ("eu-central-1", "512")
    tried = Order(words=(), variables={AROUND_VARIABLE: "stub"}, memory_mb=None)
    assert environment(tried, means, tmp_path)[AROUND_VARIABLE] == "stub"
