"""A sequence whose items are made when asked for."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import SupportsIndex, TypeVar, overload

Item = TypeVar("Item", covariant=True)


class LazySequence(Sequence[Item], ABC):
    """What a sequence needs beside its length and a way to make one item."""

    @abstractmethod
    def item(self, row: int) -> Item:
        """Make the item of a row, counted from 0; the row exists."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Item, ...]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Item | tuple[Item, ...]:
        rows = range(len(self))[place]
        return tuple(map(self.item, rows)) if isinstance(rows, range) else self.item(rows)

    def __iter__(self) -> Iterator[Item]:
        return map(self.item, range(len(self)))
