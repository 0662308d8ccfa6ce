"""The adapters that Vulkan has: a GPU by name, or a program that plays one on the processor.

LiteRT's GPU accelerator of the Linux wheels computes through WebGPU over Vulkan, and takes a software adapter (SwiftShader,
Mesa's llvmpipe) as readily as a GPU, without a word. Asked through the C interface (Vulkan 1.0, vkGetPhysicalDeviceProperties);
drivers may crash: call it in a child.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from ..text import clean_text

__all__ = ["Adapter", "find_adapters"]

MOST = 16
CREATE_INFO = b"\1"  # VkInstanceCreateInfo with its structure type and nothing asked for
CPU_TYPE = 4  # VK_PHYSICAL_DEVICE_TYPE_CPU
TYPE_AT, NAME_AT, NAME_BYTES, PROPERTIES_BYTES = 16, 20, 256, 2048  # VkPhysicalDeviceProperties, which has 824


class Adapter(NamedTuple):
    """An adapter's name, and whether it is the processor."""

    name: str
    software: bool


def find_adapters() -> list[Adapter]:
    """Every adapter of this machine's Vulkan; empty where there is none, or no Vulkan."""
    try:
        return _adapters(ctypes.CDLL("libvulkan.so.1"))
    except OSError:
        return []


def _adapters(vulkan: ctypes.CDLL) -> list[Adapter]:
    ask = ctypes.create_string_buffer(CREATE_INFO, 64)
    instance = ctypes.c_void_p()
    if vulkan.vkCreateInstance(ask, None, ctypes.byref(instance)) != 0:
        return []
    count, devices = ctypes.c_uint32(MOST), (ctypes.c_void_p * MOST)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    found = []
    for device in devices[: count.value]:
        facts = ctypes.create_string_buffer(PROPERTIES_BYTES)
        vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), facts)
        kind = int.from_bytes(facts.raw[TYPE_AT : TYPE_AT + 4], "little")
        name = facts.raw[NAME_AT : NAME_AT + NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")
        found.append(Adapter(clean_text(name), kind == CPU_TYPE))
    return found
