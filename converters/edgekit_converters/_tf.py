"""The only module that imports TensorFlow and the two Kerases.

Keras 3 must be resolved before tf_keras is imported: the other way round ``tf.keras`` becomes Keras 2 for the rest of the
process. TensorFlow takes seconds and 600 MB, so every function here imports at the call.
"""

from __future__ import annotations

import os
from typing import Any

from .errors import MissingPackageError

__all__ = ["import_keras", "import_tensorflow", "import_tf_keras", "import_tfmot"]

INSTALL = 'pip install "edgekit[keras]"'


def import_tensorflow() -> Any:
    """The ``tensorflow`` module, with ``tf.keras`` resolved to Keras 3; raises MissingPackageError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingPackageError(f"this needs TensorFlow. Install it: {INSTALL}") from error
    tensorflow.keras  # noqa: B018 - resolves the lazy module to Keras 3, now
    return tensorflow


def import_keras() -> Any:
    """Keras 3; raises MissingPackageError."""
    import_tensorflow()
    try:
        import keras
    except ImportError as error:
        raise MissingPackageError(f"this needs Keras 3. Install it: {INSTALL}") from error
    return keras


def import_tf_keras() -> Any:
    """Keras 2 (``tf_keras``); raises MissingPackageError."""
    import_tensorflow()
    try:
        import tf_keras
    except ImportError as error:
        raise MissingPackageError(f"Keras 2 models need tf_keras. Install it: {INSTALL}") from error
    return tf_keras


def import_tfmot() -> Any:
    """TensorFlow's model optimization toolkit, which works on ``tf_keras`` models; raises MissingPackageError."""
    import_tf_keras()
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise MissingPackageError(f"this needs tensorflow-model-optimization. Install it: {INSTALL}") from error
    return tensorflow_model_optimization
