"""Writes the files tf2onnx_*.onnx beside this one, with inputs and TensorFlow's answers as .npz.

usage: python tests/files/write_tf2onnx.py     (needs tensorflow-cpu and tf2onnx)

Those that lie here were written by tf2onnx 1.17.0 from Keras 3.15.1 on TensorFlow 2.21.0.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow.keras.layers import LSTM, Bidirectional, Dense, Input, RepeatVector, TimeDistributed

HERE = Path(__file__).parent


def tagger() -> tf.keras.Model:
    return tf.keras.Sequential(
        [
            Input((5, 3)),
            LSTM(4, return_sequences=True),
            Bidirectional(LSTM(3, return_sequences=True)),
            TimeDistributed(Dense(2, activation="softmax")),
        ]
    )


def states() -> tf.keras.Model:
    x = Input((6, 3))
    y, h, c = LSTM(4, return_sequences=True, return_state=True)(x)
    return tf.keras.Model(x, Dense(2)(LSTM(4, go_backwards=True)(y, initial_state=[h, c])))


def autoencoder() -> tf.keras.Model:
    return tf.keras.Sequential(
        [
            Input((9, 1)),
            LSTM(6, activation="relu"),
            RepeatVector(9),
            LSTM(6, activation="relu", return_sequences=True),
            TimeDistributed(Dense(1)),
        ]
    )


for seed, make in enumerate((tagger, states, autoencoder)):
    model, rng = make(), np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    shape = model.input_shape[1:]
    signature = [tf.TensorSpec([None, *shape], tf.float32, name="x")]
    function = tf.function(lambda x, model=model: model(x), input_signature=signature)
    found, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=15)
    path = HERE / f"tf2onnx_{make.__name__}"
    path.with_suffix(".onnx").write_bytes(found.SerializeToString())
    x = rng.normal(size=(4, *shape)).astype(np.float32)
    np.savez(path.with_suffix(".npz"), x=x, y=model(x).numpy())
