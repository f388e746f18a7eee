"""Rules over the readings of a run: what is wrong, how sure that is, on what evidence, and what to change."""

from cockpitlite.diagnosis.engine import diagnose, unjudged
from cockpitlite.diagnosis.finding import Evidence, Finding

__all__ = ["Evidence", "Finding", "diagnose", "unjudged"]
