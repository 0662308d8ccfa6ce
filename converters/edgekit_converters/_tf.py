"""The only module that imports TensorFlow and the two Kerases.

Keras 3 must be resolved before tf_keras is imported: the other way round ``tf.keras`` becomes Keras 2 for the rest of the
process. TensorFlow takes seconds and 600 MB, so every function here imports at the call.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from .errors import MissingPackageError

__all__ = ["import_keras", "import_tensorflow", "import_tf_keras", "import_tfmot"]

LEGACY = "TF_USE_LEGACY_KERAS"
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
    """TensorFlow's model optimization toolkit, which works on ``tf_keras`` models; raises MissingPackageError.

    Importing it sets TF_USE_LEGACY_KERAS, which would turn a ``tf.keras`` not yet loaded into Keras 2 for the rest of this
    process and of its children: the one is loaded first, the other put back.
    """
    import_tensorflow().keras.Model  # noqa: B018 - an attribute of it loads it
    import_tf_keras()
    before = os.environ.get(LEGACY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compares versions with distutils
            import tensorflow_model_optimization
    except ImportError as error:
        raise MissingPackageError(f"this needs tensorflow-model-optimization. Install it: {INSTALL}") from error
    finally:
        os.environ.pop(LEGACY, None)
        if before is not None:
            os.environ[LEGACY] = before
    return tensorflow_model_optimization
