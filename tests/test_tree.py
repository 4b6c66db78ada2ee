"The tree itself: notebooks, exported modules and README agree, rooms import downwards only, files stay small."
import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT/'nbs').glob('[0-9][0-9]_*.ipynb'))
NUMBER = {re.match(r'\d\d_(\w+)', p.stem)[1]: int(p.stem[:2]) for p in NOTEBOOKS if 'default_exp' in p.read_text()}  # a notebook of results exports nothing


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of the sources, to export and clean without touching the tree."
    folder = tmp_path_factory.mktemp('tree')
    for name in ('nbs', 'msca'): shutil.copytree(ROOT/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'pretrained_models'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/name, folder/name)
    return folder


def nbdev(command, folder):
    subprocess.run([str(Path(sys.executable).parent/command)], cwd=folder, check=True, capture_output=True, timeout=300)


def test_export_leaves_no_diff(copy):
    nbdev('nbdev-export', copy)
    modules = sorted(p.name for p in (ROOT/'msca').glob('*.py'))
    assert modules == sorted(p.name for p in (copy/'msca').glob('*.py'))
    assert [m for m in modules if (ROOT/'msca'/m).read_text() != (copy/'msca'/m).read_text()] == []


def test_clean_leaves_no_diff(copy):
    nbdev('nbdev-clean', copy)
    assert [p.name for p in NOTEBOOKS if p.read_text() != (copy/'nbs'/p.name).read_text()] == []


def test_readme_is_written_from_the_index_notebook():
    assert subprocess.run([sys.executable, str(ROOT/'docs'/'readme.py'), '--check']).returncode == 0


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_small_and_ran(path):
    assert path.stat().st_size < 500_000
    code = [c for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
    assert any(c['outputs'] for c in code), 'no saved outputs'
    assert not [o for c in code for o in c['outputs'] if o['output_type'] == 'error']


@pytest.mark.parametrize('name', sorted(NUMBER))
def test_exported_cells_import_downwards_only(name):
    tree = ast.parse((ROOT/'msca'/f'{name}.py').read_text())
    imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module]
    assert [m for m in imported if NUMBER[m] >= NUMBER[name]] == []
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and any(a.name == '*' for a in n.names)]
