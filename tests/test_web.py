"The page that paints: its scripts against Python's answers, the folder that the command writes, and what a browser makes of it."
import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
import pytest
import torch
from PIL import Image

import msca.commands.web as web
from msca import Synthesizer
from msca.app.painter import STATIC, LabelCanvas, brushed, filled
from msca.base.labels import SCENE_LABELS, UNLABELLED, InputError, LabelSet, colorize, resize_labels
from msca.commands.cli import main
from msca.data.cache import cache_folder
from msca.data.photographs import example_photo
from msca.data.render import procedural_scene
from msca.data.scene import image_to_tensor
from msca.model.checkpoint import save_synthesizer
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig, build_synthesizer, find_variant
from msca.pretrained.models import model_folder, parser_folder

NODE = shutil.which('node')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')
needs_node = pytest.mark.skipif(not NODE, reason='no Node.js')
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='no Chromium with chromedriver; `make browser` installs them where it can')
PATIENCE = 90  # seconds; a busy machine is no failure
CLOSE = 2  # levels of 255


# ---- the scripts, in Node.js --------------------------------------------------------------------------------------------

def node(code, **given):
    "What a module gives for JSON: the code sees `given` and all that the page's modules export, and calls `tell`."
    names = dict(maps='brushed, filled, resized, shares, History, readColors', pillow='resample, LANCZOS, BILINEAR',
                 photos='readySize, workSize, forParser, forEncoder, bestLabels')
    imports = '\n'.join(f"import {{{what}}} from {json.dumps((Path(str(STATIC))/f'{name}.js').as_uri())}" for name, what in names.items())
    program = f'''{imports}
    import fs from 'fs'
    const given = JSON.parse(fs.readFileSync(0)), tell = x => process.stdout.write(JSON.stringify(x))
    const bytes = text => new Uint8Array(Buffer.from(text, 'base64')), text = a => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('base64')
    {code}'''
    done = subprocess.run([NODE, '--no-warnings', '--input-type=module', '-e', program], input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text_of(a): return base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()
def array_of(text, shape, dtype=np.uint8): return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


@needs_node
def test_strokes_and_fills_are_pythons():
    "The page and the widget of `msca app` paint the same pixels."
    rng, ids = np.random.default_rng(0), np.zeros((40, 56), np.uint8)
    strokes = [dict(points=(rng.random((int(rng.integers(1, 5)), 2))*(70, 50)-6).tolist(), label=int(rng.integers(1, 4)), width=float(w)) for w in (1, 1.5, 3, 8, 21)*6]
    fills = [dict(row=int(rng.integers(40)), col=int(rng.integers(56)), label=int(rng.integers(4))) for _ in range(12)]
    theirs = node('''let map = {ids: bytes(given.ids), size: given.size}
        const before = map.ids.slice(), first = map
        for (const s of given.strokes) map = brushed(map, s.points, s.label, s.width)
        const strokes = text(map.ids)
        for (const f of given.fills) map = filled(map, f.row, f.col, f.label)
        tell([strokes, text(map.ids), text(resized(map, [64, 24]).ids), before.every((v, i) => v === first.ids[i])])''',
        ids=text_of(ids), size=ids.shape, strokes=strokes, fills=fills)
    for s in strokes: ids = brushed(ids, **s)
    assert len(np.unique(ids)) == 4 and (array_of(theirs[0], ids.shape) == ids).all()
    for f in fills: ids = filled(ids, **f)
    assert (array_of(theirs[1], ids.shape) == ids).all()
    assert (array_of(theirs[2], (64, 24)) == resize_labels(ids, (64, 24))).all()
    assert theirs[3]


@needs_node
def test_undoing_is_pythons():
    "The same messages leave the same map and the same steps in both owners of a drawing."
    stroke = dict(stroke=True, label=2, width=6)
    told = [dict(stroke, first=True, points=[(3, 3), (20, 9)]), dict(stroke, first=False, points=[(20, 9), (28, 28)]), dict(fill=True, row=30, col=2, label=1), dict(undo=True),
            dict(undo=True), dict(undo=True), dict(redo=True), dict(stroke, first=True, points=[(9, 20)]), dict(redo=True), dict(undo=True)]
    canvas = LabelCanvas(np.zeros((32, 32), np.uint8), SCENE_LABELS)
    ours = []
    for number, what in enumerate(told):
        canvas.receive(dict(what, number=number))
        ours.append([text_of(canvas.array), list(canvas.steps)])
    assert ours == node('''const history = new History({ids: new Uint8Array(32*32), size: [32, 32]})
        tell(given.told.map(what => { history.apply(what); return [text(history.map.ids), history.steps] }))''', told=told)
    assert [steps for _, steps in ours][-3:] == [[2, 0], [2, 0], [1, 1]]


@needs_node
@pytest.mark.parametrize('size', ((64, 64), (60, 60), (37, 91), (300, 201), (41, 333), (120, 40), (33, 90)))
def test_photos_are_resized_as_pillow_does(size):
    "Every byte, smaller and larger, for both filters; before Pillow 13 the order of the passes was another."
    rng = np.random.default_rng(1)
    photo, wanted = rng.integers(0, 256, (120, 90, 3), np.uint8), (size[1], size[0])
    for name in ('LANCZOS', 'BILINEAR'):
        theirs = node(f'tell(text(resample(bytes(given.photo), given.from, given.to, {name})))', photo=text_of(photo), **{'from': photo.shape[:2], 'to': size})
        ours = np.asarray(Image.fromarray(photo).resize(wanted, Image.Resampling[name])).astype(int)
        assert abs(array_of(theirs, (*size, 3))-ours).max() <= (0 if int(PIL.__version__.split('.')[0]) >= 13 else 2)


@needs_node
@pytest.mark.parametrize('size', ((256, 256), (200, 331), (64, 80), (700, 500), (16, 250)))
def test_a_photo_is_parsed_as_in_python(size):
    "Sizes, the padded photo, and the labels that are read off the scores."
    s, segmenter = Synthesizer.load(device='cpu', quiet=True), load_segmenter(parser_folder(model_folder(None)))[0].requires_grad_(False)
    photo = example_photo('stream').resize(size[::-1])
    ready, config = s.read_exemplar(photo), segmenter.config
    small, padded, work, mine = node('''const rgb = bytes(given.photo), p = forParser(rgb, given.size, given.sides), ready = readySize(given.size, given.short)
        tell([text(p.pixels), p.size, p.work, text(forEncoder(rgb, given.size, ready))])''',
        photo=text_of(photo), size=size, sides=[config.min_side, config.max_side], short=s.size)
    assert (array_of(mine, ready.photo.shape) == ready.photo).all()
    with torch.inference_mode(): scores = segmenter(image_to_tensor(array_of(small, (*padded, 3)))[None])[0].numpy()
    labels = node('''const [ids] = [bestLabels(new Float32Array(bytes(given.scores).buffer), given.dims, given.work, given.size, given.ready)]; tell(text(ids))''',
                  scores=text_of(scores), dims=scores.shape, work=work, size=size, ready=ready.ids.shape)
    assert (array_of(labels, ready.ids.shape) == ready.ids).mean() > .9995


@needs_node
def test_smoothed_edges_snap_and_a_photo_is_no_layout():
    palette = [[n, f'#{bytes(c).hex()}', i] for i, (n, c) in enumerate(zip(SCENE_LABELS.classes, SCENE_LABELS.palette))] + [['unlabelled', '#000000', UNLABELLED]]
    ids = procedural_scene(2, 96).labels.copy()
    ids[:9, :9] = UNLABELLED
    exact = np.dstack([colorize(ids, SCENE_LABELS), np.full_like(ids, 255)])
    smooth = np.array(Image.fromarray(exact).resize((192, 192), Image.Resampling.BILINEAR))
    code = 'const {map, snapped} = readColors(bytes(given.rgba), given.size, given.palette); tell([text(map.ids), snapped])'
    got, snapped = node(code, rgba=text_of(exact), size=ids.shape, palette=palette)
    assert (array_of(got, ids.shape) == ids).all() and snapped == 0
    got, snapped = node(code, rgba=text_of(smooth), size=(192, 192), palette=palette)
    assert snapped > 0 and (array_of(got, (192, 192)) == resize_labels(ids, (192, 192))).mean() > .97
    photo = np.dstack([np.asarray(example_photo('stream')), np.full((example_photo('stream').height,)*2, 255)]).astype(np.uint8)
    said = node(f'try {{ {code} }} catch (e) {{ tell(e.message) }}', rgba=text_of(photo), size=photo.shape[:2], palette=palette)
    assert 'no label map in the colors' in said


def test_the_widget_and_the_page_draw_with_one_source():
    source = (Path(str(STATIC))/'drawing.js').read_text(encoding='utf-8')
    assert LabelCanvas._esm.default_value if hasattr(LabelCanvas._esm, 'default_value') else str(LabelCanvas._esm).startswith(source)
    assert "from './drawing.js'" in (Path(str(STATIC))/'page.js').read_text(encoding='utf-8')


# ---- mistakes -----------------------------------------------------------------------------------------------------------

def refusal(capsys, *argv):
    "The only line that a command says before it gives up."
    capsys.readouterr()
    assert main(['export', *argv]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1, (out, err)
    return err


def toy(folder, variant='msca', n_labels=2):
    "An untrained checkpoint."
    kitchen = LabelSet('kitchen', ('spoon', 'fork'), ((200, 30, 30), (30, 30, 200)))
    torch.manual_seed(0)
    if variant == 'msca':
        widths = dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'slots', 'widths', 'spade_hidden'), (8,)*5)
        model = SceneSynthesizer(SynthesizerConfig(2, mlp_width=8, init_gain=1., **widths))
    else: model = build_synthesizer(variant, find_variant(variant).config.compact(2), None)
    save_synthesizer(model, kitchen, 64, folder)
    return folder


def test_mistakes_are_said_in_a_line(capsys, tmp_path, monkeypatch):
    "Before anything is computed or written."
    other = tmp_path/'other'
    other.mkdir()
    (other/'notes.txt').write_text('mine')
    wrong = tmp_path/'runtime.tgz'
    wrong.write_bytes(b'something else')
    assert 'has other files in it' in refusal(capsys, '--format', 'web', '--out', str(other))
    assert 'by its checksum' in refusal(capsys, '--format', 'web', '--out', str(tmp_path/'a'), '--runtime', str(wrong))
    assert 'no such file' in refusal(capsys, '--format', 'web', '--out', str(tmp_path/'a'), '--runtime', str(tmp_path/'absent.tgz'))
    assert '--data goes with --format web' in refusal(capsys, '--out', str(tmp_path/'a'), '--data', str(other))
    monkeypatch.setenv('MSCA_CACHE', str(tmp_path/'empty'))
    monkeypatch.setattr(web.shutil, 'which', lambda name: None)
    assert 'npm pack onnxruntime-web@' in refusal(capsys, '--format', 'web', '--out', str(tmp_path/'a'))
    assert not (tmp_path/'a').exists() and (other/'notes.txt').read_text() == 'mine'


def test_models_without_kept_styles_and_without_a_parser_are_refused(tmp_path):
    s = Synthesizer.load(toy(tmp_path/'kitchen'), device='cpu', quiet=True)
    with pytest.raises(InputError, match='has no parser.*--data'): web.page_scenes(s)
    from msca.model.stages import cut_stages
    for variant in ('spade', 'spade-vae'):
        with pytest.raises(InputError, match='cannot be cut into encode and paint'): cut_stages(Synthesizer.load(toy(tmp_path/variant, variant), device='cpu', quiet=True).model)
