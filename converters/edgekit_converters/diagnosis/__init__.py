"""Which layers int8 hurts, and whether the samples that calibrate it are sound."""
