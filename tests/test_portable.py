"The exported forms: the same pictures as the synthesizer, in processes that cannot see this package."
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from msca import Synthesizer
from msca.base.labels import colorize
from msca.commands.cli import main
from msca.commands.picture import demo_inputs
from msca.data.scene import indexed_image
from msca.model.portable import PortableSegmenter, PortableSynthesizer, export_program
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import build_synthesizer, find_variant
from msca.pretrained.models import model_folder

ISOLATED = [sys.executable, '-W', 'ignore', '-c',
            'import sys, runpy; sys.modules["msca"] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")']
SIZES = (1, 128, 128, 128, 128), (2, 48, 96, 112, 64)  # batch, layout, exemplar
CLOSE = 1e-3


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "The shipped model, exported by the command."
    out = tmp_path_factory.mktemp('portable')/'model'
    assert main(['export', '--out', str(out)]) == 0
    return out


@pytest.fixture(scope='module')
def synthesizer(): return Synthesizer.load(device='cpu', quiet=True, precision='float32')


def inputs(b, height, width, h, w):
    "Random ids, known, unknown and unlabelled, and a random photo."
    rng = np.random.default_rng(0)
    ids = [rng.choice([*range(17), 200, 255], s).astype(np.uint8) for s in ((b, height, width), (b, h, w))]
    return dict(layout=ids[0], exemplar=rng.integers(0, 256, (b, h, w, 3), dtype=np.uint8), exemplar_layout=ids[1])


@pytest.mark.parametrize('size', SIZES)
def test_synthesizer(folder, synthesizer, size):
    "ONNX and torch.export agree with the network, at sizes that they were not traced with."
    given = inputs(*size)
    tensors = [torch.from_numpy(v) for v in given.values()]
    with torch.inference_mode():
        wanted = PortableSynthesizer(synthesizer.model)(*tensors).numpy()
        program = torch.export.load(folder/'synthesizer.pt2').module()(*tensors).numpy()
    graph, = onnxruntime.InferenceSession(str(folder/'synthesizer.onnx')).run(['picture'], given)
    assert wanted.std() > .02
    assert abs(program-wanted).max() < CLOSE and abs(graph-wanted).max() < CLOSE


def test_parser(folder):
    photo = np.array(demo_inputs(128)[1]['photo'].resize((160, 128)))[None]
    with torch.inference_mode():
        wanted = PortableSegmenter(load_segmenter(model_folder())[0])(torch.from_numpy(photo)).numpy()
        program = torch.export.load(folder/'parser.pt2').module()(torch.from_numpy(photo)).numpy()
    graph, = onnxruntime.InferenceSession(str(folder/'parser.onnx')).run(None, dict(photo=photo))
    assert len(np.unique(wanted)) > 2
    assert (program == wanted).mean() > .999 and (graph == wanted).mean() > .999


def paint(folder, *files):
    "Run paint.py where neither this package nor torch can be seen."
    return subprocess.run([*ISOLATED, folder/'paint.py', *files], capture_output=True, text=True)


def test_paint(folder, synthesizer, tmp_path):
    "paint.py makes the synthesizer's picture without this package and without torch."
    layouts, exemplars = demo_inputs(128)
    scene = layouts['coast']
    indexed_image(scene.labels, scene.label_set).save(tmp_path/'layout.png')
    exemplars['sunset'].save(tmp_path/'exemplar.png')
    ids = synthesizer.parse(exemplars['sunset'])
    indexed_image(ids, scene.label_set).save(tmp_path/'ids.png')
    text = (folder/'paint.py').read_text()
    assert 'torch' not in text and 'msca' not in text
    for more, exemplar_layout, levels in (([], None, 2), ([tmp_path/'ids.png'], ids, 1)):  # its own parser decides a few pixels at borders otherwise
        done = paint(folder, tmp_path/'layout.png', tmp_path/'exemplar.png', tmp_path/'out.png', *more)
        assert done.returncode == 0, done.stderr
        wanted = np.asarray(synthesizer(scene, exemplars['sunset'], exemplar_layout), int)
        with Image.open(tmp_path/'out.png') as im: apart = abs(np.asarray(im, int)-wanted)
        assert apart.max() <= levels and apart.mean() < .25
    assert paint(folder).returncode == 1


def test_paint_at_other_sizes(folder, synthesizer, tmp_path):
    "A painted layout and a photo of other sizes: nearly the synthesizer's picture, of the same size; mistakes in one line."
    scene, photo = demo_inputs(200)[0]['coast'], demo_inputs(200)[1]['photo'].resize((300, 200))
    layout = Image.fromarray(colorize(scene.labels, scene.label_set)).crop((0, 0, 200, 150))
    layout.save(tmp_path/'layout.png')
    photo.save(tmp_path/'photo.png')
    done = paint(folder, tmp_path/'layout.png', tmp_path/'photo.png', tmp_path/'out.png')
    assert done.returncode == 0, done.stderr
    wanted = synthesizer(layout, photo)
    with Image.open(tmp_path/'out.png') as im:
        assert im.size == wanted.size == (341, 256)
        assert abs(np.asarray(im, float)-np.asarray(wanted, float)).mean() < 4
    Image.new('RGB', (64, 64), (1, 2, 3)).save(tmp_path/'odd.png')
    Image.new('L', (64, 64), 99).save(tmp_path/'ids.png')
    Image.new('L', (64, 64), 255).save(tmp_path/'empty.png')
    layout.save(tmp_path/'layout.jpg')
    layout.resize((90, 70), Image.Resampling.BILINEAR).save(tmp_path/'blurred.png')
    for files, says in ((('odd.png', 'photo.png'), "not in the palette of 'model.json': #010203"), (('empty.png', 'photo.png'), 'no class of model.json'),
                        (('layout.jpg', 'photo.png'), 'save it as PNG'),
                        (('blurred.png', 'photo.png'), 'paint without smoothing'), (('ids.png', 'photo.png'), 'id 99'),
                        (('layout.png', 'gone.png'), 'gone.png'),
                        (('layout.png', 'photo.png', 'layout.png'), 'but the photo has')):
        done = paint(folder, *(tmp_path/f for f in files[:2]), tmp_path/'none.png', *(tmp_path/f for f in files[2:]))
        assert done.returncode == 1 and says in done.stderr and done.stderr.count('\n') == 1, done.stderr
    assert not (tmp_path/'none.png').exists()


def test_sides_that_cannot_be(folder):
    "The graph refuses what is no multiple of 16."
    graph = onnxruntime.InferenceSession(str(folder/'synthesizer.onnx'))
    assert graph.run(None, inputs(1, 48, 32, 32, 32))[0].shape == (1, 48, 32, 3)
    with pytest.raises(Exception, match=r'(?i)onnxruntime'): graph.run(None, inputs(1, 40, 32, 32, 32))


def test_folder(folder, synthesizer):
    "What a program in another language needs to know."
    about = json.loads((folder/'model.json').read_text())
    assert about['classes'] == list(synthesizer.label_set.classes) and about['size'] == 256 and 'non-commercial' in about['notice']
    assert {p.name for p in folder.iterdir()} == {'synthesizer.onnx', 'synthesizer.pt2', 'parser.onnx', 'parser.pt2', 'model.json',
                                                  'paint.py'}


@pytest.mark.parametrize('variant', ['gap', 'no-gate', 'no-attention', 'spade', 'spade-vae', 'sean', 'groupdnet', 'tsit', 'cocosnet', 'dense'])
def test_variants(variant):
    "Every relative can be exported, for any number of pictures."
    model = build_synthesizer(variant, find_variant(variant).config.compact(17)).eval().requires_grad_(False)
    portable = PortableSynthesizer(model)
    tensors = [torch.from_numpy(v) for v in inputs(3, 48, 64, 64, 32).values()]
    assert (export_program(portable).module()(*tensors)-portable(*tensors)).abs().max() < 1e-5


def test_refused(tmp_path, capsys):
    "One line, exit code 2, nothing written."
    for argv, says in ((['--model', 'nothing', '--out', str(tmp_path/'a')], 'neither a shipped model'),
                       (['--out', str(model_folder())], 'has other files in it')):
        assert main(['export', *argv]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count('\n') == 1
    assert not (tmp_path/'a').exists()
