"""A panel is plain data: what is written is what is read, whoever wrote it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpitlite import Panel
from cockpitlite.panel import GROUPS, title_of

words = st.text(max_size=20)
numbers = st.floats(allow_nan=False)
panels = st.builds(
    Panel,
    title=words,
    group=st.sampled_from(GROUPS),
    name=words,
    unit=words,
    scale=st.sampled_from(["linear", "log"]),
    kind=st.sampled_from(["curve", "parabola"]),
    readings=st.lists(words, max_size=3).map(tuple),
    layered=st.booleans(),
    healthy=st.none() | st.tuples(st.none() | numbers, st.none() | numbers),
    marks=st.lists(st.tuples(numbers, words), max_size=3).map(tuple),
    ratio=st.none() | st.tuples(words, words),
    help=words,
)


@given(panels)
def test_a_panel_survives_json(panel):
    assert Panel.from_dict(json.loads(json.dumps(panel.to_dict()))) == panel


def test_a_field_of_a_newer_version_is_passed_over():
    data = Panel(title="Loss", group="performance", name="loss").to_dict() | {"colour": "red"}
    assert Panel.from_dict(data) == Panel(title="Loss", group="performance", name="loss")


def test_a_missing_field_of_an_older_version_has_its_default():
    assert Panel.from_dict({"title": "Loss", "group": "performance"}) == Panel(title="Loss", group="performance")


def test_a_named_panel_shows_its_own_reading_unless_told_otherwise():
    assert Panel(title="Loss", group="performance").named("loss").readings == ("loss",)
    several = Panel(title="Slopes", group="step size", readings=("start", "end"))
    assert several.named("slopes").readings == ("start", "end")
    assert several.named("slopes").name == "slopes"


def test_an_unknown_group_names_the_known_ones():
    with pytest.raises(ValueError, match=r"step size, gradients, curvature, performance; got 'loss'"):
        Panel(title="Loss", group="loss")


@pytest.mark.parametrize(
    ("name", "title"),
    [("valid_loss", "Valid loss"), ("mAP", "mAP"), ("AUC", "AUC"), ("top_5", "Top 5"), ("é_1", "É 1")],
)
def test_a_reading_s_name_as_a_title(name, title):
    assert title_of(name) == title
