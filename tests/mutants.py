"""Plants small errors, one at a time, and runs the tests that should see them: ``make mutants``.

mutmut writes the errors. Each is tried in a copy of the project below ``.mutants/``, in a process forked from one that
has collected all tests: first with the module's own tests, then, if they pass, with every test file that names the
module; the first test that fails ends it. Where an error is in a function, the function gets other code, and nothing is
imported anew; where it is in a module's or a class's own lines, all of the package is.
Results are kept below ``.mutants/`` too, by the text of the changed module, so that an interrupted run goes on.
Survivors and their reasons are in ``tests/mutants.md``.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import difflib
import gc
import hashlib
import inspect
import json
import math
import os
import py_compile
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, cast

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".mutants"
TREE = PLACE / "tree"
RESULTS = PLACE / "results.json"

TESTS: dict[str, str] = {
    "core/fast_ops": "core/test_fast_ops",
    "core/io": "core/test_io core/test_finite_weights",
    "core/files": "core/test_files search/test_journal",
    "core/memory": "stages/test_memory",
    "core/registry": "search/test_strategies",
    "core/structured": "core/test_structured",
    "core/text": "core/test_text",
    "cost/blocks": "cost/test_latency_table",
    "cost/budget": "cost/test_budget",
    "cost/decomposed": "cost/test_macs cost/test_latency_table",
    "cost/latency_table": "cost/test_latency_table",
    "cost/macs": "cost/test_macs",
    "cost/measure": "cost/test_latency_table",
    "data/build": "data/test_build stages/test_held_out",
    "data/decoding": "data/test_decoding data/test_images",
    "data/encoding": "data/test_encoding data/test_labels",
    "data/folders": "data/test_folders",
    "data/images": "data/test_images",
    "data/label_files": "data/test_label_files",
    "data/label_folders": "data/test_label_folders",
    "data/labels": "data/test_labels data/test_encoding",
    "data/on_device": "data/test_on_device",
    "data/order": "data/test_order",
    "data/pair_folders": "data/test_pair_folders",
    "data/splits": "data/test_splits",
    "data/transforms": "data/test_transforms data/test_folders",
    "export/files": "export/test_export",
    "export/formats/onnx_files": "export/test_export",
    "export/formats/program": "export/test_export",
    "export/formats/registry": "export/test_export",
    "export/graph": "export/test_export",
    "export/quantise": "export/test_export",
    "export/verify": "export/test_export",
    "generators/architecture": "generators/test_architecture",
    "generators/layers": "generators/test_resnet losses/test_adversarial",
    "generators/resnet": "generators/test_resnet interop/test_resnet_files cost/test_macs",
    "generators/space": "generators/test_space",
    "generators/spade": "generators/test_spade interop/test_spade_files",
    "generators/unet": "generators/test_unet interop/test_unet_files",
    "losses/adversarial": "losses/test_adversarial losses/test_distillation_losses",
    "losses/discriminators": "losses/test_discriminators",
    "losses/distillation/base": "losses/test_distillation_losses supernet/test_chosen_losses",
    "losses/distillation/channel": "losses/test_distillation_losses",
    "losses/distillation/content": "losses/test_distillation_losses",
    "losses/distillation/discriminator_features": "losses/test_distillation_losses",
    "losses/distillation/distill": "losses/test_distillation_losses",
    "losses/distillation/feat": "losses/test_distillation_losses",
    "losses/distillation/gan": "losses/test_distillation_losses",
    "losses/distillation/kernel_alignment": "losses/test_distillation_losses",
    "losses/distillation/objective": "losses/test_distillation_losses",
    "losses/distillation/recon": "losses/test_distillation_losses",
    "losses/distillation/ssim": "losses/test_distillation_losses",
    "losses/distillation/style": "losses/test_distillation_losses",
    "losses/distillation/tv": "losses/test_distillation_losses",
    "losses/distillation/wavelet": "losses/test_distillation_losses",
    "losses/distillation/registry": "losses/test_loss_registry losses/test_distillation_losses",
    "losses/vgg": "losses/test_adversarial losses/test_distillation_losses",
    "metrics/bootstrap": "metrics/test_bootstrap",
    "metrics/distance": "metrics/test_distance",
    "metrics/evaluator": "metrics/test_evaluator tools/test_score",
    "metrics/features": "metrics/test_features metrics/test_extractors",
    "metrics/fidelity": "metrics/test_fidelity",
    "metrics/frechet": "metrics/test_frechet metrics/test_distance",
    "metrics/kernel": "metrics/test_kernel",
    "metrics/kinds/frechet": "metrics/test_metric_conformance metrics/test_evaluator",
    "metrics/kinds/likeness": "metrics/test_metric_conformance",
    "metrics/kinds/registry": "metrics/test_metric_conformance metrics/test_evaluator",
    "metrics/kinds/segmentation": "metrics/test_metric_conformance metrics/test_evaluator",
    "metrics/likeness": "metrics/test_likeness metrics/test_metric_conformance",
    "metrics/mean": "metrics/test_likeness metrics/test_metric_conformance",
    "metrics/segmentation": "metrics/test_segmentation_score",
    "metrics/segmenters/segmenters": "metrics/test_segmenters",
    "metrics/statistics": "metrics/test_statistics",
    "metrics/verdict": "metrics/test_verdict",
    "report/build": "report/test_report_page report/test_report_parts",
    "report/charts": "report/test_report_parts report/test_report_page",
    "report/collect": "report/test_report_parts report/test_report_page",
    "search/affordable_space": "search/test_strategies search/test_engine",
    "search/engine": "search/test_engine search/test_strategies",
    "search/journal": "search/test_journal",
    "search/pareto": "search/test_record",
    "search/record": "search/test_record",
    "search/strategies/evolution": "search/test_strategy search/test_strategies",
    "search/strategies/registry": "search/test_strategies",
    "search/strategies/elitist": "search/test_strategies",
    "search/strategies/sampling": "search/test_strategies",
    "search/strategies/tpe": "search/test_strategies",
    "stages/continuing": "stages/test_continuing",
    "stages/export": "stages/test_export_steps",
    "stages/finetune": "stages/test_finetune stages/test_pipeline",
    "stages/held_out": "stages/test_held_out",
    "stages/warm_start": "supernet/test_inherit",
    "stages/warmup": "stages/test_warmup",
    "supernet/calibration": "supernet/test_calibration",
    "supernet/distillation": "supernet/test_distillation supernet/test_sandwich supernet/test_chosen_losses",
    "supernet/inherit": "supernet/test_inherit",
    "supernet/online": "supernet/test_online",
    "supernet/operations": "supernet/test_operations",
    "supernet/reconstruct": "supernet/test_reconstruct",
    "supernet/sampling": "supernet/test_sampling supernet/test_operations",
    "tools/benchmark/compare": "tools/test_benchmark",
    "tools/profile": "tools/test_profile",
    "tools/score": "tools/test_score",
    "tools/translate": "tools/test_translate",
    "training/acceleration": "training/test_acceleration",
    "training/average": "training/test_average supernet/test_sandwich",
    "training/checkpointing": "training/test_checkpointing",
    "training/cyclegan": "training/test_cyclegan",
    "training/gan": "training/test_gan training/test_pix2pix training/test_cyclegan",
    "training/gaugan": "training/test_gaugan",
    "training/loop": "training/test_stage_fit training/test_resume training/test_acceleration",
    "training/pix2pix": "training/test_pix2pix training/test_gaugan",
    "training/pool": "training/test_pool",
    "training/segmenter": "training/test_segmenter",
}
"""By module of ganc_nni, the test files that should see an error in it, the quickest first."""

SECONDS = 600
"""The longest that the tests of one error may take; one that makes them longer is caught."""

TOO_LONG = 124

TOLD = ("Error", "_log", "_say", "Field", "Option", "warn")
"""Calls whose arguments are words for a reader: no errors are planted there."""


class Errors(MutationVisitor):
    """mutmut's errors, in decorated functions too and not in what is only told."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return False
        if isinstance(node, cst.Call) and _called(node.func).endswith(TOLD):
            return True
        if isinstance(node, cst.Assert):
            return True
        return super()._skip_node_and_children(node)


def _called(function: cst.BaseExpression) -> str:
    """The name of a function; of a logger's method that of the logger."""
    if isinstance(function, cst.Attribute):
        owner = _called(function.value)
        return owner if owner == "_log" else function.attr.value
    return function.value if isinstance(function, cst.Name) else ""


@dataclass(frozen=True)
class Planted:
    """A module with one error."""

    module: str
    text: str
    change: str

    @property
    def key(self) -> str:
        """Of its module's text."""
        return hashlib.sha256(f"{self.module}\n{self.text}".encode()).hexdigest()[:16]


def mutations(module: str) -> tuple[cst.Module, list[Mutation]]:
    """A module's tree and all errors that can be planted in it."""
    wrapper = MetadataWrapper(cst.parse_module((ROOT / "ganc_nni" / f"{module}.py").read_text()))
    visitor = Errors(mutation_operators, IgnoredCode(set(), set(), set()))
    tree = wrapper.visit(visitor)
    return tree, visitor.mutations


def planted(module: str, tree: cst.Module, mutation: Mutation) -> Planted | None:
    """One error; none where it is no Python."""
    changed = cast(cst.Module, deep_replace(tree, mutation.original_node, mutation.mutated_node)).code
    try:
        compile(changed, module, "exec")
    except SyntaxError:
        return None
    return Planted(module, changed, _change(tree.code, changed))


def _change(before: str, after: str) -> str:
    """The lines that differ, with the first one's number."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    number = lines[0].split()[1].lstrip("-").split(",")[0]
    return f"{number}: " + " ".join(" ".join(line.split()) for line in lines[1:])


def sampled(modules: list[str], count: int | None, seed: int) -> list[Planted]:
    """Errors of all modules, or a sample in which each module has its share, at least one.

    Of each module those are taken that come first in an order which only the seed decides: a larger sample holds the
    smaller one.
    """
    found = {module: mutations(module) for module in modules}
    total = sum(len(errors) for _, errors in found.values())
    chosen: dict[str, Planted] = {}
    for module, (tree, all_of_it) in found.items():
        share = len(all_of_it) if count is None else max(1, round(count * len(all_of_it) / total))
        random.Random(f"{seed} {module}").shuffle(all_of_it)
        for error in islice(filter(None, (planted(module, tree, each) for each in all_of_it)), share):
            chosen[error.key] = error
    errors = list(chosen.values())
    random.Random(seed).shuffle(errors)  # what is done by any time is a sample too
    return errors


def own(module: str) -> list[str]:
    """The test files that should see an error in a module."""
    return [f"tests/{name}.py" for name in TESTS[module].split()]


def wider(module: str) -> list[str]:
    """The other test files that name the module."""
    dotted = f"ganc_nni.{module.replace('/', '.')}"
    package, _, name = dotted.rpartition(".")
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text, name_of = path.read_text(), path.relative_to(ROOT).as_posix()
        if name_of not in own(module) and (f"{dotted} " in text or f"from {package} import {name}" in text):
            found.append(name_of)
    return found


def copy_project() -> None:
    """What git would commit, in a place where it can be changed."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    # by hash: a changed module is compiled again, however quickly it was changed
    compileall.compile_dir(TREE / "ganc_nni", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


Outcome = tuple[int, str]
"""pytest's exit code, or ``TOO_LONG``, and the first test that failed."""

OPTIONS = ["-x", "-p", "no:cacheprovider", "-m", "not experiment and not cuda", "--hypothesis-seed=0"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins that torch has loaded


def in_child(work: Callable[[], int]) -> Outcome:
    """The outcome of work in a forked process, which may leave any mess there."""
    told = PLACE / "failed.txt"
    told.write_text("")
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(PLACE / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 3
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    started, ended = time.monotonic(), (0, 0)
    while time.monotonic() - started < SECONDS and not (ended := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # processes that the tests started, too
    if not ended[0]:
        os.waitpid(child, 0)
    return TOO_LONG if not ended[0] else os.waitstatus_to_exitcode(ended[1]), told.read_text()


class FirstFailure:
    """A plugin of pytest that notes which test has failed."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            (PLACE / "failed.txt").write_text(report.nodeid)


class Collected(FirstFailure):
    """pytest with all tests collected; runs some of them, in forked processes."""

    def __init__(self) -> None:
        self._items: list[pytest.Item] = []

    def during(self, work: Callable[[], None], files: Iterable[str]) -> None:
        """Collect the tests of some files, and do the work in place of them."""
        self._work = work
        places = [f"--rootdir={TREE}", f"--basetemp={PLACE / 'temporary'}"]
        code = pytest.main([*OPTIONS, "-s", *places, *sorted(files)], plugins=[self])
        if code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            sys.exit(f"the tests cannot be collected: exit code {code}")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = session.items
        self._work()
        return True

    def run(self, names: list[str], error: Planted | None) -> Outcome:
        """Run the tests of some files, or some tests, in this order; the functions have the error."""
        chosen = [item for name in names for item in self._items if name in (item.nodeid, item.nodeid.split("::")[0])]

        def work() -> int:
            if error is not None:
                for function, code in changed_functions(error) or ():
                    function.__code__ = code
            for item, following in zip(chosen, [*chosen[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if (PLACE / "failed.txt").stat().st_size > 0:
                    return 1
            return 0

        try:
            return in_child(work)
        finally:
            for left in (PLACE / "temporary").glob("*"):
                shutil.rmtree(left, ignore_errors=True)


def changed_functions(error: Planted) -> list[tuple[FunctionType, CodeType]] | None:
    """The functions in which a loaded module and one with the error differ, with their new code; None: more differs."""
    path = str(TREE / "ganc_nni" / f"{error.module}.py")
    before, after = (_codes(compile(text, path, "exec")) for text in (Path(path).read_text(), error.text))
    if before.keys() != after.keys():
        return None
    names = {name for name in before if _shape(before[name]) != _shape(after[name])}
    if any(not code.co_flags & inspect.CO_NEWLOCALS for code in (before[name] for name in names)):
        return None  # a module's or a class's own lines, which have been run
    outer = {(name.partition(".<locals>")[0], number if "<locals>" not in name else 0) for name, number in names}
    live: dict[str, list[FunctionType]] = {}
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename == path:
            live.setdefault(each.__code__.co_qualname, []).append(each)
    found = []
    for name, number in outer:
        lines = {before[name, number].co_firstlineno}
        functions = [each for each in live.get(name, []) if each.__code__.co_firstlineno in lines]
        new = after[name, number]
        if not functions or any(len(each.__code__.co_freevars) != len(new.co_freevars) for each in functions):
            return None
        found += [(each, new) for each in functions]
    return found


def _codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """All code in a module's, by qualified name, and a number where several have the same."""
    found: dict[tuple[str, int], CodeType] = {}
    waiting = [code]
    while waiting:
        each = waiting.pop(0)
        number = sum(name == each.co_qualname for name, _ in found)
        found[each.co_qualname, number] = each
        waiting += [inner for inner in each.co_consts if isinstance(inner, CodeType)]
    return found


def _shape(code: CodeType) -> tuple[Any, ...]:
    """What code does, without its place in the file and without what is defined in it."""
    constants = tuple((type(each), repr(each)) for each in code.co_consts if not isinstance(each, CodeType))
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars


def anew(arguments: list[str]) -> Outcome:
    """pytest's outcome in a process that imports the package from the copy as it is now."""

    def work() -> int:
        for name in [name for name in sys.modules if name.partition(".")[0] == "ganc_nni" or _is_test(name)]:
            del sys.modules[name]
        return int(pytest.main([*OPTIONS, f"--rootdir={TREE}", *arguments], plugins=[FirstFailure()]))

    code, name = in_child(work)
    if code and not name:
        seen = re.search(
            r"^(?:FAILED|ERROR) (tests/.+?)(?: - |$)", (PLACE / "log.txt").read_text(errors="replace"), re.M
        )
        name = "" if seen is None else seen[1]
    return code, name


def _is_test(module: str) -> bool:
    path = getattr(sys.modules[module], "__file__", None)
    return path is not None and path.startswith(f"{TREE}/tests")


@contextlib.contextmanager
def in_place(error: Planted) -> Iterator[None]:
    """The copy of the project has the error."""
    path = TREE / "ganc_nni" / f"{error.module}.py"
    before = path.read_text()
    path.write_text(error.text)
    try:
        yield
    finally:
        path.write_text(before)


class Trial:
    """Tries errors with tests that should see them. What sees one has to pass without it.

    Args:
        collected: While it does its work.
    """

    def __init__(self, collected: Collected) -> None:
        self._collected = collected
        self._passes: dict[tuple[str, ...], bool] = {}

    def outcome(self, error: Planted, files: list[str]) -> str:
        """``caught`` or ``survived``; ``unknown`` where tests fail without the error too, or take too long."""
        code, seen = 0, ""
        if changed_functions(error) is not None:
            code, seen = self._collected.run(files, error)
        if code == 0:  # the function may have been called when it was imported
            with in_place(error):
                code, seen = anew(files)
        if code == 0:
            return "survived"
        # nothing is named by an endless loop, and where nothing could be imported
        needed = (seen,) if seen and code != TOO_LONG else tuple(files)
        if needed not in self._passes:
            self._passes[needed] = self._collected.run(list(needed), None)[0] == 0
        return "caught" if self._passes[needed] else "unknown"


def wilson(caught: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927), in per cent."""
    if of == 0:
        return 0.0, 100.0
    z, share = 1.96, caught / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return tuple(100 * (middle + sign * half) / (1 + z * z / of) for sign in (-1, 1))  # type: ignore[return-value]


def report(errors: list[Planted], results: dict[str, Any]) -> None:
    """What was caught, by module and in all, and each survivor."""
    by_module: dict[str, list[str]] = {}
    for error in errors:
        outcome = _outcome(results, error)
        by_module.setdefault(error.module, []).append(outcome.split()[0])
        if outcome != "caught":
            _say(f"  {outcome}: ganc_nni/{error.module}.py:{error.change}")
    whole = [outcome for outcomes in by_module.values() for outcome in outcomes]
    for module, outcomes in (*sorted(by_module.items()), ("in all", whole)):
        caught, of = outcomes.count("caught"), outcomes.count("caught") + outcomes.count("survived")
        low, high = wilson(caught, of)
        rest = "".join(f", {outcomes.count(each)} {each}" for each in ("left", "unknown") if each in outcomes)
        _say(f"{module}: {caught} of {of} caught, {100 * caught / max(1, of):.1f} % ({low:.1f} to {high:.1f}){rest}")


def _outcome(results: dict[str, Any], error: Planted) -> str:
    return results.get(error.key, {}).get("outcome", "left")


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> None:
    """All modules, or those that are named; all errors, or a sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as ganc_nni/losses/adversarial.py; all of the table otherwise")
    parser.add_argument("--sample", type=int, help="number of errors, drawn from all modules in proportion")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--again", action="store_true", help="try once more what survived, or had failing tests")
    parser.add_argument("--narrow", action="store_true", help="only the modules' own tests")
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    named = [each.removeprefix("ganc_nni/").removesuffix(".py") for each in options.modules] or list(TESTS)
    if strange := [name for name in named if name not in TESTS]:
        sys.exit(f"{strange[0]}: no module with tests of its own; expected one of {', '.join(TESTS)}")
    errors = sampled(named, options.sample, options.seed)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not options.only_report:
        os.environ.update(OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1", MPLBACKEND="agg")
        sys.dont_write_bytecode = True
        copy_project()
        os.chdir(TREE)
        sys.path[:0] = [str(TREE), str(TREE / "tests")]
        os.environ["PYTHONPATH"] = str(TREE)
        collected = Collected()
        tests = {name for error in errors for name in (*own(error.module), *wider(error.module))}
        collected.during(lambda: try_all(errors, results, Trial(collected), options.again, options.narrow), tests)
    report(errors, results)


def try_all(errors: list[Planted], results: dict[str, Any], trial: Trial, repeat: bool, narrow: bool) -> None:
    """Fill the results, and keep them."""
    again = {error.key for error in errors if repeat and _outcome(results, error) != "caught"}
    for step, tests in (("own", own), ("all", wider)):
        before = ("left", "unknown") if step == "own" else ("survived own",)
        left = [each for each in errors if each.key in again or _outcome(results, each) in before]
        for number, error in enumerate(left, 1):
            outcome = trial.outcome(error, files) if (files := tests(error.module)) else "survived"
            if step == "own" and outcome == "survived":
                outcome = "survived own"
                again.discard(error.key)
            _say(f"{step} {number}/{len(left)} {outcome}: ganc_nni/{error.module}.py:{error.change}")
            results[error.key] = {"module": error.module, "change": error.change, "outcome": outcome}
            RESULTS.with_suffix(".new").write_text(json.dumps(results, indent=1))
            RESULTS.with_suffix(".new").replace(RESULTS)
        if step == "own" and narrow:
            break
        again.clear()


if __name__ == "__main__":
    main()
