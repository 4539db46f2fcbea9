"""Runs several calls at once, and raises the first failure of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_PARALLEL = 8


def side_by_side(tasks: Iterable[Callable[[], object]]) -> None:
    """Run these calls at once. The first failure is raised after the running ones have ended; the others are not started."""
    with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
