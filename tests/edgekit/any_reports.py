"""Reports as anybody may send them: numbers beyond sense, texts full of markup, series of any length."""

from __future__ import annotations

from hypothesis import strategies as st

HOSTILE = '</testcase>\x00\x1b[31m|`<img src=x>`\ufffe\n[a](http://evil.example) & "q"'

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 2**70), st.just(1.0))
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["", "s", HOSTILE, "none"]))
SERIES = st.one_of(st.lists(NUMBERS, max_size=25), st.lists(st.floats(0.5, 2.0), min_size=10, max_size=25))
MOMENT = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("governor", "throttling", "throttled_before"), TEXTS),
        **dict.fromkeys(
            ("frequency_mhz", "frequency_max_mhz", "temperature_c", "busy_others", "swap_used_mb"), NUMBERS
        ),
        "others": st.lists(TEXTS, max_size=3),
    },
)
REPORTS = st.fixed_dictionaries(
    {
        "schema": st.just(1),
        "latency": st.fixed_dictionaries(
            {
                "median_ms": NUMBERS,
                "samples_ms": SERIES,
                "samples_kind": st.sampled_from(["all", "sketch"]),
                "count": NUMBERS,
            }
        ),
        "session": st.fixed_dictionaries({"id": TEXTS, "block_medians_ms": SERIES, "noise_floor": NUMBERS}),
    },
    optional={
        "runtime": st.fixed_dictionaries({"name": TEXTS, "delegate": TEXTS, "threads": NUMBERS}),
        "board": st.fixed_dictionaries({"model": TEXTS, "id": TEXTS, "emulator": TEXTS, "cores": NUMBERS}),
        "model": st.fixed_dictionaries({"size_bytes": NUMBERS}),
        "before": MOMENT,
        "after": MOMENT,
        "notes": st.lists(TEXTS, max_size=2),
    },
)
