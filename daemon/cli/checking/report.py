"""The report of `headgate check` for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from daemon.adapters.probes.finding import Finding
from daemon.cli.output import cell_text, paint

_MARKS = {"ok": ("ok", "32"), "warning": ("warning", "33"), "failed": ("FAILED", "1;31")}


def print_report(findings: Sequence[Finding], settings: Mapping[str, Any]) -> None:
    """Print one line per finding, what to do below it, then the settings that differ from their defaults."""
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        mark, colour = _MARKS[finding.state]
        _line(f"{paint(f'{mark:<7}', colour)}  {finding.subject:<{width}}  {cell_text(finding.text)}")
        if finding.advice and finding.state != "ok":
            _line(f"{'':<7}  {'':<{width}}  → {cell_text(finding.advice)}")
    _line("")
    _line(paint("settings that differ from their defaults", "2"))
    for key, value in settings.items() or (("(none)", ""),):
        _line(f"  {key} = {cell_text(value)}" if key != "(none)" else "  none")
    failed = sum(finding.state == "failed" for finding in findings)
    warned = sum(finding.state == "warning" for finding in findings)
    _line("")
    if failed:
        _line(paint(f"{failed} failed, {warned} warnings", "1;31"))
    else:
        _line(paint("all is well" + (f", with {warned} warnings" if warned else ""), "32"))


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
