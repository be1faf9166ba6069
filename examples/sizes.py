"""How much GPU memory training takes: transformers of several sizes on events of 1,000 points, AdamW.

    python sizes.py -o sizes.json

What does not depend on the batch (weights, gradients, AdamW's two moments: 16 bytes a parameter) and what each event
adds (activations, kept for the backward pass) are told apart by two batch sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

POINTS, FEATURES, CLASSES = 1000, 8, 3
SIZES = ((128, 5), (384, 6), (768, 14), (1024, 24), (1792, 26))  # width, layers: 1 million to 1 billion parameters
HEAD = 64  # width of an attention head


def model_of(width: int, layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        width, width // HEAD, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(FEATURES, width), encoder, nn.Linear(width, CLASSES))


def peak(width: int, layers: int, events: int, *, half: bool, steps: int = 4) -> tuple[float, float]:
    """Return the largest memory of some training steps, in bytes, and the seconds of one."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = model_of(width, layers).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(events, POINTS, FEATURES, device="cuda")
    for step in range(steps):
        if step == 1:
            torch.cuda.synchronize()
            started = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = model(x).float().pow(2).mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), (time.perf_counter() - started) / (steps - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs=2, default=(4, 16), help="two batch sizes")
    parser.add_argument("-o", "--output", default="sizes.json")
    options = parser.parse_args()
    few, many = options.events
    rows = []
    for width, layers in SIZES:
        parameters = sum(weights.numel() for weights in model_of(width, layers).parameters())
        for half in (False, True):
            dtype = "bfloat16" if half else "float32"
            try:
                (low, _), (high, seconds) = (peak(width, layers, events, half=half) for events in (few, many))
            except torch.OutOfMemoryError:
                print(f"{parameters / 1e6:7.1f} M {dtype:8} does not fit", flush=True)
                continue
            each = (high - low) / (many - few)
            rest = low - few * each
            print(
                f"{parameters / 1e6:7.1f} M {dtype:8} {rest / 1e9:6.2f} GB + {each / 1e9:.3f} GB an event, "
                f"{many / seconds:.0f} events/s",
                flush=True,
            )
            row = {"parameters": parameters, "width": width, "layers": layers, "dtype": dtype}
            rows.append(row | {"bytes": rest, "bytes an event": each, "seconds an event": seconds / many})
    found = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "points": POINTS, "rows": rows}
    Path(options.output).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
