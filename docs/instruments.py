"""Write docs/instruments.md, the page of all instruments, from what their classes say of themselves.

python docs/instruments.py
"""

import inspect
from pathlib import Path

from cockpitlite.instruments import PRESETS, known

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# The instruments

Made by `python docs/instruments.py` from the docstrings; [matrix.md](matrix.md) shows what is exact where.

`watch(..., panel="economy")` has the first section, `"business"` the second too, `"full"` all three. Any of them goes
into a list by its name, or as an instance where it has options (`from cockpitlite import instruments`):
`panel=["economy", instruments.HessTrace(curvature="ggn_mc")]`. N is the number of samples in the batch, g_n the
gradient of sample n, g their mean, θ the parameters (D of them), d the step, H the Hessian of the batch loss. Every
reading belongs to the step whose batch it was measured on.
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
    return "\n".join(parts)


def _options(kind: type) -> str:
    if "__init__" not in vars(kind):
        return "()"
    parameters = [p.replace(annotation=p.empty) for p in list(inspect.signature(kind).parameters.values())]
    return str(inspect.Signature(parameters))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")  # noqa: T201
