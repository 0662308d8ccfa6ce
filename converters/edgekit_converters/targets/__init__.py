"""Where a model will run: targets as data, what each of them makes of a .tflite, and the tools that compile for them."""
