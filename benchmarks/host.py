"""Latency on this machine: our library, torch.compile and eager PyTorch, in one run.

    python benchmarks/host.py --model squeezenet1_1

The library is tuned first, cold, into a folder of its own unless --logs names
one. Each engine lives in a process of its own with the same number of threads;
they take turns, so that what disturbs the machine disturbs all of them. Results
go to benchmarks/results/host-MODEL.json, and a Markdown table is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

ENGINES = ("tvm_eff", "torch.compile", "torch eager")
RESULTS = Path(__file__).resolve().parent / "results"
SHAPE = (1, 3, 224, 224)


def main() -> None:
    """Tune, then measure all engines in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=30, help="calls in a round")
    parser.add_argument("--logs", type=Path, help="records to use; a fresh folder by default")
    parser.add_argument("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.model, arguments.bundle)
        return
    with tempfile.TemporaryDirectory() as folder:
        tuned = tune(arguments.model, arguments.logs or Path(folder) / "logs", Path(folder))
        result = compare(arguments, Path(tuned["bundle"]))
    result |= {"tuning_seconds": tuned["seconds"], "candidates": tuned["candidates"]}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"host-{arguments.model}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    print(f"\nwritten to {path}")


def tune(model: str, logs: Path, folder: Path) -> dict:
    """Run the user's command and return its line of JSON."""
    command = [sys.executable, "scripts/tune.py", "--target", "host", "--model", model]
    command += ["--logs", str(logs), "--output", str(folder / "dist"), "--json"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(arguments: argparse.Namespace, bundle: Path) -> dict:
    """Let the engines take turns and collect the latency of every call."""
    servers = {name: start(name, arguments.model, bundle) for name in ENGINES}
    outputs = {name: np.array(json.loads(ask(each, "output"))) for name, each in servers.items()}
    for name, output in outputs.items():
        error = np.abs(output - outputs["torch eager"]).max() / np.ptp(outputs["torch eager"])
        assert error < 1e-5, f"{name} computes something else: error {error}"
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(arguments.rounds):
        for name, server in servers.items():
            seconds[name] += json.loads(ask(server, str(arguments.calls)))
    for server in servers.values():
        server.kill()
    return {
        "model": arguments.model,
        "machine": cpu(),
        "threads": threads(),
        "date": date.today().isoformat(),
        "milliseconds": {
            name: {f"p{p}": round(float(np.percentile(values, p)) * 1e3, 3) for p in (10, 50, 90)}
            for name, values in seconds.items()
        },
    }


def start(name: str, model: str, bundle: Path) -> subprocess.Popen:
    """Start an engine's process."""
    command = [sys.executable, __file__, "--serve", name, "--model", model, "--bundle", str(bundle)]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads()),
        "TVM_NUM_THREADS": str(threads()),
    }
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def ask(server: subprocess.Popen, question: str) -> str:
    """Ask an engine's process and wait for its answer."""
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(question + "\n")
    server.stdin.flush()
    return server.stdout.readline()


def serve(name: str, model: str, bundle: Path) -> None:
    """Answer with the output, or with the latency of so many calls."""
    call = load(name, model, bundle)
    x = np.random.default_rng(7).standard_normal(SHAPE).astype("float32")
    for _ in range(20):
        output = call(x)
    for question in sys.stdin:
        if question.strip() == "output":
            print(json.dumps(output.ravel().tolist()), flush=True)
            continue
        for _ in range(3):
            call(x)
        values = []
        for _ in range(int(question)):
            started = time.perf_counter()
            call(x)
            values.append(time.perf_counter() - started)
        print(json.dumps(values), flush=True)


def load(name: str, model: str, bundle: Path):
    """Return the engine as a function of a numpy array."""
    if name == "tvm_eff":
        import tvm_eff

        return tvm_eff.load(bundle)
    import torch

    from tvm_eff import models

    torch.set_num_threads(threads())
    module = models.create(model)
    if name == "torch.compile":
        module = torch.compile(module)

    def call(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    return call


def threads() -> int:
    """Return the number of usable cores."""
    return len(os.sched_getaffinity(0))


def cpu() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def table(result: dict) -> str:
    """Return the result as Markdown."""
    rows = [
        f"{result['model']}, batch 1, float32, {result['threads']} threads, "
        f"on {result['machine']}, {result['date']}; tuned in {result['tuning_seconds']:.0f} s",
        "",
        "| engine | p10 ms | p50 ms | p90 ms | ratio of p50 to torch.compile |",
        "|---|---|---|---|---|",
    ]
    base = result["milliseconds"]["torch.compile"]["p50"]
    for name, at in result["milliseconds"].items():
        rows.append(
            f"| {name} | {at['p10']} | {at['p50']} | {at['p90']} | {at['p50'] / base:.2f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
