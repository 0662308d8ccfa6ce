"""Training Keras models: from scratch, or on from weights that a technique has changed."""
