"""The structure of the code: the direction of imports, and the import paths of pycaffe scripts."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = {
    "caffe": ROOT / "python/caffe",
    "caffe_plain": ROOT / "python/caffe_plain",
    "relaybp": ROOT / "relaybp",
    "relaybp.layers": ROOT / "layers",
    "relaybp.data_prep": ROOT / "data_prep",
}


def modules():
    """{dotted name: path} of every module."""
    found = {}
    for package, folder in ROOTS.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def top_level(body):
    """The import statements that run when a module is imported."""
    for statement in body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield statement
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            continue  # read by type checkers alone
        elif isinstance(statement, (ast.If, ast.Try, ast.With)):
            yield from top_level(statement.body)


def imports(name, everywhere=False):
    """The full dotted names that a module imports: when it is loaded, or anywhere in it."""
    path = MODULES[name]
    tree = ast.parse(path.read_text())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    statements = ast.walk(tree) if everywhere else top_level(tree.body)
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        name: sorted({to for to in imports(name) if to in MODULES and to != name})
        for name in MODULES
    }
    done = set()

    def find_cycle(name, way):
        if name in way:
            return " -> ".join([*way[way.index(name) :], name])
        if name in done:
            return None
        found = next((c for to in graph[name] if (c := find_cycle(to, [*way, name]))), None)
        done.add(name)
        return found

    assert not [cycle for name in graph if (cycle := find_cycle(name, []))]


@pytest.mark.parametrize(
    "package, refused",
    [("caffe_plain", ("torch", "caffe", "relaybp")), ("caffe", ("relaybp", "layers"))],
)
def test_imports_point_one_way(package, refused):
    wrong = [
        f"{name} imports {to}"
        for name in MODULES
        if name.split(".")[0] == package
        for to in imports(name, everywhere=True)
        if to.split(".")[0] in refused
    ]
    assert not wrong


def test_the_top_of_the_engine_is_small():
    assert len(list((ROOT / "python/caffe").glob("*.py"))) <= 20


def test_the_engine_knows_nothing_of_the_method():
    files = (path for path in (ROOT / "python").rglob("*") if path.suffix in (".py", ".proto"))
    assert not [path for path in files if re.search(r"\brelay\b", path.read_text(), re.I)]


@pytest.mark.parametrize(
    "module, names",
    [
        ("caffe", "Net SGDSolver Layer TensorLayer Classifier Detector NetSpec layers params io"),
        ("caffe._caffe", "Net Layer Blob set_mode_cpu LayerParameter"),
        ("caffe.pycaffe", "Net SGDSolver"),
        ("caffe.io", "Transformer load_image blobproto_to_array"),
        ("caffe.net_spec", "NetSpec layers params to_proto param_name_dict"),
        ("caffe.draw", "draw_net_to_file get_pydot_graph"),
        ("caffe.classifier", "Classifier"),
        ("caffe.detector", "Detector"),
        ("caffe.coord_map", "coord_map_from_to crop"),
        ("caffe.proto", "caffe_pb2 extend"),
        ("caffe.proto.caffe_pb2", "NetParameter Datum BlobProto TRAIN TEST Phase"),
    ],
)
def test_pycaffe_import_paths(module, names):
    loaded = importlib.import_module(module)
    assert not [name for name in names.split() if not hasattr(loaded, name)]


def test_the_pythons_that_are_promised_are_those_that_ci_tests():
    def found(pattern, *path):
        return re.findall(pattern, ROOT.joinpath(*path).read_text())

    promised = found(r'"Programming Language :: Python :: (3\.\d+)"', "pyproject.toml")
    first, last = promised[0], promised[-1]
    assert found(r'requires-python = ">=(.*)"', "pyproject.toml") == [first]
    assert found(r"You need Python (\S+) to (\S+) and", "README.md") == [(first, last)]
    tested, installed = found(r"python: \[(.*)\]", ".github", "workflows", "ci.yml")
    assert re.findall(r"[\d.]+", tested) == promised
    assert re.findall(r"[\d.]+", installed) == [first, last]
    assert found(r"from (3\.\d+) to (3\.\d+)", ".ci", "environment") == [(first, last)]
