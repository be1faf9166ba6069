"""salt, ATLAS's framework for taggers, trains on jets made up here, and what it then says of jets is what it claims.

Its program is called as people call it: ``salt --help``, ``salt fit``, ``salt test``, with files of jets and tracks in
the layout of the training samples. After the training, probabilities that salt wrote for jets are read back: their
cross entropy, in float64, must be the loss that salt states for these jets, and must lie below half of ln 3, which is
the loss of a tagger that knows nothing.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import _tagger
import _torch_work as work
from _protocol import Check, run
from _reference import on_devices

BATCH, TRAINED, TOLD = 50, 40, 4  # jets; batches
FLAVOURS = ("bjets", "cjets", "ujets")
TARGET = 0.5 * math.log(_tagger.CLASSES)
AGREE = 2e-3  # salt writes its loss with five digits; TF32 and the order of sums, on a loss of about 0.1
NAMES = [f"feature{number}" for number in range(_tagger.FEATURES)]

CONFIG = """
name: check
model:
  lrs_config: {{initial: 1e-4, max: 3e-3, end: 1e-4, pct_start: 0.2, weight_decay: 1e-5}}
  model:
    class_path: salt.models.SaltModel
    init_args:
      init_nets:
        - input_name: tracks
          dense_config: {{output_size: 32, hidden_layers: [32], activation: ReLU}}
      encoder:
        class_path: salt.models.Transformer
        init_args:
          embed_dim: 32
          num_layers: 2
          out_dim: 32
          attn_type: torch-math
          attn_kwargs: {{num_heads: 4}}
          dense_kwargs: {{activation: ReLU}}
      pool_net:
        class_path: salt.models.GlobalAttentionPooling
        init_args: {{input_size: 32}}
      tasks:
        class_path: torch.nn.ModuleList
        init_args:
          modules:
            - class_path: salt.models.ClassificationTask
              init_args:
                name: jets_classification
                input_name: jets
                label: flavour_label
                loss: {{class_path: torch.nn.CrossEntropyLoss}}
                dense_config: {{input_size: 32, output_size: 3, hidden_layers: [32], activation: ReLU}}
data:
  variables:
    jets: [pt, eta]
    tracks: {names}
  train_file: {folder}/train.h5
  val_file: {folder}/told.h5
  norm_dict: {folder}/norm.yaml
  class_dict: {folder}/classes.yaml
  batch_size: {batch}
  num_workers: 0
  persistent_workers: false
  prefetch_factor: null
"""


def main(check: Check) -> str:
    found = work.benches(check)
    salt = check.need("salt.main")
    check.need("h5py")
    found[0].torch.set_num_threads(1)  # of so small a model the threads of a busy host wait for each other
    for bench in found:
        with tempfile.TemporaryDirectory() as folder:
            _on(bench, salt, Path(folder))
    return f"salt trains, and what it writes of {BATCH * TOLD} jets agrees with its loss {on_devices(found)}"


def _on(bench: work.Bench, salt: Any, folder: Path) -> None:
    flavour = _write_samples(bench, folder)
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder, batch=BATCH, names=NAMES), encoding="utf-8")
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), contextlib.suppress(SystemExit):
        salt.main(["--help"])
    bench.check.expect("fit" in help_text.getvalue(), "salt --help names no fit")
    where = ["--trainer.accelerator", "gpu" if bench.device == "cuda" else "cpu", "--trainer.devices", "1"]
    fit = ["fit", "--config", str(folder / "config.yaml"), "--force", "--log_suffix", "run"]
    fit += ["--trainer.max_epochs", "1"]
    fit += ["--trainer.default_root_dir", str(folder / "logs")]
    bench.do("salt fit", lambda: _quietly(salt, [*fit, *where]))
    told = folder / "logs/check_run"
    ((checkpoint, stated),) = [
        (path, float(match[1]))
        for path in (told / "ckpts").glob("*.ckpt")
        if (match := re.search(r"loss=(\d+\.\d+)", path.name))
    ]
    test = ["test", "--config", str(told / "config.yaml"), "--data.test_file", str(folder / "told.h5")]
    bench.do("salt test", lambda: _quietly(salt, [*test, "--ckpt_path", str(checkpoint), *where]))
    (written,) = (told / "ckpts").glob("*.h5")
    loss = _cross_entropy(bench, written, flavour)
    bench.check.figures[f"{bench.device} salt: loss"] = round(loss, 4)
    bench.check.expect(loss < TARGET, f"{bench.device}: the loss is {loss:.3f}, not below {TARGET:.3f}")
    apart = abs(loss - stated)
    bench.check.expect(apart < AGREE, f"{bench.device}: salt states a loss of {stated}, what it wrote gives {loss:.5f}")


def _quietly(salt: Any, arguments: list[str]) -> None:
    os.environ.pop("COMET_API_KEY", None)  # a check tells nobody
    salt.main(arguments)


def _write_samples(bench: work.Bench, folder: Path) -> Any:
    """Write jets and tracks as training samples have them; return the flavours of those that are told at the end."""
    numpy, h5py = bench.numpy, bench.check.need("h5py")
    count = BATCH * (TRAINED + TOLD)
    tracks, flavour = (part.numpy() for part in _tagger.jets(bench.torch, count))
    generator = numpy.random.default_rng(4)
    jets = numpy.zeros(count, dtype=[("pt", "f4"), ("eta", "f4"), ("flavour_label", "i4")])
    jets["pt"], jets["eta"] = generator.exponential(1, count), generator.normal(0, 1, count)
    jets["flavour_label"] = flavour
    rows = numpy.zeros(tracks.shape[:2], dtype=[*((name, "f4") for name in NAMES), ("valid", "?")])
    for number, name in enumerate(NAMES):
        rows[name] = tracks[..., number]
    rows["valid"] = True
    for name, part in (("train", slice(BATCH * TRAINED)), ("told", slice(BATCH * TRAINED, None))):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["jets"], file["tracks"] = jets[part], rows[part]
            file["jets"].attrs["flavour_label"] = list(FLAVOURS)
    unit = "{mean: 0.0, std: 1.0}"
    lines = [f"  {name}: {unit}" for name in NAMES]
    norm = "\n".join(["jets:", f"  pt: {unit}", f"  eta: {unit}", "tracks:", *lines, ""])
    (folder / "norm.yaml").write_text(norm, encoding="utf-8")
    (folder / "classes.yaml").write_text("jets: {flavour_label: [1.0, 1.0, 1.0]}\n", encoding="utf-8")
    return flavour[BATCH * TRAINED :]


def _cross_entropy(bench: work.Bench, written: Path, flavour: Any) -> float:
    numpy = bench.numpy
    with bench.check.need("h5py").File(written) as file:
        jets = file["jets"][:]
    bench.check.expect(len(jets) == len(flavour), f"salt wrote {len(jets)} jets of {len(flavour)}")
    columns = [next(name for name in jets.dtype.names if name.endswith(f"_p{label[0]}")) for label in FLAVOURS]
    chances = numpy.stack([jets[name] for name in columns], axis=1).astype("float64")
    return float(-numpy.log(chances[numpy.arange(len(flavour)), flavour]).mean())


if __name__ == "__main__":
    run(main)
