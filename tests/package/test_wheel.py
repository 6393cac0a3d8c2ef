"""What is installed from the wheel works outside the checkout: recipes and benchmarks travel in it as data."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_carries_recipes_and_benchmarks(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for kind in ("recipes", "benchmarks"):
        for path in (ROOT / kind).glob("*.py"):
            assert f"mas_hooks/_shipped/{kind}/{path.name}" in names
    assert {"mas_hooks/py.typed", "mas_hooks/report/page/page.html.j2"} <= set(names)
    assert not any(name.startswith(("recipes/", "benchmarks/", "tests/")) for name in names)
    assert not any(name.endswith((".png", ".json")) for name in names)


def test_the_demo_starts_from_the_wheel_in_another_folder(wheel, tmp_path):
    site, place = tmp_path / "site", tmp_path / "elsewhere"
    place.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    code = """
import mas_hooks
from mas_hooks.cli.main import main
from mas_hooks.studies import registry
print(mas_hooks.__file__)
print(registry.shipped_folder("recipes"))
flags = "--quiet --jobs 1 --width 8 --rank 2 --sizes 32 16 16 --training.max-steps 2 --fit.epochs 1 --controls"
main(["ls"])
main(["demo", *flags.split()])
"""
    environment = {**os.environ, "PYTHONPATH": str(site), "MAS_HOOKS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(str(site))
    assert lines[1] == str(site / "mas_hooks/_shipped/recipes")
    assert "toy-step" in done.stdout
    assert len(list((place / "runs/demo-001/figures").glob("*.png"))) == 3
