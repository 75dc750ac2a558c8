"""One trial of an experiment: ``python -m ganc_nni.search.trial experiments/X.yml``, started by NNI."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nni
import torch
import yaml
from nni.experiment import rest
from nni.runtime.env_vars import trial_env_vars

from ganc_nni import logs
from ganc_nni.checkpoints import write_text
from ganc_nni.errors import InputError, TrainingError
from ganc_nni.pipeline import Pipeline
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.stage import evaluate
from ganc_nni.space import Sample

_log = logging.getLogger(__name__)


def main(experiment_file: Path) -> None:
    """Do what the tuner asks of this trial: a stage, or the score of one sub-generator."""
    experiment = yaml.safe_load(experiment_file.read_text(encoding="utf-8"))
    run = Run(load_recipe(Path(experiment["tuner"]["classArgs"]["recipe"])))
    parameters = own_parameters()
    if "stage" in parameters:
        make_stage(run, parameters["stage"])
    else:
        # trials share the cores; a stage has them for itself, because all other trials wait for it
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // experiment["trialConcurrency"]))
        nni.report_final_result(score(run, parameters))


def own_parameters() -> dict[str, Any]:
    """The parameters that NNI's web UI shows with this trial.

    NNI 3.0 hands out parameters in the order in which trials ask, not in which it has started them; trials that start
    together would swap theirs, and each would be shown with, and blamed for, what the other did.
    """
    handed_out = nni.get_next_parameter()
    try:
        port = urlsplit(trial_env_vars.NNI_TRIAL_COMMAND_CHANNEL).port
        record = json.loads(rest.get(port, f"/trial-jobs/{nni.get_trial_id()}")["hyperParameters"][0])
    except Exception:  # another machine does not reach NNI's server under this address
        _log.warning("NNI's server cannot be asked for this trial's parameters; taking those that it handed out")
        return handed_out
    nni.trial._params = record
    return record["parameters"]


def make_stage(run: Run, stage: str) -> None:
    """Run a stage, with its validation scores as intermediate results and its outcome as the final one."""
    pipeline = Pipeline(run)
    names = pipeline.stages(stage)
    # each trial makes one stage, but the last, which also fine-tunes
    before = names.index("search") if stage == "export" else len(names) - 2
    if before >= 0:
        pipeline.wait_for(names[before])
    try:
        for each in names[before + 1 :]:
            figures = pipeline.run_stage(each, nni.report_intermediate_result)
    except Exception as error:
        write_text(run.folder / "error.txt", f"{error}\n")
        raise
    scores = {name: value for name, value in figures.items() if name not in ("key", "seconds")}
    best = max if run.recipe.metric.higher_is_better else min
    nni.report_final_result({"default": scores.get("score", best(scores.values())), **scores})


def score(run: Run, sample: Sample) -> dict[str, Any]:
    """The final metric of one sub-generator.

    Raises:
        TrainingError: Its score is not a number.
    """
    Pipeline(run).wait_for("supernet")
    evaluation = evaluate(run.load_supernet(), run.evaluator("search"), sample, run.calibration())
    if evaluation.score is None:
        raise TrainingError(evaluation.message)
    cost = run.student_cost.at(sample)
    return {
        "default": evaluation.score,
        "macs": cost.macs(run.recipe.search.convention),
        "params": cost.params,
        "seconds": evaluation.seconds,
        **({} if run.latency_table is None else {"latency_ms": run.latency_table.at(sample)}),
    }


if __name__ == "__main__":
    logs.set_up(logging.StreamHandler(sys.stdout))
    try:
        main(Path(sys.argv[1]))
    except (InputError, TrainingError) as error:
        sys.exit(f"error: {error}")
