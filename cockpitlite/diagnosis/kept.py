"""What a run file keeps of the findings of a training that judged itself, so that a list of runs need judge none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from cockpitlite.diagnosis.finding import Finding, Severity

ENTRY = "findings"  # of the run's description
_SEVERITIES = get_args(Severity)


@dataclass(frozen=True)
class Kept:
    """A finding in brief."""

    code: str
    severity: Severity
    title: str
    since: int


def kept(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return what stands now as plain data for the run file, the most likely root cause first."""
    return [{"code": f.code, "severity": f.severity, "title": f.title, "since": f.since} for f in findings]


def last_kept(meta: Mapping[str, Any]) -> list[Kept] | None:
    """Return what stood when the training last judged itself; None where it never did, or no cockpitlite wrote this."""
    entry = meta.get(ENTRY)
    if not isinstance(entry, list):
        return None
    found = [_read(item) for item in entry]
    return cast("list[Kept]", found) if None not in found else None


def _read(item: Any) -> Kept | None:
    try:
        code, severity, title, since = (item[name] for name in ("code", "severity", "title", "since"))
    except (TypeError, LookupError):
        return None
    sound = isinstance(code, str) and severity in _SEVERITIES and isinstance(title, str) and isinstance(since, int)
    return Kept(code, severity, title, since) if sound else None
