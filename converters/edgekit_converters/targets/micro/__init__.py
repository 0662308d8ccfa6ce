"""Microcontrollers: TensorFlow Lite Micro, the C array, and the program around it."""
