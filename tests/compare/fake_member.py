"""Stands in for a member's process: does what its experiment's ``fake`` section says."""

import json
import math
import sys
import time
from pathlib import Path

import yaml

job_path = Path(sys.argv[1])
job = json.loads(job_path.read_text())
folder = job_path.parent
fake = yaml.safe_load(Path(job["config"]).read_text())["fake"]
with (folder.parent.parent / "starts.txt").open("a") as starts:
    starts.write(job["name"] + "\n")
print("a line of the log of", job["name"], flush=True)
if "wait_for" in fake:
    while not Path(fake["wait_for"]).exists():
        time.sleep(0.02)
(folder / "progress.json").write_text(json.dumps({"fraction": 0.5}))
if "fail" in fake:
    print("Traceback (most recent call last):", file=sys.stderr)
    sys.exit(fake["fail"])
(folder / "config.yaml").write_text(
    "model: {class_path: lit_lm.tasks.Fake}\n# <script>alert(3)</script>\n"
)
flags = dict(flag.removeprefix("--").split("=", 1) for flag in job["overrides"])
seed = int(flags.get("seed_everything", 0))
rate = flags.get("model.init_args.optim.lr")
loss, optimal = fake.get("loss", 1.7), fake.get("optimal_loss")
loss += fake.get("jitter", [0, 0, 0])[seed]
loss += fake.get("by_rate", {}).get(rate, 0)
if seed in fake.get("fail_seeds", []):
    print("RuntimeError: bad luck", file=sys.stderr)
    sys.exit(1)
most = {"step": 488, "tokens": 2e6, "bytes": 8.4e6, "flops": 1.1e13, "seconds": fake["seconds"]}
shares = [i / 20 for i in range(1, 21)]


def curve(start, end):
    values = [end + (start - end) * math.exp(-6 * share) for share in shares]
    return {key: [top * share for share in shares] for key, top in most.items()} | {"value": values}


per_byte = 1 / 4.2 / math.log(2)
test = {"loss": loss, "ppl": math.exp(loss), "bpb": loss * per_byte, "accuracy": 0.5}
ends = {"val/loss": [7.0, loss], "val/bpb": [7.0 * per_byte, loss * per_byte]}
ends["val/accuracy"] = [0.05, 0.5]
if optimal:
    test["optimal_ppl"] = math.exp(optimal)
if not fake.get("reads_text", True):  # a masked model has a loss too, in another unit
    test, ends = {"loss": loss}, {"val/loss": ends["val/loss"]}
test |= fake.get("test", {})
ends |= fake.get("curves", {})
result = {
    "identity": job["identity"],
    "league": fake["league"],
    "architecture": job["architecture"],
    "parameters": fake.get("parameters", 812_288),
    "embedding_parameters": 65_536,
    "steps": 488,
    "tokens": 2_001_432,
    "bytes": 8_412_007,
    "flops": fake.get("flops", 1.13e13),
    "seconds": fake["seconds"],
    "peak_memory_bytes": fake.get("memory", 912_345_088),
    "peak_memory_of": "process",
    "wall_seconds": fake["seconds"] + 20,
    "test": test,
    "validation": {},
    "evaluation": fake.get("evaluation"),
    "checkpoint": "best val/loss",
    "curves": {name: curve(*pair) for name, pair in ends.items()},
    "samples": fake.get("samples", []),
    "hardware": "cpu: some processor, 2 cores, 2 threads; precision 32-true",
    "versions": {"lit_lm": "0.1.0", "torch": "2.13.0"},
    "code": job["code"],
    "parallel": job["parallel"],
    "wandb_url": None,
}
text = json.dumps(result).replace("NaN", "null").replace("Infinity", "null")
(folder / "result.json").write_text(text)
