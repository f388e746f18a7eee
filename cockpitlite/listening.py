"""Backward, wrapped once for all watches: whoever listens is told before and after, and of a GradScaler's factor."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from cockpitlite.tree import tensors_in


class Listener(Protocol):
    """What is told of every backward of this process."""

    def before_backward(self, given: Any) -> None:
        """Backward is about to run from ``given``."""

    def after_backward(self, given: Any) -> None:
        """Backward has run from ``given``."""


def scale_of(loss: Tensor | None) -> Tensor | None:
    """Return the factor a GradScaler has put on a loss, None where there is none."""
    return _scales.of(loss)


class _Scales:
    """The factors that GradScalers put on losses, as long as these are alive."""

    def __init__(self) -> None:
        self._known: Any = WeakIdKeyDictionary()

    def put(self, scaled: Any, scale: Tensor | None) -> None:
        if scale is not None:
            kept = scale.detach().clone()
            for loss in tensors_in(scaled):
                self._known[loss] = kept

    def of(self, loss: Tensor | None) -> Tensor | None:
        return self._known.get(loss) if loss is not None and self._known else None


_scales = _Scales()
_listeners: list[weakref.ref[Listener]] = []
_plain_backward = torch.autograd.backward
_plain_scale = torch.amp.GradScaler.scale


@functools.wraps(torch.autograd.backward)
def _heard_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
    if torch._C._current_graph_task_id() != -1:  # a checkpoint's backward inside a backward
        return _plain_backward(tensors, *args, **kwargs)
    given = tensors[0] if isinstance(tensors, list | tuple) and len(tensors) == 1 else tensors
    present = _present()
    for listener in present:
        listener.before_backward(given)
    _plain_backward(tensors, *args, **kwargs)
    for listener in present:
        listener.after_backward(given)
    return None


@functools.wraps(torch.amp.GradScaler.scale)
def _heard_scale(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
    scaled = _plain_scale(scaler, outputs)
    _scales.put(scaled, scaler._scale if scaler.is_enabled() else None)
    return scaled


def _present() -> list[Listener]:
    return [listener for reference in _listeners if (listener := reference()) is not None]


def listen(listener: Listener) -> None:
    """Tell a listener of every backward from now on."""
    _listeners[:] = [weakref.ref(other) for other in (*_present(), listener)]
    if torch.autograd.backward is _plain_backward:
        torch.autograd.backward = _heard_backward
    if torch.amp.GradScaler.scale is _plain_scale:
        torch.amp.GradScaler.scale = _heard_scale  # type: ignore[method-assign,assignment]


def unlisten(listener: Listener) -> None:
    """Tell it no more; after the last one torch is as it was."""
    _listeners[:] = [weakref.ref(other) for other in _present() if other is not listener]
    if _listeners:
        return
    if torch.autograd.backward is _heard_backward:  # someone may have wrapped it after us
        torch.autograd.backward = _plain_backward
    if torch.amp.GradScaler.scale is _heard_scale:
        torch.amp.GradScaler.scale = _plain_scale  # type: ignore[method-assign]
