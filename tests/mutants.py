"""Plants small errors, one at a time, and runs the tests that should see them: ``make mutants``.

mutmut writes the errors and runs the tests. Each module has its own folder below ``.mutants/``; what was found there
stays, so that an interrupted run goes on. Survivors and their reasons are in ``tests/mutants.md``.

    python tests/mutants.py [--only-report] [ganc_nni/losses.py ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".mutants"

TESTS: dict[str, str] = {
    "additive": "test_macs test_latency",
    "architecture": "test_architecture",
    "calibration": "test_calibration",
    "data/encoding": "data/test_encoding data/test_labels",
    "data/folders": "data/test_folders",
    "data/label_files": "data/test_label_files",
    "data/labels": "data/test_labels data/test_encoding",
    "data/order": "data/test_order",
    "data/splits": "data/test_splits",
    "data/transforms": "data/test_transforms data/test_folders",
    "deploy/quantise": "deploy/test_deploy",
    "deploy/verify": "deploy/test_deploy",
    "discriminators": "test_discriminators",
    "distilling/features": "test_distilling",
    "distilling/judged": "test_distilling",
    "distilling/pictures": "test_distilling",
    "distilling/registry": "test_distilling",
    "evaluate": "test_evaluate test_score",
    "generators/resnet": "generators/test_resnet test_macs",
    "generators/spade": "generators/test_spade",
    "generators/unet": "generators/test_unet",
    "interop/resnet": "interop/test_resnet_files",
    "interop/spade": "interop/test_spade_files",
    "interop/unet": "interop/test_unet_files",
    "kernels": "test_kernels",
    "latency": "test_latency",
    "losses": "test_losses test_distilling",
    "macs": "test_macs",
    "measuring": "test_latency",
    "metrics/distance": "metrics/test_distance",
    "metrics/features": "metrics/test_features metrics/test_extractors",
    "metrics/frechet": "metrics/test_frechet metrics/test_distance",
    "metrics/kernel": "metrics/test_kernel",
    "metrics/segmentation": "metrics/test_segmentation_score",
    "metrics/statistics": "metrics/test_statistics",
    "oneshot/operations": "oneshot/test_operations",
    "oneshot/sampling": "oneshot/test_sampling oneshot/test_operations",
    "perceptual": "test_losses test_distilling",
    "ratios": "test_ratios",
    "report/charts": "report/test_report_parts",
    "report/collect": "report/test_report_parts report/test_report_page",
    "search/budget": "search/test_budget",
    "search/elitist": "search/test_strategies",
    "search/front": "search/test_record",
    "search/journal": "search/test_journal",
    "search/parzen": "search/test_strategies",
    "search/record": "search/test_record",
    "search/sampling": "search/test_strategies",
    "space": "test_space",
    "speed/compare": "speed/test_speed",
    "timing": "test_latency",
    "training/acceleration": "training/test_acceleration",
    "training/cyclegan": "training/test_cyclegan",
    "training/gan": "training/test_gan training/test_pix2pix training/test_cyclegan",
    "training/gaugan": "training/test_gaugan",
    "training/pix2pix": "training/test_pix2pix training/test_gaugan",
    "training/pool": "training/test_pool",
}
"""By module of ganc_nni, the test files that should see an error in it."""

CAUGHT, SURVIVED, NO_TESTS = (1, 3), 0, 33
"""What mutmut notes of a mutant: what pytest ended with, or that no test runs the function."""


def settings(module: str) -> str:
    """The project's pyproject.toml, with what mutmut has to know of a module."""
    tests = [f"tests/{name}.py" for name in TESTS[module].split()]
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--durations=0",
        "-m",
        "not experiment and not cuda",
        "-x",
    ]
    lines = {
        "source_paths": ["ganc_nni"],
        "only_mutate": [f"ganc_nni/{module}.py"],
        "also_copy": ["tests", "search_spaces", "experiments", "docs", "README.md", "requirements.txt"],
        "pytest_add_cli_args": options,
        "pytest_add_cli_args_test_selection": tests,
        "timeout_multiplier": 10.0,
        "timeout_constant": 30.0,
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
    }
    values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items())
    return f"{(ROOT / 'pyproject.toml').read_text()}\n[tool.mutmut]\n{values}\n"


def run(module: str) -> None:
    """Go on with a module, in a folder that looks to mutmut like the project."""
    folder = PLACE / module.replace("/", ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ganc_nni", "tests", "search_spaces", "experiments", "docs", "README.md", "requirements.txt"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    (folder / "pyproject.toml").write_text(settings(module))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", "--max-children", "1"]
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)


def report(module: str) -> Counter[str]:
    """How many were caught, and the names of those that were not."""
    found = PLACE / module.replace("/", ".") / "mutants" / "ganc_nni" / f"{module}.py.meta"
    codes = json.loads(found.read_text())["exit_code_by_key"] if found.is_file() else {}
    counts: Counter[str] = Counter()
    for name, code in codes.items():
        outcome = "left" if code is None else "survived" if code in (SURVIVED, NO_TESTS) else "caught"
        counts[outcome] += 1
        if outcome == "survived":
            _say(f"  {name}{'' if code == SURVIVED else ' (no test runs it)'}")
    done = counts["caught"] + counts["survived"]
    share = f"{100 * counts['caught'] / done:.1f} %" if done else "nothing"
    _say(f"{module}: {share} of {done} caught, {counts['left']} left to do")
    return counts


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """All modules, or those that are named."""
    only_report = "--only-report" in arguments
    named = [each.removeprefix("ganc_nni/").removesuffix(".py") for each in arguments if not each.startswith("-")]
    if strange := [name for name in named if name not in TESTS]:
        sys.exit(f"{strange[0]}: no module with tests of its own; expected one of {', '.join(TESTS)}")
    total: Counter[str] = Counter()
    for module in named or TESTS:
        if not only_report:
            run(module)
        total += report(module)
    done = total["caught"] + total["survived"]
    _say(f"in all: {total['caught']} of {done} caught, {100 * total['caught'] / max(1, done):.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
