"""Processes at the price of a fork, as in tests/reliability."""

from tests.reliability.conftest import nursery

__all__ = ["nursery"]
