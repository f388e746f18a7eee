"""Pages that are made from the code are as the code makes them."""

import runpy
from pathlib import Path

from cockpitlite.diagnosis.engine import RULES
from cockpitlite.instruments import known

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_instruments_is_up_to_date():
    made = runpy.run_path(str(DOCS / "instruments.py"))["page"]()
    assert made == (DOCS / "instruments.md").read_text(encoding="utf-8"), "run python docs/instruments.py"
    assert all(f"`{name}`" in made for name in known())


def test_the_page_of_rules_is_up_to_date():
    made = runpy.run_path(str(DOCS / "diagnosis.py"))["page"]()
    assert made == (DOCS / "diagnosis.md").read_text(encoding="utf-8"), "run python docs/diagnosis.py"
    assert all(f"### {rule.code}: " in made and rule.documentation in made for rule in RULES)
