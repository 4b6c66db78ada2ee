"The documentation site: it builds without a warning, every picture has words, and no page loads anything from elsewhere."
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip('sphinx', reason="needs the packages of the site: make docs")


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    for name in ('docs', 'nbs', 'msca'):
        shutil.copytree(ROOT/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '*.safetensors'))
    r = subprocess.run([sys.executable, 'docs/site.py'], cwd=folder, capture_output=True, text=True, timeout=900)
    assert r.returncode == 0, r.stderr[-2000:]
    return folder/'_site'/'html'


@pytest.mark.slow
def test_site_builds_and_is_whole(site):
    pages = {p.relative_to(site).as_posix(): p.read_text(encoding='utf-8') for p in site.rglob('*.html')}
    for notebook in (ROOT/'nbs').glob('[0-9]*.ipynb'): assert f'notebooks/{notebook.stem}.html' in pages
    for name, text in pages.items():
        pictures = re.findall(r'<img [^>]*>', text)
        assert not [i for i in pictures if not re.search(r'alt="[^"]{8,}"', i)], f'{name}: a picture without words'
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"|<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]+)"', text)
        assert not loaded, f'{name} loads {loaded}'
    commands = pages['reference/commands.html']
    from msca.commands.cli import COMMANDS
    for command in COMMANDS: assert f'msca {command[0]}' in commands
