"""TFMOT's techniques as functions on tf_keras models: wrapped, trained, stripped again, and measured."""
