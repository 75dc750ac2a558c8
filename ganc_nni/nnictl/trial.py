"""One trial of an experiment: ``python -m ganc_nni.nnictl.trial experiments/X.yml``, started by NNI.

Light on purpose: a trial that scores loads neither torch nor NNI, but asks the evaluator of its machine.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ganc_nni.core.errors import InputError, TrainingError, one_line
from ganc_nni.core.structured import read_yaml
from ganc_nni.core.widths import Widths
from ganc_nni.nnictl.evaluator_client import ask
from ganc_nni.nnictl.trial_channel import Record, own_record, report_final


def main(experiment_file: Path) -> None:
    """Do what the tuner asks of this trial: a stage, or the score of one sub-generator."""
    recipe = recipe_of(experiment_file)
    record = own_record()
    parameters = record["parameters"]
    if "stage" in parameters:
        make_stage(recipe, parameters["stage"], record)
    else:
        report_final(record, ask(recipe, Widths(parameters)))


def recipe_of(experiment_file: Path) -> Path:
    """The recipe that an experiment names.

    Raises:
        InputError: The file cannot be read, or names none.
    """
    try:
        return Path(read_yaml(experiment_file)["tuner"]["classArgs"]["recipe"])
    except OSError as error:
        raise InputError(f"{experiment_file}: cannot be read: {error.strerror}; expected an experiment") from None
    except (TypeError, KeyError):
        raise InputError(f"{experiment_file}: names no recipe; expected tuner: classArgs: recipe: FILE") from None


def make_stage(recipe: Path, stage: str, record: Record) -> None:
    """Run a stage, with its validation scores as intermediate results and its outcome as the final one."""
    import nni

    from ganc_nni.core import logs
    from ganc_nni.core.io import write_text
    from ganc_nni.nnictl import fingerprint
    from ganc_nni.nnictl.nni_server import end_with_server
    from ganc_nni.recipe import load_recipe
    from ganc_nni.run import Run
    from ganc_nni.stages.pipeline import Pipeline

    end_with_server()
    logs.set_up(logging.StreamHandler(sys.stdout))
    nni.trial._params = record
    run = Run(load_recipe(recipe))
    pipeline = Pipeline(run)
    names = pipeline.stages(stage)
    # each trial makes one stage, but the last, which also fine-tunes
    before = names.index("search") if stage == "export" else len(names) - 2
    try:
        fingerprint.check_before_training(run)
        if before >= 0:
            pipeline.wait_for(names[before])
        for each in names[before + 1 :]:
            pipeline.run_stage(each, nni.report_intermediate_result)
    except Exception as error:
        write_text(run.folder / "error.txt", f"{one_line(str(error))}\n")
        raise
    if stage == "export":
        from ganc_nni.report.build import make_page

        make_page(run.folder)
    scores = pipeline.figures(names[-1])
    best = max if run.metric.higher_is_better else min
    report_final(record, {"default": scores.get("score", best(scores.values())), **scores})


def command() -> None:
    """The trial that the command line names; an expected error is one line and exit status 1."""
    try:
        main(Path(sys.argv[1]))
    except (InputError, TrainingError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    command()
