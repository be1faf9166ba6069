"""A Lightning training that resumes by Lightning's own plugin: `lightning_training.py RESULT STEPS SECONDS`."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader

result, steps, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        time.sleep(seconds)
        # Not the batch's: the data of an epoch that was interrupted begin anew with a plain loader, as Lightning warns.
        return self.layer(torch.arange(4.0) + self.global_step / steps).square().mean()

    def on_train_batch_end(self, *_):
        with result.with_suffix(".steps").open("a") as log:
            log.write(f"{os.environ.get('SLURM_RESTART_COUNT', '0')} {self.global_step}\n")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


lightning.seed_everything(1)
model = Model()
trainer = lightning.Trainer(
    accelerator="cpu", max_epochs=1, default_root_dir=result.parent, logger=False, enable_progress_bar=False,
    enable_model_summary=False, enable_checkpointing=False,
)  # fmt: skip
trainer.fit(model, DataLoader(torch.zeros(steps, 1)))
if trainer.global_step == steps:
    weights = b"".join(part.detach().numpy().tobytes() for part in model.parameters())
    result.write_text(hashlib.sha256(weights).hexdigest())
