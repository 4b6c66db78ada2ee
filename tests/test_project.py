"The project's own files: nbdev knows what it must know, the package's settings are all used, a slow cell is run when asked for."
import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbdev.config import get_config

ROOT = Path(__file__).parents[1]


def test_nbdev_knows_the_project():
    cfg = get_config(ROOT)
    assert (cfg.config_file, cfg.title, cfg.lib_name, cfg.tst_flags) == (ROOT/'pyproject.toml', 'msca', 'msca', 'slow')
    assert (cfg.lib_path, cfg.nbs_path) == (ROOT/'msca', ROOT/'nbs')
    assert not cfg.put_version_in_init and not cfg.update_pyproject


def test_every_setting_is_read_by_the_build():
    settings = configparser.ConfigParser(delimiters=['='], interpolation=None)
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    build = (ROOT/'setup.py').read_text(encoding='utf-8')
    extras = re.search(r'for name in \(([^)]+)\)', build)[1]
    read = {*re.findall(r'cfg\[[\'"](\w+)[\'"]\]', build), *(f'{name}_requirements' for name in re.findall(r'"(\w+)"', extras))}
    assert set(settings['DEFAULT']) == read | {'git_url'}  # the address, read by docs/tutorials.py


@pytest.mark.parametrize('more, expected', [((), ['quick']), (('--flags', 'slow'), ['quick', 'slow'])])
def test_slow_cells_run_when_asked_for(more, expected, tmp_path):
    "With this project's own configuration, on a notebook of two cells."
    shutil.copy(ROOT/'pyproject.toml', tmp_path)
    cells = [f"{flag}from pathlib import Path\nPath('{name}').touch()" for flag, name in (('', 'quick'), ('#| slow\n', 'slow'))]
    notebook = dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')),
                    cells=[dict(cell_type='code', id=f'c{i}', metadata={}, outputs=[], execution_count=None, source=s) for i,
                           s in enumerate(cells)])
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'000_base.two.ipynb').write_text(json.dumps(notebook))
    done = subprocess.run([Path(sys.executable).parent/'nbdev-test', *more], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path/'nbs').iterdir() if p.suffix != '.ipynb') == expected


def test_help_says_what_may_be_passed():
    "The comments beside parameters reach `help()`, for all that the package itself offers; nothing is said twice."
    code = ('import msca, pydoc; [getattr(msca, n) for n in msca.__all__*2]; t = pydoc.plain(pydoc.render_doc(msca.Synthesizer)); print(t); '
            'print(pydoc.plain(pydoc.render_doc(msca.shipped_models)), pydoc.plain(pydoc.render_doc(msca.Scene)))')
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    for name in ('load', 'interpolate', 'extrapolate', 'grid', 'encode', 'paint', 'explain', 'read_layout'):
        after = re.split(rf'^ \|  {name}\(', said, flags=re.M)[1]
        assert 'Parameters:' in after[:1500], name
    assert "device: 'auto', 'cpu', 'cuda' or 'mps'" in said and said.count("'auto', 'cpu', 'cuda' or 'mps'") == 1
    assert 'the photo: path, PIL image or array' in said


def test_everything_public_is_there():
    "What `msca` offers by name can be had."
    import msca
    assert all(getattr(msca, name) is not None for name in msca.__all__) and 'scenes-256' in msca.shipped_models()
    with pytest.raises(AttributeError): getattr(msca, 'no_such_name')
