"The msca command as people meet it: mistakes end in one line and leave nothing behind, odd files work, training goes all the way."
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msca.base.labels import SCENE_LABELS, UNLABELLED, InputError, colorize
from msca.commands.cli import build_parser, main
from msca.data.datasets import write_scenes
from msca.data.render import procedural_scene
from msca.data.scene import load_labels

COMMANDS = next(a for a in build_parser()._actions if a.dest == 'command').choices  # name → its own parser
DATA = Path(os.environ.get('MSCA_DATA', '/nowhere'))
needs_photos = pytest.mark.skipif(not (DATA/'siftflow').is_dir(), reason='MSCA_DATA names no folder with siftflow')
GOOD = ('synth', '--layout', 'layout.png', '--exemplar', 'photo.png', '--out', 'out.png', '--device', 'cpu')


@pytest.fixture(scope='session')
def model(tmp_path_factory):
    "A checkpoint with a parser, small and untrained, so that tests are quick and need no shipped model."
    import torch

    from msca.model.checkpoint import save_synthesizer
    from msca.model.segmenter import SceneSegmenter, SegmenterConfig, save_segmenter
    from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig
    torch.manual_seed(0)
    folder, five = tmp_path_factory.mktemp('models')/'tiny', (8,)*5
    widths = dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'slots', 'widths', 'spade_hidden'), five)
    config = SynthesizerConfig(17, mlp_width=8, init_gain=1., **widths)
    save_synthesizer(SceneSynthesizer(config), SCENE_LABELS, 64, folder)
    save_segmenter(SceneSegmenter(SegmenterConfig(17, width=2)), SCENE_LABELS, folder)
    return folder


@pytest.fixture(scope='session')
def scenes(): return procedural_scene(3, 64), procedural_scene(8, 96)


@pytest.fixture
def here(tmp_path, monkeypatch, scenes, model):
    "A folder with a good layout, photo, map of the photo and model, as the current one."
    monkeypatch.chdir(tmp_path)
    layout, exemplar = scenes
    Image.fromarray(layout.labels).save('layout.png')
    exemplar.image.save('photo.png')
    Image.fromarray(exemplar.labels).save('map.png')
    shutil.copytree(model, 'model')
    return tmp_path


@pytest.fixture(scope='session')
def dataset(tmp_path_factory):
    "Twelve procedural scenes in the folder format."
    folder = tmp_path_factory.mktemp('data')/'scenes'
    write_scenes([procedural_scene(i, 64) for i in range(12)], folder)
    return folder


def run(capsys, *argv):
    "Exit code, output and errors of the command, in this process."
    capsys.readouterr()
    try: code = main([str(a) for a in argv])
    except SystemExit as e: code = e.code
    return code, *capsys.readouterr()


def listing(folder): return sorted((str(p.relative_to(folder)), p.stat().st_size) for p in folder.rglob('*'))


def refused(capsys, folder, argv, *expected):
    "Run a command that must fail: exit code 2, one line that says what is expected, no file more or less."
    before = listing(folder)
    code, _, err = run(capsys, *argv)
    assert code == 2, err
    assert err.startswith('msca') and err.count('\n') == 1 and len(err) < 600, err
    for words in expected: assert words in err, err
    assert listing(folder) == before
    return err


# ---- pictures that cannot be used -------------------------------------------------------------------------------------

def cut(path, share=.5):
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:int(len(data)*share)])


def as_jpeg(name, source='photo.png'): Image.open(source).convert('RGB').save(name, 'JPEG', quality=95)


def folder_named(name):
    Path(name).unlink(missing_ok=True)
    Path(name).mkdir()


BROKEN = {
    'missing': (lambda f: Path(f).unlink(missing_ok=True), 'no such file'),
    'empty': (lambda f: Path(f).write_bytes(b''), 'empty'),
    'truncated PNG': (lambda f: cut(f), 'damaged or cut short'),
    'truncated JPEG': (lambda f: (as_jpeg(f), cut(f, .6)), 'damaged or cut short'),
    'text': (lambda f: Path(f).write_text('this is not a picture'), 'not an image'),
    'folder': (folder_named, 'is a folder'),
    'too small': (lambda f: Image.new('L', (15, 40)).save(f), '15×40', 'from 16 to 8192'),
    'too wide': (lambda f: Image.new('L', (8193, 16)).save(f), '8193×16', 'from 16 to 8192')}


@pytest.mark.parametrize('fault', BROKEN)
@pytest.mark.parametrize('file', ['photo.png', 'layout.png', 'map.png'])
def test_broken_picture(here, capsys, file, fault):
    make, *expected = BROKEN[fault]
    make(file)
    refused(capsys, here, (*GOOD, '--model', 'model', '--exemplar-layout', 'map.png'), file, *expected)


def save_map(array, name='layout.png', **kwargs): Image.fromarray(np.asarray(array)).save(name, **kwargs)


def painted(name='layout.png'): return colorize(load_labels(name), SCENE_LABELS)


def with_unknown_colors():
    rgb = painted()
    rgb[:3, :5] = (1, 2, 3)
    rgb[10, :4] = (7, 7, 200)
    save_map(rgb)


def with_foreign_classes():
    (Path('theirs')/'labels').mkdir(parents=True)
    Path('theirs/classes.txt').write_text('quux\nfrobnicator\n')
    save_map(np.arange(32*32, dtype=np.uint8).reshape(32, 32) % 2, 'theirs/labels/a.png')
    os.replace('theirs/labels/a.png', 'layout.png')
    os.replace('theirs/classes.txt', 'classes.txt')


LAYOUTS = {
    'id out of range': (lambda: save_map(np.full((32, 32), 99, np.uint8)), '99 (1024 pixels)', '0 to 16', '255'),
    '16-bit id': (lambda: save_map(np.full((32, 32), 300, np.uint16)), '300 (1024 pixels)'),
    'colors outside the palette': (with_unknown_colors, '#010203 (15 pixels)', '#0707c8 (4 pixels)', 'palette'),
    'smoothed painting': (lambda: Image.fromarray(painted()).resize((48, 48), Image.Resampling.BILINEAR).save('layout.png'),
                          'not in the palette'),
    'half-transparent': (lambda: save_map(np.dstack([painted(), np.full((64, 64), 100, np.uint8)])), 'half-transparent'),
    'JPEG': (lambda: Image.fromarray(painted()).save('layout.png', 'JPEG'), 'JPEG', 'PNG'),
    'nothing labelled': (lambda: save_map(np.full((32, 32), UNLABELLED, np.uint8)), 'no pixel has a label', 'sky'),
    'no label that the model knows': (with_foreign_classes, '100.0%', 'quux', 'frobnicator'),
    'a ribbon': (lambda: save_map(np.zeros((16, 8192), np.uint8)), '8192×16', '32768×64', 'size 0')}


@pytest.mark.parametrize('fault', LAYOUTS)
def test_layout_that_cannot_be_read(here, capsys, fault):
    make, *expected = LAYOUTS[fault]
    make()
    refused(capsys, here, (*GOOD, '--model', 'model'), 'layout.png', *expected)


def test_exemplar_and_its_map_differ_in_size(here, capsys):
    save_map(np.zeros((64, 96), np.uint8), 'map.png')
    refused(capsys, here, (*GOOD, '--model', 'model', '--exemplar-layout', 'map.png'), 'photo.png', '96×96', 'map.png', '96×64', 'one size')


# ---- files beside the maps --------------------------------------------------------------------------------------------

TEXTS = {
    'classes missing': ('--classes', None, 'no such file'),
    'classes empty': ('--classes', b'', 'no class names'),
    'classes binary': ('--classes', bytes(range(256)), 'not a text file'),
    'classes with a gap': ('--classes', b'sky\n\ntree\n', 'line 2 is empty'),
    'classes twice': ('--classes', b'sky\nSky\n', 'is there already'),
    'classes too few for the ids': ('--classes', b'sky\n', 'out of range', '0 to 0'),
    'palette missing': ('--palette', None, 'no such file'),
    'palette empty': ('--palette', b'', 'no colors'),
    'palette of nonsense': ('--palette', b'blue\n', 'line 1', 'R G B or #RRGGBB'),
    'palette too short': ('--palette', b'1 2 3\n4 5 6\n', '2 colors for the 17 classes')}


@pytest.mark.parametrize('fault', TEXTS)
def test_broken_classes_or_palette(here, capsys, fault):
    option, content, *expected = TEXTS[fault]
    if option == '--palette': save_map(painted())
    if content is not None: Path('list.txt').write_bytes(content)
    refused(capsys, here, (*GOOD, '--model', 'model', option, 'list.txt'), '' if 'few' in fault else 'list.txt', *expected)


def test_broken_classes_beside_the_map(here, capsys):
    Path('classes.txt').write_bytes(b'\xff\xfe\x00')
    refused(capsys, here, (*GOOD, '--model', 'model'), 'classes.txt', 'not a text file')


# ---- output -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('out, expected', [
    ('photo.png/out.png', 'is a file'), ('classes.txt', "'.txt' is not possible"),
    ('out.xyz', "'.xyz' is not possible"), ('pictures.png', 'is a folder'),
    ('photo.png', 'is an input'), ('new/../layout.png', 'is an input'), ('x'*300 + '.png', 'too long')])
def test_output_that_cannot_be_written(here, capsys, out, expected):
    Path('pictures.png').mkdir()
    argv = [out if a == 'out.png' else a for a in GOOD]
    refused(capsys, here, (*argv, '--model', 'model'), Path(out).name, expected)


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='permissions do not bind the superuser')
def test_output_without_permission(here, capsys):
    Path('closed').mkdir(mode=0o500)
    refused(capsys, here, (*GOOD[:-4], '--out', 'closed/out.png', '--model', 'model'), 'closed', 'no permission')


def test_other_commands_look_at_their_output_too(here, capsys):
    Path('full').mkdir()
    Path('full/x').touch()
    for argv, expected in (
            (('demo', '--out', 'photo.png'), 'is a file'),
            (('parse', '--image', 'photo.png', '--out', 'm.jpg'), 'end the name in .png'),
            (('parse', '--image', 'photo.png', '--out', 'photo.png'), 'is an input'),
            (('parse', '--image', 'photo.png', '--out', 'm.png', '--overlay', 'm.png'), 'name two files'),
            (('parse', '--image', 'photo.png', '--out', 'm.png', '--overlay', 'o.xyz'), "'.xyz'"),
            (('labels', '--out', 'p.txt'), "'.txt'"),
            (('scenes', '--n', '1', '--out', 'full'), 'exists already'),
            (('scenes', '--n', '1', '--out', 'photo.png'), 'exists already'),
            (('scenes', '--n', '1', '--out', 'photo.png/x'), 'is a file')):
        refused(capsys, here, argv, expected)


# ---- models -----------------------------------------------------------------------------------------------------------

def edit_config(**changes):
    path = Path('model/config.json')
    about = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (about | changes).items() if v is not None}))


def edit_network(**changes): edit_config(synthesizer=json.loads(Path('model/config.json').read_text())['synthesizer'] | changes)


def poison_weights():
    from safetensors.torch import load_file, save_file
    weights = load_file('model/model.safetensors')
    weights['generator.end.bias'][0] = float('nan')
    save_file(weights, 'model/model.safetensors')


def pickle_in_place():
    class Trap:
        def __reduce__(self): return Path.touch, (Path('trap'),)
    Path('model/model.safetensors').write_bytes(pickle.dumps(Trap()))


MODELS = {
    'broken JSON': (lambda: cut('model/config.json'), 'config.json', 'JSON'),
    'JSON that is no object': (lambda: Path('model/config.json').write_text('[]'), 'config.json', 'format'),
    'binary JSON': (lambda: Path('model/config.json').write_bytes(b'\xff\xfe'), 'config.json', 'UTF-8'),
    'another format': (lambda: edit_config(format='gpt'), 'config.json', 'msca-synthesizer'),
    'a newer version': (lambda: edit_config(version=9), 'config.json', 'version 9'),
    'no size': (lambda: edit_config(size=None), 'config.json', 'size'),
    'absurd size': (lambda: edit_config(size=10**9), 'config.json', '8192'),
    'no network': (lambda: edit_config(synthesizer=None), 'config.json', 'synthesizer'),
    'no label set': (lambda: edit_config(label_set=None), 'config.json', 'label_set'),
    'classes fewer than channels': (lambda: edit_config(label_set=dict(name='two', classes=['a', 'b'], palette=[[1, 2, 3], [4, 5, 6]])),
                                    'config.json', '17', '2'),
    'an unknown field': (lambda: edit_network(turbo=True), 'config.json', 'turbo'),
    'a negative width': (lambda: edit_network(mlp_width=-5), 'config.json'),
    'another network': (lambda: edit_network(mlp_width=16), 'model.safetensors', 'not fit'),
    'truncated weights': (lambda: cut('model/model.safetensors'), 'model.safetensors', 'cut short'),
    'empty weights': (lambda: Path('model/model.safetensors').write_bytes(b''), 'model.safetensors'),
    'pickle in place of weights': (pickle_in_place, 'model.safetensors', 'pickle'),
    'not a number among the weights': (poison_weights, 'model.safetensors', 'not finite'),
    'no weights': (lambda: Path('model/model.safetensors').unlink(), 'model.safetensors', 'missing'),
    'broken parser JSON': (lambda: Path('model/parser.json').write_text('{'), 'parser.json', 'JSON'),
    'truncated parser': (lambda: cut('model/parser.safetensors'), 'parser.safetensors'),
    'no parser weights': (lambda: Path('model/parser.safetensors').unlink(), 'parser.safetensors', 'no such file'),
    'no parser': (lambda: Path('model/parser.json').unlink(), "'model' has no segmenter", 'label map')}


@pytest.mark.parametrize('fault', MODELS)
def test_broken_model(here, capsys, fault):
    make, *expected = MODELS[fault]
    make()
    refused(capsys, here, (*GOOD, '--model', 'model'), *expected)
    assert not Path('trap').exists()


@pytest.mark.parametrize('name', ['no-such-model', 'photo.png', '../nowhere', ''])
def test_model_that_is_not_there(here, capsys, name):
    refused(capsys, here, (*GOOD, '--model', name), repr(name), 'scenes-256')


def test_model_on_the_hub_that_is_not_there(here, capsys, monkeypatch):
    import huggingface_hub
    def fail(*args, **kwargs): raise OSError('unreachable')
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
    refused(capsys, here, (*GOOD, '--model', 'somebody/model'), 'somebody/model', 'no such folder here', 'Hub')


def test_segmenter(here, capsys):
    "A segmentation model of transformers reads the photo; one that is not there is refused."
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor
    names = {0: 'sky', 1: 'car'}
    config = SegformerConfig(num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=[8, 8], num_attention_heads=[1, 1],
                             patch_sizes=[7, 3], strides=[4, 2],
                             mlp_ratios=[1, 1], decoder_hidden_size=8, id2label=names, label2id={v: k for k, v in names.items()})
    SegformerForSemanticSegmentation(config).save_pretrained('theirs')
    SegformerImageProcessor(size=dict(height=64, width=64)).save_pretrained('theirs')
    assert main(['parse', '--image', 'photo.png', '--out', 'm.png', '--model', 'model', '--segmenter', 'theirs']) == 0
    with Image.open('m.png') as im: assert set(np.unique(np.asarray(im))) <= {0, 14}
    assert main([*GOOD, '--model', 'model', '--segmenter', 'theirs']) == 0
    capsys.readouterr()
    refused(capsys, here, (*GOOD, '--model', 'model', '--segmenter', './gone'), './gone', 'no semantic segmentation model')


def test_folder_that_is_no_model(here, capsys):
    Path('empty').mkdir()
    for command in (GOOD, ('labels',)): refused(capsys, here, (*command, '--model', 'empty'), 'empty', 'config.json')
    Path('model/parser.json').unlink()
    refused(capsys, here, ('parse', '--image', 'photo.png', '--out', 'm.png', '--model', 'model'), 'no segmenter')
    edit_config(label_set=None)
    refused(capsys, here, ('labels', '--model', 'model'), 'config.json', 'label_set')


def test_device_that_is_not_there(here, capsys):
    import torch
    if not torch.cuda.is_available():
        refused(capsys, here, (*GOOD, '--model', 'model', '--device', 'cuda'), "'cuda' is not available", 'cpu')
    refused(capsys, here, (*GOOD, '--model', 'model', '--device', 'cuda:99'), "'cuda:99' is not available")


# ---- options ----------------------------------------------------------------------------------------------------------

OPTIONS = [
    ((), 'a command is needed'), (('dance',), "'dance'"), (('synth', '--layout', 'layout.png'), '--exemplar'),
    ((*GOOD, '--size', '5'), '16 to 8192'),
    ((*GOOD, '--size', '8193'), '16 to 8192'), ((*GOOD, '--size', 'big'), "'big' is not a whole number"),
    ((*GOOD, '--device', 'gpu'), "'gpu' is no device"), ((*GOOD, '--model', 'model', '--vgg-weights', 'gone.npz'),
                                                         'gone.npz: no such file'),
    ((*GOOD, '--layo', 'x'), '--layo'), ((*GOOD, '--colour'), '--colour'), (('scenes', '--out', 'x', '--n', '0'), '1 to 1000000'),
    (('scenes', '--out', 'x', '--n', '1', '--size', '15'), '16 to 2048'), (('scenes', '--out', 'x', '--seed', '-1'), '-1'),
    (('train', '--out', 'r'), 'nothing to train on'), (('train', '--out', 'r', '--epochs', '3'), "'3' is not possible", 'a list of 2 values'),
    (('train', '--out', 'r', '--epochs', '1,x'), "'1,x' is not possible"), (('train', '--out', 'r', '--epochs', '1,-1'), "'1,-1' is not possible"),
    (('train', '--out', 'r', '--procedural', '8', '--size', '100'), 'a multiple of 16'), (('train', '--out', 'r', '--procedural', '8', '--size', '16'), '32 to 2048'),
    (('train', '--out', 'r', '--procedural', '8', '--batch-size', '1'), '2 to 4096'), (('train', '--out', 'r', '--config', 'huge'), 'compact'),
    (('train', '--out', 'r', '--procedural', '16', '--perceptual', 'squeezenet'), '--perceptual-weights'),
    (('train', '--out', 'r', '--procedural', '16', '--parser-weights', 'gone.npz'), 'gone.npz: no such file'),
    (('train', '--out', 'r', '--procedural', '16', '--init', 'gone'), "'gone': neither a shipped model"),
    (('train', '--out', 'photo.png', '--procedural', '16'), 'is a file'),
    (('train', '--out', 'photo.png/r', '--procedural', '16'), 'is a file'),
    (('train', '--out', 'model', '--procedural', '16'), 'not empty'), (('train', '--out', 'r', '--resume'), 'nothing to resume'),
    (('train', '--out', 'model', '--resume'), 'nothing to resume'),
    ((*GOOD, '--model', 'model/model.safetensors'), 'is a file; a checkpoint folder'),
    (('interpolate', '--layout', 'layout.png', '--exemplars', 'photo.png', 'photo.png', '--out', 'x.webp', '--animation', 'x.webp'),
     'both --out and --animation'),
    (('extrapolate', '--layout', 'layout.png', '--exemplar', 'photo.png', '--out', 'e.png', '--size', '32x200', '--keep-photo',
      '--model', 'model', '--device', 'cpu'), 'photo.png', 'picture of 200×32', '--size'),
    (('export', '--out', '.'), 'has other files in it'),
    ((*GOOD[:4], '/dev/null', *GOOD[5:], '--model', 'model'), '/dev/null', 'is a pipe or a device')]


@pytest.mark.parametrize('argv, expected', [(o[0], o[1:]) for o in OPTIONS], ids=lambda v: ' '.join(v)[-40:])
def test_wrong_options(here, capsys, argv, expected): refused(capsys, here, argv, *expected)


def test_maps_whose_colors_were_put_into_an_index(here, capsys):
    "In another order than the model's, as paint programs do it: the colors count. In any other palette: the ids."
    wanted = synth(capsys)[0]
    ids = np.asarray(Image.open('layout.png'))
    painted = Image.fromarray(colorize(ids, SCENE_LABELS)).quantize(16)
    assert (np.asarray(painted.convert('RGB')) == colorize(ids, SCENE_LABELS)).all() and (np.asarray(painted) != ids).any()
    painted.save('indexed.png')
    assert (synth(capsys, '--layout', 'indexed.png')[0] == wanted).all()
    other = Image.fromarray(ids, 'P')
    other.putpalette([v for i in range(256) for v in (i, 255-i, i//2)])
    other.save('other.png')
    assert (synth(capsys, '--layout', 'other.png')[0] == wanted).all()


def test_parse_beside_classes_of_others(here, capsys):
    "A map there would be read as theirs."
    Path('set/labels').mkdir(parents=True)
    Path('set/classes.txt').write_text('cat\ndog\n')
    refused(capsys, here, ('parse', '--image', 'photo.png', '--out', 'set/labels/m.png', '--model', 'model'), 'set/labels/m.png',
            'classes.txt', 'another folder')
    Path('set/classes.txt').write_text('\n'.join(SCENE_LABELS.classes))
    assert run(capsys, 'parse', '--image', 'photo.png', '--out', 'set/labels/m.png', '--model', 'model')[0] == 0


def test_parser_weights_that_are_none(here, capsys, dataset):
    "Nothing is left that would stand in the way of the next try."
    refused(capsys, here, (*TRAIN[:2], dataset, *TRAIN[3:], '--parser-weights', 'photo.png'), 'photo.png')


@pytest.mark.parametrize('theirs', ['rep.json', 'rep.csv', 'rep.png'])
def test_reports_that_would_overwrite(here, capsys, dataset, theirs):
    "Said before a model is loaded."
    Path(theirs).write_text('{}')
    refused(capsys, here, ('eval', '--data', dataset, '--out', 'rep.json', '--model', 'gone'), theirs, 'is there already')


def test_tables_that_would_be_overwritten(here, capsys, dataset):
    "A folder of somebody else's is not written into; one of an earlier comparison is, as far as it came."
    argv = 'compare', '--models', 'gone', 'model', '--data', dataset, '--out', 'tables'
    Path('tables').mkdir()
    Path('tables/table.tex').write_text('mine')
    refused(capsys, here, argv, 'tables/table.tex', 'is there already', 'another folder')
    Path('tables/reports').mkdir()
    refused(capsys, here, argv, 'gone')


def test_demo_keeps_what_was_changed(here, capsys):
    "A layout that somebody painted over since the grid was made."
    for name in ('layouts', 'exemplars'): Path('d', name).mkdir(parents=True)
    for name in ('layouts/coast.png', 'exemplars/photo.png', 'grid.png'): shutil.copy('photo.png', Path('d', name))
    os.utime('d/grid.png', (1_000_000_000, 1_000_000_000))
    os.utime('d/layouts/coast.png', (1_000_000_000, 1_000_000_000))
    refused(capsys, here, ('demo', '--out', 'd', '--model', 'gone'), 'd/exemplars/photo.png', 'newer than the grid', 'another folder')
    os.utime('d/exemplars/photo.png', (999_999_999, 999_999_999))
    refused(capsys, here, ('demo', '--out', 'd', '--model', 'gone'), 'gone')


@pytest.mark.parametrize('output', ['>&-', '| true', '> said'])
def test_outputs_that_lack_letters_or_are_closed(here, output):
    "Nothing that is printed ends a command, or shows a traceback."
    for command in ('--version', 'labels --model model'):
        done = subprocess.run(f'"{sys.executable}" -m msca {command} {output}', shell=True, env=dict(os.environ, PYTHONIOENCODING='ascii'),
                              stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (0, '')


# ---- training data ----------------------------------------------------------------------------------------------------

def first(folder): return sorted((Path('data')/folder).iterdir())[0]


def of_one_kind(path, n):
    for f in sorted(Path(path, 'images').iterdir())[n:]:
        f.unlink()
        Path(path, 'labels', f'{f.stem}.png').unlink()


def emptied():
    for f in [*Path('data/images').iterdir(), *Path('data/labels').iterdir()]: f.unlink()


DATASETS = {
    'no folder': (lambda: shutil.rmtree('data'), 'data', 'no such folder', 'classes.txt'),
    'no images': (lambda: shutil.rmtree('data/images'), 'data/images', 'no such folder'),
    'no labels': (lambda: shutil.rmtree('data/labels'), 'data/labels', 'no such folder'),
    'no classes': (lambda: Path('data/classes.txt').unlink(), 'classes.txt', 'no such file'),
    'nothing in it': (emptied, 'empty'),
    'orphan photo': (lambda: first('labels').unlink(), 'images/', 'has no partner'),
    'orphan map': (lambda: first('images').unlink(), 'labels/', 'has no partner'),
    'map of another size': (lambda: save_map(np.zeros((32, 64), np.uint8), first('labels')), 'labels/', '64×32', 'one size'),
    'map with foreign ids': (lambda: save_map(np.full((64, 64), 77, np.uint8), first('labels')), 'labels/', '77 (4096 pixels)'),
    'broken map': (lambda: cut(first('labels')), 'labels/', 'cut short'),
    'photo that is text': (lambda: first('images').write_text('hello'), 'images/', 'not an image'),
    'nothing labelled': (lambda: [save_map(np.full((64, 64), 255, np.uint8), f) for f in Path('data/labels').iterdir()], 'no pixel'),
    'unknown name in train.txt': (lambda: Path('data/train.txt').write_text('nobody\n'), 'train.txt', 'nobody'),
    'too few photos': (lambda: of_one_kind('data', 5), 'too few photos', 'only 5'),
    'held-out list too short': (lambda: Path('data/val.txt').write_text(first('images').stem), '11 to learn from and 1 to hold out',
                                'val.txt')}
TRAIN = ('train', '--data', 'data', '--out', 'r', '--size', '32', '--device', 'cpu', '--parser-epochs', '1', '--batch-size', '4')


@pytest.mark.parametrize('fault', DATASETS)
def test_training_data_that_cannot_be_used(here, capsys, dataset, fault):
    shutil.copytree(dataset, 'data')
    make, *expected = DATASETS[fault]
    make()
    refused(capsys, here, TRAIN, *expected)


def test_training_that_cannot_start(here, capsys, dataset):
    shutil.copytree(dataset, 'data')
    shutil.copytree(dataset, 'more')
    Path('more/classes.txt').write_text('\n'.join(f'thing {i}' for i in range(17)))
    Path('junk.npz').write_text('no weights')
    for extra, *expected in (
            (('--size', '128'), 'photos', 'smaller size'),
            (('--init', 'model'), 'model', 'configuration'),
            (('--init', 'more'), 'more', 'no checkpoint'),
            (('--labels', 'own', '--procedural', '20'), '--labels own', 'exactly one'),
            (('--data', 'data', 'more'), 'more/classes.txt', 'no class is known', 'sky'),
            (('--perceptual', 'squeezenet', '--perceptual-weights', 'junk.npz'), 'junk.npz'),
            (('--parser-weights', 'gone.npz'), 'gone.npz', 'no such file')):
        refused(capsys, here, (*TRAIN, *extra), *expected)
    if not __import__('torch').cuda.is_available(): refused(capsys, here, (*TRAIN[:7], '--device', 'cuda'), 'not available')


def test_weights_that_cannot_be_downloaded(here, capsys, dataset, monkeypatch, tmp_path_factory):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path_factory.mktemp('torch')))

    def unreachable(*_, **__): raise OSError('network is unreachable')
    monkeypatch.setattr(socket, 'getaddrinfo', unreachable)
    monkeypatch.setattr(socket.socket, 'connect', unreachable)
    before = listing(here)
    code, _, err = run(capsys, *TRAIN[:1], '--data', dataset, *TRAIN[3:], '--perceptual', 'vgg19')
    assert code == 2 and 'VGG-19' in err.splitlines()[-1] and 'local file' in err and 'Traceback' not in err
    assert listing(here) == before


def test_resuming_with_other_options(here, capsys, dataset):
    Path('r').mkdir()
    Path('r/options.json').write_text('{')
    refused(capsys, here, ('train', '--out', 'r', '--resume'), 'options.json', 'damaged')


# ---- what must work ---------------------------------------------------------------------------------------------------

def pixels(path): return np.asarray(Image.open(path).convert('RGB'), int)


def synth(capsys, *argv, out='out.png'):
    "The picture that `msca synth` writes, and what it said on the error stream."
    options = dict(zip(('--layout', '--exemplar', '--out', '--model', '--device'), ('layout.png', 'photo.png', out, 'model', 'cpu')))
    options |= dict(zip(argv[::2], argv[1::2]))
    code, said, err = run(capsys, 'synth', *(x for pair in options.items() for x in pair))
    assert code == 0, err
    assert str(options['--out']) in said
    return pixels(options['--out']), err


def rotated(im, path):
    exif = Image.Exif()
    exif[0x112] = 6
    im.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


def sixteen_bits(im, path): Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16)*257).save(path)


FORMS = {
    'gray.png': lambda im, p: im.convert('L').save(p), 'palette.png': lambda im, p: im.quantize(64).save(p),
    'cmyk.jpg': lambda im, p: im.convert('CMYK').save(p),
    'rgba.png': lambda im, p: im.convert('RGBA').save(p), 'gray+alpha.png': lambda im, p: im.convert('LA').save(p),
    '16-bit.png': sixteen_bits,
    '1-bit.png': lambda im, p: im.convert('1').save(p), 'turned.jpg': rotated, 'photo.webp': lambda im, p: im.save(p),
    'photo.gif': lambda im, p: im.save(p),
    'float.tif': lambda im, p: im.convert('F').save(p), 'wrong-ending.png': lambda im, p: im.save(p, 'JPEG')}


@pytest.mark.parametrize('form', FORMS)
def test_unusual_photos_work(here, capsys, scenes, form):
    FORMS[form](scenes[1].image, form)
    picture, err = synth(capsys, '--exemplar', form, '--exemplar-layout', 'map.png')  # a turned photo takes the upright map
    assert picture.shape == (64, 64, 3) and picture.std() > 0 and not err


def test_forms_of_a_layout_give_one_picture(here, capsys, scenes):
    layout = scenes[0].labels
    expected, _ = synth(capsys)
    Image.fromarray(painted()).save('painted.png')
    Image.fromarray(np.dstack([painted(), np.full(layout.shape, 255, np.uint8)])).save('painted-rgba.png')
    Image.fromarray(layout.astype(np.uint16)).save('deep.png')
    Image.fromarray(layout).save('map.bmp')
    indexed = Image.frombytes('P', layout.shape[::-1], layout.tobytes())
    indexed.putpalette(bytes(range(255, -1, -1))*3)
    indexed.save('indexed.png')
    for form in ('painted.png', 'painted-rgba.png', 'deep.png', 'map.bmp', 'indexed.png'):
        assert (synth(capsys, '--layout', form)[0] == expected).all(), form


def test_maps_of_another_set_are_read_by_name(here, capsys, scenes):
    layout, names = scenes[0].labels, [*SCENE_LABELS.classes[::-1], 'gadget']
    expected, _ = synth(capsys)
    theirs = np.where(layout == 255, 255, 16-layout).astype(np.uint8)
    text = '\n'.join(names).replace('vehicle', 'Auto-Mobile').replace('tree', 'VEGETATION').replace('Auto-Mobile', 'car')
    Path('list.txt').write_text(text)
    Path('set/labels').mkdir(parents=True)
    Path('set/classes.txt').write_text(text)
    for name in ('theirs.png', 'set/a.png', 'set/labels/a.png'): save_map(theirs, name)
    assert (synth(capsys, '--layout', 'theirs.png', '--classes', 'list.txt')[0] == expected).all()
    for name in ('set/a.png', 'set/labels/a.png'): assert (synth(capsys, '--layout', name)[0] == expected).all()
    colors = np.random.default_rng(0).permutation(200)[:17]
    Path('colors.txt').write_text('\n'.join(f'{c} {c+1} {c+2} {n}' for c, n in zip(colors, SCENE_LABELS.classes)))
    table = np.zeros((256, 3), np.uint8)
    table[:17] = [(c, c+1, c+2) for c in colors]
    save_map(table[layout], 'own-colors.png')
    assert (synth(capsys, '--layout', 'own-colors.png', '--palette', 'colors.txt')[0] == expected).all()


def test_lost_labels_are_a_warning_of_one_line(here, capsys, scenes):
    Path('list.txt').write_text('\n'.join([*SCENE_LABELS.classes, 'gadget']))
    theirs = scenes[0].labels.copy()
    theirs[:8] = 17
    save_map(theirs)
    _, err = synth(capsys, '--classes', 'list.txt')
    assert err.count('\n') == 1 and err.startswith('msca: warning: ') and 'gadget' in err and '12.5%' in err


def test_sizes(here, capsys, scenes):
    save_map(scenes[0].labels[:41])
    assert synth(capsys)[0].shape == (64, 100, 3)
    assert synth(capsys, '--size', 0)[0].shape == (41, 64, 3)
    assert synth(capsys, '--size', 30, '--exemplar-size', 0, '--out', 'new/folder/out.jpg')[0].shape == (30, 47, 3)
    assert synth(capsys, '--size', 16, '--exemplar-size', 200)[0].shape == (16, 25, 3)


def test_same_input_same_picture_and_old_files_are_replaced(here, capsys):
    Path('out.png').write_text('old')
    a, b = synth(capsys)[0], synth(capsys, '--out', 'again.png')[0]
    assert (a == b).all()
    assert {p.name for p in here.iterdir()} == {'layout.png', 'photo.png', 'map.png', 'model', 'out.png', 'again.png'}


def test_large_pictures_are_painted_in_bounded_memory(here, capsys, monkeypatch):
    "In tiles, and just as in one pass."
    import msca.pretrained.synthesizer
    whole = synth(capsys, '--size', 400)[0]
    monkeypatch.setattr(msca.pretrained.synthesizer, 'ONE_PASS', 128*128)
    monkeypatch.setattr(msca.pretrained.synthesizer.paint_in_tiles, '__defaults__', (96, 144, None))
    tiled = synth(capsys, '--size', 400)[0]
    assert np.abs(whole-tiled).max() <= 2


def test_parse_writes_a_map_that_synth_reads(here, capsys):
    options = '--out', 'parsed.png', '--overlay', 'tinted.jpg', '--model', 'model', '--device', 'cpu'
    code, said, err = run(capsys, 'parse', '--image', 'photo.png', *options)
    assert code == 0 and not err and '%' in said
    assert Image.open('parsed.png').mode == 'P' and Image.open('tinted.jpg').size == (96, 96)
    without, given = synth(capsys)[0], synth(capsys, '--exemplar-layout', 'parsed.png')[0]
    assert (without == given).all()
    assert (synth(capsys, '--layout', 'parsed.png', '--exemplar', 'photo.png')[0].shape) == (64, 64, 3)


def test_labels_lists_what_to_paint_with(here, capsys):
    code, said, err = run(capsys, 'labels', '--out', 'palette.png', '--model', 'model')
    rows = [re.match(r' *(\d+)  #(\w{6})  (.+)', line).groups() for line in said.splitlines()]
    assert code == 0 and not err and len(rows) == 18 and rows[17][0] == '255'
    told = [(int(number), tuple(bytes.fromhex(color)), name) for number, color, name in rows[:17]]
    assert told == list(zip(range(17), SCENE_LABELS.palette, SCENE_LABELS.classes))
    assert {SCENE_LABELS.palette[i] for i in range(17)} <= {c for _, c in Image.open('palette.png').getcolors(100_000)}


def test_scenes_are_the_same_for_the_same_seed(here, capsys):
    for out, seed in (('a', 5), ('b', 5), ('c', 6)):
        assert run(capsys, 'scenes', '--n', 3, '--size', 48, '--seed', seed, '--out', out)[0] == 0
    photos = {o: [pixels(p) for p in sorted(Path(o, 'images').iterdir())] for o in 'abc'}
    assert [len(p) for p in photos.values()] == [3, 3, 3] and len(list(Path('a/labels').iterdir())) == 3
    assert all((x == y).all() for x, y in zip(photos['a'], photos['b']))
    assert not any((x == y).all() for x, y in zip(photos['a'], photos['c']))
    assert Path('a/classes.txt').read_text().split('\n')[:17] == list(SCENE_LABELS.classes)


def test_demo_with_the_shipped_model(here, capsys):
    code, said, err = run(capsys, 'demo', '--out', 'd', '--device', 'cpu')
    assert code == 0 and not err and str(here/'d'/'grid.png') in said and 'scenes-256' in said
    assert Image.open('d/grid.png').size[0] > 700
    for folder in ('d/layouts', 'd/exemplars'): assert len(list(Path(folder).iterdir())) == 6
    assert run(capsys, 'synth', '--layout', 'd/layouts/coast.png', '--exemplar', 'd/exemplars/sunset.png')[0] == 0
    assert pixels('synth.png').shape[2] == 3


# ---- help, interruption, pipes ----------------------------------------------------------------------------------------

COMMAND = [sys.executable, '-c', 'import sys; from msca.commands.cli import main; sys.exit(main())']
SOON = "import sys, time\nfrom msca.commands.cli import main\ntry: main({!r})\nexcept SystemExit: pass\n" \
       "assert 'torch' not in sys.modules and 'fastai' not in sys.modules\nprint('seconds', time.process_time())"


@pytest.mark.parametrize('argv', [['--help'], *([c, '--help'] for c in COMMANDS), ['--version'], [], ['dance'], ['synth', '--size', '5'],
                                  ['train', '--out', 'new-run'], ['synth', '--layout', 'gone.png', '--exemplar', 'gone.jpg']], ids=' '.join)
def test_help_and_wrong_options_answer_at_once(argv, tmp_path):
    "Without torch, and within a second of this process's time: the machine may be busy."
    done = subprocess.run([sys.executable, '-c', SOON.format(argv)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1


def test_every_option_is_explained(capsys):
    assert {'demo', 'synth', 'parse', 'labels', 'scenes', 'train'} <= set(COMMANDS)
    for command, parser in COMMANDS.items():
        code, said, _ = run(capsys, command, '--help')
        assert code == 0 and f'msca {command}' in said and 'example' in said
        assert not [a.dest for a in parser._actions if not a.help], command


def test_the_installed_command(tmp_path):
    msca = Path(sys.executable).parent/'msca'
    if not msca.exists(): pytest.skip('the package is not installed')
    done = subprocess.run([msca, '--version'], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and re.fullmatch(r'msca \d+\.\d+\S*\n', done.stdout)


def start(*argv, cwd):
    "A process that Ctrl-C reaches, even where the tests run in the background."
    return subprocess.Popen([*COMMAND, *argv], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | dict(OMP_NUM_THREADS='1'), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(condition, process, seconds):
    end = time.time()+seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.time() < end, 'it takes too long'
        time.sleep(.05)


def test_ctrl_c_leaves_nothing(tmp_path):
    p = start('scenes', '--n', '100000', '--size', '64', '--out', 'many', cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob('.many*/labels/*.png')), p, 60)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert (p.returncode, err) == (130, 'msca: stopped\n')
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough(tmp_path):
    p = start('labels', cwd=tmp_path)
    p.stdout.close()
    p.stdout = None
    _, err = p.communicate(timeout=60)
    assert (p.returncode, err) == (0, '')


def test_unexpected_failures_take_one_line_too(here, capsys, monkeypatch):
    import msca.pretrained.synthesizer
    for error, expected in ((ZeroDivisionError('by zero\nagain'), 'unexpected ZeroDivisionError: by zero again'),
                            (MemoryError(), 'not enough memory'),
                            (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'), 'not enough memory')):
        def fail(*_, **__): raise error
        monkeypatch.setattr(msca.pretrained.synthesizer.Synthesizer, '__call__', fail)
        code, _, err = run(capsys, *GOOD, '--model', 'model')
        assert code == 1 and err.count('\n') == 1 and expected in err


# ---- training ---------------------------------------------------------------------------------------------------------

SMALL = ('train', '--procedural', '16', '--size', '32', '--device', 'cpu', '--parser-epochs', '1', '--pretrain-epochs', '1',
         '--warmup-epochs', '0',
         '--epochs', '1,1', '--batch-size', '4')


def test_train_then_synth_then_resume(here, capsys, monkeypatch):
    import msca.learning.segmenter_training

    def stopped(*_, **__): raise KeyboardInterrupt
    with monkeypatch.context() as patched:  # Ctrl-C before anything is trained
        patched.setattr(msca.learning.segmenter_training, 'train_segmenter', stopped)
        code, _, err = run(capsys, *SMALL, '--out', 'run')
    assert (code, err) == (130, 'msca: stopped; go on with: msca train --out run --resume\n')
    assert [p.name for p in Path('run').iterdir()] == ['options.json']
    code, said, err = run(capsys, 'train', '--out', 'run', '--resume', '--device', 'cpu')
    assert code == 0 and not err, err
    assert [w for w in ('parser', 'pretrain', 'stage1', 'stage2') if f'{w} epoch 1/1' not in said] == []
    kept = {'config.json', 'model.safetensors', 'parser.json', 'parser.safetensors', 'options.json', 'history.csv', 'history.png',
            'samples', 'best', 'held-out'}
    assert kept <= {p.name for p in Path('run').iterdir()}
    assert not list(here.rglob('*.tmp'))
    picture, _ = synth(capsys, '--model', 'run')
    assert picture.shape == (32, 32, 3)
    best, _ = synth(capsys, '--model', 'run/best')  # with the run's parser
    assert best.shape == (32, 32, 3)
    from msca.commands.app import own_scenes, run_data  # what `msca app --model run/best` begins with
    from msca.pretrained.synthesizer import Synthesizer
    layouts, photos = own_scenes(**run_data('run/best'), s=Synthesizer.load('run/best', 'cpu'))
    assert 3 <= len(layouts) <= 8 and list(layouts) == list(photos) and all(min(x.size) == 32 for x in layouts.values())
    before = Path('run/model.safetensors').read_bytes()
    code, said, err = run(capsys, 'train', '--out', 'run', '--resume')
    assert code == 0 and not err and 'trained' in said and Path('run/model.safetensors').read_bytes() == before
    refused(capsys, here, ('train', '--out', 'run', '--resume', '--size', '64'), 'started with --size 32, not 64')
    refused(capsys, here, (*SMALL, '--out', 'run'), 'not empty', '--resume')


def test_nothing_to_train_is_said(here, capsys):
    refused(capsys, here, ('train', '--procedural', '16', '--epochs', '0,0', '--warmup-epochs', '0', '--pretrain-epochs', '0', '--out', 'run'), 'all 0')


def test_advice_about_weights_names_the_options():
    from msca.base.weights import download_weights
    from msca.commands.training import _train_options, training_recipe, weights_advice
    told = lambda said, *argv: weights_advice(said, a := _train_options(['--out', 'r', *argv]), training_recipe(a))
    def lost(*_, **__): raise OSError
    with pytest.MonkeyPatch.context() as m:
        m.setattr('torch.hub.load_state_dict_from_url', lost)
        m.setattr('torchvision.models._api.load_state_dict_from_url', lost)
        with pytest.raises(InputError) as e: download_weights('VGG16_Weights.IMAGENET1K_V1', 'VGG-16')
    assert 'pass a local file with --perceptual-weights (torchvision' in told(str(e.value), '--config', 'scenes')
    assert 'with --vgg-weights and --perceptual-weights (' in told('VGG-19 weights …; pass a local file (x)', '--config', 'paper')
    assert 'with --backbone-weights (' in told('resnet18 weights …; pass a local file (x)', '--config', 'scenes', '--backbone', 'resnet18')
    assert told('anything else', '--config', 'paper') == 'anything else'


def test_training_from_a_shipped_model_with_noise(here, capsys):
    argv = (*SMALL[:-3], '1,0', *SMALL[-2:], '--parser-epochs', '0', '--pretrain-epochs', '0', '--loss-weights', 'texture=2')
    code, said, err = run(capsys, *argv, '--init', 'scenes-128', '--noise', '1', '--upsampling', 'bilinear', '--out', 'first')
    assert code == 0 and not err and 'texture weight 2' in said, err
    code, said, err = run(capsys, *argv, '--init', 'first', '--out', 'second')  # with noise and up-sampling of what it starts from
    assert code == 0 and not err, err
    for f in ('first', 'second'):
        shape = json.loads((here/f/'config.json').read_text())['synthesizer']
        assert (shape['noise'], shape['upsampling']) == (1, 'bilinear')
    refused(capsys, here, (*argv, '--init', 'first', '--noise', '0', '--out', 'third'), 'first', 'another configuration')


@pytest.mark.slow
def test_train_on_a_folder_keeps_its_own_classes(here, capsys, dataset):
    shutil.copytree(dataset, 'data')
    names = [*SCENE_LABELS.classes]
    names[:2] = 'Himmel', 'Berg'
    Path('data/classes.txt').write_text('\n'.join(names))
    code, said, err = run(capsys, *TRAIN, '--epochs', '0,1', '--pretrain-epochs', '0', '--warmup-epochs', '0', '--parser-epochs', '0')
    assert code == 0 and not err and '12 photos' in said, err
    assert [line.split()[-1] for line in run(capsys, 'labels', '--model', 'r')[1].splitlines()[:2]] == ['Himmel', 'Berg']
    refused(capsys, here, (*GOOD, '--model', 'r'), 'no segmenter')
    assert synth(capsys, '--model', 'r', '--exemplar-layout', 'map.png')[0].shape == (32, 32, 3)


@pytest.mark.slow
def test_training_goes_on_after_ctrl_c(here, capsys):
    argv = [*SMALL[:-3], '6,1', *SMALL[-2:]]
    p = start(*argv, '--out', 'run', cwd=here)
    wait_for(lambda: Path('run/training.pt').exists() and Path('run/model.safetensors').exists(), p, 120)
    time.sleep(.3)
    p.send_signal(signal.SIGINT)
    said, err = p.communicate(timeout=60)
    assert (p.returncode, err) == (130, 'msca: stopped; go on with: msca train --out run --resume\n')
    assert 'stage2 epoch' not in said and not list(here.rglob('*.tmp'))
    code, said, err = run(capsys, 'train', '--out', 'run', '--resume')
    assert code == 0 and not err and 'stage2 epoch 1/1' in said and 'pretrain epoch' not in said and 'parser epoch' not in said


# ---- real photos ------------------------------------------------------------------------------------------------------

def photo_of(folder, word=''):
    name = next(n for n in sorted(p.stem for p in (DATA/folder/'images').iterdir()) if word in n)
    return next((DATA/folder/'images').glob(f'{name}.*')), DATA/folder/'labels'/f'{name}.png'


@needs_photos
def test_synth_across_folders(here, capsys):
    "A facade's layout, in its own ids, in the style of a beach."
    _, layout = photo_of('labelmefacade')
    exemplar, its_map = photo_of('siftflow', 'coast')
    options = '--layout', layout, '--exemplar', exemplar, '--model', 'scenes-128'
    parsed, _ = synth(capsys, *options)
    given, _ = synth(capsys, *options, '--exemplar-layout', its_map)
    ids = load_labels(layout)
    Image.fromarray(ids).save('ids.png')
    assert (synth(capsys, *options, '--layout', 'ids.png')[0] == parsed).all()  # ids of the shared set: the same layout
    assert min(parsed.shape[:2]) == min(given.shape[:2]) and abs(parsed.shape[1]/parsed.shape[0] - ids.shape[1]/ids.shape[0]) < .02


@needs_photos
def test_parse_a_real_photo(here, capsys):
    exemplar, _ = photo_of('siftflow', 'coast')
    code, said, err = run(capsys, 'parse', '--image', exemplar, '--out', 'm.png')
    assert code == 0 and not err and Image.open('m.png').size == Image.open(exemplar).size


@needs_photos
@pytest.mark.slow
def test_train_on_real_photos(here, capsys):
    for part in ('images', 'labels'): Path('data', part).mkdir(parents=True)
    shutil.copy(DATA/'siftflow'/'classes.txt', 'data')
    for photo in sorted((DATA/'siftflow'/'images').iterdir())[::120]:
        shutil.copy(photo, 'data/images')
        shutil.copy(DATA/'siftflow'/'labels'/f'{photo.stem}.png', 'data/labels')
    code, said, err = run(capsys, 'train', '--data', 'data', '--out', 'run', '--config', 'compact', '--size', '128', '--epochs', '1,1',
                          '--pretrain-epochs', '0', '--warmup-epochs', '0', '--parser-epochs', '1', '--batch-size', '4', '--device', 'cpu')
    assert code == 0 and 'stage1 epoch 1/1' in said and 'stage2 epoch 1/1' in said, err
    exemplar, _ = photo_of('siftflow', 'coast')
    assert synth(capsys, '--layout', photo_of('labelmefacade')[1], '--exemplar', exemplar, '--model', 'run')[0].std() > 0
