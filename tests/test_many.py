"`msca synth` with many layouts and photos: as people call it, with files that are broken, stopped halfway, in bounded memory."
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import model, run, start, wait_for  # noqa: F401

from msca.base.labels import SCENE_LABELS
from msca.data.render import procedural_scene

REST = '--model', 'model', '--device', 'cpu'
WITHOUT_TORCH = "import sys\nfrom msca.commands.cli import main\ncode = main({!r})\nassert 'torch' not in sys.modules\nsys.exit(code)"


@pytest.fixture
def many(tmp_path, monkeypatch, model):  # noqa: F811
    "Three layouts and three photos of the same names, and a model, in the current folder."
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, 'model')
    for folder in ('maps', 'photos'): Path(folder).mkdir()
    for i in range(3):
        scene = procedural_scene(i, 64)
        Image.fromarray(scene.labels).save(f'maps/{i}.png')
        scene.image.save(f'photos/{i}.jpg')
    return tmp_path


def pictures(folder='out'): return sorted(p.name for p in Path(folder).glob('*.png'))


def synth(capsys, *argv): return run(capsys, 'synth', *argv, *REST)


@pytest.mark.parametrize('argv, expected', [
    (('maps', 'photos'), ['0.png', '1.png', '2.png']), (('maps', 'photos/0.jpg'), ['0.png', '1_0.png', '2_0.png']),
    (('maps/0.png', 'maps/1.png', 'photos/2.jpg'), ['0_2.png', '1_2.png']), (('maps/[01].png', 'photos/2.jpg'), ['0_2.png', '1_2.png']),
    (('maps/0.png', '--exemplar', 'photos/1.jpg', 'photos/2.jpg'), ['0_1.png', '0_2.png']),
    (('photos', '--layout', 'maps/1.png'), ['1.png', '1_0.png', '1_2.png']),
    (('--layout', 'maps/0.png', 'maps/1.png', '--exemplar', 'photos/1.jpg', 'photos/2.jpg', '--pair', 'zip'), ['0_1.png', '1_2.png']),
    (('maps/0.png', '--size', '32', 'maps/2.png', '--seed', '3', 'photos/1.jpg'), ['0_1.png', '2_1.png']),
    (('maps', 'photos', '--pair', 'all'), sorted({f'{i}_{j}.png' if i != j else f'{i}.png' for i in range(3) for j in range(3)}))],
    ids=lambda v: ' '.join(v)[:40])
def test_whatever_is_given_is_paired(many, capsys, argv, expected):
    code, said, err = synth(capsys, *argv, '--out', 'out')
    assert code == 0, err
    assert pictures() == expected and f'{len(expected)} pictures painted' in said


def test_by_position_and_by_option_is_the_same_picture(many, capsys):
    assert synth(capsys, 'maps/1.png', 'photos/2.jpg', '--out', 'a.png')[0] == synth(capsys, '--layout', 'maps/1.png', '--exemplar', 'photos/2.jpg', '--out', 'b.png')[0] == 0
    assert Path('a.png').read_bytes() == Path('b.png').read_bytes()
    assert synth(capsys, 'maps', 'photos/2.jpg', '--out', 'out')[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open('a.png')), np.asarray(Image.open('out/1_2.png')))


def test_one_load_and_one_encoding_a_photo(many, capsys, monkeypatch):
    from msca.pretrained.synthesizer import Synthesizer
    calls = []
    for name in ('load', 'encode', 'paint', 'parse'):
        of = getattr(Synthesizer, name)
        def counted(*args, name=name, of=of, **kwargs):
            if not (name == 'encode' and type(args[1]).__name__ == 'Style'): calls.append(name)  # painting asks for what is encoded already
            return of(*args, **kwargs)
        monkeypatch.setattr(Synthesizer, name, counted)
    assert synth(capsys, 'maps', 'photos', '--pair', 'all', '--out', 'out')[0] == 0
    assert {n: calls.count(n) for n in calls} == dict(load=1, encode=3, paint=9, parse=3)


def test_maps_of_exemplars_go_by_name(many, capsys):
    Path('own').mkdir()
    shutil.copy('maps/1.png', 'own/1.png')
    assert synth(capsys, 'maps', 'photos', '--exemplar-layout', 'own', '--out', 'out')[0] == 0
    assert synth(capsys, 'maps/1.png', 'photos/1.jpg', '--exemplar-layout', 'maps/1.png', '--out', 'one.png')[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open('one.png')), np.asarray(Image.open('out/1.png')))
    made = json.loads(Path('out/synth.json').read_text())['pictures']
    assert [[Path(file).name for file, *_ in made[f'{k}.png']] for k in (0, 1)] == [['0.png', '0.jpg'], ['1.png', '1.jpg', '1.png']]


def test_whatever_changed_is_painted_again(many, capsys, monkeypatch):
    "An older file put in a layout's place, an edited list of colors, a new classes.txt: all of them change pictures, none of them by being newer."
    names, palette = SCENE_LABELS.classes, SCENE_LABELS.palette
    def listed(order): Path('colors.txt').write_text(''.join(f'{r} {g} {b} {names[k]}\n' for k, (r, g, b) in zip(order, palette)))
    listed(range(len(names)))
    for path in sorted(Path('maps').glob('*.png')):
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.array([*palette, *[(0, 0, 0)]*(256-len(palette))], np.uint8)[ids]).save(path)
    argv = 'maps', 'photos/0.jpg', '--palette', 'colors.txt', '--out', 'out'
    made = lambda: {p.name: p.stat().st_mtime_ns for p in Path('out').glob('*.png')}
    assert synth(capsys, *argv)[0] == 0
    first = made()
    assert synth(capsys, *argv)[0] == 0 and made() == first
    shutil.copy('maps/2.png', 'maps/1.png')
    os.utime('maps/1.png', (10**9, 10**9))
    assert synth(capsys, *argv)[0] == 0
    second = made()
    assert [n for n in first if second[n] != first[n]] == ['1_0.png']
    listed([1, 0, *range(2, len(names))])
    os.utime('colors.txt', (10**9, 10**9))
    assert synth(capsys, *argv)[0] == 0
    assert all(made()[n] != second[n] for n in first)
    shutil.copy('maps/0.png', 'maps/1.png')
    os.utime('maps/1.png', (10**9, 10**9+5))
    with monkeypatch.context() as m:   # stopped before the layout that has changed is painted: its old picture is not taken for a new one
        m.setattr('msca.commands.synth._paint', interrupted)
        assert synth(capsys, *argv)[0] == 130
    third = made()
    assert synth(capsys, *argv)[0] == 0 and [n for n in third if made()[n] != third[n]] == ['1_0.png']


def interrupted(*_, **__): raise KeyboardInterrupt


def test_a_folder_for_one_picture(many, capsys):
    "What a pattern finds may be a single file: `--out` without an ending is a folder then too; an ending makes a picture."
    for _ in range(2):
        code, said, _ = synth(capsys, 'maps/1.png', 'photos/1.jpg', '--out', 'one')
        assert code == 0 and [p.name for p in Path('one').glob('*.png')] == ['1.png'] and '1 picture' in said and '1 pictures' not in said
    assert synth(capsys, 'maps/1.png', 'photos/1.jpg', '--out', 'v1.0')[0] == 2
    Path('v1.0').mkdir()
    assert synth(capsys, 'maps/1.png', 'photos/1.jpg', '--out', 'v1.0')[0] == 0 and Path('v1.0/1.png').is_file()
    assert synth(capsys, 'maps/1.png', 'photos/1.jpg', '--out', 'v1.0/2.png')[0] == 0


def test_a_seed_that_changes_nothing_is_no_other_setting(many, capsys):
    "Without noise every seed gives the same pictures; with noise another seed needs another folder."
    for seed in ('0', '3'): assert synth(capsys, 'maps', 'photos/1.jpg', '--out', 'out', '--seed', seed)[0] == 0
    argv = 'synth', 'maps', 'photos/1.jpg', '--model', 'scenes-256', '--device', 'cpu', '--size', '32', '--exemplar-size', '32', '--out', 'noisy'
    for seed, expected in (('0', 0), ('3', 2), ('0', 0)): assert run(capsys, *argv, '--seed', seed)[0] == expected


def test_what_cannot_be_read_is_named_at_the_end(many, capsys):
    Path('maps/1.png').write_bytes(b'no picture')
    Path('photos/2.jpg').write_bytes(Path('photos/2.jpg').read_bytes()[:300])
    code, said, err = synth(capsys, 'maps', 'photos', '--pair', 'all', '--out', 'out')
    assert code == 2 and err.count('\n') == 1 and '4 of 9 pictures are there' in err
    left_out = [line for line in said.splitlines() if 'left out' in line]
    assert len(left_out) == 2 and any('maps/1.png: not an image' in line for line in left_out) and any('photos/2.jpg' in line for line in left_out)
    assert pictures() == ['0.png', '0_1.png', '2_0.png', '2_1.png']
    Path('maps/1.png').write_bytes(Path('maps/0.png').read_bytes())
    before = {n: Path('out', n).stat().st_mtime_ns for n in pictures()}
    code, said, _ = synth(capsys, 'maps', 'photos', '--pair', 'all', '--out', 'out')
    assert code == 2 and '4 pictures are there already' in said and pictures() == ['0.png', '0_1.png', '1.png', '1_0.png', '2_0.png', '2_1.png']
    assert {n: Path('out', n).stat().st_mtime_ns for n in before} == before


@pytest.mark.parametrize('more, expected', [
    (('--size', '32'), 'without --size, now they would be with --size 32'), (('--model', 'other'), '--model')])
def test_pictures_of_two_kinds_are_not_mixed(many, capsys, more, expected):
    shutil.copytree('model', 'other')
    assert synth(capsys, 'maps', 'photos', '--out', 'out')[0] == 0
    before = {p: p.stat().st_mtime_ns for p in Path('out').iterdir()}
    code, _, err = run(capsys, 'synth', 'maps', 'photos', '--out', 'out', *REST, *more)
    assert code == 2 and expected in err.splitlines()[-1]
    assert {p: p.stat().st_mtime_ns for p in Path('out').iterdir()} == before


def test_pictures_of_a_model_that_was_trained_on_are_not_mixed(many, capsys):
    from safetensors.numpy import load_file, save_file
    assert synth(capsys, 'maps', 'photos', '--out', 'out')[0] == 0
    save_file({k: v*1.01 if k.endswith('bias') else v for k, v in load_file('model/model.safetensors').items()}, 'model/model.safetensors')
    code, _, err = synth(capsys, 'maps', 'photos', '--out', 'out')
    assert code == 2 and 'by another state of model' in err


@pytest.mark.parametrize('argv, expected', [
    (('maps', 'gone.jpg'), 'gone.jpg: no such file'), (('maps', 'photos/*.png'), 'no file fits'), (('maps', 'maps/0.png', '--out', 'maps'), 'is --out itself'),
    (('maps/0.png', 'photos/0.jpg', 'photos/1.jpg'), 'photos/0.jpg: a photo among the layouts'),
    (('maps/0.png', '--layout', 'maps/0.png', '--exemplar', 'photos/0.jpg'), 'given by --layout and --exemplar already'),
    (('maps/0.png', '--pair', 'all'), 'a layout and a photo are needed'), (('maps', 'photos', '--out', 'model'), 'model/0.png'),
    (('maps', 'photos', '--out', 'maps/0.png'), 'pictures go into a folder'), (('maps', 'photos/0.jpg', '--pair', 'zip'), '3 layouts and 1 photos')])
def test_mistakes_are_told_before_torch_is_imported(many, argv, expected):
    Path('model/0.png').write_text('a file of mine')
    before = sorted(Path('.').rglob('*'))
    code = WITHOUT_TORCH.format(['synth', *argv, *REST])
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and expected in done.stderr, done.stderr
    assert sorted(Path('.').rglob('*')) == before


def test_ctrl_c_keeps_what_is_there(many, capsys):
    for i in range(3, 20): shutil.copy('maps/0.png', f'maps/{i}.png')
    p = start('synth', 'maps', 'photos/0.jpg', '--out', 'out', '--size', '256', *REST, cwd=many)
    wait_for(lambda: len(pictures()) >= 3, p, 60)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and err.startswith('msca: stopped') and err.count('\n') == 1
    there = len(pictures())
    assert 3 <= there < 20 and not list(Path('out').glob('.*.tmp')) and all(Image.open(f'out/{n}').size == (256, 256) for n in pictures())
    code, said, err = synth(capsys, 'maps', 'photos/0.jpg', '--out', 'out', '--size', '256')
    assert code == 0 and f'{there} pictures are there already' in said and len(pictures()) == 20


PEAK = """import resource, sys
from msca.commands.cli import main
code = main(sys.argv[1:])
print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(many):
    Image.fromarray(procedural_scene(0, 256).labels).resize((1000, 1000), 0).save('maps/0.png')
    procedural_scene(0, 256).image.resize((1000, 1000)).save('photos/0.jpg')

    def peak(n):
        for i in range(1, n):
            for name in ('maps/{}.png', 'photos/{}.jpg'): shutil.copy(name.format(0), name.format(i))
        done = subprocess.run([sys.executable, '-c', PEAK, 'synth', 'maps', 'photos', '--exemplar-layout', 'maps', '--out', f'out{n}', '--size', '32', *REST],
                              capture_output=True, text=True)
        assert done.returncode == 0 and f'{n} pictures painted' in done.stdout, done.stderr
        return int(done.stdout.split()[-1])
    few = peak(30)
    assert peak(90) < few+60_000, few  # kilobytes; 60 more photos and two maps of each are 300 MB


@pytest.mark.parametrize('command', [
    'synth L.png X.jpg', 'interpolate --layout L.png --exemplars X.jpg X.jpg --steps 2', 'extrapolate --layout L.png --exemplar X.jpg',
    'explain --layout L.png --exemplar X.jpg', 'grid --layouts L.png L.png --exemplars X.jpg', 'parse --image X.jpg --out m.png'])
@pytest.mark.parametrize('broken', ['L.png', 'X.jpg'])
def test_broken_files_are_told_before_torch_is_imported(many, command, broken):
    shutil.copy('maps/0.png', 'L.png')
    shutil.copy('photos/0.jpg', 'X.jpg')
    if broken not in command: pytest.skip('not among its inputs')
    if broken == 'L.png': Image.fromarray(np.full((64, 64), 77, np.uint8)).save(broken)
    else: Path(broken).write_bytes(Path(broken).read_bytes()[:-500])
    code = WITHOUT_TORCH.format([*command.split(), *REST])
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and broken in done.stderr, done.stderr
