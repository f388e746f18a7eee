"""The only room that registers torch hooks: it turns what passes through a training step into records."""

from cockpitlite.hooks.calls import CallRecorder, Owner, Shapes
from cockpitlite.hooks.capture import WAITING, Capture, changes_gradients, versions_of
from cockpitlite.hooks.compiled import is_compiled
from cockpitlite.hooks.guard import Meter
from cockpitlite.hooks.silence import hooks_bypassed, recorded_shapes
from cockpitlite.hooks.steps import attach_to_steps

__all__ = [
    "WAITING",
    "CallRecorder",
    "Capture",
    "Meter",
    "Owner",
    "Shapes",
    "attach_to_steps",
    "changes_gradients",
    "hooks_bypassed",
    "is_compiled",
    "recorded_shapes",
    "versions_of",
]
