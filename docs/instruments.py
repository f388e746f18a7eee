"""Write docs/instruments.md, the page of all instruments, from what their classes say of themselves.

python docs/instruments.py
"""

import inspect
from pathlib import Path

from cockpitlite.instrument import Instrument
from cockpitlite.instruments import PRESETS, known

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# The instruments

Made by `python docs/instruments.py` from the docstrings; [matrix.md](matrix.md) shows what is exact where.

`watch(..., panel="economy")` has the first section, `"business"` the second too, `"full"` all three. Any of them goes
into a list by its name, or as an instance where it has options (`from cockpitlite import instruments`):
`panel=["economy", instruments.HessTrace(curvature="ggn_mc")]`. N is the number of samples in the batch, g_n the
gradient of sample n, g their mean, θ the parameters (D of them), d the step, H the Hessian of the batch loss. Every
reading belongs to the step whose batch it was measured on. Where a range of values is healthy its chart shades it;
other values worth knowing are lines with a name.
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for preset in PRESETS:
        parts.append(f"\n## {preset.capitalize()}\n")
        for kind in known().values():
            if kind.preset == preset:
                parts.append(f"### `{kind.name}`\n\n`instruments.{kind.__name__}{_options(kind)}`\n")
                parts.append(inspect.getdoc(kind) + "\n")
                parts += [f"{said}\n" for said in filter(None, [_chart(kind)])]
    return "\n".join(parts)


def _chart(kind: type[Instrument]) -> str:
    """Return what the chart of an instrument shades and marks; empty where it does neither."""
    if kind.panel is None:
        return ""
    ranges = {"": kind.panel.healthy, **{f" with {family}": healthy for family, healthy in kind.healthy.items()}}
    shaded = [f"{_range(*healthy)}{family}" for family, healthy in ranges.items() if healthy is not None]
    lines = [f"{value:g} ({label})" for value, label in kind.panel.marks]
    parts = [f"shaded as healthy: {', '.join(shaded)}"] if shaded else []
    parts += [f"lines at {', '.join(lines)}"] if lines else []
    return f"On its chart, {'; '.join(parts)}.".replace("-", "−") if parts else ""


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"below {high:g}"
    return f"above {low:g}" if high is None else f"{low:g} to {high:g}"


def _options(kind: type) -> str:
    if "__init__" not in vars(kind):
        return "()"
    parameters = [p.replace(annotation=p.empty) for p in list(inspect.signature(kind).parameters.values())]
    return str(inspect.Signature(parameters))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")  # noqa: T201
