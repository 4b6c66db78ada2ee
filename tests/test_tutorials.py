"The tutorials run from their first cell to their last, with tiny settings, and can be opened in Colab."
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/'docs'))
import tutorials

TINY = {'train-on-your-photos': "photos, size, epochs, segmenter_epochs, data = 16, 32, '1,1', 1, 'photos'", 'paint-in-the-app': 'size = 64',
        'read-the-attention': 'size = 64', 'reproduce-the-table': "updates, photos, size, models = 4, 16, 32, 'gap'",
        'your-own-alignment': 'size, updates = 32, 4', 'a-style-for-every-class': 'size = 64'}


def test_every_tutorial_is_known_and_has_its_badge_and_its_first_cell():
    paths = sorted(tutorials.FOLDER.glob('*.ipynb'))
    assert {p.stem for p in paths} == set(TINY)
    for path in paths:
        nb = nbformat.read(path, as_version=4)
        assert nb == tutorials.stamped(path), 'python docs/tutorials.py'
        owner = re.fullmatch(r'https://github\.com/([\w.-]+/[\w.-]+)', tutorials.git_url())[1]
        assert f'](https://colab.research.google.com/github/{owner}/blob/main/docs/tutorials/{path.name})' in nb.cells[0].source
        first = next(c for c in nb.cells if c.cell_type == 'code')
        assert first is nb.cells[1] and f'%pip install --quiet "msca[app,evidence] @ git+https://github.com/{owner}"' in first.source
        assert sum('settings' in c.metadata.get('tags', []) for c in nb.cells) == 1
        assert path.stat().st_size < 500_000 and sum(bool(c.get('outputs')) for c in nb.cells) >= 2
        assert str(ROOT) not in json.dumps(nb)


@pytest.mark.slow
@pytest.mark.parametrize('name', TINY)
def test_tutorial_runs(name, tmp_path, monkeypatch):
    pytest.importorskip('nbclient')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    nb = tutorials.run(tutorials.stamped(tutorials.FOLDER/f'{name}.ipynb'), tmp_path, TINY[name])
    text = json.dumps([c.get('outputs', []) for c in nb.cells])
    assert 'msca: error' not in text and 'command not found' not in text
    assert any({'image/png', 'image/jpeg', 'text/markdown'} & set(o.get('data', {})) for c in nb.cells for o in c.get('outputs', []))
