"""A training that was saved, ended and begun again goes on bit by bit as if it had never stopped.

Weights, optimiser, learning rate and random numbers are saved half way, loaded into new objects (in a full run by
another process) and trained on. The weights must equal, bit for bit, those of a training that was not stopped: no
rounding is allowed for.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import _tagger
import _torch_work as work
from _protocol import Check, last_line, run
from _reference import on_devices

STEPS = 6


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        _on(bench)
    where = "in another process" if check.full else "with everything made anew"
    return f"resumed {where}, {STEPS} steps end in the same bits {on_devices(found)}"


def _on(bench: work.Bench) -> None:
    torch = bench.torch
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        state = Training(torch, bench.device)
        state.steps(STEPS // 2)
        torch.save(state.saved(), path)
        loss = bench.do("training", lambda: state.steps(STEPS - STEPS // 2))
        whole = {"loss": loss.item().hex(), "weights": state.digest()}
        torch.manual_seed(999)  # what a new process would begin with
        resumed = _elsewhere(path, bench.device) if bench.check.full else resume(path, bench.device)
    for part, value in whole.items():
        bench.check.expect(resumed[part] == value, f"{bench.device}: after resuming the {part} differs")


def _elsewhere(path: Path, device: str) -> dict[str, str]:
    program = f"import json, torch_resume; print(json.dumps(torch_resume.resume({str(path)!r}, {device!r})))"
    command = [sys.executable, "-c", program]
    found: dict[str, str] = json.loads(last_line(command, "the training does not resume", cwd=Path(__file__).parent))
    return found


class Training:
    """A tagger in training, with noise in its input so that the state of the random numbers matters."""

    def __init__(self, torch: Any, device: str) -> None:
        self.torch, self.device = torch, device
        self.model = _tagger.tagger(torch, width=32, layers=2).to(device)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, 2, 0.5)
        self.data = [part.to(device) for part in _tagger.jets(torch, 16)]

    def steps(self, count: int) -> Any:
        """Take steps; returns the last loss."""
        torch = self.torch
        for _ in range(count):
            x = self.data[0].float()
            loss = torch.nn.functional.cross_entropy(self.model(x + 0.1 * torch.randn_like(x)), self.data[1])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
        return loss.detach()

    def saved(self) -> dict[str, Any]:
        """Return all that a training is."""
        torch = self.torch
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimiser", "schedule")}
        state["random"] = torch.get_rng_state()
        if self.device == "cuda":
            state["gpu random"] = torch.cuda.get_rng_state()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Become the training that was saved."""
        for name in ("model", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.torch.set_rng_state(state["random"])
        if self.device == "cuda":
            self.torch.cuda.set_rng_state(state["gpu random"])

    def digest(self) -> str:
        """Return the sha256 of the weights' bits."""
        bits = b"".join(value.cpu().numpy().tobytes() for value in self.model.state_dict().values())
        return hashlib.sha256(bits).hexdigest()


def resume(path: Path | str, device: str) -> dict[str, str]:
    """Go on from a checkpoint; returns what the training has come to."""
    torch = importlib.import_module("torch")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    state = Training(torch, device)
    state.load(torch.load(path, map_location="cpu", weights_only=True))
    loss = state.steps(STEPS - STEPS // 2)
    return {"loss": loss.item().hex(), "weights": state.digest()}


if __name__ == "__main__":
    run(main)
