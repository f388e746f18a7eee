"""The front door: ``watch`` puts a panel on an optimizer, and ``optimizer.cockpit`` is the handle to it."""

from __future__ import annotations

import atexit
import datetime
import math
import numbers
import os
import secrets
import socket
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from cockpitlite.describe import describe_run, script_name
from cockpitlite.diagnosis import Finding, diagnose
from cockpitlite.diagnosis.kept import ENTRY, kept
from cockpitlite.instrument import Instrument
from cockpitlite.instruments import choose
from cockpitlite.panel import Panel, joined, title_of
from cockpitlite.recorder import Recorder
from cockpitlite.schedule import Budget, Every, Schedule, on_diagnosis_schedule
from cockpitlite.store import SUFFIX, Run, RunFileError, RunWriter, load
from cockpitlite.tracker import Tracker, Watched
from cockpitlite.weakly import weakly

if TYPE_CHECKING:
    from cockpitlite.notebook import Page

    PanelChoice = str | type[Instrument] | Instrument | Iterable[str | type[Instrument] | Instrument]

COUNTS = ("epoch", "iteration", "step")  # what is logged by these names only counts
MOST_OVERHEAD = 4.0  # more is meant as percent
RESTING = 50  # so that the diagnosis takes at most a fiftieth of a processor

O = TypeVar("O", bound=torch.optim.Optimizer)  # noqa: E741  # the optimizer's own type is returned


def watch(
    optimizer: O,
    model: nn.Module | None = None,
    loss_fn: nn.Module | Callable[..., Any] | None = None,
    *,
    panel: PanelChoice = "economy",
    every: int | Schedule | None = None,
    overhead: float | None = 0.10,
    samples: int | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    batch_dim: int | Mapping[str, int] = 0,
    dashboard: bool = False,
    on_finding: Callable[[Finding], Any] | None = None,
) -> O:
    """Watch an optimizer train a model, and return the same optimizer; the training loop stays as it is.

    ``model`` is the module the loop calls; without it only what needs nothing but parameters is measured.
    ``loss_fn`` (called as ``loss_fn(output, target)`` on single samples) is needed only where the loss of single
    samples cannot be found by itself; the panel says so.
    ``panel`` is "economy", "business" or "full", each with all of the one before, or a list of names, Instrument
    classes and instances (an instance has options, as HessTrace(curvature="ggn_mc")).
    ``every`` tracks each k-th step, or the steps for which a callable is true; by default as many as ``overhead`` (a
    share of the training time, 0.10 for 10 %) pays for, and ``overhead=None`` tracks every step. Each watch has a
    budget of its own, and pays for its hooks on untracked steps first: 0.1 to 0.2 ms each on a CPU.
    ``samples`` limits per-sample statistics to that many samples of each batch.
    ``run`` is the path of the run file, ``runs/<script>-<date>-<time>.cockpit`` unless given; ``resume`` appends to an
    existing one.
    ``batch_dim`` is the axis of the model's inputs that counts samples; a mapping of module names to axes says it for
    the outputs of single modules (``""`` is the model).
    ``dashboard`` shows the live page: below a notebook's cell, elsewhere in a browser (:func:`cockpitlite.show`).
    ``on_finding`` is called in the training process with each new Finding of the diagnosis, those that only the end of
    the run shows as it is closed. An error in it becomes a warning; to end the training raise KeyboardInterrupt or
    SystemExit.

    On tracked steps the model's output reaches the loop as a thin subclass of Tensor with the same values and
    gradients, so that the road to the loss can be followed; ``type(output) is Tensor`` does not hold then.

    The handle is ``optimizer.cockpit``. Watching an optimizer again ends its first watch.

    Raises TypeError for arguments of the wrong kind, ValueError for values that make no sense (an optimizer that holds
    no parameter of the model, an unknown panel), FileExistsError where the run file exists and ``resume`` is false, and
    OSError where it cannot be written.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"watch() takes a torch.optim.Optimizer first; got {type(optimizer).__name__}")
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"watch() takes a torch.nn.Module as model; got {type(model).__name__}")
    if loss_fn is not None and not callable(loss_fn):
        raise TypeError(
            f"loss_fn is called as loss_fn(output, target); got {type(loss_fn).__name__}, which cannot be called"
        )
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool) or samples < 1):
        raise ValueError(f"samples is a number of samples of each batch, at least 1, or None for all; got {samples!r}")
    _check_batch_dim(batch_dim, model)
    if run is not None and not isinstance(run, str | os.PathLike):
        raise TypeError(f"run is the path of a run file, or None for one below runs/; got {run!r}")
    schedule = _schedule(every, overhead)
    instruments = choose(panel, model)
    _check_initialized(optimizer)
    names, parameters = _common_parameters(optimizer, model)
    path = (_default_path() if run is None else Path(run)).absolute()  # the training may change folders
    if path.is_dir():
        raise IsADirectoryError(f"the run file {path} is a folder; give the path of a file as run=")
    previous = getattr(optimizer, "cockpit", None)
    writable = resume or not path.exists()  # else the error below leaves the first watch as it is
    if isinstance(previous, Cockpit) and not previous.closed and writable:
        previous.close()
        warnings.warn("cockpitlite: this optimizer was already watched; the first watch ended here", stacklevel=2)
    resumed = resume and path.exists()
    if resumed and _is_being_written(path):
        raise FileExistsError(
            f"the run file {path} is still being written by a running process; end that one first, or give another run="
        )
    writer = RunWriter(path, resume=resume)
    watched = Watched(
        optimizer=optimizer,
        model=model,
        names=names,
        parameters=parameters,
        find=_common_parameters,
        batch_dim=batch_dim,
        samples=samples,
        loss_fn=loss_fn,
    )
    try:
        cockpit = Cockpit(watched, instruments, schedule, writer, on_finding, resumed)
    except BaseException:
        if not resumed:
            path.unlink(missing_ok=True)
        raise
    optimizer.cockpit = cockpit  # type: ignore[attr-defined]
    if dashboard:
        cockpit.open_dashboard()
    return optimizer


class Cockpit:
    """The handle to a watch, ``optimizer.cockpit``."""

    def __init__(
        self,
        watched: Watched,
        instruments: list[Instrument],
        schedule: Schedule,
        writer: RunWriter,
        on_finding: Callable[[Finding], Any] | None,
        resumed: bool,
    ) -> None:
        self._run = writer.path
        self._on_finding = on_finding
        self._last_findings: list[Finding] = []
        self._kept: list[dict[str, Any]] | None = None
        self._known: set[tuple[str, int]] = set()
        self._found: list[Finding] = []
        self._diagnosis_due = False
        self._growing: Run | None = None  # kept, so that each diagnosis reads only what is new
        self._resting_until = 0.0
        self._logged: set[str] = set()
        self._process = os.getpid()
        first = 0 if writer.last_step is None else writer.last_step + 1
        self._recorder = Recorder(writer)
        self._describe(watched, instruments, schedule, resumed, first)
        try:
            self._tracker = Tracker(watched, instruments, schedule, self._recorder, first)
        except BaseException:
            self._recorder.close()
            raise
        # The recorder's thread, which outlives what nobody holds, must not hold the tracker.
        self._recorder.on_failed_check = weakly(self._tracker.failed_check, otherwise=True)
        self._recorder.on_alarm = weakly(self._tracker.alarm)
        if on_finding is not None:
            self._tracker.after_step = self._tell
        self.closed = False
        _open.add(self)

    def _describe(
        self, watched: Watched, instruments: list[Instrument], schedule: Schedule, resumed: bool, first: int
    ) -> None:
        recorder = self._recorder
        described = describe_run(watched.optimizer, watched.model, watched.parameters)
        names = [instrument.name for instrument in instruments]
        recorder.meta(**described, panel=names, schedule=str(schedule), samples=watched.samples)
        panels = [instrument.placed_panel(described["optimizer"]["family"]) for instrument in instruments]
        for panel in joined(panel for panel in panels if panel is not None):
            recorder.panel(panel)
        recorder.event(first, "resume", {"from": first}) if resumed else recorder.event(0, "start", {})
        if resumed:
            recorder.meta(**{ENTRY: None})  # what was found does not hold for what comes
        if watched.model is None:
            for instrument in instruments:
                if instrument.needs_model:
                    reason = (
                        "watch() was not given the model, so neither its batches nor its layers are seen: pass model="
                    )
                    recorder.event(first, "unavailable", {"reading": instrument.name, "reason": reason})

    @property
    def run(self) -> Path:
        """The path of the run file."""
        return self._run

    def log(self, **values: float | Tensor) -> None:
        """Record named numbers under the last step taken, such as ``log(valid_accuracy=0.93, valid_loss=0.21)``.

        The diagnosis looks at a loss on held-out samples (``valid_loss``, ``test_loss``, ...) for overfitting.
        What has the name of a measured reading is recorded as ``logged_<name>``, with a warning. Raises TypeError for a
        value that is not one number. After :meth:`close` it warns and records nothing.
        """
        if self.closed:
            warnings.warn("cockpitlite: log() came after close(); nothing was recorded", stacklevel=2)
            return
        for name, value in values.items():
            if name in self._tracker.measured:
                name = self._renamed(name)
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError) as error:
                raise TypeError(f"log({name}=...) takes one number; got {type(value).__name__}") from error
            if name not in self._logged:
                self._logged.add(name)
                self._recorder.panel(_logged_panel(name))
            self._recorder.reading(self._tracker.last_step, name, number)

    def _renamed(self, name: str) -> str:
        """Return the name for a number that is logged under the name of a measured reading."""
        if f"logged_{name}" not in self._logged:
            warnings.warn(
                f"cockpitlite: {name!r} is measured on every batch; what is logged as {name!r} is recorded as "
                f"'logged_{name}'. Log it under another name, such as valid_{name}",
                stacklevel=3,
            )
        return f"logged_{name}"

    def observe(self, losses: Tensor) -> None:
        """Give the losses of the batch's samples, ``[sample]``, before ``backward``, where they cannot be found.

        Their mean must be the loss that is minimised. Raises ValueError for a tensor that is not one-dimensional.
        """
        if losses.dim() != 1:
            raise ValueError(f"observe() takes one loss per sample, a tensor [sample]; got shape {tuple(losses.shape)}")
        self._tracker.capture.observed = losses.detach()

    def findings(self) -> list[Finding]:
        """Return what the diagnosis says now, the most likely root cause first."""
        complete = self._recorder.flush()
        try:
            self._last_findings = diagnose(load(self._run))
        except (OSError, RunFileError) as error:
            self._warn_of_findings(f"{type(error).__name__}: {error}")
        else:
            self._keep(self._last_findings)
            if not complete:
                self._warn_of_findings("another process holds it")
        return self._last_findings

    def _keep(self, findings: list[Finding]) -> None:
        """Let the file say what was found, where that is something else than it says."""
        found = kept(findings)
        if found != self._kept:
            self._kept = found
            self._recorder.meta(**{ENTRY: found})

    def _warn_of_findings(self, reason: str) -> None:
        """Say that findings are not of now."""
        warnings.warn(
            f"cockpitlite: {self._run} cannot be read to its end ({reason}); these are the last findings known",
            stacklevel=3,
        )

    def pause(self) -> None:
        """Measure nothing until :meth:`resume`; steps go on being counted."""
        self._tracker.pause()

    def resume(self) -> None:
        """Measure again after :meth:`pause`."""
        self._tracker.resume()

    def close(self) -> None:
        """Detach every hook and complete the run file; also done at exit."""
        if self.closed or self._process != os.getpid():
            return
        self.closed = True
        self._tracker.close()
        if self._on_finding is not None:  # the last word: what the end of the run shows is told as well
            self._recorder.flush()
            self._recorder.after_commit(self._diagnose)
        failed = getattr(sys, "last_value", None) is not None
        self._recorder.event(self._tracker.last_step, "finish", {})
        self._recorder.meta(**_ended("stopped" if failed else "finished"))
        self._recorder.close()
        _open.discard(self)
        self._call_back()

    def show(self, *, height: int = 800, port: int = 8050, prefix: str | None = None) -> Page:
        """Show the live page of this run below a notebook's cell or in a browser, as :func:`cockpitlite.show` does."""
        from cockpitlite.notebook import show

        return show(self._run, height=height, port=port, prefix=prefix)

    def open_dashboard(self) -> None:
        """Show the live page as :meth:`show` does; where that fails, warn and go on."""
        try:
            self.show()
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            warnings.warn(f"cockpitlite: the live page is not shown: {error}", stacklevel=3)

    def __del__(self) -> None:
        """End the file of a watch whose optimizer was let go of without :meth:`close`; wait for nothing here."""
        if not getattr(self, "closed", True) and self._process == os.getpid():
            self.closed = True
            self._tracker.close()
            self._recorder.meta(**_ended("finished"))
            self._recorder.abandon()

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # a copy of a watched optimizer is not watched

    def _tell(self, step: int) -> None:
        """Let the diagnosis look at the file when it has learnt something, and call back about what is new.

        It takes longer as the file grows, and gives way then: it waits RESTING times as long as it took.
        """
        self._diagnosis_due = self._diagnosis_due or on_diagnosis_schedule(step) or step % 100 == 0
        if self._diagnosis_due and time.monotonic() >= self._resting_until:
            self._diagnosis_due, self._resting_until = False, math.inf  # until this one has ended
            self._recorder.after_commit(self._diagnose)
        self._call_back()

    def _call_back(self) -> None:
        """Hand new findings to the user; an error in the listener is told, only what is no error ends the training."""
        listener, found, self._found = self._on_finding, self._found, []
        for finding in found:
            if listener is None or (finding.code, finding.since) in self._known:
                continue
            self._known.add((finding.code, finding.since))
            try:
                listener(finding)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"cockpitlite: on_finding failed on {finding.code} ({reason})", stacklevel=3)

    def _diagnose(self) -> None:
        """Diagnose in the recorder's thread; where that fails, stop trying and go on recording."""
        begin = time.thread_time()
        try:
            self._growing = self._growing or load(self._run)
            self._found = diagnose(self._growing)
            self._keep(self._found)
        except Exception as error:
            self._on_finding = None
            self._tracker.after_step = lambda step: None
            text = f"the diagnosis has stopped: {type(error).__name__}: {error}"
            self._recorder.event(self._tracker.last_step, "warning", {"message": text})
        self._resting_until = time.monotonic() + RESTING * (time.thread_time() - begin)


def _logged_panel(name: str) -> Panel:
    """Return how a number is drawn that the script logs."""
    words = "Logged by the training script."
    return Panel(title_of(name), "performance", steady=name in COUNTS, help=words).named(name)


def _ended(status: str) -> dict[str, Any]:
    return {"status": status, "ended": datetime.datetime.now().timestamp()}


_open: weakref.WeakSet[Cockpit] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for cockpit in list(_open):
        cockpit.close()


def _schedule(every: int | Schedule | None, overhead: float | None) -> Schedule:
    if isinstance(every, bool) or not (every is None or isinstance(every, numbers.Integral) or callable(every)):
        raise TypeError(f"every is a number of steps, a callable step -> bool, or None; got {every!r}")
    if isinstance(every, numbers.Integral):
        if every < 1:
            raise ValueError(f"every is a number of steps, at least 1; got {every}")
        return Every(int(every))
    if every is not None:
        return every
    if overhead is None:
        return Every(1)
    if isinstance(overhead, bool) or not isinstance(overhead, numbers.Real):
        raise TypeError(f"overhead is a share of the training time, such as 0.10, or None; got {overhead!r}")
    if not 0 < overhead <= MOST_OVERHEAD:
        raise ValueError(
            f"overhead is a share of the training time above 0, such as 0.10 for 10 %; got {overhead}. "
            "To track every step give overhead=None"
        )
    return Budget(float(overhead))


def _common_parameters(
    optimizer: torch.optim.Optimizer, model: nn.Module | None
) -> tuple[list[str], list[nn.Parameter]]:
    """Return names and parameters of what is watched: the optimizer's that are the model's, or all without a model."""
    held = [(index, p) for index, group in enumerate(optimizer.param_groups) for p in group["params"]]
    if model is None:
        return [f"group{group}.{index}" for index, (group, _) in enumerate(held)], [p for _, p in held]
    wanted = {id(parameter) for _, parameter in held}
    common = [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in wanted]
    if not common:
        raise ValueError(
            "the optimizer holds no parameter of this model: build the optimizer from the parameters of the model "
            "that is trained (after moving or rebuilding it), and pass that model to watch()"
        )
    return [name.replace("_orig_mod.", "") for name, _ in common], [parameter for _, parameter in common]


def _check_initialized(optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in parameters):
        raise ValueError(
            "the model has lazy layers that do not know their size yet; call it on one batch before watch()"
        )


def _check_batch_dim(batch_dim: int | Mapping[str, int], model: nn.Module | None) -> None:
    told = batch_dim if isinstance(batch_dim, Mapping) else {"": batch_dim}
    if not all(isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0 for axis in told.values()):
        raise TypeError(
            f"batch_dim is the axis that counts samples, or a mapping of module names to it; got {batch_dim!r}"
        )
    unknown = set(told) - {"", *(name for name, _ in model.named_modules())} if model is not None else set()
    if unknown:
        raise ValueError(f"batch_dim names no module of the model: {', '.join(sorted(unknown))}")


def _is_being_written(path: Path) -> bool:
    """Whether the process that writes a run, on this machine, is alive; this process counts while its watch is open."""
    if any(cockpit.run.resolve() == path.resolve() for cockpit in _open):
        return True
    meta = load(path).meta if path.stat().st_size else {}
    if meta.get("status") != "running" or meta.get("host") != socket.gethostname() or meta["pid"] == os.getpid():
        return False
    try:
        os.kill(meta["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _default_path() -> Path:
    when = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{script_name()}-{when}{SUFFIX}"
    return path if not path.exists() else path.with_name(f"{path.stem}-{secrets.token_hex(2)}{SUFFIX}")
