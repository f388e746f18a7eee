"""Tensors inside the nested things that modules take and return."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples, lists, mappings and dataclasses, in a fixed order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_in(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from tensors_in(value)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for entry in dataclasses.fields(tree):
            yield from tensors_in(getattr(tree, entry.name))


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Return a copy of the tree with every tensor changed; where none changes, the tree itself."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return _rebuilt_mapping(tree, {key: map_tensors(change, value) for key, value in tree.items()})
    if isinstance(tree, list | tuple):
        return _rebuilt_sequence(tree, [map_tensors(change, value) for value in tree])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return _rebuilt_dataclass(tree, change)
    return tree


def _rebuilt_mapping(tree: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    if all(values[key] is value for key, value in tree.items()):
        return tree
    if type(tree) is dict:
        return values
    rebuilt = copy.copy(tree)
    for key, value in values.items():
        rebuilt[key] = value  # type: ignore[index]  # a mapping that cannot be written to raises: the caller gives up
    return rebuilt


def _rebuilt_sequence(tree: list[Any] | tuple[Any, ...], values: list[Any]) -> Any:
    if all(new is old for new, old in zip(values, tree, strict=True)):
        return tree
    if hasattr(tree, "_fields"):  # a named tuple
        return type(tree)(*values)
    return type(tree)(values)


def _rebuilt_dataclass(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    values = {entry.name: map_tensors(change, getattr(tree, entry.name)) for entry in dataclasses.fields(tree)}
    if all(value is getattr(tree, name) for name, value in values.items()):
        return tree
    rebuilt = copy.copy(tree)
    for name, value in values.items():
        object.__setattr__(rebuilt, name, value)
    return rebuilt
