"Memory while many pictures of varying size are painted: few kernels are kept, and a command says so to oneDNN before it is loaded."
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from msca.commands.cli import GROUPS, KERNELS, _settle
from msca.data.render import procedural_scene
from msca.data.scene import indexed_image
from msca.model.folded import native_precision

CAPACITY = 'ONEDNN_PRIMITIVE_CACHE_CAPACITY'
REPORT = Path(__file__).parents[1]/'results'/'painting_memory.json'


def settled(command, **before):
    "What a command sets in an environment."
    with mock.patch.dict(os.environ, before, clear=True):
        _settle(command)
        return dict(os.environ)


def test_what_paints_keeps_few_kernels():
    for command in ('synth', 'app', 'grid'): assert settled(command)[CAPACITY] == str(KERNELS)
    for command in (*GROUPS['Train'], *GROUPS['Measure'], None): assert CAPACITY not in settled(command)  # an iteration of training needs more
    for name in (CAPACITY, 'DNNL_PRIMITIVE_CACHE_CAPACITY'):
        told = {name: '7'}
        assert settled('synth', **told) == told | {'OMP_WAIT_POLICY': 'PASSIVE'}


# Paints by a command, then makes more kernels than are kept, then wants the first again: it is made anew where it was thrown away.
PROBE = '''
import sys, torch
from msca.commands.cli import KERNELS, main
sys.argv = ['msca', 'synth', 'layout.png', 'photo.png', '--size', '32', '--model', 'procedural-128', '--device', 'cpu']
assert main() == 0
convolve = lambda width: torch.conv2d(torch.zeros(2, 16, 8, width), torch.zeros(16, 16, 3, 3))
for width in range(KERNELS+10): convolve(8+width)
print('once more', flush=True)
convolve(8)
'''


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason='this torch has no oneDNN')
@pytest.mark.parametrize('before, anew', [({}, True), ({CAPACITY: str(8*KERNELS)}, False)])
def test_the_setting_arrives_in_the_process(tmp_path, before, anew):
    a, b = procedural_scene(3, 64), procedural_scene(4, 64)
    indexed_image(a.labels, a.label_set).save(tmp_path/'layout.png')
    b.image.save(tmp_path/'photo.png')
    env = {k: v for k, v in os.environ.items() if k != CAPACITY} | {'ONEDNN_VERBOSE': '2'} | before
    done = subprocess.run([sys.executable, '-c', PROBE], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    made = done.stdout.rpartition('once more')[2]
    assert 'create:cache_' in made
    assert ('create:cache_miss' in made) == anew


GROWTH = '''
import ctypes, torch
from msca.model.folded import FoldedConv
class Told(ctypes.Structure): _fields_ = [(name, ctypes.c_size_t) for name in 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()]
c = ctypes.CDLL(None)
c.mallinfo2.restype = Told
used = lambda: c.mallinfo2().uordblks/2**20
conv = FoldedConv(torch.randn(128, 64, 1, 1), None, torch.bfloat16)
for n in range(100):
    conv(torch.zeros(1, 8, 16+n, 64, dtype=torch.bfloat16))
    if n == 9: before = used()
print(used()-before)
'''


@pytest.mark.skipif(sys.platform != 'linux' or native_precision() != 'bfloat16', reason='needs glibc and a processor with bfloat16')
def test_a_size_leaves_nothing_behind():
    "Ninety sizes of a map: a matrix product of bfloat16 would leave 30 MB of kernels."
    done = subprocess.run([sys.executable, '-c', GROWTH], env=os.environ | {CAPACITY: '8'}, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 12


def test_the_measured_run_is_flat_and_large_pictures_fit():
    found = json.loads(REPORT.read_text())
    now = {s['pictures']: s['peak_mb'] for s in found['many']['now']}
    assert max(now) >= 400 and now[350] < 1.05*now[150]  # the reading at 400 has torch's own end in it
    assert found['large']['2048×2048']['peak_mb'] < 1500
