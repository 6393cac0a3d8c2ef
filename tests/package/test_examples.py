"""Every public name has an example in its docstring, and each of them runs."""

import doctest
import importlib
import inspect

import pytest

import mas_hooks as mh

FACES = ("hooks", "engine", "alignment", "training", "evaluation", "similarity", "report", "models.toys",
         "models.language", "data.tasks")  # fmt: skip


def public():
    """Each class, function and module of a face, once, under the name that people see first."""
    names = {}
    for face in ("", *FACES):
        module = importlib.import_module(f"mas_hooks.{face}".rstrip("."))
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isroutine(thing):
                names.setdefault(id(thing), (f"{face}.{name}".lstrip("."), thing))
    return [pytest.param(thing, id=name) for name, thing in sorted(names.values(), key=lambda pair: pair[0])]


@pytest.mark.parametrize("thing", public())
def test_its_example_runs(thing, capsys):
    module = thing if inspect.ismodule(thing) else inspect.getmodule(thing)
    examples = doctest.DocTestFinder(recurse=False).find(thing, module=module, globs={"mh": mh})
    examples = [example for example in examples if example.examples]
    assert examples, "its docstring has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ["controls", "latents", "methods", "positions"])
def test_each_function_of_a_public_module_has_an_example(name):
    module = getattr(mh, name)
    for thing in vars(module).values():
        mine = getattr(thing, "__module__", None) == module.__name__ and not thing.__name__.startswith("_")
        if mine and inspect.isfunction(thing):
            assert ">>>" in (inspect.getdoc(thing) or ""), thing.__name__
