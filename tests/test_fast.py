"What makes painting fast stays, and changes no picture: the folded form, and what is not imported to paint."
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msca.base.labels import InputError
from msca.commands.cli import main
from msca.data.render import procedural_scene
from msca.data.scene import indexed_image
from msca.model.folded import FoldedGenerator, native_precision
from msca.pretrained.synthesizer import Synthesizer

HEAVY = ('fastai', 'matplotlib', 'pandas', 'scipy', 'sklearn', 'sympy', 'torchvision', 'IPython', 'ipywidgets')  # not needed to paint


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder, (a, b) = tmp_path_factory.mktemp('fast'), (procedural_scene(i, 64) for i in (3, 4))
    indexed_image(a.labels, a.label_set).save(folder/'layout.png')
    b.image.save(folder/'photo.png')
    return folder


def imported(code, folder):
    "Which of the heavy packages a fresh process has imported after some lines of Python."
    code += f"\nimport sys\nprint('imported:', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.rpartition('imported:')[2].split()


def test_a_picture_needs_no_heavy_imports(files):
    command = ['synth', '--layout', 'layout.png', '--exemplar', 'photo.png', '--size', '64', '--device', 'cpu', '--out', 'out.png']
    assert imported(f"from msca.commands.cli import main\nassert main({command}) in (0, None)", files) == []
    assert (files/'out.png').exists()
    assert imported("from msca.commands.cli import build_parser\nbuild_parser()\nimport sys\nassert 'torch' not in sys.modules", files) == []


def test_a_page_needs_few_imports(files):
    "A visit of the app has a process of its own, which asks the one that has the model."
    assert imported("from msca.commands import app\nfrom msca.app.page import app_page\nfrom msca.app.process import RemoteStudio", files) == ['IPython', 'ipywidgets']
    assert imported("from msca.data.photographs import PHOTOS, example_photo\nfor name in PHOTOS: example_photo(name)", files) == []
    assert imported("from msca.commands.app import _checked\n_checked(None, 'cpu', None)\nimport sys\nassert 'torch' not in sys.modules", files) == []


def test_a_drawing_imports_what_it_draws_with(files):
    "Else the test above could not fail."
    assert 'matplotlib' in imported("import matplotlib.figure", files)


@pytest.mark.parametrize('name', ['scenes-256', 'scenes-256-v1', 'procedural-256', 'procedural-128'])
def test_precisions_paint_the_same_picture(name):
    a, b = procedural_scene(11, 96), procedural_scene(12, 80)
    painters = {p: Synthesizer.load(name, 'cpu', quiet=True, precision=p) for p in ('float32', 'bfloat16')}
    s = painters['float32']
    style, layout = s.encode(b, size=0), s.read_layout(a.labels, (90, 75))
    assert isinstance(s.painter.generator, FoldedGenerator)
    tensors = layout.tensors()
    with torch.inference_mode():
        wanted = s.model.paint(tensors[0], s.model.encode(*s.read_exemplar(b, size=0).tensors()), tensors[1])
        exact, rounded = (p.painter.paint(tensors[0], style.scales, tensors[1]) for p in painters.values())
    assert (exact-wanted).abs().max() < 1e-4
    assert 0 < (rounded-wanted).abs().mean()*127.5 < 1


def test_a_changed_model_is_folded_anew():
    s, a, b = Synthesizer.load('procedural-128', 'cpu', quiet=True), procedural_scene(1, 64), procedural_scene(2, 64)
    first, painter = np.asarray(s(a, b, size=64), int), s.painter
    assert s.painter is painter
    with torch.no_grad(): s.model.generator.end.bias[0] += 1
    assert s.painter is not painter and (np.asarray(s(a, b, size=64), int)-first)[..., 0].mean() > 10
    s.model.train()
    assert s.painter is s.model


def test_a_command_paints_in_a_precision(files, monkeypatch):
    "The picture is that of `Synthesizer.load(precision=)`, and in a folder the precision is one of the settings that must not change."
    monkeypatch.chdir(files)
    given = ['synth', 'layout.png', 'photo.png', '--size', '64', '--model', 'procedural-128', '--device', 'cpu']
    found = {}
    for p in ('float32', 'bfloat16', 'auto'):
        assert main([*given, '--precision', p, '--out', f'{p}.png']) == 0
        found[p] = np.asarray(Image.open(f'{p}.png'), int)
        own = Synthesizer.load('procedural-128', 'cpu', quiet=True, precision=p)('layout.png', 'photo.png', size=64)
        assert (found[p] == np.asarray(own)).all()
    assert 0 < abs(found['float32']-found['bfloat16']).mean() < 1 and (found['auto'] == found[native_precision()]).all()
    with pytest.raises(SystemExit, match='2'): main([*given, '--precision', 'half'])
    assert main([*given, '--out', 'several', '--contact-sheet', '--precision', 'float32']) == 0
    assert main([*given, '--out', 'several', '--contact-sheet']) == 2


def test_a_command_does_not_look_for_garbage_among_its_imports(files):
    "What torch has made is left out of it, what comes later is not."
    code = ("import gc, sys; from msca.commands.cli import main; sys.argv = ['msca', 'synth', 'layout.png', 'photo.png', '--size', '64', '--device', 'cpu']\n"
            "from msca.commands import options; load = options.open_model\n"
            "from msca.commands import synth; synth.open_model = lambda *a: [load(*a), print('\\n', gc.isenabled(), gc.get_freeze_count() > 1e5, len(gc.get_objects()) < 1e5)][0]\n"
            "assert main() == 0")
    done = subprocess.run([sys.executable, '-c', code], cwd=files, capture_output=True, text=True, check=True)
    assert 'True True True' in done.stdout


def test_unknown_precisions_are_refused():
    with pytest.raises(InputError, match='float32, bfloat16'): Synthesizer.load('procedural-128', 'cpu', quiet=True, precision='half')
    assert native_precision() in ('float32', 'bfloat16')


def test_the_benchmark_runs(tmp_path):
    "Two small sizes of `make bench`: every job runs, in every form that is there."
    script = Path(__file__).parents[1]/'benchmarks'/'bench.py'
    subprocess.run([sys.executable, script, '--out', tmp_path/'bench.json', '--sizes', '32', '48', '--repeats', '1'], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((tmp_path/'bench.json').read_text())
    assert {'paint, 32, 1 thread', 'encode, 48, 1 thread', 'grid, 32, 1 thread', 'dense_attention_backward, 32, 1 thread'} <= set(found['jobs'])
    assert all(r['cpu'] > 0 and r['peak_mb'] > 100 for job in found['jobs'].values() for r in job.values())
    assert found['gflop_256']['compact, msca, folded']['paint'] < .9*found['gflop_256']['compact, msca, plain']['paint']
    peaks = {what: r['new']['peak_mb'] for what, r in found['processes'].items()}
    assert peaks['import torch'] < peaks['Synthesizer.load'] < peaks['msca synth'] and (tmp_path/'bench.png').exists()
    limit = found['attention']['limit']
    assert limit['mflop'] > 10 and limit['moved_mb'] > 1 and 0 < limit['share_of_bandwidth'] < 1
    assert {'paint, 48, batch 4, 1 thread', 'encode, 48, batch 4, 1 thread'} <= set(found['jobs'])


@pytest.mark.parametrize('before, after', [({}, 'PASSIVE'), ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE')])
def test_waiting_threads_leave_their_core_to_others(before, after):
    "A command says so before torch is imported, unless it was said already; a call from Python changes no setting."
    code = ("import os, sys; from msca.commands.cli import main; main(['--version']); print(os.environ.get('OMP_WAIT_POLICY'))\n"
            "sys.argv = ['msca', '--version']; main(); print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)")
    env = {**{k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}, **before}
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split('\n')[1::2] == [str(before.get('OMP_WAIT_POLICY')), f'{after} False']
