"""LiteRT's CompiledModel played by its Interpreter, with accelerators that this machine has none of.

    write_stub(folder)

writes a sitecustomize.py; a Python with ``folder`` in PYTHONPATH then finds the stub beside the real LiteRT. The environment says
how it behaves: STUB_COMPILED is one of BEHAVIOURS, STUB_ADAPTERS a JSON list of [name, software]. The log lines are those that
LiteRT 2.3.0 wrote: a GPU's on a software Vulkan, an NPU's with Intel's OpenVINO on a processor.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["BEHAVIOURS", "write_stub"]

BEHAVIOURS = (
    "works",
    "opencl",
    "part",
    "part-unused",
    "wrong",
    "unfinite",
    "silent",
    "crash",
    "illegal",
    "hang",
    "refuse",
    "absent",
    "order",
)

PROGRAM = """
import enum, json, os, signal, sys, time, types

import numpy as np

GPU = [
    "INFO: [gpu_registry.cc:138] Dynamically loaded GPU accelerator(libLiteRtWebGpuAccelerator.so) registered.",
    "I0000 00:00:1795521724.716944   25254 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.",
]
OPENCL = ["INFO: Initialized OpenCL-based API."]
MISSING = ["WARNING: [gpu_registry.cc:160] GPU accelerator could not be loaded and registered."]
NPU = [
    "INFO: [compiled_model.cc:1397] 1 compiler plugins were applied successfully: IntelOpenVINO compiler plugin (ver 0.1.0)",
    "INFO: [litert_dispatch.cc:186] Loading shared library: /site-packages/vendors/libLiteRtDispatch_IntelOpenvino.so",
]
REFUSED = [
    "WARNING: [npu_registry.cc:34] NPU accelerator could not be loaded and registered: kLiteRtStatusErrorNotFound.",
    "ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found",
]
PARTLY = (
    "ERROR: [./litert/cc/litert_compiled_model.h:1961]\\n\\u2514 Some ops are not accelerated. Add kLiteRtHwAcceleratorCpu to "
    "the compilation accelerator set to allow using the CPU to run those."
)
BEHAVE = os.environ.get("STUB_COMPILED", "works")


class HardwareAccelerator(enum.IntFlag):
    CPU = 1
    GPU = 2
    NPU = 4


class Options:
    def __init__(self, hardware_accelerators, cpu_options):
        self.asked = hardware_accelerators


def log(lines):
    os.write(2, "".join(line + "\\n" for line in lines).encode())


class Buffer:
    def __init__(self, model, index):
        self.model, self.index = model, index

    def write(self, content):
        spec = self.model.specs[self.index]
        self.model.inner.set_tensor(self.index, content.view(spec["dtype"]).reshape(spec["shape"]))

    def read(self, count, dtype):
        if BEHAVE == "order":
            print("read", file=sys.stderr, flush=True)
        value = self.model.inner.get_tensor(self.index)
        if BEHAVE == "wrong":
            value = value[:, ::-1].copy()
        if BEHAVE == "unfinite":
            value = value * np.float32("nan")
        return np.frombuffer(value.tobytes(), np.uint8).copy()


class CompiledModel:
    @classmethod
    def from_buffer(cls, content, options):
        asked = options.asked
        print("INFO: said on standard output", flush=True)
        if BEHAVE == "refuse" and asked != HardwareAccelerator.CPU:
            log(REFUSED)
            raise RuntimeError("ERROR: [./litert/cc/litert_compiled_model.h:1961]\\n\\u2514 ERROR: [compiled_model.cc:1036]")
        if BEHAVE in ("part", "part-unused") and not asked & HardwareAccelerator.CPU:
            log(MISSING if BEHAVE == "part-unused" else NPU if asked == HardwareAccelerator.NPU else [])
            raise RuntimeError(PARTLY)
        if BEHAVE == "illegal":
            os.kill(os.getpid(), signal.SIGILL)
        if BEHAVE == "hang":
            time.sleep(600)
        if BEHAVE in ("opencl", "part-unused"):
            log(OPENCL if BEHAVE == "opencl" else MISSING)
        elif BEHAVE != "silent":
            log(GPU if asked & HardwareAccelerator.GPU else NPU if asked & HardwareAccelerator.NPU else [])
        self = cls()
        self.inner = sys.modules["ai_edge_litert.interpreter"].Interpreter(model_content=content)
        self.inner.allocate_tensors()
        self.ins, self.outs = self.inner.get_input_details(), self.inner.get_output_details()
        self.specs = {spec["index"]: spec for spec in self.ins + self.outs}
        return self

    def is_fully_accelerated(self):
        return True

    def get_signature_list(self):
        return {"<placeholder signature>": {}}

    def get_signature_index(self, key):
        return 0

    def get_input_tensor_details(self, key):
        return {spec["name"]: spec for spec in self.ins}

    def get_output_tensor_details(self, key):
        return {spec["name"]: spec for spec in self.outs}

    def create_input_buffers(self, index):
        return [Buffer(self, spec["index"]) for spec in self.ins]

    def create_output_buffers(self, index):
        return [Buffer(self, spec["index"]) for spec in self.outs]

    def run_by_index(self, index, inputs, outputs):
        if BEHAVE == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if BEHAVE == "order":
            print("run", file=sys.stderr, flush=True)
        self.inner.invoke()


module = types.ModuleType("ai_edge_litert.compiled_model")
if BEHAVE != "absent":
    module.CompiledModel, module.HardwareAccelerator, module.Options = CompiledModel, HardwareAccelerator, Options
    module.CpuOptions = lambda num_threads: None
sys.modules["ai_edge_litert.compiled_model"] = module

from edgekit_device.accelerators import vulkan

vulkan.find_adapters = lambda: json.loads(os.environ.get("STUB_ADAPTERS", "[]"))
"""


def write_stub(folder: Path) -> None:
    """Put the stub into ``folder``."""
    (folder / "sitecustomize.py").write_text(PROGRAM)
