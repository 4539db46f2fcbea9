"""What the jobs' tests work in."""

from __future__ import annotations

from tests.support.services.account import around

__all__ = ["around"]
