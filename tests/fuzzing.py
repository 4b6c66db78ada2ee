"""Feed damaged and odd files to every reader and command, and watch what happens: `make fuzz`.

An input is a real file with some bytes flipped, cut, repeated or replaced, or JSON and CSV with other values in them. What may happen: it is
read, or refused by `InputError` (a command: exit code 2) in one line of printable text. Anything else is a violation: another exception, a
line that has no end, something on standard error, more time or memory than a limit, or other content than was written, where the format can tell.
"""
import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
import struct
import sys
import tempfile
import time
import unittest.mock
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.update(CUDA_VISIBLE_DEVICES='', HF_HUB_OFFLINE='1')
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from msca.base.labels import SCENE_LABELS, InputError
from msca.data.render import procedural_scene

SECONDS, MEGABYTES = 10, 600  # of processor time, and beyond the largest so far


class Violation(AssertionError):
    "An input with which something happened that may not."


# ---- what is done to a file -----------------------------------------------------------------------------------------------------------

FLIP, CUT, DROP, REPEAT, PUT = range(5)
ODD_BYTES = b'\x00', b'\xff\xff\xff\xff', b'\x1b[31m', b'\n', b'\xe9', b'9' * 400, b'A' * 3000, b'[' * 2000
STEP = st.tuples(st.sampled_from((FLIP, FLIP, FLIP, CUT, DROP, REPEAT, PUT)), st.floats(0, 1, exclude_max=True), st.integers(0, 7))


def damaged(data, steps):
    "Bytes after some steps, each (what, where as a part of the whole, how)."
    data = bytearray(data)
    for what, where, how in steps:
        at = int(where * len(data))
        if not data: break
        if what == FLIP: data[at] ^= 1 << how
        if what == CUT: del data[at:]
        if what == DROP: del data[at:at + 2**how]
        if what == REPEAT: data[at:at] = data[at:at + 2**how]
        if what == PUT: data[at:at] = ODD_BYTES[how]
    return bytes(data)


ODD_VALUES = st.sampled_from((None, True, -1, 0, 3, 10**6, 2**63, 10**400, 1e308, -1e-300, '', 'x', '\x1b[31m', 'x' * 2000, '../../up', 'é\u202e', [], [[]],
                              [None], [{}], {}, {'a': 1}, ['a', 'a'], [[255, 0]], [10**6] * 5, [-1] * 5, [[0, 0, 0]] * 17))


def places(value, path=()):
    "Every place in a JSON value."
    yield path
    for k, v in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else (): yield from places(v, (*path, k))


def replaced(value, path, new):
    "A copy of a JSON value with another one in a place."
    if not path: return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


@st.composite
def json_texts(draw, seed):
    "A JSON file with other values, or without some."
    value = json.loads(seed)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))))
        if path and draw(st.booleans()) and draw(st.booleans()):
            parent = value
            for k in path[:-1]: parent = parent[k]
            if isinstance(parent, dict): parent.pop(path[-1])
        else: value = replaced(value, path, draw(ODD_VALUES))
    return json.dumps(value).encode()


@st.composite
def inputs(draw, seeds):
    "One of the real files, damaged."
    data = draw(st.sampled_from(seeds))
    if data[:1] == b'{' and draw(st.booleans()): return data, draw(json_texts(data))
    steps = st.lists(STEP, min_size=1, max_size=3) if draw(st.booleans()) else st.tuples(st.tuples(st.just(FLIP), st.floats(0, 1, exclude_max=True), st.integers(0, 7)))
    return data, damaged(data, draw(steps))


# ---- what reads it --------------------------------------------------------------------------------------------------------------------

@dataclass
class Target:
    "Something that reads a file."
    name:str
    file:str                             # where the input is put, in the scratch folder
    seeds:list                           # real files, as bytes
    read:Callable                        # called with the path; what it gives is compared
    slow:bool = False                    # a command that computes: a quarter as many inputs
    same:Callable = None                 # (real file, damaged file, what was read) → whether that may be; None: not compared
    inputs:int = 0
    refused:int = 0
    slowest:float = 0.
    violations:list = field(default_factory=list)


def saved(image, kind, **how):
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


def tiny_model(folder):
    "An untrained model with everything that a model's folder can hold."
    import torch

    from msca.model.checkpoint import save_synthesizer
    from msca.model.segmenter import SceneSegmenter, SegmenterConfig, save_segmenter
    from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig
    torch.manual_seed(0)
    widths = dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'slots', 'widths', 'spade_hidden'), (8,) * 5)
    save_synthesizer(SceneSynthesizer(SynthesizerConfig(17, mlp_width=8, init_gain=1., **widths)), SCENE_LABELS, 32, folder)
    save_segmenter(SceneSegmenter(SegmenterConfig(17, width=2)), SCENE_LABELS, folder)


def run(*argv):
    "Run a command in this process: (exit code, what it said on standard error)."
    from msca.commands.cli import main
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True) for _ in 'oe')
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = main([str(a) for a in argv])
        except SystemExit as e: code = e.code
    return code, err.buffer.getvalue().decode()


def command(*argv):
    "A reader that is a command; FILE stands for the damaged file."
    def read(path):
        code, err = run(*(path if a == 'FILE' else a for a in argv))
        said = [line for line in err.splitlines() if not line.startswith('msca: warning: ')]
        if code not in (0, 2) or (code == 0) != (not said) or len(said) > 1: raise Violation(f'exit {code}: {err[:300]}')
        if said: raise InputError(said[0])
    return read


def targets(scratch):
    "Every reader and command, with real files."
    from msca.base.files import read_json
    from msca.base.labels import colorize
    from msca.base.palettes import read_classes, read_palette
    from msca.base.weights import load_weights_file
    from msca.commands.training import saved_options
    from msca.data.annotations import paint_shapes, read_annotations
    from msca.data.cache import cached_arrays
    from msca.data.exports import convert_exports
    from msca.data.scene import indexed_image, load_labels, load_photo
    from msca.evidence.study import Study, preference_text, read_answers
    from msca.learning.history import history_lines, read_history, trim_history
    from msca.learning.states import newest_state
    from msca.model.checkpoint import load_synthesizer
    from msca.model.segmenter import load_segmenter
    scene, photo = procedural_scene(3, 64), procedural_scene(8, 64).image
    ids, maps, photos = scene.labels, scratch/'maps', scratch/'photos'
    for folder in (maps, photos, scratch/'run', scratch/'study'/'answers', scratch/'cache', scratch/'data'/'images', scratch/'data'/'labels'): folder.mkdir(parents=True)
    tiny_model(scratch/'model')
    model, layout, exemplar = scratch/'model', scratch/'l.png', scratch/'x.png'
    Image.fromarray(ids).save(layout)
    photo.save(exemplar)
    study = dict(format='msca-study', version=1, models=['A', 'B'], scenes=[dict(name=f's{k}', exemplar='e') for k in range(3)], seed=0)
    (scratch/'study'/'study.json').write_text(json.dumps(study))
    for k in range(5):
        procedural_scene(k, 64).image.save(scratch/'data'/'images'/f'{k}.png')
        Image.fromarray(procedural_scene(k, 64).labels).save(scratch/'data'/'labels'/f'{k}.png')
    (scratch/'data'/'classes.txt').write_text('\n'.join(SCENE_LABELS.classes))
    answers = 'scene,left,right,answer,seconds,time\n' + ''.join(f's{k},A,B,{a},1.00,2026-01-01T00:00:0{k}\n' for k, a in enumerate(('left', 'tie', 'right')))
    rows = [dict(phase='stage1', iteration=i, l1=1 / i) for i in (1, 2, 3)]
    state = _state_bytes(scratch)
    arrays = [(np.full((9, 9, 3), i, np.uint8), np.full((9, 9), i, np.uint8)) for i in range(4)]
    cached = lambda: cached_arrays(scratch/'cache', 'crops', list('abcd'), {}, lambda numbers: [arrays[i] for i in numbers])
    cache_file = cached().path
    options = dict(data=['/nowhere'], procedural=0, config='compact', variant='msca', parser_epochs=0, seed=0, size=32, epochs=[1, 1], loss_weights=[['l1', 5]])

    def png_same(before, after, got): return np.array_equal(got, ids) or _names_other_pixels(after)
    def cache_same(before, after, got): return all((x == y).all() for i in range(4) for x, y in zip(got[i], arrays[i], strict=True))
    def answers_same(before, after, got): return len({(r['scene'], r['person']) for r in got}) == len(got) <= 3
    def read_study(path): return Study(path.parent).trials('somebody')
    def read_state(path): return newest_state(path.parent)[1]
    def read_trimmed(path): return trim_history(path.parent, 2), read_history(path.parent)
    def read_cache(path): return cached()
    gray, indexed, painted = Image.fromarray(ids), indexed_image(ids, SCENE_LABELS), Image.fromarray(colorize(ids, SCENE_LABELS))
    png_maps = [saved(im, 'PNG') for im in (gray, indexed, painted)]
    other_maps = [saved(gray, 'BMP'), saved(gray, 'GIF'), saved(gray, 'TIFF', compression='tiff_lzw'), saved(gray, 'PPM'), saved(gray, 'TGA'),
                  saved(gray.convert('LA'), 'PNG'), saved(Image.fromarray(ids > 5), 'PNG')]
    many = [saved(photo, k, **how) for k, how in (('PNG', {}), ('JPEG', {}), ('WEBP', {}), ('TIFF', dict(compression='tiff_lzw')), ('TIFF', {}), ('BMP', {}), ('GIF', {}))]
    many += [saved(photo.convert('RGBA'), 'PNG'), saved(Image.fromarray(np.asarray(photo.convert('L'), np.float32) / 255), 'TIFF'), saved(photo, 'PPM'), saved(photo, 'TGA')]
    exports = itertools.count()
    def painted_shapes(path): return [paint_shapes(a, {'sky': 0}) for a in read_annotations(path).photos]
    def read_export(path): return convert_exports([path], scratch/f'export{next(exports)}', [photos])
    files = {n: (model/n).read_bytes() for n in ('config.json', 'model.safetensors', 'parser.json', 'parser.safetensors')}
    synth = command('synth', '--layout', layout, '--exemplar', exemplar, '--model', model, '--device', 'cpu', '--out', scratch/'o.png')
    folder = lambda read: lambda path: read(path.parent)
    return [
        Target('label map, PNG', 'maps/m.png', png_maps, load_labels, same=png_same),
        Target('label map, other formats', 'maps/m.map', other_maps, load_labels),
        Target('photo', 'photos/p.img', many, load_photo),
        Target('classes.txt', 'photos/classes.txt', ['\n'.join(SCENE_LABELS.classes).encode(), b'sky\r\n\xef\xbb\xbftree'], read_classes),
        Target('palette', 'photos/palette.txt', [b'#aa2211 house\n68 102 255 sea\n1,2,3 tree\n', b'255 0 0\n0 255 0\n'], lambda p: read_palette(p, SCENE_LABELS)),
        Target('annotations, JSON', 'photos/a.json', _annotations(), painted_shapes),
        Target('annotations, XML', 'photos/a.xml', [_CVAT.encode()], painted_shapes),
        Target('export, zip', 'photos/e.zip', _exports(ids, photo), read_export),
        Target('JSON', 'run/any.json', [files['config.json'], json.dumps(study).encode()], read_json),
        Target('config.json', 'model/config.json', [files['config.json']], folder(load_synthesizer)),
        Target('model.safetensors', 'model/model.safetensors', [files['model.safetensors']], folder(load_synthesizer)),
        Target('parser.json', 'model/parser.json', [files['parser.json']], folder(load_segmenter)),
        Target('parser.safetensors', 'model/parser.safetensors', [files['parser.safetensors']], folder(load_segmenter)),
        Target('weights, .pth', 'run/w.pth', [_weights_bytes()], load_weights_file),
        Target('training.pt', 'run/training.pt', [state], read_state),
        Target('history.csv', 'run/history.csv', [history_lines(rows, header=True).encode()], read_trimmed),
        Target('options.json', 'run/options.json', [json.dumps(options).encode()], folder(saved_options)),
        Target('photo cache', str(cache_file.relative_to(scratch)), [cache_file.read_bytes()], read_cache, same=cache_same),
        Target('study.json', 'study/study.json', [json.dumps(study).encode()], read_study),
        Target('answers', 'study/answers/anna.csv', [answers.encode()], lambda p: read_answers(Study(p.parents[1])), same=answers_same),
        Target('result of a study', 'study/answers/ben.csv', [answers.encode(), answers.encode() + answers.split('\n', 1)[1].encode()],
               lambda p: preference_text(Study(p.parents[1]))),
        Target('msca synth, layout', 'maps/l.png', png_maps + other_maps,
               command('synth', '--layout', 'FILE', '--exemplar', exemplar, '--model', model, '--device', 'cpu', '--out', scratch/'o.png'), slow=True),
        Target('msca synth, exemplar', 'photos/x.jpg', many,
               command('synth', '--layout', layout, '--exemplar', 'FILE', '--model', model, '--device', 'cpu', '--out', scratch/'o.png'), slow=True),
        Target('msca synth, config.json', 'model/config.json', [files['config.json']], lambda path: synth(path), slow=True),
        Target('msca parse', 'photos/y.jpg', many,
               command('parse', '--image', 'FILE', '--model', model, '--device', 'cpu', '--out', scratch/'p.png', '--overlay', scratch/'v.png'), slow=True),
        Target('msca labels', 'model/config.json', [files['config.json']], command('labels', '--model', model), slow=True),
        Target('msca check', 'data/labels/0.png', png_maps, command('check', '--data', scratch/'data'), slow=True),
        Target('msca study summary', 'study/answers/carl.csv', [answers.encode()], command('study', 'summary', scratch/'study'), slow=True),
        Target('msca train --resume', 'run/options.json', [json.dumps(options).encode()], command('train', '--out', scratch/'run', '--resume'), slow=True)]


def _state_bytes(scratch):
    import torch
    state = dict(config='{}', position=dict(phase=0, epoch=0, batch=0), iteration=3, averaged=1, best={}, seconds=1., networks={'a': {'w': torch.zeros(3)}},
                 opts={}, scalers={})
    torch.save(state, scratch/'state')
    return (scratch/'state').read_bytes()


def _weights_bytes():
    import torch
    data = io.BytesIO()
    torch.save({'0.weight': torch.zeros(4, 3, 3, 3)}, data)
    return data.getvalue()


def _names_other_pixels(data):
    "Whether a PNG's own checksums say that it is as it was written: then it is another picture, not a damaged one."
    from zlib import crc32
    at = 8
    while at + 12 <= len(data):
        n, kind = struct.unpack('>I4s', data[at:at + 8])
        if at + 12 + n > len(data) or crc32(data[at + 4:at + 8 + n]) != struct.unpack('>I', data[at + 8 + n:at + 12 + n])[0]: return False
        at += 12 + n
        if kind == b'IEND': return True
    return False


# ---- what is watched ------------------------------------------------------------------------------------------------------------------

_CVAT = ('<?xml version="1.0"?><annotations><image id="0" name="a.jpg" width="64" height="64"><polygon label="sky" points="1,2;30.5,4;20,40" z_order="1"/>'
         '<box label="sky" xtl="5" ytl="6" xbr="20" ybr="30" rotation="30"/><mask label="sky" rle="3, 5, 8" left="2" top="3" width="4" height="4"/></image></annotations>')


def _annotations():
    "What labelme, COCO and Label Studio write."
    outline, size = [[1, 2], [30.5, 4], [20, 40]], dict(original_width=64, original_height=64)
    labelme = dict(imagePath='a.jpg', imageWidth=64, imageHeight=64, imageData=None, shapes=[dict(label='sky', points=outline, shape_type='polygon')])
    flat = [[v for xy in outline for v in xy]]
    marks = [dict(image_id=1, category_id=2, segmentation=m) for m in (flat, dict(size=[64, 64], counts=[100, 200, 3796]))]
    coco = dict(images=[dict(id=1, file_name='a.jpg', width=64, height=64)], categories=[dict(id=2, name='sky')], annotations=marks)
    studio = [dict(data=dict(image='/a.jpg'), annotations=[dict(result=[dict(size, type='polygonlabels', value=dict(points=outline, polygonlabels=['sky']))])])]
    return [json.dumps(x).encode() for x in (labelme, coco, studio)]


def _exports(ids, photo):
    "Zips of annotation files and of painted masks."
    mask, listed = saved(Image.fromarray(np.array([(200, 30, 30), (0, 0, 0)], np.uint8)[ids % 2]), 'PNG'), b'# label:color_rgb:parts:actions\nroof:200,30,30::\n'
    packed = []
    for files in ({'a.xml': _CVAT.encode(), 'a.jpg': saved(photo, 'JPEG')}, {'labelmap.txt': listed, 'SegmentationClass/a.png': mask, 'JPEGImages/a.png': saved(photo, 'PNG')}):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(buffer := io.BytesIO(), 'w', method) as z:
                for name, content in files.items(): z.writestr(name, content)
            packed.append(buffer.getvalue())
    return packed


def _peak():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def judge(target, path, before, data, stderr):
    "Read one input; `Violation` when something happens that may not."
    path.write_bytes(data)
    began, memory, said = time.process_time(), _peak(), None
    target.inputs += 1
    try: got = target.read(path)
    except InputError as e: said = str(e)
    except Violation: raise
    except Exception as e: raise Violation(f'{type(e).__name__}: {str(e)[:200]}') from e
    seconds, more = time.process_time() - began, _peak() - memory
    target.slowest = max(target.slowest, seconds)
    target.refused += said is not None
    if seconds > SECONDS: raise Violation(f'{seconds:.0f} seconds')
    if more > MEGABYTES: raise Violation(f'{more} MB')
    if said is not None and not (said and said.isprintable() and len(said) <= 650): raise Violation(f'no plain line: {said[:200]!r}')
    if said is None and target.same and not target.same(before, data, got): raise Violation('other content than was written')
    if stderr.tell(): raise Violation(f'on standard error: {os.pread(stderr.fileno(), 200, 0)!r}')


@contextlib.contextmanager
def watched_stderr(scratch):
    "A file in place of the process's standard error."
    kept = os.dup(2)
    with open(scratch/'stderr', 'w+b', buffering=0) as file:
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try: yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def fuzz(target, scratch, n, start=0):
    "Feed a target so many inputs; a violation is noted in its smallest form and ends it."
    path = scratch/target.file
    real = path.read_bytes() if path.exists() else None

    @seed(start)
    @settings(max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
    @given(inputs(target.seeds))
    def check(pair):
        with watched_stderr(scratch) as stderr: judge(target, path, *pair, stderr)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            check()
    except Violation as e: target.violations.append(str(e))
    except BaseExceptionGroup as e: target.violations.extend(str(x) for x in e.exceptions)
    finally:
        if real is not None: path.write_bytes(real)
        elif path.exists(): path.unlink()
    return target


# ---- faults that were mended, put back ------------------------------------------------------------------------------------------------

def put_back(name):
    "A context in which a mended fault is there again, and the target that must find it."
    from msca.evidence import study
    if name == 'checksums of PNG': return unittest.mock.patch('PIL.PngImagePlugin.PngImageFile.verify', lambda self: None), 'label map, PNG'
    if name == 'deep JSON': return unittest.mock.patch('msca.base.files.json.loads', _without_words), 'JSON'
    if name == 'answers counted twice':
        def counted(path, about): return {k: row for k, row in enumerate(study._answers(path))}
        return unittest.mock.patch('msca.evidence.study._counted', counted), 'answers'
    if name == 'cache without checksum': return unittest.mock.patch('msca.data.cache.MappedArrays.is_whole', lambda self: True), 'photo cache'
    raise ValueError(name)


MENDED = 'checksums of PNG', 'deep JSON', 'answers counted twice', 'cache without checksum'


def _without_words(text, **kwargs):
    try: return json.JSONDecoder().decode(text)
    except ValueError as e: raise KeyError('a library said something') from e


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--n', type=int, default=500, help='inputs of every reader, and four times as many as of every command')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out', help='JSON file for the counts')
    p.add_argument('--only', help='part of a target\'s name')
    p.add_argument('--put-back', choices=MENDED, help='a mended fault that should be found')
    args = p.parse_args()
    scratch, began = Path(tempfile.mkdtemp(prefix='fuzz-')), time.time()
    os.environ['MSCA_CACHE'] = str(scratch/'user')
    try:
        done, back = [], contextlib.nullcontext()
        if args.put_back: back, args.only = put_back(args.put_back)
        with back:
            for t in targets(scratch):
                if args.only and args.only not in t.name: continue
                done.append(fuzz(t, scratch, max(1, args.n // 4) if t.slow else args.n, args.seed))
                print(f'{t.name}: {t.inputs} inputs, {t.refused} refused, slowest {t.slowest:.2f} s' + ''.join(f'\n  VIOLATION {v}' for v in t.violations), flush=True)
    finally: shutil.rmtree(scratch, ignore_errors=True)
    total, violations = sum(t.inputs for t in done), sum(len(t.violations) for t in done)
    print(f'{total} inputs, {violations} violations, largest memory {_peak()} MB, {time.time() - began:.0f} s')
    if args.out:
        counts = {t.name: dict(inputs=t.inputs, refused=t.refused, violations=t.violations, slowest_seconds=round(t.slowest, 3)) for t in done}
        about = dict(command=f'python tests/fuzzing.py --n {args.n} --seed {args.seed}', inputs=total, violations=violations, peak_mb=_peak(), targets=counts)
        Path(args.out).write_text(json.dumps(about, indent=1) + '\n')
    return 1 if violations else 0


if __name__ == '__main__': sys.exit(main())
