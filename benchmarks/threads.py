"""How the way in which OpenMP's threads wait (OMP_WAIT_POLICY) changes a training step, alone and beside other work.

Every measurement is a process of its own, because the setting is read once; the settings take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

POLICIES = ("PASSIVE", "unset", "ACTIVE")


def main() -> None:
    """Measure and print one line a setting."""
    options = _options()
    if options.child:
        _child(options)
        return
    seconds: dict[tuple[str, bool], list[float]] = {}
    for _ in range(options.rounds):
        for busy in (False, True):
            with _company(options.busy if busy else 0):
                for policy in POLICIES:
                    own = _measure(policy, options)
                    seconds.setdefault((policy, busy), []).append(own)
                    beside = f"beside {options.busy} busy" if busy else "alone"
                    print(f"{policy}, {beside}: {1000 * own:.1f} ms", file=sys.stderr)
    table = Table(title=_title(options), title_justify="left")
    columns = ("OMP_WAIT_POLICY", "alone (ms)", "/ PASSIVE", f"beside {options.busy} busy (ms)", "/ PASSIVE")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for policy in POLICIES:
        row = [policy]
        for busy in (False, True):
            own, passive = np.median(seconds[policy, busy]), np.median(seconds["PASSIVE", busy])
            row += [f"{1000 * own:.1f}", f"{own / passive:.2f}"]
        table.add_row(*row)
    Console(width=110).print(table)


def _title(options: argparse.Namespace) -> str:
    step = f"one training step of a generator, {options.size}x{options.size}, batch {options.batch_size}"
    return f"{step}, {options.threads} threads\n{os.cpu_count()} cores; medians of {options.rounds} processes each"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="processes for each setting; the median counts")
    parser.add_argument("--steps", type=int, default=5, help="steps of a process that count; the median counts")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--busy", type=int, default=1, help="processes that keep a core busy each, beside")
    parser.add_argument("--size", type=int, default=64, help="height and width, pixels, multiple of 4")
    parser.add_argument("--batch-size", type=int, default=4, help="images a step")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


_REST_NEVER = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextlib.contextmanager
def _company(count: int) -> Iterator[None]:
    """Other processes that never rest."""
    processes = [subprocess.Popen([sys.executable, "-c", _REST_NEVER]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _measure(policy: str, options: argparse.Namespace) -> float:
    """Median seconds of a step in a new process."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if policy != "unset":
        environment["OMP_WAIT_POLICY"] = policy
    arguments = [f"--{name}={getattr(options, name.replace('-', '_'))}" for name in _PASSED_ON]
    command = [sys.executable, "-W", "ignore", __file__, "--child", *arguments]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


_PASSED_ON = ("steps", "threads", "size", "batch-size")


def _child(options: argparse.Namespace) -> None:
    """Print the median seconds of a step of a plain ResNet generator."""
    import torch  # before the package, which would choose the policy

    from ganc_nni.generators.resnet import ResnetGenerator

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    generator = ResnetGenerator((24,) * 8, n_blocks=6)
    optimizer = torch.optim.Adam(generator.parameters())
    images = torch.rand(options.batch_size, 3, options.size, options.size) * 2 - 1
    times = []
    for _ in range(2 + options.steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.l1_loss(generator(images), images).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    sys.stdout.write(str(np.median(times[2:])))


if __name__ == "__main__":
    main()
