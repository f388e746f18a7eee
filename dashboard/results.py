"""Which of a run's readings say how it went, what they are called, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cockpitlite.panel import Panel, title_of

HELD_OUT = ("valid", "val_", "test_", "eval_")
HELD_OUT_LOSSES = ("valid_loss", "val_loss")  # of which the least value counts
HOUSEKEEPING = frozenset(
    {
        *("learning_rate", "batch_size", "epoch", "interval", "cost_share"),
        *("data_wait", "samples_per_second", "memory", "loss_std"),
    }
)
REST = 6  # rank of what is looked for last
SHORT = {"alpha": "α"}  # titles that are too long for the head of a column


def titles(panels: Sequence[Panel], names: Iterable[str], instruments: Sequence[str]) -> dict[str, str]:
    """Return the titles of those of a run's readings that say how it went, the most telling first.

    Besides the loss, held-out values, accuracies and step length these are losses and errors, and what the training
    logged: single readings whose panel is of none of the ``instruments``. What is counted, or is one of several
    classes, says nothing by a single number.
    """
    counted = {name for panel in panels if panel.kind in ("histogram", "joint", "tests") for name in panel.readings}
    apart = {name for panel in panels if panel.per == "class" for name in panel.readings}
    own = {panel.readings[0]: panel.title for panel in panels if panel.readings}
    logged = {
        panel.name
        for panel in panels
        if panel.group == "performance" and panel.readings == (panel.name,) and panel.name not in instruments
    }
    beside = tuple(f"{name}_" for name in counted)  # what is known of the counts, such as their error
    kept = [name for name in names if name not in HOUSEKEEPING | counted | apart and not name.startswith(beside)]
    found = [name for name in kept if name in logged or _rank(name) is not None]
    return {name: SHORT.get(name) or own.get(name) or title_of(name) for name in in_order(found)}


def in_order(names: Iterable[str]) -> list[str]:
    """Return readings, the most telling first."""
    return sorted(names, key=lambda name: (_rank(name) or REST, name))


def _rank(name: str) -> int | None:
    """Return how soon a reading is looked for, None for one that says nothing of how a run went."""
    if name == "loss":
        return 1
    if name.startswith(HELD_OUT):
        return 2 if "loss" in name else 3
    if name == "accuracy":
        return 4
    if name == "alpha":
        return 5
    return REST if any(word in name for word in ("acc", "error", "loss")) else None
