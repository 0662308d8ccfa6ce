"""What is installed, what is missing, and what to type."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from .errors import EdgekitError

__all__ = ["Check", "examine"]

KERAS = 'pip install "edgekit[keras]"'
HUB = 'pip install "edgekit[hub]"'
PACKAGES = (
    ("numpy", True, "arrays", "pip install numpy"),
    ("click", True, "the command line", "pip install click"),
    ("rich", True, "tables and progress bars", "pip install rich"),
    ("jinja2", True, "HTML reports", "pip install jinja2"),
    ("edgekit-device", True, "running models", "pip install edgekit-device"),
    ("ai-edge-litert", True, "running and inspecting models on the host", "pip install ai-edge-litert"),
    ("tensorflow", False, "training and converting Keras models", KERAS),
    ("keras", False, "Keras 3 models", KERAS),
    ("tf-keras", False, "Keras 2 models", KERAS),
    ("ai-edge-quantizer", False, "every precision but float32", KERAS),
    ("tensorflow-model-optimization", False, "pruning, clustering and quantization-aware training", KERAS),
    ("pillow", False, "image folders and --size", 'pip install "edgekit[images]"'),
    ("scikit-learn", False, "the digits data", 'pip install "edgekit[examples]"'),
    ("ethos-u-vela", False, "compiling for Arm Ethos-U", 'pip install "edgekit[ethos-u]"'),
    ("tflite-micro", False, "checking models for microcontrollers", 'pip install "edgekit[micro]"'),
    ("fastapi", False, "edgekit hub", HUB),
    ("sqlalchemy", False, "edgekit hub", HUB),
    ("uvicorn", False, "edgekit hub", HUB),
)


DEADLINE_S = 60.0


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``found`` is a version or what was seen, ``fix`` what to type when it is not ``ok``."""

    name: str
    ok: bool
    required: bool
    found: str
    purpose: str
    fix: str


def examine() -> list[Check]:
    """Look at everything edgekit may need; imports none of it."""
    checks = [_python()]
    checks += [_package(*facts) for facts in PACKAGES]
    checks.append(_edgetpu_compiler())
    checks.append(_ssh())
    checks.append(_device())
    return checks


def _python() -> Check:
    ok = (3, 10) <= sys.version_info[:2] <= (3, 13)
    purpose, fix = "TensorFlow has wheels for Python 3.10 to 3.13", "install edgekit with one of these"
    return Check("python", ok, True, platform.python_version(), purpose, fix)


def _package(name: str, required: bool, purpose: str, fix: str) -> Check:
    try:
        return Check(name, True, required, metadata.version(name), purpose, fix)
    except metadata.PackageNotFoundError:
        return Check(name, False, required, "not installed", purpose, fix)


def _edgetpu_compiler() -> Check:
    """Coral's compiler, which a user installs, asked for its version."""
    name, purpose = "edgetpu_compiler", "compiling for Coral's Edge TPU"
    fix = "see docs/edgetpu-compile.md, and EDGEKIT_EDGETPU_COMPILER=PATH where it is not on the PATH"
    try:
        from edgekit_converters.errors import TargetError
        from edgekit_converters.targets.edgetpu.installed import find_compiler
    except ImportError as error:
        return Check(name, False, False, f"not looked for: {error}", purpose, fix)
    try:
        compiler = find_compiler()
    except TargetError as error:
        return Check(name, False, False, str(error).partition("\n")[0], purpose, fix)
    return Check(name, True, False, f"{compiler.version} ({compiler.path})", purpose, fix)


def _ssh() -> Check:
    """The system's OpenSSH client, by which boards are reached."""
    name, purpose, fix = "ssh", "measuring on your own boards", "sudo apt install openssh-client"
    try:
        said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=DEADLINE_S, check=False).stderr
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, False, False, f"does not run: {error}", purpose, fix)
    return Check(name, said.startswith("OpenSSH"), False, said.strip().partition(",")[0], purpose, fix)


def _device() -> Check:
    """Start the local device process and ask it which runtimes it has."""
    name, purpose, fix = "local device", "measuring on this machine", "scripts/install, or set EDGEKIT_DEVICE_PYTHON"
    try:
        python, runtimes = _ask_device()
    except (EdgekitError, ImportError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Check(name, False, False, f"does not answer: {error}", purpose, fix)
    shown = f"{', '.join(runtimes) or 'no runtime'} in {python}"
    return Check(name, bool(runtimes), False, shown, purpose, fix)


def _ask_device() -> tuple[str, list[str]]:
    """The device's Python and its runtimes; raises what a broken device or a missing package leads to."""
    from contextlib import closing

    from edgekit_device.report import clean_text

    from .devices import LocalTransport

    with closing(LocalTransport()) as transport:
        completed = transport.run(["info", "--json"], deadline_s=DEADLINE_S)
        if completed.exit_code != 0:
            raise ValueError(clean_text(completed.stderr[-300:]) or f"exit {completed.exit_code}")
        found = json.loads(completed.stdout)["runtimes"]
        return transport.python, [clean_text(f"{runtime} {version}") for runtime, version in found.items()]
