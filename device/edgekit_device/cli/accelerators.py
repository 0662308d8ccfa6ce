"""``edgekit-device accelerators``: which Edge TPUs and LiteRT accelerators are there, and what stands in their way."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from .options import Verbs, add_json
from .printing import print_json

if TYPE_CHECKING:
    from ..accelerators.litert import LiteRtAccelerator

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser(
        "accelerators", help="which are there (Edge TPUs, LiteRT's), and what stands in their way"
    )
    add_json(parser)
    parser.set_defaults(verb=_accelerators)


def _accelerators(arguments: argparse.Namespace) -> None:
    from .._runtime import installed_runtimes, load_runtime
    from ..accelerators.diagnosis import diagnose_edgetpu
    from ..accelerators.edgetpu import EdgeTpu, find_edgetpus
    from ..accelerators.library import find_library
    from ..accelerators.litert import find_accelerators

    devices, library = find_edgetpus(), find_library()
    findings = diagnose_edgetpu(runtimes=installed_runtimes())
    accelerators = find_accelerators(load_runtime("litert")) if "litert" in installed_runtimes() else ()
    if arguments.json:
        found = [{**dataclasses.asdict(tpu), "throttling": tpu.throttling} for tpu in devices]
        listed = [dataclasses.asdict(finding) for finding in findings]
        of_litert = [dataclasses.asdict(accelerator) for accelerator in accelerators]
        print_json({"edgetpus": found, "library": dataclasses.asdict(library), "findings": listed, "litert": of_litert})
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
    for accelerator in accelerators:
        print(f"{accelerator.name:14} {_state(accelerator)}")
    if not accelerators:
        print('litert         no accelerators: LiteRT is not installed (pip install "edgekit-device[litert]")')
    for finding in findings:
        print(f"\n{finding.severity}: {finding.found}\n  expected: {finding.expected}\n  {finding.advice}")
    if not findings:
        print(
            "nothing stands in the way; a model compiled for the Edge TPU runs on it: edgekit-device run M_edgetpu.tflite"
        )


def _state(accelerator: LiteRtAccelerator) -> str:
    if not accelerator.available:
        return f"not available: {accelerator.reason}"
    told = [accelerator.library, accelerator.adapter, "a program on the processor" if accelerator.software else ""]
    ran_on = ", ".join(text for text in told if text)
    return f"available{': ' if ran_on else ''}{ran_on}"
