"""What is installed is what is in the repository, under one name each."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "operators", "cluster", "jobs")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def modules():
    """Every module of the four folders, as paths from the root."""
    found = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in found)


def test_package_list_is_the_folders_on_disk():
    folders = {path.parent for path in modules()}
    on_disk = {".".join(("overpaint", *folder.parts)) for folder in folders}
    assert sorted(on_disk) == sorted(SETUPTOOLS["packages"])


def test_every_import_is_of_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = [extras[name] for name in extras if name not in ("test", "house")]
    declared = {_name(it) for group in (project["dependencies"], *own) for it in group}
    providers = packages_distributions()
    undeclared = {
        f"{path}: {name}"
        for path in modules()
        for name in _imported(ROOT / path) - sys.stdlib_module_names - {"overpaint"}
        if not {_name(provider) for provider in providers.get(name, [name])} & declared
    }
    assert undeclared == set()


def _name(requirement):
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _imported(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".", 1)[0] for name in (*plain, *named)}


def test_package_folders_are_at_most_two_levels_deep_and_are_packages():
    for path in modules():
        assert len(path.parts) <= 4, path
        assert (ROOT / path.parent / "__init__.py").exists(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The sizes of files in a wheel, built from a copy, so that no build folder is left here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--wheel-dir", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {file.filename: file.file_size for file in archive.infolist()}


def test_wheel_has_every_module_and_nothing_outside_overpaint(wheel):
    assert wheel.keys() >= {f"overpaint/{path.as_posix()}" for path in modules()}
    tops = {name.split("/", 1)[0] for name in wheel}
    assert tops == {"overpaint", f"overpaint-{version('overpaint')}.dist-info"}


def test_wheel_has_recipes_templates_checkpoints_and_the_licence(wheel):
    data = [
        path
        for pattern in (
            "jobs/recipes/**/*.toml",
            "jobs/report/templates/*",
            "operators/models/papercut/**/*",
            "*/py.typed",
        )
        for path in ROOT.glob(pattern)
        if path.is_file()
    ]
    assert len(data) > 6
    sizes = {f"overpaint/{p.relative_to(ROOT).as_posix()}": p.stat().st_size for p in data}
    # Of files that several checkpoints share, the wheel has copies.
    assert {name: wheel.get(name) for name in sizes} == sizes
    assert any(name.endswith("/licenses/LICENSE") for name in wheel)


def run_python(code):
    """Runs code from the root, where `pipeline` would be importable too: a second copy."""
    bare = f"assert not set({PACKAGES}) & set(sys.modules)"
    command = [sys.executable, "-c", f"import sys\n{code}\n{bare}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("overpaint.pipeline.recipes.recipe", ["torch", "ray", "diffusers", "transformers"]),
        ("overpaint.operators", ["torch", "diffusers", "transformers"]),
        ("overpaint.cluster.worker.in_process", ["torch", "ray"]),
        ("overpaint.jobs.commands.app", ["torch", "diffusers", "transformers"]),
    ],
)
def test_import_loads_nothing_heavy_and_no_second_copy(module, heavy):
    run_python(f"import {module}\nassert not set({heavy}) & set(sys.modules)")


def test_import_of_every_operator_loads_no_torch():
    run_python(
        "from overpaint.pipeline.catalogue import OPERATORS\n"
        "assert OPERATORS.names()\n"
        "assert not {'torch', 'ray', 'diffusers', 'transformers'} & set(sys.modules)"
    )
