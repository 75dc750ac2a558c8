"""Every message for users tells its problem and a way out; docs/troubleshooting.md is about messages that exist."""

import ast
import re
from pathlib import Path

import pytest

import ganc_nni

PACKAGE = Path(ganc_nni.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
ERRORS = {"InputError", "TrainingError", "RecipeError"}
OTHERS = "## Messages of other programs"

CURES = (
    r"(activate|add|begin|call|change|check|continue|copy|correct|delete|enlarge|export|fetch|finish|give|go|install|"
    r"leave|let|lower|make|mend|merge|move|name|put|raise|remove|rename|renumber|replace|restore|run|save|say|set|start|stop|"
    r"take|train|try|use|wait|write)\b"
)
"""Imperatives that begin a cure; add a new one here."""

EXPECTATION = re.compile(
    r"\bexpect(ed|s)\b|\bvalid( here)?:|\bneeds?\b|\bknows\b|\basks for\b|\b(has|have) one (list|domain)\b"
)

ELSEWHERE = {
    "data/inspection.py: …": "the fault of one file, or several, as the readers word it",
    "stages/checks.py: …": "the same, where the first of several processes has found it",
    "demo/prepare.py: …": "the message about a label map, with the name that the page shows",
    "recipe/load.py: …": "pydantic's errors, worded by recipe/words.py, or a reader's",
    "search/strategies/registry.py: …": "pydantic's errors, as in recipe/load.py",
    "nnictl/bridge.py: …": "error.txt, in which a trial has written its own message",
    "nnictl/evaluator_client.py: …": "the evaluator's answer, or what the journal has about a sub-generator",
    "training/loop.py: …; …": "the message of the training, and where its last checkpoint is",
    "losses/vgg.py: …; {cure}": "the message about a weights file, and which file is meant",
    "losses/discriminator_files.py: …: …": "what a file is instead of a discriminator, with its cure",
    "interop/files.py: …: …": "what a file is instead of a generator, with its cure",
    "generators/space.py: …: …": "which labels and choices there are to be",
    "core/io.py: …: cannot be read as weights: …": "_why_not tells what was expected, and the cure",
    "metrics/inception.py: …; set metric.dims (--dims) to 768 or less for …": "the message about the whole file",
    "nnictl/bridge.py: stage … failed: …": "the message of the stage",
    "stages/pipeline.py: …": "why a stage is not to be made by itself, as the stage words it",
    "stages/pipeline.py: gave up waiting for stage …: …": "the message of the stage that another process makes",
    "stages/search.py: the search has scored no sub-generator of … tried…": "the message of the last failure",
    "search/record.py: … sub-generators failed one after another (search.max_failures: …); the last, …: …": "the same",
}
"""Messages, by module, whose problem or way out is worded in another place, with that place."""


NAMED = {
    "cure": "{cure}",
    "expected": "{cure}",
    "valid": "{cure}",
    "reason": "{problem}",
    "told": "{problem}",
    "found": "{problem}",
}
"""Variables and functions in a message whose names say which part of it they hold."""


def template(node):
    """The constant parts of a text; of the others the part that they are by their name, or …."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub("…+", "…", "".join(template(part) for part in node.values))
    if isinstance(node, ast.FormattedValue):
        named = node.value.func if isinstance(node.value, ast.Call) else node.value
        return NAMED.get(named.id.strip("_").lower(), "…") if isinstance(named, ast.Name) else "…"
    return "…"


def messages(module, tree):
    """The templates of all errors for users that a module raises; pydantic's users get the schema's ValueErrors."""
    kinds = ERRORS | ({"ValueError"} if module.startswith("recipe/") else set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in kinds:
            yield template(node.args[0])


def missing(text):
    """What a message does not tell: its ``problem``, or a ``way out`` (what was expected, or a cure)."""
    clauses = [clause for part in re.split(r"[;:.]\s+", text) for clause in re.split(r",\s+(?:or\s+|and\s+)?", part)]
    cures = [clause for clause in clauses if re.match(rf"\W*((first|then) )?{CURES}|\{{cure\}}", clause)]
    told = [clause for clause in clauses if clause not in cures and not clause.startswith("expected")]
    return {
        "problem": not any(re.search(r"[a-z]{2}", clause) for clause in told),
        "way out": not cures and not EXPECTATION.search(text) and "{cure}" not in text,
    }


def faults(module, tree):
    """The messages of a module that leave something untold, with what that is."""
    found = {
        text: [part for part, is_missing in missing(text).items() if is_missing] for text in messages(module, tree)
    }
    return {f"{module}: {text}": parts for text, parts in found.items() if parts}


TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")
}
FAULTS = {fault: parts for module, tree in TREES.items() for fault, parts in faults(module, tree).items()}


def test_every_message_tells_its_problem_and_a_way_out():
    untold = {fault: parts for fault, parts in FAULTS.items() if fault not in ELSEWHERE}
    assert untold == {}, "say what was wrong, and after a semicolon what was expected or what to do"


def test_every_exception_is_one():
    assert set(ELSEWHERE) <= set(FAULTS), "remove the messages that are gone, or whole by themselves"


@pytest.mark.parametrize(
    ("raised", "untold"),
    [
        ("InputError(f'{path}: is too small')", ["way out"]),
        ("TrainingError('the stage failed; what a pity')", ["way out"]),
        ("InputError(f'{path}: not valid')", ["way out"]),
        ("InputError(f'{path}: {error}')", ["problem", "way out"]),
        ("errors.InputError('remove the file')", ["problem"]),
        ("RecipeError(f'{path}; expected a whole file')", ["problem"]),
        ("ValueError('width is too small')", ["way out"]),
        ("InputError(f'{path}: is too small; expected 4 or more')", []),
        ("InputError(f'{path}: {reason}; add images')", []),
        ("InputError(f'{path}: is too small; {cure}')", []),
    ],
)
def test_a_message_that_leaves_something_untold_is_found(raised, untold):
    """The rule itself, on messages that are planted in a module."""
    module = ast.parse(f"def f(path):\n    raise {raised}")
    assert list(faults("recipe/planted.py", module).values()) == ([untold] if untold else [])


PAGE_TEXT = PAGE.read_text(encoding="utf-8")
OURS = PAGE_TEXT.partition(OTHERS)[0]
ROWS = [message for _, message in re.findall(r"^\| (`+)(.+?)\1 \| .+ \|$", OURS, re.MULTILINE)]


def test_every_row_is_about_a_message_that_exists():
    """A row may be a part of the message; … stands for what differs."""
    texts = "\n".join(
        re.sub("…+", "…", re.sub(r"\{(cure|problem)\}", "…", template(node)))
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant)
    )
    assert [row for row in ROWS if row not in texts] == []


def test_every_row_is_read_once():
    assert len(set(ROWS)) == len([line for line in OURS.splitlines() if line.startswith("| `")]) > 0
