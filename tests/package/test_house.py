"""The house stays as it is drawn: limits, names, docstrings and imports, read from the source alone."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mas_hooks"
FILES = sorted(PACKAGE.rglob("*.py"))
CODE = [*FILES, *sorted((ROOT / "recipes").glob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in CODE}
ROOMS = {
    "alignment", "cli", "core", "data", "engine", "evaluation", "hooks", "models", "report", "similarity", "studies",
    "training",
}  # fmt: skip
EMPTY = {"own", "found", "told", "made", "one"}
PARTICIPLES = EMPTY | {
    "kept",
    "dealt",
    "given",
    "taken",
    "written",
    "drawn",
    "shown",
    "held",
    "built",
    "grown",
    "begun",
}
NOT_PARTICIPLES = {"seed", "need", "shed", "embed", "feed", "speed", "proceed", "masked"}
"""`positions.masked` stands beside `last`, `tokens` and `spans`: it is named after the cells that it gives."""


def short(path):
    return str(path.relative_to(ROOT))


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def decorators(node):
    return {getattr(part, "id", getattr(part, "attr", "")) for part in node.decorator_list}


def lines_of_code(node):
    """How long a function is without its docstring, which may be as long as its arguments need."""
    first = node.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    text = (first.end_lineno - first.lineno + 1) if is_text else 0
    return node.end_lineno - node.lineno + 1 - text


def parameters(node):
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def public_definitions(tree):
    kinds = ast.FunctionDef | ast.ClassDef
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def public_names(node):
    """Methods, properties and fields of a class that users see."""
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
    fields = [
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    ]
    plain = [method for method in methods if not decorators(method) & {"property", "cached_property", "setter"}]
    return plain, {method.name for method in methods} | {name for name in fields if not name.startswith("_")}


def is_settings(node):
    """Settings classes and records are lists of fields, and no limit makes them easier to read."""
    bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
    return (
        node.name in {"Record", "Measurement"}
        or any(base.endswith(("Settings", "BaseModel")) for base in bases)
        or bool(bases & {"Settings"})
    )


def test_twelve_rooms_and_nothing_loose():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == ROOMS
    assert {path.name for path in PACKAGE.glob("*.*")} == {"__init__.py", "__main__.py", "py.typed"}
    loose = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert loose == ROOMS | {"package"}
    assert not list((ROOT / "tests").glob("test_*.py"))


@pytest.mark.parametrize("path", CODE, ids=short)
def test_sizes_follow_sense(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= (120 if path.parent.name == "recipes" else 400)
    for node in functions(TREES[path]):
        assert lines_of_code(node) <= 60, node.name
        assert len(parameters(node)) <= 9, node.name
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ClassDef):
            methods, names = public_names(node)
            assert len(methods) <= 12, node.name
            assert len(names) <= 20 or is_settings(node), node.name


@pytest.mark.parametrize("path", CODE, ids=short)
def test_no_empty_names(path):
    """Parameters and attributes are the nouns they hold; functions are verbs with their object."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.arg):
            assert node.arg not in EMPTY, f"line {node.lineno}: parameter {node.arg}"
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    assert part.target.id not in EMPTY, f"line {part.lineno}: field {part.target.id}"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            assert node.attr not in EMPTY, f"line {node.lineno}: attribute {node.attr}"
    for node in functions(TREES[path]):
        word = node.name.strip("_")
        participle = word in PARTICIPLES or (word.endswith("ed") and "_" not in word and word not in NOT_PARTICIPLES)
        assert not participle or decorators(node) & {"property", "cached_property"}, node.name


def test_one_name_is_one_thing():
    """No two public classes or functions of the package share a name."""
    places = defaultdict(list)
    for path in FILES:
        for node in public_definitions(TREES[path]):
            places[node.name].append(short(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def private_words(text):
    words = r"\b(is told|are told|told apart|tells? (?:it|them|one|two) apart|asks? by cause|goes on from a's)\b"
    return re.findall(words, text)


@pytest.mark.parametrize("path", CODE, ids=short)
def test_words_that_people_use(path):
    assert private_words(path.read_text(encoding="utf-8")) == []


def raises_or_returns(node):
    return [part for part in ast.walk(node) if isinstance(part, ast.Return) and part.value is not None]


@pytest.mark.parametrize("path", FILES, ids=short)
def test_docstrings_name_their_arguments(path):
    """A public function of more than two parameters says what each is, and what comes back."""
    owners = [
        TREES[path],
        *(node for node in TREES[path].body if isinstance(node, ast.ClassDef) and node.name[0] != "_"),
    ]
    for owner in owners:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or len(parameters(node)) <= 2:
                continue
            text = ast.get_docstring(node)
            if text is None and owner is not TREES[path]:
                continue  # a leaf's method is explained in the interface that it fills in
            assert "Args:" in (text or ""), node.name
            returns = raises_or_returns(node) and getattr(node.returns, "value", "") is not None
            generator = any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node))
            if returns and not generator:
                assert "Returns:" in (text or ""), node.name


@pytest.mark.parametrize("path", CODE, ids=short)
def test_no_handles_and_no_paths(path):
    text = path.read_text(encoding="utf-8")
    assert "beside(__file__" not in text
    for node in TREES[path].body:
        if isinstance(node, ast.AnnAssign):
            assert getattr(node.annotation, "id", "") != "Any", f"line {node.lineno}"


FACED = ROOMS - {"core", "data", "cli", "studies"}
SUBROOMS = {"models.language", "models.toys"}


@pytest.mark.parametrize(
    "path", [path for path in CODE if "studies" in path.parts or path.parent.name == "benchmarks"], ids=short
)
def test_studies_and_benchmarks_import_rooms(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mas_hooks."):
            room = (node.module or "").removeprefix("mas_hooks.")
            if room.partition(".")[0] in FACED:
                assert room in FACED | SUBROOMS, f"line {node.lineno}: {node.module}"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_each_room_says_what_lives_there(room):
    face = PACKAGE / room / "__init__.py"
    assert len(ast.get_docstring(TREES[face]) or "") > 40
    if room in FACED - {"models"}:
        assert "__all__" in face.read_text(encoding="utf-8")
