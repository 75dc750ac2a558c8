"""Every command in README.md and docs/ is run on tiny data; what cannot be is at least spelled right."""

import logging
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs_blocks import DOCUMENTS, ROOT, blocks, is_shell, lines, simple_commands, spans
from docs_place import make_place, shrink
from nni.tools.nnictl.nnictl import get_parser
from torch.distributed.run import get_args_parser
from typer.main import get_command

from ganc_nni.cli import app, main
from ganc_nni.recipe import Recipe

COMMANDS = get_command(app).commands

SHELL = {"cat", "cp", "mkdir", "sed"}
"""Other programs in blocks of commands, which are run."""

IGNORED = {"chromium", "export", "ls", "pip", "printf", "source", "ssh"}
"""Other words that begin lines in blocks of commands, which are not run."""

NOT_RUN = {
    "make": "makes an environment, or runs this test; only its target is checked",
    "nnictl": "starts a server; tests/search runs real experiments; only its options are checked",
    "ganc benchmark": "minutes; tests/test_latency.py measures",
    "ganc demo": "a server that does not end; tests/demo opens it",
    "python -m pytest": "a test runs itself elsewhere",
    "python benchmarks/train.py --device cuda": "needs a CUDA device; only the command's spelling is checked",
    "torchrun": "several processes; tests/test_distributed.py has them; only the command's options are checked",
    "GANC_RUNS=": "needs other machines; tests/search/test_remote.py has them",
    "docs/RESULTS.md": "real images, and hours",
}
"""Beginnings of commands, or documents, that are not run, with the reason; their options are checked all the same."""

PLACEHOLDERS = {"RUN": "runs/tiny", "RECIPE": "tiny.recipe.yml"}
"""What words in capitals stand for in the folder of :func:`make_place`, next to the names of files that it holds."""

INSTEAD = {"ganc score": ["--metric", "frechet_random"], "ganc stats": ["--metric", "frechet_random"]}
"""Options that keep a command from downloading; what it would download is tested in tests/metrics."""

TINY = {"benchmarks/train.py": ["--size", "32", "32", "--ways", "as it is", "--warmup", "1", "--steps", "1"]}
"""Options that make minutes of a program seconds."""


def reason_not_to_run(document, line):
    return next((beginning for beginning in NOT_RUN if line.startswith(beginning) or document == beginning), None)


BLOCKS = list(blocks())
SHELL_BLOCKS = [block for block in BLOCKS if is_shell(block)]
# tests/extending runs the examples of docs/extending.md, which register themselves
PYTHON_BLOCKS = [block for block in BLOCKS if block.language == "python" and block.document != "docs/extending.md"]
YAML_BLOCKS = [block for block in BLOCKS if block.language == "yaml"]


def names(found):
    return [f"{block.document}:{lines(block.text)[0][:60]}" for block in found]


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A folder with everything that the documents name."""
    return make_place(tmp_path_factory.mktemp("docs"), finished, ROOT)


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("GANC_RUNS", raising=False)
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)  # benchmarks silence their whole process
    return place


@pytest.fixture
def ganc(monkeypatch, capsys):
    """Runs ``ganc`` in this process; it must succeed."""

    def run(arguments):
        monkeypatch.setattr(sys, "argv", ["ganc", *arguments])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        assert not code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=names(SHELL_BLOCKS))
def test_commands_that_can_be_run_do_run(block, here, ganc, monkeypatch):
    for line in lines(block.text):
        if reason_not_to_run(block.document, line) is not None:
            continue
        command = simple_commands(line)[0]
        if command[0] == "ganc":
            run_ganc(command, ganc)
        elif command[0] == "python":
            monkeypatch.setattr(sys, "argv", [*command[1:], *TINY.get(command[1], [])])
            monkeypatch.syspath_prepend(str(Path(command[1]).parent))
            runpy.run_path(command[1], run_name="__main__")
        elif command[0] in SHELL:
            run_in_shell(line, here)
        else:
            assert command[0] in IGNORED, f"{block.document}: say in SHELL or IGNORED whether to run: {line}"


def run_ganc(command, ganc):
    assert not {"<", ">", "|"} & set(command), f"this test runs ganc alone, without {command}"
    arguments = [PLACEHOLDERS.get(word, word) for word in command[1:]]
    recipe = next((word for word in arguments if word.endswith(".recipe.yml")), None)
    if recipe not in (None, PLACEHOLDERS["RECIPE"]) and COMMANDS[arguments[0]].params[0].name == "recipe":
        shrink(Path(recipe))
    beginning = f"ganc {arguments[0]}"
    more = INSTEAD[beginning] if beginning in INSTEAD and "--metric" not in arguments else []
    ganc([*arguments, *more])


def run_in_shell(line, folder):
    bash = ["bash", "-euo", "pipefail", "-c", line]
    done = subprocess.run(bash, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=names(SHELL_BLOCKS))
def test_commands_have_the_options_that_they_are_given(block):
    check = {
        "ganc": check_ganc,
        "nnictl": check_nnictl,
        "make": check_make,
        "python": check_python,
        "torchrun": check_torchrun,
    }
    for line in lines(block.text):
        for command in simple_commands(line):
            if command[0] in check:
                check[command[0]](command[1:])


def check_ganc(arguments):
    """Parsed by its own command line, files not looked at."""
    assert arguments[0] in COMMANDS, f"ganc has no command {arguments[0]}"
    COMMANDS[arguments[0]].make_context(arguments[0], arguments[1:]).close()


def check_nnictl(arguments):
    parsed = get_parser().parse_args(arguments)
    config = getattr(parsed, "config", None)
    assert config is None or "mine" in config or (ROOT / config).is_file(), f"{config}: no such experiment"


def check_torchrun(arguments):
    assert get_args_parser().parse_args(arguments).training_script == "ganc_nni"
    check_ganc(arguments[arguments.index("ganc_nni") + 1 :])


def check_make(arguments):
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr


def check_python(arguments):
    if arguments[0] == "-m":
        module = arguments[1]
        assert module == "pytest" or (ROOT / f"{module.replace('.', '/')}.py").is_file(), f"{module}: no such module"
        named = [word for word in arguments[2:] if word.startswith("tests/")]
    else:
        named = arguments[:1]
    assert all((ROOT / path).is_file() for path in named), f"{named}: no such file"


def test_commands_in_sentences_are_known():
    """Code within text is often half a command; its command and its options exist all the same."""
    wrong = []
    for document, text in spans():
        tool, *rest = text.split()
        if tool in ("ganc", "nnictl") and not known(tool, [word for word in rest if word != "--verbose"]):
            wrong.append(f"{document}: {text}")
    assert wrong == []


def known(tool, rest):
    """Whether a tool has this command and, if it is ours, the options."""
    if not rest or rest == ["COMMAND"]:
        return True
    if tool == "nnictl":
        return rest[0] in next(action.choices for action in get_parser()._actions if action.choices)
    options = {option for each in getattr(COMMANDS.get(rest[0]), "params", ()) for option in each.opts}
    return rest[0] in COMMANDS and {word for word in rest if word.startswith("--")} <= options


def test_everything_that_is_not_run_is_there():
    """A reason that is no longer needed goes."""
    used = {reason_not_to_run(block.document, line) for block in SHELL_BLOCKS for line in lines(block.text)}
    assert used - {None} == set(NOT_RUN)


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=names(PYTHON_BLOCKS))
def test_python_runs(block, here):
    exec(compile(block.text, block.document, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=names(YAML_BLOCKS))
def test_parts_of_recipes_are_valid(block):
    needed = {"name": "a", "data": {"layout": "paired"}, "student": {"space": "a.json"}, "search": {"budget": 1e9}}
    Recipe.model_validate({**needed, **yaml.safe_load(block.text)})


def test_links_lead_somewhere():
    wrong = []
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not target.startswith("http") and not (path.parent / target).exists():
                wrong.append(f"{path.relative_to(ROOT)}: {target}")
    assert wrong == []
