"""The conductor: once per tracked step, records become statistics, statistics readings, and readings go to the file."""

from __future__ import annotations

import functools
import math
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cockpitlite.axes import shapes_with_one_more
from cockpitlite.hooks import (
    WAITING,
    CallRecorder,
    Capture,
    Meter,
    Owner,
    attach_to_steps,
    changes_gradients,
    is_compiled,
    versions_of,
)
from cockpitlite.instrument import Instrument, Layered, Provided, named_readings
from cockpitlite.meters import Meters
from cockpitlite.notes import Notes
from cockpitlite.plan import Plan, Program, work_out
from cockpitlite.precision import widest
from cockpitlite.rates import RATE, Rates
from cockpitlite.recorder import Block, Check, Recorder
from cockpitlite.records import Wish
from cockpitlite.replay import NotReplayable, bare, loss_gradient
from cockpitlite.schedule import Budget, Every, Schedule, diagnosed_under
from cockpitlite.statistics import Line, Memory, Origin, Step, Supply, Unavailable, Want
from cockpitlite.statistics.families import is_generic
from cockpitlite.statistics.line import COMPLEX, line_of
from cockpitlite.statistics.loss import BatchLoss
from cockpitlite.statistics.samples import accounted
from cockpitlite.statistics.step import norms
from cockpitlite.weakly import weakly

_UNTRACKED, _NOTHING = Plan(), Wish()
MOST_QUIET = 16  # steps without anything due, after which what they took is looked at


@dataclass(frozen=True)
class Watched:
    """What is watched: the optimizer, the model (None if not given), and the parameters both know, by name.

    ``find`` looks for those parameters again, when the optimizer has been given more.
    """

    optimizer: torch.optim.Optimizer
    model: nn.Module | None
    names: list[str]
    parameters: list[nn.Parameter]
    find: Callable[[torch.optim.Optimizer, nn.Module | None], tuple[list[str], list[nn.Parameter]]]
    batch_dim: int | Mapping[str, int]
    samples: int | None
    loss_fn: Any

    @property
    def hooked(self) -> nn.Module | None:
        """The module whose calls are seen: none where the model is a script."""
        return None if isinstance(self.model, torch.jit.ScriptModule) else self.model

    @property
    def unseen(self) -> bool:
        """Whether parts are compiled: hooks inside of them would be ignored, or compiled in and change the kernels."""
        return self.model is not None and any(is_compiled(part) for part in self.model.modules())

    @property
    def owners(self) -> list[Owner]:
        """The modules whose calls are recorded as they are made."""
        return [] if self.hooked is None or self.unseen else owner_list(self.hooked, self.parameters)

    @property
    def opaque(self) -> str:
        """Why per-sample gradients cannot be had, or nothing."""
        return (
            "the modules of a scripted model cannot be looked into, so their per-sample gradients are not seen"
            if self.model is not None and self.hooked is None
            else ""
        )

    def recorder(self) -> CallRecorder | None:
        """Return what records calls where a batch is evaluated again."""
        if self.hooked is None:
            return None
        root = bare(self.hooked)
        device = self.parameters[0].device
        return CallRecorder(
            root, owner_list(root, self.parameters), device, self.batch_dim, shapes_with_one_more, Meter()
        )


@dataclass
class _Snapshot:
    """What is copied when the optimizer's step begins."""

    start: list[Tensor]
    clipped: list[Tensor] | None
    missing: list[bool]
    groups: list[dict[str, Any]]
    versions: list[int]


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let no error of ours reach the training loop: it becomes an event, and the step goes on."""

    @functools.wraps(method)
    def body(self: Tracker, *args: Any, **kwargs: Any) -> Any:
        begin = self._entered = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self._notes.stumbled(self.step, error)
            return None
        finally:
            self._watching += time.perf_counter() - begin

    return body


class Tracker:
    """Measures one optimizer's steps and sends what it finds to a recorder."""

    def __init__(
        self,
        watched: Watched,
        instruments: Sequence[Instrument],
        schedule: Schedule,
        recorder: Recorder,
        first_step: int = 0,
    ) -> None:
        self.watched = watched
        self.instruments = [i for i in instruments if watched.model is not None or not i.needs_model]
        self.schedule = schedule
        self.recorder = recorder
        self.step = self._first_step = first_step
        self.paused = False
        self.after_step: Callable[[int], None] = lambda step: None
        self.reasons: dict[str, str] = {}
        self._programs: dict[Plan, Program] = {}
        self._alarm = self._broken = self._waited = self._resumed = False
        self._quiet = 0
        self._line: Line | None = None
        self._snapshot: _Snapshot | None = None
        self._skips: Tensor | None = None
        self._held: dict[str, Tensor | None] = {}
        self._notes = Notes(recorder)
        self._measured: set[str] = set()
        self._owners: dict[str, str] = {"loss": "loss"}
        self._held_parameters = _held(watched.optimizer)
        self._generator = torch.Generator().manual_seed(0)
        self._memory = Memory()
        self._foreign: frozenset[int] = frozenset()
        self._verdicts: queue.SimpleQueue[tuple[str, list[int], str]] = queue.SimpleQueue()
        self._device_generator = torch.Generator(watched.parameters[0].device).manual_seed(0)
        self._started = self._entered = time.perf_counter()
        self._watching = 0.0
        self._last_panel: int | None = None
        self._rates = Rates() if any(instrument.name == RATE for instrument in self.instruments) else None
        self._meters = Meters(watched.parameters[0].device)
        if watched.opaque:
            self.reasons["contributions"] = watched.opaque
        if any(parameter.is_complex() for parameter in watched.parameters):
            self.reasons["contributions"] = self.reasons["replay"] = COMPLEX
        wants_origin = any(Origin in instrument.demands().values() for instrument in self.instruments)
        self._origin = [p.detach().clone() for p in watched.parameters] if wants_origin else None
        self._again = watched.recorder()
        self.capture = self._new_capture()
        self._handles = attach_to_steps(watched.optimizer, self._before_step, self._leave_step)
        self._live = False
        try:
            self._plan = self._next_plan(_UNTRACKED)
        except BaseException:  # the user's schedule
            self.close()
            raise
        self._live = True

    @property
    def measured(self) -> set[str]:
        """The names of the readings that are measured, as far as they are known."""
        return self._measured | {"loss"} | {instrument.name for instrument in self.instruments}

    @property
    def last_step(self) -> int:
        """The last step taken, 0 before the first."""
        return max(0, self.step - 1)

    def _new_capture(self) -> Capture:
        watched = self.watched
        owners = None if watched.unseen else watched.owners
        capture = Capture(watched.hooked, owners, watched.parameters, watched.batch_dim, shapes_with_one_more)
        capture.on_arrival = self._meters.arrive
        capture.on_waiting = weakly(self._wait)  # the model holds the capture, and may outlive its optimizer
        return capture

    def _adopt_parameters(self) -> None:
        """Watch the parameters that the optimizer has been given since."""
        held = _held(self.watched.optimizer)
        if held == self._held_parameters:
            return
        self._held_parameters = held
        origins = dict(zip(map(id, self.watched.parameters), self._origin or [], strict=False))
        names, parameters = self.watched.find(self.watched.optimizer, self.watched.model)
        self.watched = replace(self.watched, names=names, parameters=parameters)
        if self._origin is not None:
            self._origin = [origins.get(id(p), p.detach()).clone() for p in parameters]
        self.capture.close()
        self._again = self.watched.recorder()
        self.capture = self._new_capture()
        self._line, self._foreign = None, frozenset()
        self._notes.take_anew()
        self._held.pop("contributions", None)

    def close(self) -> None:
        """Detach every hook."""
        for handle in self._handles:
            handle.remove()
        if self.step == self._first_step and self.capture.since_step:
            self._tell_waiting()
        self.capture.close()

    def pause(self) -> None:
        """Measure nothing until resumed; steps go on being counted."""
        if not self.paused:
            self.paused = True
            self.recorder.event(self.step, "pause", {})
            self.capture.begin(_NOTHING)
            self._plan, self._line, self._quiet = _UNTRACKED, None, 0

    def resume(self) -> None:
        """Measure again."""
        if self.paused:
            self.paused = False
            self.recorder.event(self.step, "unpause", {})
            self._plan = _UNTRACKED if self.capture.heard else self._next_plan(_UNTRACKED)  # else it is half over
            self._resumed = True

    # --- planning ---

    def _next_plan(self, last: Plan) -> Plan:
        """Decide what the coming step measures, and let the hooks keep what that takes."""
        self._quiet = 0
        if self.paused or not self.recorder.working:
            self.capture.begin(_NOTHING)
            return _UNTRACKED
        alarm, self._alarm = self._alarm, False
        panel = self._is_due() or alarm
        diagnosis = diagnosed_under(self.schedule, self.step)
        judged = self._line is not None
        plan = _UNTRACKED
        if panel or diagnosis or (judged and last.judged):
            plan = Plan(panel, diagnosis, after_panel=judged and last.panel, after_diagnosis=judged and last.diagnosis)
        if plan is _UNTRACKED and isinstance(self.schedule, Budget | Every):
            self._quiet = min(MOST_QUIET, self.schedule.quiet(self.step) - 1)
        self.capture.begin(self._program(plan).wish if plan is not _UNTRACKED else _NOTHING)
        return plan

    def _is_due(self) -> bool:
        """Ask the schedule; where the user's own fails in the middle of training, say so and track nothing."""
        try:
            return bool(self.schedule(self.step))
        except Exception as error:
            if not self._live:
                raise
            self._notes.failing_schedule(self.step, error)
            return False

    def _program(self, plan: Plan) -> Program:
        """Return what a plan comes to with the present instruments."""
        if plan not in self._programs:
            self._programs[plan] = work_out(plan, self.instruments, self.watched.model is not None)
        return self._programs[plan]

    # --- the step's two ends ---

    @_guarded
    def _before_step(self, closure: bool) -> None:
        self.capture.entered(closure)
        optimizer = self.watched.optimizer
        self._skips = getattr(optimizer, "found_inf", None)  # a GradScaler has left to a fused step what it does else
        self._heed_rates()
        if self._plan.tracked:
            parameters, capture = self.watched.parameters, self.capture
            self._snapshot = _Snapshot(
                start=[p.detach().clone() for p in parameters],
                clipped=None if closure else _seen_by_optimizer(optimizer, parameters, capture),
                missing=[p.grad is None for p in parameters],
                groups=[_plain_settings(group) for group in optimizer.param_groups],
                versions=versions_of(parameters),
            )

    def _heed_rates(self) -> None:
        """Record where the learning rate jumps, also on a step of which nothing else is measured."""
        if self._rates is None or self.paused or not self.recorder.working:
            return
        measured = self._plan.panel or self._plan.diagnosis
        for step, rates in self._rates.of(self.step, self.watched.optimizer.param_groups, measured):
            layered = Layered(rates[0], [str(index) for index in range(len(rates))], rates)
            self.recorder.block(Block(self.step, [(RATE, step, layered)]))

    @_guarded
    def _after_step(self) -> None:
        plan = self._plan
        try:
            if not self.paused:
                self._measure(plan)
        finally:
            if self._waited:
                self._waited = False
                self.recorder.event(self.step, "no_step", {"count": 0, "scaled": False})
            quiet = self._quiet > 0 and not self._alarm  # nothing is due, and what is to be told can wait
            if not quiet:
                self._report_trouble()
            self.step += 1
            self._note_time(plan)
            if quiet:
                self._quiet -= 1
                self.capture.begin(_NOTHING)
            else:
                self._account()
                self._adopt_parameters()
                self._plan = self._next_plan(plan)

    def _wait(self) -> None:
        """Many backwards have passed without a step: tell so where there never was one, the more of them the rarer."""
        if self.step > self._first_step:
            return
        if math.log10(self.capture.since_step / WAITING).is_integer():
            self._tell_waiting()
        self.after_step(self.last_step)  # without steps, nobody else lets the diagnosis look

    def _tell_waiting(self) -> None:
        self._waited = True
        data = {"count": self.capture.since_step, "scaled": self.capture.skipped > 0}
        self.recorder.event(self.step, "no_step", data)

    def _leave_step(self) -> None:
        """End the step; what a callback of the user raises reaches the training loop."""
        self._after_step()
        try:
            self.after_step(self.last_step)
        finally:
            self._meters.leave()

    def _measure(self, plan: Plan) -> None:
        if self._skips is not None:
            self.recorder.skipped_where(self.step, self._skips)
        snapshot, self._snapshot = self._snapshot, None
        half, self._resumed = self._resumed and self._came_late(), False
        if not plan.tracked or snapshot is None or half:
            self._hand_on_loss()
            return
        self._heed_verdicts()
        step = self._seen_step(snapshot)
        self._notes.of(step, self.watched.model, thoroughly=plan.diagnosis)
        program = self._program(plan)
        supply = Supply(step, program.wants)
        block = Block(self.step, seconds=time.perf_counter() - self._started)
        self.capture.busy = True
        try:
            with torch.autocast(step.start[0].device.type, enabled=False):  # the user's step may stand inside of one
                self._read_all(program, supply, block)
                self._line = self._line_of(supply, plan)
        finally:
            self.capture.busy = False
        self._notes.remarks(step)
        self.recorder.block(block)

    def _came_late(self) -> bool:
        """Whether watching was resumed between a forward and its backward."""
        wish, backwards = self.capture.wish, self.capture.backwards
        seen = self.watched.hooked is not None and (wish.calls or wish.forwards)
        return seen and not any(backward.forwards for backward in backwards)

    def _hand_on_loss(self) -> None:
        """Record the loss of a step of which nothing else is measured."""
        losses = self.capture.losses
        known = [value for value in losses if value is not None]
        if known and len(known) == len(losses):
            total = sum(known[1:], known[0])
            before, self._broken = self._broken, _is_broken(total)
            self._alarm = self._alarm or (self._broken and not before)
            self.recorder.loss(self.step, total if self._loss_sign() > 0 else -total)

    def _line_of(self, supply: Supply, plan: Plan) -> Line | None:
        """Return what the next step needs to judge this one; where it cannot be had, say so for who would judge."""
        if not plan.judged:
            return None
        try:
            return line_of(supply)
        except Unavailable as reason:
            for instrument in self.instruments:
                if instrument.judges_previous and plan.prepares(instrument):
                    self._notes.unavailable(self.step, instrument.name, str(reason))
            return None

    def _read_all(self, program: Program, supply: Supply, block: Block) -> None:
        """Read what is due, after the checks that it rests on."""
        step = supply.step
        block.checks = self._check(step, program.wants)
        for instrument in program.due:
            self._read(instrument, supply, block)
        if not any(name == "loss" and at == self.step for name, at, _ in block.readings):
            self._read_loss(supply, block)
        block.scan, block.spoilt = step.scan, _spoilt(step)

    def _seen_step(self, snapshot: _Snapshot) -> Step:
        """Put together what was seen of the step that has just been taken."""
        watched, capture = self.watched, self.capture
        parameters = watched.parameters
        signs = _signs(watched.optimizer, parameters)
        copies = capture.gradient
        if snapshot.clipped is None and not capture.evaluated_again:  # a closure called once: nothing came after it
            snapshot.clipped = [_dense(p, p.grad) for p in parameters]
        if copies is None:  # gradients that were set without a backward we could hear
            copies = [None] * len(parameters) if snapshot.clipped is None else [*snapshot.clipped]
        if capture.stale is not None:
            copies = [_minus(now, then) for now, then in zip(copies, capture.stale, strict=True)]
        missing = [copy is None for copy in copies] if capture.gradient is not None else snapshot.missing
        scale = capture.backwards[-1].scale if capture.backwards else None
        gradient = _minimised(copies, parameters, signs, scale)
        moved = capture.versions not in (None, snapshot.versions)
        reasons = dict(self.reasons)
        if moved and capture.values is None:
            capture.keeps_values = True
            reasons = {**reasons, "replay": _MOVED, "contributions": _MOVED}
        step = Step(
            index=self.step,
            names=watched.names,
            parameters=parameters,
            missing=missing,
            frozen=[not parameter.requires_grad for parameter in parameters],
            signs=signs,
            start=snapshot.start,
            evaluated=snapshot.start if capture.values is None else capture.values,
            moved=moved,
            hooked=changes_gradients(watched.hooked, parameters),
            displacement=list(torch._foreach_sub([p.detach() for p in parameters], snapshot.start)),
            gradient=gradient,
            clipped=snapshot.clipped,
            stale=None if capture.stale is None else _minimised(capture.stale, parameters, signs, scale),
            backwards=capture.backwards,
            chosen=[self._choose(backward.samples) for backward in capture.backwards],
            origin=self._origin,
            line=self._line if _is_alike(self._line, snapshot.start) else None,
            groups=snapshot.groups,
            generator=self._device_generator,
            optimizer=watched.optimizer,
            memory=self._memory,
            recorder=self._again,
            unseen=watched.unseen,
            meters=self._meters,
            interval=self.interval,
            reasons=reasons,
            foreign=self._foreign,
            held=self._held,
            loss_fn=watched.loss_fn,
        )
        step.scan = self._scan(step) if self.capture.wish.scan else {}
        return step

    def _choose(self, samples: int | None) -> Tensor | None:
        """Choose the samples to look at, from a generator of our own; None for all. On the parameters' device."""
        wanted = self.watched.samples
        if wanted is None or samples is None or samples <= wanted:
            return None
        chosen = torch.randperm(samples, generator=self._generator, device="cpu")[:wanted].sort().values
        return chosen.to(self.watched.parameters[0].device, non_blocking=True)

    # --- reading ---

    def _read(self, instrument: Instrument, supply: Supply, block: Block) -> None:
        """Read one instrument; where it cannot be read, say why, and where it fails, switch it off."""
        at = self.step - 1 if instrument.judges_previous else self.step
        demands = instrument.demands()
        try:
            named = named_readings(instrument.name, instrument.read(**{n: supply(kind) for n, kind in demands.items()}))
            self._claim(instrument, named)
        except Unavailable as reason:
            self._notes.unavailable(self.step, instrument.name, str(reason))
            block.readings += [(name, at, float("nan")) for name in reason.undefined]
            return
        except Exception as error:
            self.instruments.remove(instrument)
            self._programs.clear()
            self._notes.unavailable(
                self.step, instrument.name, f"switched off after an error: {type(error).__name__}: {error}"
            )
            return
        self._measured.update(named)
        for name, reading in named.items():
            if isinstance(reading, Provided):
                block.checks.append(_condition(name, reading))
                reading = torch.where(reading.condition, reading.value, torch.nan)
            block.readings.append((name, at, reading))
        for check in block.checks:
            if any(kind.rests_on == check.topic for kind in demands.values()):
                check.readings.update(named)

    def _claim(self, instrument: Instrument, named: Mapping[str, Any]) -> None:
        """Let no instrument write what another one does; ValueError where it would."""
        for name in named:
            owner = self._owners.setdefault(name, instrument.name)
            if owner != instrument.name:
                raise ValueError(f"the reading {name!r} is that of the instrument {owner!r}; give yours another name")

    def _read_loss(self, supply: Supply, block: Block) -> None:
        try:
            block.readings.append(("loss", self.step, supply(BatchLoss).value))
        except Unavailable as reason:
            self._notes.unavailable(self.step, "loss", str(reason))

    # --- checks, once, on the device ---

    def _check(self, step: Step, wants: frozenset[Want]) -> list[Check]:
        """Test, on the first step that shows it, what the readings rest on."""
        checks: list[Check] = []
        unknown = {"contributions", "replay"} - self._held.keys() - step.reasons.keys()
        if any(want.per_sample for want in wants) and "contributions" in unknown and step.backwards:
            try:
                finite = torch.stack([gradient.isfinite().all() for gradient in step.gradient])
                if finite.device.type == "cpu" and not finite.numpy().all():
                    return checks  # nothing can be told from it; the next step will
                fits = self._accounted(step) | ~finite
                self._held["contributions"] = _unless_sure(fits.all())
                checks.append(Check("contributions", fits, functools.partial(_unaccounted, list(step.names))))
            except Unavailable:
                pass  # the readings say so themselves
            except Exception as error:
                reason = f"the samples' gradients could not be computed: {type(error).__name__}: {error}"
                self.reasons["contributions"] = step.reasons["contributions"] = reason
        if Want.FORWARD in wants and "replay" in unknown and step.backwards:
            held = self._replays(step)
            if held is not None:
                self._held["replay"] = _unless_sure(held)
                checks.append(Check("replay", held, lambda _: _UNFAITHFUL))
        return checks

    def _accounted(self, step: Step) -> Tensor:
        """Tell for which parameters Σc_n = g; what does not fit is looked for around the modules that own it."""
        fits = accounted(step) <= 1
        if fits.device.type == "cpu" and self._look_around([int(index) for index in np.flatnonzero(~fits.numpy())]):
            step.foreign = self._foreign
            fits = accounted(step) <= 1
        return fits

    def _look_around(self, failed: list[int]) -> bool:
        """Take parameters for ones that act outside of their modules too; False where they were taken for that."""
        more = self._foreign | set(failed)
        new, self._foreign = more != self._foreign, frozenset(more)
        return new

    def _replays(self, step: Step) -> Tensor | None:
        """Tell whether evaluating the batch again where it was evaluated gives the same loss; None if it cannot be."""
        try:
            again = [loss_gradient(backward, step.parameters, step.evaluated)[0] for backward in step.backwards]
        except NotReplayable:
            return None
        except Exception as error:
            self.reasons["replay"] = f"the batch could not be evaluated again: {type(error).__name__}: {error}"
            return None
        held = torch.ones((), dtype=torch.bool, device=again[0].device)
        for value, backward in zip(again, step.backwards, strict=True):
            assert backward.loss is not None
            tolerance = 16 * torch.finfo(backward.loss.dtype).eps ** 0.75
            gap = (widest(value) - widest(backward.loss)).abs()
            held = held & ~(gap > tolerance * widest(backward.loss).abs().clamp(min=1e-3))
        return held

    def failed_check(self, check: Check, failed: list[int], reason: str) -> bool:
        """Note a check that did not hold; called by the recorder's thread, and heeded by the next tracked step.

        Returns False where another way will be tried then.
        """
        if check.kept:
            return True
        again = check.topic == "contributions" and not self._foreign.issuperset(failed)
        self._verdicts.put((check.topic, failed if again else [], reason))
        return not again

    def _heed_verdicts(self) -> None:
        """Act on the checks that the recorder's thread has found to fail."""
        while not self._verdicts.empty():
            topic, failed, reason = self._verdicts.get()
            if failed and self._look_around([index for index in failed if index < len(self.watched.parameters)]):
                self._held.pop(topic, None)
            elif not failed:
                self.reasons[topic] = reason

    def alarm(self) -> None:
        """Look at everything on the next step; called by the recorder's thread when a loss is not finite."""
        self._alarm = True

    def _scan(self, step: Step) -> dict[tuple[str, str], Tensor]:
        """Return the largest magnitude at every place, in the order of the computation."""
        found: dict[tuple[str, str], Tensor] = {}
        scanned = [forward.scanned for backward in step.backwards for forward in backward.forwards]
        for magnitudes in scanned:
            found.update({place: largest for place, largest in magnitudes.items() if place[0] == "input"})
        for name, norm in zip(step.names, norms(step.start).unbind(), strict=True):
            found["parameter", name] = norm
        for magnitudes in scanned:
            found.update({place: largest for place, largest in magnitudes.items() if place[0] == "forward"})
        for backward in step.backwards:
            if backward.loss is not None:
                found["loss", ""] = backward.loss
        for kind, tensors in (("gradient", step.gradient), ("update", step.displacement)):
            for name, norm in zip(reversed(step.names), norms(tensors).flip(0).unbind(), strict=True):
                found[kind, name] = norm
        return found

    def _report_trouble(self) -> None:
        capture = self.capture
        if capture.meter.trouble is not None:
            error, capture.meter.trouble = capture.meter.trouble, None
            self._notes.stumbled(self.step, error)
        if capture.seen_eval:
            self._notes.eval_mode(self.step)
        self._notes.count(self.step, "unused_backward", capture.unused)
        self._notes.count(self.step, "skipped_step", capture.skipped)
        self.recorder.tell_failure()

    # --- the price ---

    def _note_time(self, plan: Plan) -> None:
        """Note what the step took."""
        meter, now = self.capture.meter, time.perf_counter()
        watching = self._watching + meter.seconds + now - self._entered
        meter.seconds, self._watching = 0.0, self._entered - now  # what is left of this call is the next step's
        self._meters.mark(self.step - 1, plan if plan.tracked else None, watching, self.recorder.seconds)
        if plan.panel:
            self._last_panel = self.step - 1

    def _account(self) -> None:
        """Let the schedule know of every step whose cost has become known."""
        known = self._meters.news()
        if isinstance(self.schedule, Budget):
            for spent in known:
                of = spent.kind if isinstance(spent.kind, Plan) else _UNTRACKED
                self.schedule.account(spent.step, spent.plain, spent.cost, spent.usual, of)
            self.schedule.pending = sum(isinstance(kind, Plan) and kind.panel for kind in self._meters.waiting)

    @property
    def interval(self) -> float:
        """The steps since the panel was last tracked; NaN where it has not been before."""
        return float("nan") if self._last_panel is None else float(self.step - self._last_panel)

    def _loss_sign(self) -> float:
        return -1.0 if all(group.get("maximize", False) for group in self.watched.optimizer.param_groups) else 1.0


_MOVED = (
    "the parameters were moved between the forward and the step, as SAM does; from the next tracked step on, the "
    "batch is evaluated where it was"
)
_UNFAITHFUL = (
    "evaluating the batch again did not give the loss that was computed; the model or the loss depends on something "
    "besides its watched parameters, inputs and random numbers, or another optimizer has moved on in the meantime"
)


def _held(optimizer: torch.optim.Optimizer) -> list[int]:
    return [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]


def _is_alike(line: Line | None, start: Sequence[Tensor]) -> bool:
    """Whether the last step was taken by parameters of the same number format, at the same place."""
    pairs = () if line is None else zip(line.displacement, start, strict=True)
    return all((a.dtype, a.device) == (b.dtype, b.device) for a, b in pairs)


def _condition(name: str, reading: Provided) -> Check:
    return Check(f"{name} is defined", reading.condition, lambda _: reading.reason, {name}, kept=True)


def _unless_sure(held: Tensor) -> Tensor | None:
    """Return whether a check held, None where the host knows already that it did."""
    return None if held.device.type == "cpu" and held.numpy() else held


def _unaccounted(names: list[str], failed: list[int]) -> str:
    some = ", ".join(names[index] for index in failed[:3]) + (" and others" if len(failed) > 3 else "")
    return (
        f"the gradient of {some} is not the sum of what flows through the recorded calls of its module; "
        "it is used in another way too"
    )


def owner_list(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[Owner]:
    """Return the modules whose calls have to be recorded: those that own a watched parameter themselves."""
    wanted = {id(parameter) for parameter in parameters}
    return [
        Owner(module, name, is_generic(module))
        for name, module in model.named_modules()
        if any(id(parameter) in wanted for parameter in module.parameters(recurse=False))
    ]


def _is_broken(loss: Tensor | float) -> bool:
    """Whether a loss is known not to be finite without waiting for a device; elsewhere the recorder will tell."""
    if not isinstance(loss, Tensor):
        return not math.isfinite(loss)
    return loss.device.type == "cpu" and not math.isfinite(loss.float().numpy())


def _spoilt(step: Step) -> Tensor | None:
    """Return the sample with the first non-finite input, −1 for none, None where nobody looked."""
    return next((forward.spoilt for backward in step.backwards for forward in backward.forwards), None)


def _signs(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> list[float]:
    sign = {id(p): -1.0 if group.get("maximize") else 1.0 for group in optimizer.param_groups for p in group["params"]}
    return [sign.get(id(parameter), 1.0) for parameter in parameters]


def _dense(parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        return torch.zeros_like(parameter, requires_grad=False)
    return gradient.detach().to_dense().clone() if gradient.is_sparse else gradient.detach().clone()


def _seen_by_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], capture: Capture
) -> list[Tensor]:
    """Return the gradients that the optimizer is about to use; where nothing has changed them, the copies there are.

    Those that a GradScaler has left scaled, for a fused step to divide, are divided.
    """
    known = capture.gradient if capture.unchanged else None
    seen = [_dense(p, p.grad) for p in parameters] if known is None else _filled(known, parameters)
    scale = getattr(optimizer, "grad_scale", None)
    return seen if scale is None else [gradient / scale for gradient in seen]


def _filled(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return gradients with zero for those there are none of."""
    return [_dense(p, None) if g is None else g for p, g in zip(parameters, gradients, strict=True)]


def _minimised(
    copies: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], signs: Sequence[float], scale: Tensor | None
) -> list[Tensor]:
    """Return the gradient of the loss that is minimised, without the factor of a GradScaler."""
    gradient = _filled(copies, parameters)
    if scale is not None:
        gradient = [value / scale for value in gradient]
    if min(signs) < 0:
        gradient = [-value if sign < 0 else value for value, sign in zip(gradient, signs, strict=True)]
    return gradient


def _minus(now: Tensor | None, then: Tensor | None) -> Tensor | None:
    return now if now is None or then is None else now - then


def _plain_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter group's settings without its parameters; a rate kept as a tensor stays one."""
    return {name: value for name, value in group.items() if name != "params"}
