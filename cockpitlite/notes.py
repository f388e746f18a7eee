"""What a run file is told beside the readings, each as an event: once, and again when it has changed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cockpitlite.graph import read_graph
from cockpitlite.loss_functions import asked
from cockpitlite.recorder import Recorder
from cockpitlite.schedule import on_diagnosis_schedule
from cockpitlite.statistics import Step

MOST_NOTED = 20  # changes of what the loss asks for; one that goes on changing tells nothing more
_RECORDED_SETTINGS = ("momentum", "betas", "weight_decay", "dampening", "nesterov", "eps", "alpha", "maximize")


class Notes:
    """Tells a recorder what is worth to be known of the steps of one training."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._told: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._settings: Sequence[dict[str, Any]] = ()
        self._missing: list[bool] | None = None

    def take_anew(self) -> None:
        """Look at the parameters again, for there are others."""
        self._missing = None

    def of(self, step: Step, model: nn.Module | None, *, thoroughly: bool) -> None:
        """Tell what a tracked step shows of the training; ``thoroughly`` also what takes some time to see."""
        if thoroughly or step.missing != self._missing:
            self._structure(step, model)
        self._changed_settings(step)
        self._dtypes(step)
        if thoroughly:
            self._loss(step)
            self._graph(step)

    def remarks(self, step: Step) -> None:
        """Tell what a user should know of how readings are made."""
        for topic, remark in step.remarks.items():
            if self._is_new(f"remark {topic}", remark):
                self._recorder.event(step.index, "remark", {"topic": topic, "text": remark})

    def unavailable(self, at: int, name: str, reason: str) -> None:
        """Tell why there is no reading."""
        if self._is_new(f"unavailable {name}", reason):
            self._recorder.event(at, "unavailable", {"reading": name, "reason": reason})

    def stumbled(self, at: int, error: Exception) -> None:
        """Tell of an error of ours, once for each kind."""
        text = f"{type(error).__name__}: {error}"
        if self._is_new(f"error {text}", True):
            self._recorder.event(at, "warning", {"message": f"a step could not be recorded: {text}"})

    def failing_schedule(self, at: int, error: Exception) -> None:
        """Tell, and warn, that the user's schedule raised; once."""
        text = f"every() failed at step {at} ({type(error).__name__}: {error})"
        if self._is_new("schedule", True):
            _warn(f"{text}, so that step is not tracked")
            self._recorder.event(at, "warning", {"message": text})

    def eval_mode(self, at: int) -> None:
        """Tell, and warn, that the model is trained in eval mode; once."""
        if self._is_new("eval_mode", True):
            self._recorder.event(at, "eval_mode", {})
            _warn("the watched model was in eval mode in a training step: call model.train() before training")

    def count(self, at: int, kind: str, count: int) -> None:
        """Tell how often something has happened: at once the first time, then with the steps of the diagnosis."""
        if count > self._counts.get(kind, 0) and (kind not in self._counts or on_diagnosis_schedule(at)):
            self._counts[kind] = count
            self._recorder.event(at, kind, {"count": count})

    def _is_new(self, topic: str, told: Any) -> bool:
        """Whether something else is to be told on a topic than last; note that it has been."""
        new = self._told.get(topic) != told
        self._told[topic] = told
        return new

    def _structure(self, step: Step, model: nn.Module | None) -> None:
        """Tell which parameters get no gradient or belong to nobody."""
        self._missing = step.missing
        structure = {"no_gradient": [name for name, none in zip(step.names, step.missing, strict=True) if none]}
        structure |= _strangers(step.optimizer, model)
        if self._is_new("parameters", structure):
            self._recorder.event(step.index, "parameters", structure)

    def _dtypes(self, step: Step) -> None:
        """Tell the number formats of the layers' outputs."""
        seen = [forward.activations for backward in step.backwards for forward in backward.forwards]
        found = {
            name: str(call.dtype).removeprefix("torch.")
            for noted in seen
            for name, calls in noted.items()
            for call in calls
        }
        if found and self._is_new("dtypes", found):
            self._recorder.event(step.index, "dtypes", found)

    def _loss(self, step: Step) -> None:
        """Tell what the loss asks for: by which functions, with which factor on them, and whether shapes fit."""
        found = asked(step.backwards, step.sign)
        noted = self._counts.get("loss_functions", 0)
        if found and noted < MOST_NOTED and self._is_new("loss_functions", found):
            self._counts["loss_functions"] = noted + 1
            self._recorder.event(step.index, "loss_functions", found)

    def _graph(self, step: Step) -> None:
        """Tell once how the model is built, as far as its graph and its layers say."""
        forwards = [forward for backward in step.backwards for forward in backward.forwards]
        if forwards and self._is_new("graph", True):
            names = {id(p): name for name, p in zip(step.names, step.parameters, strict=True)}
            self._recorder.event(step.index, "graph", read_graph(forwards, names))

    def _changed_settings(self, step: Step) -> None:
        """Tell when a hyperparameter other than the learning rate has changed."""
        for index, (old, new) in enumerate(zip(self._settings, step.groups, strict=False)):
            for name in _RECORDED_SETTINGS:
                if old.get(name) != new.get(name):
                    data = {"group": index, "name": name, "old": old.get(name), "new": new.get(name)}
                    self._recorder.event(step.index, "settings", data)
        self._settings = step.groups


def _strangers(optimizer: torch.optim.Optimizer, model: nn.Module | None) -> dict[str, Any]:
    """Return which parameters the optimizer and the model do not share."""
    if model is None:
        return {"not_in_optimizer": [], "frozen": [], "foreign": 0}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    return {
        "not_in_optimizer": [name for name, p in named.items() if p.requires_grad and id(p) not in held],
        "frozen": [name for name, p in named.items() if not p.requires_grad],
        "foreign": len(held - {id(p) for p in named.values()}),
    }


def _warn(message: str) -> None:
    warnings.warn(f"cockpitlite: {message}", stacklevel=2)
