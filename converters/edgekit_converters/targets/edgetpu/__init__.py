"""The Edge TPU: rules, partition, memory, latency, compiled files, and the compiler a user has installed."""
