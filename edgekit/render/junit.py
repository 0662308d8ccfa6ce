"""A regression gate as JUnit XML, in the shape that GitLab, Jenkins and GitHub's actions read (testsuites of one suite)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from . import figures
from .summary import plain

if TYPE_CHECKING:
    from edgekit_device import BenchmarkReport

    from ..gate import GateLine, RegressionGate

__all__ = ["render_junit"]

# What XML 1.0 has no way to say, not even escaped (https://www.w3.org/TR/xml/#charsets).
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SUITE = "edgekit bench"


def render_junit(gate: RegressionGate, *, device: str = "") -> str:
    """One test case a variant: a failure where it regressed, an error where it could not be compared or measured.

    What is allowed not to compare, and what was not measured now, is skipped. Every case takes as many seconds as its
    median inference.
    """
    cases = [_case(line, gate, device) for line in gate.lines]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    attributes = {name: str(value) for name, value in counts.items()}
    # Jenkins' schema knows no skipped there.
    root = ElementTree.Element("testsuites", {"name": SUITE, **{k: v for k, v in attributes.items() if k != "skipped"}})
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, **attributes})
    measured = next((line.after for line in gate.lines if line.after is not None), None)
    if measured is not None and measured.created:
        suite.set("timestamp", _text(measured.created.rstrip("Z")))
    suite.append(_properties(gate, measured, device))
    suite.extend(cases)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(line: GateLine, gate: RegressionGate, device: str) -> ElementTree.Element:
    where = f"edgekit.bench.{device}" if device else "edgekit.bench"
    case = ElementTree.Element("testcase", {"classname": _text(where), "name": _text(line.variant)})
    median = None if line.after is None else line.after.latency.median_ms
    case.set("time", f"{(median or 0.0) / 1000:.9f}")
    kind = {"regressed": "failure", "failed": "error", "not comparable": "error", "missing": "skipped"}.get(
        line.outcome
    )
    if line.outcome == "not comparable" and gate.allow_not_comparable:
        kind = "skipped"
    message = _text(line.message)
    if kind is None:
        ElementTree.SubElement(case, "system-out").text = message
        return case
    told = ElementTree.SubElement(case, kind, {"message": message})
    if kind != "skipped":
        told.set("type", line.outcome.replace(" ", "-"))
        told.text = "\n".join((message, *_details(line)))
    return case


def _details(line: GateLine) -> tuple[str, ...]:
    """Both medians, below the message."""
    named = (("baseline", line.before), ("now", line.after))
    return tuple(
        _text(f"{name}: median {figures.milliseconds(report.latency.median_ms)}, measured {report.created}")
        for name, report in named
        if report is not None
    )


def _properties(gate: RegressionGate, measured: BenchmarkReport | None, device: str) -> ElementTree.Element:
    facts = {
        "baseline": gate.baseline,
        "max_regression": figures.limit("max_regression", 100 * gate.max_regression, "%"),
        "device": device,
    }
    if measured is not None:
        board, runtime = measured.board, measured.runtime
        facts |= {
            "board": board.model,
            "cpu": board.cpu,
            "governor": measured.before.governor or board.governor,
            "runtime": f"{runtime.name} {runtime.version}".strip(),
            "delegate": runtime.delegate,
            "threads": str(runtime.threads),
        }
    properties = ElementTree.Element("properties")
    for name, value in facts.items():
        if value:
            ElementTree.SubElement(properties, "property", {"name": name, "value": _text(value)})
    return properties


def _text(value: object) -> str:
    return FORBIDDEN.sub("", plain(value, 2000))
