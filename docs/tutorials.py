"""Tutorials: stamp the repository's address into them, or run them: `python docs/tutorials.py [--check | --run [NAME ...]]`.

The address stands in settings.ini (`git_url`); every tutorial has a badge that opens it in Colab, and a first cell that installs msca there.
"""
import argparse
import base64
import configparser
import io
import re
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT/'docs'/'tutorials'


def git_url():
    "The repository's address, as settings.ini has it."
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    return settings['DEFAULT']['git_url']


def badge(path):
    "A link that opens a tutorial in Colab."
    owner = '/'.join(git_url().split('/')[-2:])
    return ('[![Open this tutorial in Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
            f'(https://colab.research.google.com/github/{owner}/blob/main/docs/tutorials/{path.name})')


def install():
    "The first code cell; pip refuses a name that is not the one in pyproject.toml."
    name = tomllib.loads((ROOT/'pyproject.toml').read_text(encoding='utf-8'))['project']['name']
    return f'''# in Colab, or wherever msca is not installed yet
from importlib.util import find_spec

if find_spec('msca') is None:
    %pip install --quiet "{name}[app,evidence] @ git+{git_url()}"'''


def stamped(path):
    "A tutorial with its badge and its first cell."
    nb = nbformat.read(path, as_version=4)
    lines = nb.cells[0].source.split('\n')
    nb.cells[0].source = '\n'.join([lines[0], '', badge(path), *[line for line in lines[1:] if 'colab-badge.svg' not in line]]).replace('\n\n\n', '\n\n')
    nb.cells[1].source = install()
    return nb


NOISE = re.compile(r'\d% \[\d+/\d+|^\s*█*\s*$|^Downloading: |\[\d+/\d+ [\d:]+<')  # bars that a terminal overwrites


def small(output, limit=40_000):
    "An output without bars, whose picture is a JPEG where it would be large as a PNG."
    if 'text' in output: output['text'] = '\n'.join(line.rstrip() for line in re.split(r'[\r\n]+', output['text']) if not NOISE.search(line))
    data = output.get('data', {})
    if len(data.get('image/png', '')) > limit:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(data.pop('image/png')))).convert('RGB').save(buffer, 'JPEG', quality=85, optimize=True)
        data['image/jpeg'] = base64.b64encode(buffer.getvalue()).decode()


def run(nb, folder, settings=None):
    "Execute a tutorial in a folder; the cell tagged `settings` is replaced where other settings are given."
    from nbclient import NotebookClient
    for cell in nb.cells:
        if settings and 'settings' in cell.metadata.get('tags', []): cell.source = settings
    NotebookClient(nb, timeout=1200, kernel_name='python3', resources={'metadata': {'path': str(folder)}}, store_widget_state=False).execute()
    for cell in nb.cells:
        cell.metadata.pop('execution', None)
        for output in cell.get('outputs', []):
            output.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)  # its picture stands in the text
            small(output)
    nb.metadata.pop('widgets', None)
    return nb


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--check', action='store_true', help='only say whether they are up to date')
    p.add_argument('--run', nargs='*', metavar='NAME', help='run these (default: all), and save what they show')
    args = p.parse_args()
    for path in sorted(FOLDER.glob('*.ipynb')):
        nb = stamped(path)
        if args.check and nb != nbformat.read(path, as_version=4): sys.exit(f'{path.name} differs from settings.ini: run python docs/tutorials.py')
        if args.run is not None and (not args.run or path.stem in args.run):
            with tempfile.TemporaryDirectory() as folder: nb = run(nb, folder)
        if not args.check: nbformat.write(nb, path)


if __name__ == '__main__': main()
