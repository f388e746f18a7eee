"""Pages that are made from the code are as the code makes them."""

import runpy
from pathlib import Path

from cockpitlite.instruments import known

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_instruments_is_up_to_date():
    made = runpy.run_path(str(DOCS / "instruments.py"))["page"]()
    assert made == (DOCS / "instruments.md").read_text(encoding="utf-8"), "run python docs/instruments.py"
    assert all(f"`{name}`" in made for name in known())
