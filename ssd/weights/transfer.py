"""Starts a network from the weights of another: copies tensors that fit, and classes by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Transfer:
    """A state dict ready to load, and the origin of its tensors."""

    state: dict[str, Tensor]
    copied: frozenset[str]  # tensors taken over, class heads included where any class was found
    initialised: tuple[str, ...]  # tensors that stay as they were
    kept_classes: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()


def copy_what_fits(
    target: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    *,
    class_names: tuple[str, ...] = (),
    source_class_names: tuple[str, ...] = (),
) -> Transfer:
    """Copy tensors of equal name and shape; rows of the class heads by class name, background always.

    A class that the source lacks keeps its initial rows, also if both have the same number of classes.
    """
    state: dict[str, Tensor] = {}
    copied = set()
    for name, tensor in target.items():
        given = source.get(name)
        if name.startswith("head.classes.") and (name.count(".") == 3 or ".pointwise." in name):
            rows = None if given is None else _class_rows(tensor, given, class_names, source_class_names)
            state[name], found = (tensor, False) if rows is None else (rows, True)
        else:
            found = given is not None and given.shape == tensor.shape
            state[name] = given.to(tensor.dtype) if found and given is not None else tensor
        if found:
            copied.add(name)
    return Transfer(
        state,
        frozenset(copied),
        tuple(name for name in target if name not in copied),
        tuple(name for name in class_names if name in source_class_names),
        tuple(name for name in class_names if name not in source_class_names) if source_class_names else (),
    )


def _class_rows(target: Tensor, source: Tensor, names: tuple[str, ...], source_names: tuple[str, ...]) -> Tensor | None:
    """Rows (default boxes x classes) by class name, or None where the tilings differ or no class is shared."""
    columns, source_columns = len(names) + 1, len(source_names) + 1
    boxes = target.shape[0] // columns
    shared = [(i, source_names.index(name)) for i, name in enumerate(names) if name in source_names]
    if source.shape[0] != boxes * source_columns or source.shape[1:] != target.shape[1:] or not shared:
        return None
    new = target.clone().view(boxes, columns, *target.shape[1:])
    old = source.to(target.dtype).view(boxes, source_columns, *source.shape[1:])
    new[:, 0] = old[:, 0]
    for mine, theirs in shared:
        new[:, mine + 1] = old[:, theirs + 1]
    return new.view_as(target)
