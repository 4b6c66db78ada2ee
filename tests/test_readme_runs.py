"Every line of README.md that can be run is run, in an empty folder after the demo: trainings shortened, no network."
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = Path(os.environ.get('MSCA_README', ROOT/'README.md'))
SHORTER = ((r'--epochs \S+', '--epochs 0,1 --parser-epochs 1'), (r'--updates \d+', '--updates 2'), (r'(msca scenes --n) \d{3,}', r'\1 8'))
ELSEWHERE = 'make ', 'pip ', 'git ', 'msca app', 'torchrun '  # what sets up, or runs until it is stopped

NO_NETWORK = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ('127.0.0.1', '::1', 'localhost'):
        raise OSError('this test has no network')
    return _connect(self, address)
socket.socket.connect = connect
def getaddrinfo(host, *args, _found=socket.getaddrinfo, **kwargs):
    if host not in ('127.0.0.1', '::1', 'localhost', '', None): raise socket.gaierror('this test has no network')
    return _found(host, *args, **kwargs)
socket.getaddrinfo = getaddrinfo
"""


def blocks(*languages):
    "The code of README.md in these languages, in its order."
    return re.findall(rf'(?m)^```(?:{"|".join(languages)})\n(.*?)^```', README.read_text(encoding='utf-8'), re.S)


def shell_lines():
    "Commands as they are printed, without what sets up."
    lines = [line for block in blocks('sh', 'bash') for line in block.replace('\\\n', ' ').splitlines()]
    return [line for line in lines if line.strip() and not line.startswith(('#', *ELSEWHERE))]


def test_readme_has_lines_to_run():
    assert len(blocks('python')) >= 1 and len(shell_lines()) >= 5
    for line in shell_lines(): assert line.startswith('msca '), line


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "An empty folder after the demo, where `msca` is this checkout and nothing reaches the network."
    here = tmp_path_factory.mktemp('reader')
    (here/'bin').mkdir()
    (here/'bin'/'msca').write_text(f'#!/bin/sh\nexec "{sys.executable}" -m msca "$@"\n')
    (here/'bin'/'msca').chmod(0o755)
    (here/'bin'/'sitecustomize.py').write_text(NO_NETWORK)
    run(here, 'msca demo --out demo')
    return here


def run(here, command):
    "Run a command in the folder; what it prints."
    env = os.environ | dict(PATH=f"{here/'bin'}:{os.environ['PATH']}", PYTHONPATH=f"{here/'bin'}:{ROOT}", MPLBACKEND='Agg', TORCH_HOME=str(here/'hub'), HF_HUB_OFFLINE='1')
    done = subprocess.run(['bash', '-euo', 'pipefail', '-c', command], cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}'
    return done.stdout


def test_the_network_is_refused(folder):
    (folder/'reach.py').write_text("import urllib.request\ntry: urllib.request.urlopen('http://example.org', timeout=5)\nexcept OSError as e: print(e)")
    assert 'no network' in run(folder, f'"{sys.executable}" reach.py')


@pytest.mark.slow
def test_python_blocks_run_one_after_another(folder):
    code = '\n'.join([*blocks('python'), "print('every line has run', flush=True)"])  # widgets still paint, in threads: the interpreter must end all the same
    (folder/'blocks.py').write_text(code, encoding='utf-8')
    assert 'every line has run' in run(folder, f'"{sys.executable}" blocks.py')


@pytest.mark.slow
def test_shell_lines_run_as_printed(folder):
    for line in shell_lines():
        for pattern, shorter in SHORTER: line = re.sub(pattern, shorter, line)
        began, out = time.time(), re.search(r'--out (\S+)', line)
        run(folder, line)
        if out: assert max(p.stat().st_mtime for p in (folder/out[1], *folder.glob(f'{out[1]}/**/*'))) > began-1, f'{line}: wrote nothing'
