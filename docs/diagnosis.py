"""Write docs/diagnosis.md, the page of all rules, from what they say of themselves.

python docs/diagnosis.py
"""

import inspect
from pathlib import Path

from cockpitlite.diagnosis.engine import THEMES
from cockpitlite.diagnosis.rule import FAULT, Rule

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# The rules of the diagnosis

Made by `python docs/diagnosis.py` from the docstrings.

A finding is an error, a warning or a note. Rules are asked in the order of this page; one that another rule's finding
explains is left out (*silenced by*; a mere note explains no fault), so that what stands first is the root cause. A rule
keeps silent where the readings it needs were not recorded: `cockpitlite.diagnosis.unjudged(run)` says which and why.
The numbers that decide, and where each comes from, stand in `cockpitlite/diagnosis/thresholds.py`.
[Reading a finding](reading-a-finding.md) shows three of them, in the terminal and on the page.
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for theme in THEMES:
        parts.append(f"\n## {_title(inspect.getdoc(theme) or '')}\n")
        parts += [_section(thing) for thing in vars(theme).values() if isinstance(thing, Rule)]
    return "\n".join(parts)


def _title(sentence: str) -> str:
    """Return the first sentence of a module's docstring as a heading."""
    return sentence.partition("\n\n")[0].replace("\n", " ").removesuffix(".")


def _section(rule: Rule) -> str:
    facts = [f"needs {_listed(rule.needs)}"] if rule.needs else []
    silenced = ["any fault" if code == FAULT else code for code in sorted(rule.silenced_by, key=_place)]
    facts += [f"silenced by {', '.join(silenced)}"] if silenced else []
    name = rule.judge.__name__.replace("_", " ")
    return "\n\n".join(
        [f"### {rule.code}: {name}", *([f"*{'; '.join(facts)}*"] if facts else []), rule.documentation, ""]
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _place(code: str) -> tuple[bool, str, int, str]:
    """Sort faults before the learning rate, and F2 before F10."""
    digits = "".join(filter(str.isdigit, code))
    return code != FAULT, code[0], int(digits or 0), code


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")  # noqa: T201
