"""``edgekit-device accelerators``: which Edge TPUs are there, and what stands in their way."""

from __future__ import annotations

import argparse
import dataclasses

from .options import Verbs, add_json
from .printing import print_json

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("accelerators", help="Edge TPUs: which are there, and what stands in their way")
    add_json(parser)
    parser.set_defaults(verb=_accelerators)


def _accelerators(arguments: argparse.Namespace) -> None:
    from .._runtime import installed_runtimes
    from ..accelerators.diagnosis import diagnose_edgetpu
    from ..accelerators.edgetpu import EdgeTpu, find_edgetpus
    from ..accelerators.library import find_library

    devices, library = find_edgetpus(), find_library()
    findings = diagnose_edgetpu(runtimes=installed_runtimes())
    if arguments.json:
        found = [{**dataclasses.asdict(tpu), "throttling": tpu.throttling} for tpu in devices]
        listed = [dataclasses.asdict(finding) for finding in findings]
        print_json({"edgetpus": found, "library": dataclasses.asdict(library), "findings": listed})
        return

    def row(tpu: EdgeTpu) -> str:
        facts = [tpu.node or "no device file", tpu.usb_id]
        facts.append("" if tpu.speed_mbps is None else f"{tpu.speed_mbps:g} Mbit/s")
        facts.append("" if tpu.temperature_c is None else f"{tpu.temperature_c:.1f} °C")
        facts.append("" if tpu.clock_mhz is None else f"at most {tpu.clock_mhz:g} MHz")
        return f"edgetpu:{tpu.kind}:{tpu.index}  {'  '.join(fact for fact in facts if fact)}"

    for tpu in devices:
        print(row(tpu))
    described = [library.path, library.package, library.version]
    print(f"libedgetpu     {'  '.join(text for text in described if text) or 'not found'}")
    for finding in findings:
        print(f"\n{finding.severity}: {finding.found}\n  expected: {finding.expected}\n  {finding.advice}")
    if not findings:
        print(
            "nothing stands in the way; a model compiled for the Edge TPU runs on it: edgekit-device run M_edgetpu.tflite"
        )
