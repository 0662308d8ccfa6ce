"""What travels inside a .tflite: a small JSON note appended as a ZIP.

TFLite Metadata packs associated files as a ZIP behind the flatbuffer, which every runtime ignores
(ai.google.dev/edge/litert/conversion/tensorflow/metadata); edgekit keeps ``edgekit.json`` there, with the
preprocessing and the provenance, so that a copied file still knows how to be fed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["NAME", "append_note", "read_note"]

NAME = "edgekit.json"
CAP_BYTES = 256 * 1024


def read_note(model: bytes) -> dict[str, Any]:
    """The note inside ``model``, or an empty dict when there is none or it is not readable."""
    if b"PK\x05\x06" not in model[-65_557:]:
        return {}
    import io
    import json
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            info = archive.getinfo(NAME)
            if info.file_size > CAP_BYTES:
                return {}
            note = json.loads(archive.read(info))
    except Exception:  # a damaged archive fails in many ways, and a note is never worth an error
        return {}
    return note if isinstance(note, dict) else {}


def append_note(model: bytes, note: dict[str, Any]) -> bytes:
    """``model`` with ``note`` behind it; the same input gives the same bytes."""
    import io
    import json
    import zipfile

    buffer = io.BytesIO()
    buffer.write(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(NAME, date_time=(1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, json.dumps(note, sort_keys=True, separators=(",", ":")))
    return buffer.getvalue()
