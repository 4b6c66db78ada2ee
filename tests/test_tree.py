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
# room n has the numbers n00 to n99
ROOMS = 'base', 'data', 'model', 'learning', 'evidence', 'steering', 'app', 'relatives', 'pretrained', 'commands'
NOTEBOOKS = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
# module 'room.name' → number; a notebook of results exports nothing
EXPORTED = {p.stem[4:]: int(p.stem[:3]) for p in NOTEBOOKS if 'default_exp' in p.read_text()}


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of the sources, to export and clean without touching the tree."
    folder = tmp_path_factory.mktemp('tree')
    for name in ('nbs', 'msca'):
        shutil.copytree(ROOT/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'pretrained_models'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/name, folder/name)
    return folder


def nbdev(command, folder):
    subprocess.run([str(Path(sys.executable).parent/command)], cwd=folder, check=True, capture_output=True, timeout=300)


def test_export_leaves_no_diff(copy):
    nbdev('nbdev-export', copy)
    modules = sorted(p.relative_to(ROOT/'msca') for p in (ROOT/'msca').rglob('*.py'))
    assert modules == sorted(p.relative_to(copy/'msca') for p in (copy/'msca').rglob('*.py'))
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


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_names_tell_room_module_and_reading_order(path):
    number, room, module = re.fullmatch(r'(\d{3})_([a-z]+)\.([a-z0-9_]+)', path.stem).groups()
    assert ROOMS[int(number[0])] == room
    exported = re.findall(r'#\| default_exp ([\w.]+)', path.read_text())
    assert exported in ([], [f'{room}.{module}'])


def test_every_module_has_its_notebook():
    assert sorted('.'.join(p.relative_to(ROOT/'msca').with_suffix('').parts) for p in (ROOT/'msca').glob('*/[!_]*.py')) == sorted(EXPORTED)


def imports_from_msca(tree, name):
    "Modules of this package that are imported, late imports included, as 'room.name'."
    here = ['msca', *name.split('.')]
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): yield from (a.name[5:] for a in n.names if a.name.startswith('msca.'))
        elif isinstance(n, ast.ImportFrom):
            base = '.'.join([*here[:len(here)-n.level], *filter(None, [n.module])]) if n.level else n.module
            if base.startswith('msca.'): yield from {base[5:] if '.' in base[5:] else f'{base[5:]}.{a.name}' for a in n.names}


@pytest.mark.parametrize('name', sorted(EXPORTED))
def test_exported_cells_import_downwards_only(name):
    tree = ast.parse((ROOT/'msca'/f"{name.replace('.', '/')}.py").read_text())
    assert [m for m in imports_from_msca(tree, name) if EXPORTED[m] >= EXPORTED[name]] == []
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and any(a.name == '*' for a in n.names)]
