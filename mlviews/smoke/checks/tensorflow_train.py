"""Keras trains: its first losses are those of float64, and a tagger learns in float32 and in mixed precision.

Reference: back-propagation through a two-layer network written out in numpy (_reference.py); losses of its first steps
may part by 2e-4 of their value, as in torch_train.py, and by 2e-12 in float64. Then an attention tagger trains with
Adam, and its loss must fall below half of ln 3, which is the loss of a tagger that knows nothing. On a GPU its weights
must lie there.
"""

from __future__ import annotations

import math
from typing import Any

import _tensorflow_work as work
from _protocol import Check, run
from _reference import RATE, STEPS, descend, on_devices

EVENTS, FEATURES, WIDTH = 256, 6, 16
PARTING = {"float32": 2e-4, "float64": 2e-12}
JETS, TRACKS, CLASSES, EPOCHS = 512, 20, 3, 6
TARGET = 0.5 * math.log(CLASSES)


def main(check: Check) -> str:
    found = work.benches(check)
    keras = check.need("keras")
    check.expect(keras.backend.backend() == "tensorflow", f"Keras computes with {keras.backend.backend()}")
    for bench in found:
        for name in PARTING:
            _follow(bench, keras, name)
        for policy in ("float32", "mixed_float16" if bench.device == "gpu" else "mixed_bfloat16"):
            _must_learn(bench, keras, policy)
    return f"a tagger learns in float32 and mixed precision {on_devices(found)}"


def _follow(bench: work.Bench, keras: Any, name: str) -> None:
    generator = bench.numpy.random.default_rng(4)
    x, first, second = (
        generator.standard_normal(shape).astype(name) for shape in ((EVENTS, FEATURES), (FEATURES, WIDTH), (WIDTH, 1))
    )
    y = (x[:, :1] > 0).astype(name)
    keras.config.set_floatx(name)  # of the loss and its mean, too

    def steps() -> Any:
        layers = [
            keras.layers.Dense(WIDTH, activation="tanh", use_bias=False, dtype=name),
            keras.layers.Dense(1, use_bias=False, dtype=name),
        ]
        model = keras.Sequential([keras.Input((FEATURES,), dtype=name), *layers])
        model.set_weights([first, second])
        model.compile(keras.optimizers.SGD(RATE), keras.losses.BinaryCrossentropy(from_logits=True))
        history = model.fit(x, y, batch_size=EVENTS, epochs=STEPS, shuffle=False, verbose=0)
        return history.history["loss"], [weight.value for weight in model.trainable_weights]

    losses, _ = bench.do(f"{name} first losses", steps)
    want = descend(bench.numpy, *(part.astype("float64") for part in (first, second[:, 0], x, y[:, 0])))
    bench.within(f"{name} first losses", losses, want, PARTING[name] * want)


def _must_learn(bench: work.Bench, keras: Any, policy: str) -> None:
    tracks, flavour = _jets(bench.numpy)
    keras.config.set_floatx("float32")
    keras.utils.set_random_seed(4)

    def train() -> Any:
        model = _tagger(keras, policy)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3), loss)
        history = model.fit(tracks, flavour, batch_size=32, epochs=EPOCHS, verbose=0)
        return history.history["loss"], [weight.value for weight in model.trainable_weights]

    losses, _ = bench.do(f"{policy} training", train)
    label = f"{bench.device} {policy} training"
    bench.check.figures[f"{label}: loss"] = round(losses[-1], 4)
    bench.check.expect(losses[-1] < TARGET, f"{label}: the loss is {losses[-1]:.3f}, not below {TARGET:.3f}")


def _tagger(keras: Any, policy: str) -> Any:
    layers = keras.layers
    given = keras.Input((TRACKS, FEATURES))
    h = layers.Dense(32, activation="gelu", dtype=policy)(given)
    h = layers.LayerNormalization(dtype=policy)(h + layers.MultiHeadAttention(2, 16, dtype=policy)(h, h))
    h = layers.GlobalAveragePooling1D(dtype=policy)(h)
    return keras.Model(given, layers.Dense(CLASSES, dtype="float32")(h))


def _jets(numpy: Any) -> tuple[Any, Any]:
    """Return tracks and flavours: b and c jets hold displaced tracks, more of them and farther out for b."""
    generator = numpy.random.default_rng(4)
    tracks, flavour = generator.standard_normal((JETS, TRACKS, FEATURES)), generator.integers(0, CLASSES, JETS)
    displaced = generator.random((JETS, TRACKS)) < 0.3 * flavour[:, None]
    tracks[..., 0] += 3.0 * displaced * flavour[:, None]
    return tracks.astype("float32"), flavour


if __name__ == "__main__":
    run(main)
