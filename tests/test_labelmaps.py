"Label maps in the forms in which people have them: what is read, what is refused, and that the exported program reads the same."
import io
import json
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint
from PIL import Image

from msca.base.files import save_image
from msca.base.labelmaps import read_map
from msca.base.labels import SCENE_LABELS, UNLABELLED, InputError, LabelSet, label_lut, resize_labels
from msca.base.palettes import distinct_colors, read_classes, read_palette
from msca.data.published import ADE20K_LABELS, COCO_STUFF_LABELS
from msca.data.scene import indexed_image, load_labels
from msca.model.portable import paint_program

OWN = np.array([*SCENE_LABELS.palette, *[(0, 0, 0)] * 239], np.uint8)
SKY, WATER, GRASS, TREE, ROAD = (SCENE_LABELS.index(n) for n in ('sky', 'water', 'grass', 'tree', 'road'))


def quiet(f, *args, **kwargs):
    "What a call gives, with its remarks."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always', UserWarning)
        got = f(*args, **kwargs)
    return got, [str(w.message) for w in said if w.category is UserWarning]


def drawing(rng, classes=range(17), holes=True, size=(24, 40)):
    "A random map of rectangles; perhaps a part of it is unlabelled."
    ids = np.full(size, rng.choice(classes), np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, size[0]-4), rng.integers(0, size[1]-4)
        ids[y:y+rng.integers(3, 16), x:x+rng.integers(3, 20)] = rng.choice(classes)
    if holes: ids[:5, :7] = UNLABELLED
    return ids


# ---- writing files that Pillow does not write ------------------------------------------------------------------------

def png(a, bits, kind=0, palette=None, transparent=None):
    "A PNG of 1, 2, 4 or 8 bits, gray (kind 0) or indexed (3), byte by byte."
    n = 8//bits
    rows = b''.join(b'\0'+bytes(sum(int(v) << (8-bits*(j+1)) for j, v in enumerate(r[k:k+n])) for k in range(0, len(r), n)) for r in a)
    def chunk(name, data): return struct.pack('>I', len(data))+name+data+struct.pack('>I', zlib.crc32(name+data))
    parts = [chunk(b'IHDR', struct.pack('>IIBBBBB', *a.shape[::-1], bits, kind, 0, 0, 0))]
    if palette is not None: parts.append(chunk(b'PLTE', bytes(v for c in palette for v in c)))
    if transparent is not None: parts.append(chunk(b'tRNS', struct.pack('>H', transparent) if kind == 0 else bytes(transparent)))
    return b'\x89PNG\r\n\x1a\n'+b''.join([*parts, chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')])


def indexed(numbers, colors):
    "A picture of mode P."
    im = Image.frombytes('P', numbers.shape[::-1], np.ascontiguousarray(numbers, np.uint8).tobytes())
    im.putpalette([int(v) for c in colors for v in c])
    return im


def packed(ids, rng):
    "(numbers 0, 1, …; the ids they stand for) in a random order."
    present = rng.permutation(np.unique(ids))
    where = np.zeros(256, np.uint8)
    where[present] = np.arange(len(present))
    return where[ids], present


# ---- two hundred files ------------------------------------------------------------------------------------------------

def _gray_packed(ids, rng):
    numbers, present = packed(ids, rng)
    return indexed(numbers, [(i, i, i) for i in present])


def _reordered(ids, rng):
    numbers, present = packed(ids, rng)
    return indexed(numbers, OWN[present])


def _clear_index(ids, rng):
    numbers, present = packed(ids, rng)
    return indexed(numbers, [(250, 250, 250) if i == UNLABELLED else OWN[i] for i in present]), dict(transparency=int(np.flatnonzero(present == UNLABELLED)[0]))


def _clear_bytes(ids, rng):
    numbers, present = packed(ids, rng)
    return indexed(numbers, [(9, 250, 9) if i == UNLABELLED else OWN[i] for i in present]), dict(transparency=bytes(0 if i == UNLABELLED else 255 for i in present))


def _alpha(ids, rgb):
    hidden = np.where(ids == UNLABELLED, 3, ids).astype(np.uint8)
    veil = np.where(ids == UNLABELLED, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([OWN[hidden] if rgb else hidden, veil]))


READ = {   # form -> function of ids and random numbers: bytes, a picture, or a picture and options; a second entry is the file's ending
    'gray': (lambda i, r: Image.fromarray(i), 'png'),
    'gray, 16 bits': (lambda i, r: Image.fromarray(i.astype(np.uint16)), 'png'),
    'gray, 32 bits': (lambda i, r: Image.fromarray(i.astype(np.int32)), 'tif'),
    'gray and alpha': (lambda i, r: _alpha(i, False), 'png'),
    'gray, BMP': (lambda i, r: Image.fromarray(i), 'bmp'),
    'PGM': (lambda i, r: b'P5 %d %d 255\n' % i.shape[::-1]+i.tobytes(), 'pgm'),
    'painted': (lambda i, r: Image.fromarray(OWN[i]), 'png'),
    'painted, TIFF': (lambda i, r: Image.fromarray(OWN[i]), 'tif'),
    'painted, TGA': (lambda i, r: Image.fromarray(OWN[i]), 'tga'),
    'painted and alpha': (lambda i, r: _alpha(i, True), 'png'),
    'painted, a transparent color': (lambda i, r: (Image.fromarray(np.where((i == UNLABELLED)[..., None], np.uint8(251), OWN[i])), dict(transparency=(251, 251, 251))), 'png'),
    'indexed ids, any colors': (lambda i, r: indexed(i, r.integers(0, 255, (256, 3)) | 1), 'png'),
    'indexed ids, own colors': (lambda i, r: indexed_image(i, SCENE_LABELS), 'png'),
    'indexed ids, gray ramp': (lambda i, r: indexed(i, [(k, k, k) for k in range(256)]), 'png'),
    'indexed colors': (_reordered, 'png'),
    'indexed colors, BMP': (_reordered, 'bmp'),
    'indexed colors, TIFF': (_reordered, 'tif'),
    'indexed gray': (_gray_packed, 'png'),
    'indexed, a transparent number': (_clear_index, 'png'),
    'indexed, transparent, GIF': (_clear_index, 'gif'),
    'indexed, opacities': (_clear_bytes, 'png'),
    'PNG-8': (lambda i, r: Image.fromarray(OWN[i]).quantize(32), 'png')}
LOW = {   # the same for maps of few classes without holes
    'gray, 1 bit': (lambda i, r: png(i % 2, 1), 'png', 2), 'gray, 2 bits': (lambda i, r: png(i % 4, 2), 'png', 4), 'gray, 4 bits': (lambda i, r: png(i % 16, 4), 'png', 16),
    'PGM of 20': (lambda i, r: b'P5\n# a remark\n%d %d\n20\n' % i.shape[::-1]+i.tobytes(), 'pgm', 17),
    'indexed, 4 bits': (lambda i, r: png(i % 16, 4, 3, OWN[:16]), 'png', 16)}
REFUSED = {   # form -> (the same, what is said)
    'a stray color': (lambda i, r: indexed(packed(i, r)[0], [*OWN[packed(i, np.random.default_rng(0))[1]][:2], *r.integers(201, 204, (15, 3))]), 'not in the palette'),
    'web palette': (lambda i, r: Image.fromarray(OWN[i]).convert('P'), 'not in the palette'),
    'smoothed': (lambda i, r: Image.fromarray(OWN[i]).resize((61, 37), Image.Resampling.BILINEAR), 'smoothing'),
    'half-transparent': (lambda i, r: Image.fromarray(np.dstack([OWN[i], np.full(i.shape, 90, np.uint8)])), 'half-transparent'),
    'gray as RGB': (lambda i, r: Image.fromarray(np.repeat(i[..., None]//2+40, 3, 2)), '8-bit grayscale'),
    'foreign id': (lambda i, r: Image.fromarray(np.where(i == i[-1, -1], 77, i).astype(np.uint8)), '77'),
    'foreign index': (lambda i, r: indexed(np.where(i == i[-1, -1], 77, i), r.integers(0, 255, (256, 3)) | 1), '77')}


def write(path, made):
    if isinstance(made, bytes): path.write_bytes(made)
    else:
        im, options = made if isinstance(made, tuple) else (made, {})
        im.save(path, **options)
    return path


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "204 files: path -> the ids in it, or what is said of it."
    folder, rng, known = tmp_path_factory.mktemp('maps'), np.random.default_rng(15), {}
    for k in range(6):
        for n, (name, (make, kind)) in enumerate(READ.items()):
            ids = drawing(rng)
            known[write(folder/f'read-{n}-{k}.{kind}', make(ids, rng))] = name, ids
        for n, (name, (make, kind, most)) in enumerate(LOW.items()):
            ids = drawing(rng, range(min(most, 17)), holes=False)
            known[write(folder/f'low-{n}-{k}.{kind}', make(ids, rng))] = name, ids
        for n, (name, (make, said)) in enumerate(REFUSED.items()):
            known[write(folder/f'refused-{n}-{k}.png', make(drawing(rng), rng))] = name, said
    assert len(known) >= 200
    return known


def test_every_form_is_read_or_refused(files):
    for path, (name, wanted) in files.items():
        if isinstance(wanted, str): assert wanted in complaint(load_labels, path), name
        else:
            np.testing.assert_array_equal(quiet(load_labels, path)[0], wanted, err_msg=f'{name}: {path}')
            with Image.open(path) as im: np.testing.assert_array_equal(quiet(load_labels, im)[0], wanted, err_msg=f'{name}, opened')


def test_the_exported_program_reads_the_same(files, tmp_path):
    "paint.py, in a process that cannot see this package: the same ids, the same refusals in the same words."
    about = dict(classes=SCENE_LABELS.classes, palette=SCENE_LABELS.palette, unlabelled=255, multiple_of=16)
    (tmp_path/'model.json').write_text(json.dumps(about))
    (tmp_path/'paint.py').write_text(paint_program())
    (tmp_path/'read.py').write_text('''import sys
sys.modules["msca"] = sys.modules["torch"] = None
import numpy, paint
found = {}
for i, path in enumerate(sys.stdin.read().split("\\n")):
    try: found[str(i)] = paint.read_labels(path)
    except paint.InputError as e: found[str(i)] = numpy.array(str(e))
numpy.savez("found.npz", **found)
''')
    done = subprocess.run([sys.executable, 'read.py'], cwd=tmp_path, input='\n'.join(map(str, files)), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path/'found.npz')
    for i, path in enumerate(files):
        try: ids = quiet(load_labels, path)[0]
        except InputError as e: ids = np.array(str(e).replace(repr(SCENE_LABELS.name), "'model.json'"))
        np.testing.assert_array_equal(found[str(i)], ids, err_msg=str(path))


# ---- indexed maps -----------------------------------------------------------------------------------------------------

def two_by_two(path, colors, numbers=None, **options):
    "A map of the quadrants 0, 1, 2, 3 with a palette."
    numbers = np.kron(np.array([[0, 1], [2, 3]]) if numbers is None else numbers, np.ones((16, 16), int))
    indexed(numbers, colors).save(path, **options)
    return numbers


def test_stray_color_with_a_palette_file(tmp_path):
    two_by_two(tmp_path/'a.png', [(20, 60, 9), (9, 200, 30), (9, 200, 30), (255, 255, 255)])
    (tmp_path/'colors.txt').write_text('9 200 30 grass\n20 60 9 tree\n')
    assert '#ffffff (256 pixels)' in complaint(load_labels, tmp_path/'a.png', palette=tmp_path/'colors.txt')


def test_white_over_a_written_map_is_named(tmp_path):
    "A map that msca parse wrote, painted over with white: today's 'id 17' would help nobody."
    ids = drawing(np.random.default_rng(1))
    im = indexed_image(np.where(ids == UNLABELLED, 17, ids).astype(np.uint8), SCENE_LABELS)
    im.putpalette([*OWN[:17].ravel(), 255, 255, 255])
    im.save(tmp_path/'a.png')
    assert '#ffffff (35 pixels)' in complaint(load_labels, tmp_path/'a.png')


def test_void_color_at_255_is_no_stray_color(tmp_path):
    "Pascal VOC: ids, own colors, and 255 in cream."
    ids = drawing(np.random.default_rng(2))
    colors = OWN.copy()
    colors[UNLABELLED] = 224, 224, 192
    indexed(ids, colors).save(tmp_path/'a.png')
    assert (load_labels(tmp_path/'a.png') == ids).all()


def test_picked_colors_do_not_make_a_map_painted(tmp_path):
    "A dataset of ids with pure colors in its palettes, some of which were picked for its classes too."
    (tmp_path/'classes.txt').write_text('\n'.join(SCENE_LABELS.classes))
    picked = [c for c in distinct_colors(17) if c not in SCENE_LABELS.palette]
    ids = drawing(np.random.default_rng(3), range(4), holes=False)
    indexed(ids, [picked[3], (12, 13, 14), picked[1], (1, 2, 3)]).save(tmp_path/'a.png')
    assert (load_labels(tmp_path/'a.png') == ids).all()


def test_two_readings_are_both_shown(tmp_path):
    many = LabelSet('many', [f'c{i}' for i in range(200)], distinct_colors(200), colors_from='picked')
    two_by_two(tmp_path/'a.png', [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)])
    line = complaint(load_labels, tmp_path/'a.png', many)
    assert 'c0, c85, c170, unlabelled' in line and 'c0, c1, c2, c3' in line
    assert (load_labels(tmp_path/'a.png', SCENE_LABELS)[::16, ::16] == [[0, 1], [2, 3]]).all()   # 85 is no id of 17 classes: the numbers
    two_by_two(tmp_path/'b.png', [(9, 9, 9), SCENE_LABELS.palette[1], SCENE_LABELS.palette[2], (0, 0, 0)])
    assert 'not in the palette' in complaint(load_labels, tmp_path/'b.png')
    two_by_two(tmp_path/'c.png', [SCENE_LABELS.palette[0], SCENE_LABELS.palette[1], SCENE_LABELS.palette[2], (0, 0, 0)])
    line = complaint(load_labels, tmp_path/'c.png')
    assert 'number 3 is black' in line and 'unlabelled by its color' in line and 'sand by its number' in line


def test_gray_palette_whose_grays_say_nothing(tmp_path):
    "An all-black palette is no gray ramp: the numbers are the ids."
    numbers = two_by_two(tmp_path/'a.png', [(0, 0, 0)]*4)
    assert (load_labels(tmp_path/'a.png') == numbers).all()


# ---- gray, masks --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('labels', [SCENE_LABELS, ADE20K_LABELS, COCO_STUFF_LABELS], ids=lambda s: s.name)
@pytest.mark.parametrize('bits', [1, 2, 4])
def test_low_bits(bits, labels, tmp_path):
    ids = drawing(np.random.default_rng(bits), range(2**bits), holes=False)
    (tmp_path/'a.png').write_bytes(png(ids, bits))
    assert (quiet(load_labels, tmp_path/'a.png', labels)[0] == ids).all()
    (tmp_path/'b.png').write_bytes(png(ids, bits, transparent=1))
    assert (quiet(load_labels, tmp_path/'b.png', labels)[0] == np.where(ids == 1, UNLABELLED, ids)).all()
    if bits == 4: assert (quiet(load_labels, Image.open(io.BytesIO(png(ids, 4))), labels)[0] == ids).all()   # an upload that has no file


@pytest.mark.parametrize('bits', [4, 8])
@pytest.mark.parametrize('white_is_zero', [False, True])
def test_tiff_of_few_bits_and_with_white_as_zero(bits, white_is_zero, tmp_path):
    "16×16 samples written by hand; the samples are the ids, whichever end is white."
    ids = np.arange(256).reshape(16, 16) % 16
    data = bytes(int(a) << 4 | int(b) for a, b in ids.reshape(-1, 2)) if bits == 4 else ids.astype(np.uint8).tobytes()
    tags = [(256, 3, 16), (257, 3, 16), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1), (273, 4, 8), (277, 3, 1), (278, 3, 16), (279, 4, len(data))]
    entries = b''.join(struct.pack('<HHII', tag, kind, 1, value) for tag, kind, value in tags)
    (tmp_path/'a.tif').write_bytes(b'II*\0'+struct.pack('<I', 8+len(data))+data+struct.pack('<H', len(tags))+entries+b'\0'*4)
    assert (load_labels(tmp_path/'a.tif') == ids).all()


@pytest.mark.parametrize('one_bit', [False, True])
def test_masks_are_read_with_a_remark(one_bit, tmp_path):
    mask = np.zeros((32, 48), np.uint8)
    mask[20:, 10:] = 255
    Image.fromarray(mask > 0 if one_bit else mask).save(tmp_path/'a.png')
    ids, said = quiet(load_labels, tmp_path/'a.png')
    assert (ids == (mask > 0 if one_bit else mask)).all() and len(said) == 1
    assert 'black was read as \'sky\'' in said[0] and ("white as 'mountain'" if one_bit else 'white as unlabelled') in said[0]
    (tmp_path/'white.txt').write_text('#ffffff tree\n')                    # what the remark advises
    ids, said = quiet(load_labels, tmp_path/'a.png', palette=tmp_path/'white.txt')
    assert (ids == np.where(mask, TREE, UNLABELLED)).all() and not said


def test_ordinary_maps_get_no_remark(files):
    for path, (name, wanted) in files.items():
        if not isinstance(wanted, str) and len(np.unique(wanted)) > 2: assert quiet(load_labels, path)[1] == [], name


def test_maps_painted_in_gray(tmp_path):
    "Classes in grays by a palette file: as a gray file, as an indexed one, as a color one."
    (tmp_path/'grays.txt').write_text('0 0 0 background\n128 128 128 road\n255 255 255 tree\n')
    values = np.kron([[0, 128], [255, 128]], np.ones((16, 16), int)).astype(np.uint8)
    for k, im in enumerate((Image.fromarray(values), indexed(np.searchsorted([0, 128, 255], values), [(0,)*3, (128,)*3, (255,)*3]), Image.fromarray(values).convert('RGB'))):
        im.save(tmp_path/f'{k}.png')
        ids, said = quiet(load_labels, tmp_path/f'{k}.png', palette=tmp_path/'grays.txt')
        assert (ids[::16, ::16] == [[UNLABELLED, ROAD], [TREE, ROAD]]).all() and "'background'" in said[0]


# ---- what nobody labelled -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['background', '_background_', 'Background', '__ignore__x', 'void', 'ignore'])
def test_void_names(name, tmp_path):
    ids = np.zeros((32, 32), np.uint8)
    ids[28:] = 1                                                          # 88 % of it is nothing
    Image.fromarray(ids).save(tmp_path/'a.png')
    (tmp_path/'names.txt').write_text(f'{name}\nroad\n')
    if name.endswith('x'):   # an unknown name is a loss
        complaint(load_labels, tmp_path/'a.png', classes=tmp_path/'names.txt')
        return
    got, said = quiet(load_labels, tmp_path/'a.png', classes=tmp_path/'names.txt')
    assert (got == np.where(ids, ROAD, UNLABELLED)).all() and len(said) == 1 and repr(name) in said[0] and '87.5%' in said[0]


def test_a_set_that_has_background_keeps_it(tmp_path):
    own = LabelSet('mine', ('background', 'road'), distinct_colors(2))
    ids = np.kron([[0, 1]], np.ones((16, 16), int)).astype(np.uint8)
    (tmp_path/'names.txt').write_text('_background_\nroad\n')
    (tmp_path/'labelmap.txt').write_text('background:0,0,0::\nroad:9,9,200::\n')
    Image.fromarray(np.array([(0, 0, 0), (9, 9, 200)], np.uint8)[ids]).save(tmp_path/'a.png')
    assert (load_labels(Image.fromarray(ids), own, classes=tmp_path/'names.txt') == ids).all()
    got, said = quiet(load_labels, tmp_path/'a.png', own, palette=tmp_path/'labelmap.txt')
    assert (got == ids).all() and not said


def test_labelme_begins_at_minus_one(tmp_path):
    (tmp_path/'labels.txt').write_text('__ignore__\n_background_\nroad\ntree\n')
    ids = np.kron([[0, 2], [1, 255]], np.ones((16, 16), int)).astype(np.uint8)
    got, said = quiet(load_labels, Image.fromarray(ids), classes=tmp_path/'labels.txt')
    assert (got[::16, ::16] == [[UNLABELLED, TREE], [ROAD, UNLABELLED]]).all() and '_background_' in said[0]


# ---- palettes and classes as tools write them --------------------------------------------------------------------------------

LISTS = {
    'labelmap.txt': '# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ntree:107,142,35::\n',
    'colors.txt': '# mine\n0 0 0 background\n128 64 128 road\n107 142 35 tree\n',
    'class_dict.csv': 'name,r,g,b\nbackground,0,0,0\nroad,128,64,128\ntree,107,142,35\n',
    'other_dict.csv': 'r, g, b, class\n0,0,0,background\n128,64,128,road\n107,142,35,"tree"\n',
    'bare.csv': 'background,0,0,0\nroad,128,64,128\ntree,107,142,35\n',
    'mine.gpl': 'GIMP Palette\nName: x\nColumns: 2\n#\n  0   0   0\tbackground\n128  64 128\troad\n107 142  35\ttree\n',
    'printed.txt': '  0  #000000    0   0   0  background\n  1  #804080  128  64 128  road\n  2  #6b8e23  107 142  35  tree\n255  #000000    0   0   0  (unlabelled)\n',
    'categories.json': json.dumps(dict(categories=[dict(id=2, name='tree', color=[107, 142, 35]), dict(id=1, name='road', color=[128, 64, 128]),
                                                   dict(id=0, name='background', color=[0, 0, 0])])),
    'model.json': json.dumps(dict(classes=['_background_', 'road', 'tree'], palette=[[0, 0, 0], [128, 64, 128], [107, 142, 35]]))}


@pytest.mark.parametrize('kind', LISTS)
@pytest.mark.parametrize('option', ['palette', 'classes'])
def test_lists(kind, option, tmp_path):
    "Every list reads a painted map, as palette and as classes, and maps of its numbers too."
    (tmp_path/kind).write_text(LISTS[kind])
    numbers = np.kron([[0, 1], [2, 1]], np.ones((16, 16), int)).astype(np.uint8)
    want = np.array([UNLABELLED, ROAD, TREE])[numbers]
    colors = np.array([(0, 0, 0), (128, 64, 128), (107, 142, 35)], np.uint8)
    for im in (Image.fromarray(colors[numbers]), indexed(numbers, colors), indexed(2-numbers, colors[::-1]), Image.fromarray(numbers)):
        assert (quiet(load_labels, im, **{option: tmp_path/kind})[0] == want).all()


@pytest.mark.parametrize('text, said', [
    ('GIMP Palette\nName: x\nred\n', 'no color of a GIMP palette'), ('name,r,g,b\nroad,1,2\n', 'a row without'), ('{"a": 1}', 'no categories'), ('{', 'not readable as JSON'),
    ('[{"id": 1, "name": "road"}]', 'has no color'), ('road:1,2,300::\n', '0 to 255'), ('# nothing\n', 'no colors')])
def test_lists_that_are_refused(text, said, tmp_path):
    (tmp_path/'a.txt').write_text(text)
    assert said in complaint(read_palette, tmp_path/'a.txt', SCENE_LABELS)


def test_coco_categories_with_gaps(tmp_path):
    (tmp_path/'a.json').write_text(json.dumps([dict(id=3, name='tree'), dict(id=7, name='road')]))
    own = read_classes(tmp_path/'a.json')
    assert len(own) == 8 and own.classes[3] == 'tree' and own.colors_from == 'picked'
    table, unmatched = label_lut(own, SCENE_LABELS)
    assert table[[3, 7]].tolist() == [TREE, ROAD] and not unmatched


def test_names_with_numbers_stay_names(tmp_path):
    (tmp_path/'a.txt').write_text('1 euro\n2 euro\n10 10 10\n')
    assert read_classes(tmp_path/'a.txt').classes == ('1 euro', '2 euro', '10 10 10')


# ---- smoothed edges --------------------------------------------------------------------------------------------------------

def test_nearest_class_is_named(tmp_path):
    painted = OWN[drawing(np.random.default_rng(5), [SKY, WATER])].copy()
    painted[(painted == OWN[WATER]).all(-1)] = 0x20, 0x50, 0xc8
    Image.fromarray(painted).save(tmp_path/'a.png')
    assert 'is near water #1e50c8' in complaint(load_labels, tmp_path/'a.png')
    assert set(np.unique(quiet(load_labels, tmp_path/"a.png", snap=True)[0])) <= {SKY, WATER, UNLABELLED}


@pytest.mark.parametrize('how', ['BILINEAR', 'BICUBIC', 'LANCZOS', 'HAMMING'])
def test_snap_invents_no_class(how):
    "Smoothed by four filters, twenty drawings: no class that was not drawn, and hardly a pixel that is not nearest."
    for seed in range(20):
        ids = drawing(np.random.default_rng(seed), holes=False, size=(48, 64))
        wide = Image.fromarray(OWN[ids.repeat(4, 0).repeat(4, 1)])
        got = quiet(load_labels, wide.resize((96, 72), Image.Resampling[how]), snap=True)[0]
        assert set(np.unique(got)) <= set(np.unique(ids))
        assert (got != resize_labels(ids, (72, 96))).mean() < .06


def test_snap_between_water_and_grass_makes_no_pavement():
    share = np.linspace(0, 1, 9)[None, :, None]
    edge = (OWN[WATER]*(1-share)+OWN[GRASS]*share).round().astype(np.uint8)
    band = np.concatenate([np.tile(OWN[WATER], (1, 12, 1)), edge, np.tile(OWN[GRASS], (1, 12, 1))], 1).repeat(32, 0)
    assert set(np.unique(quiet(load_labels, Image.fromarray(band), snap=True)[0])) == {WATER, GRASS}
    assert 'smoothing' in complaint(load_labels, Image.fromarray(band))


def test_snap_changes_nothing_that_is_exact(files):
    for path, (name, wanted) in files.items():
        if not isinstance(wanted, str): np.testing.assert_array_equal(quiet(load_labels, path, snap=True)[0], wanted, err_msg=name)


def test_snap_says_what_it_moved_and_refuses_foreign_colors():
    ids = drawing(np.random.default_rng(6), [SKY, TREE], holes=False)
    painted = OWN[ids].copy()
    painted[12, 12] = 60, 60, 60
    got, said = quiet(load_labels, Image.fromarray(painted), snap=True)
    assert got[12, 12] in (SKY, TREE) and '1 pixel ' in said[0]
    painted[10:16, 10:16] = 255, 255, 255
    assert '#ffffff (36 pixels)' in complaint(load_labels, Image.fromarray(painted), snap=True)


def test_snap_with_soft_transparency():
    ids = drawing(np.random.default_rng(7), [SKY, TREE], holes=False)
    veil = np.full(ids.shape, 255, np.uint8)
    veil[:4], veil[4], veil[5] = 0, 100, 160
    got = load_labels(Image.fromarray(np.dstack([OWN[ids], veil])), snap=True)
    assert (got[:5] == UNLABELLED).all() and (got[5:] == ids[5:]).all()


# ---- maps that bring the model's palette -------------------------------------------------------------------------------------

def test_a_map_of_ours_is_recognized_whatever_the_options_say(tmp_path):
    ids = drawing(np.random.default_rng(8))
    save_image(indexed_image(ids, SCENE_LABELS), tmp_path/'ours.png')
    (tmp_path/'names.txt').write_text('tree\nroad\n')
    (tmp_path/'colors.txt').write_text('1 2 3 tree\n')
    Image.fromarray(OWN[ids]).save(tmp_path/'painted.png')
    for name in ('ours.png', 'painted.png'):
        assert (load_labels(tmp_path/name, classes=tmp_path/'names.txt') == ids).all()
        assert (load_labels(tmp_path/name, palette=tmp_path/'colors.txt') == ids).all()


# ---- one rule for sizes --------------------------------------------------------------------------------------------------------

def test_training_and_painting_pick_the_same_pixels():
    "512 to 384: Pillow's nearest neighbor misses 74 of the exact centers; training takes them all."
    from msca.learning.samples import resize_scene_arrays
    ids = (np.arange(512)[None]//2).astype(np.uint8).repeat(64, 0)
    exact = ids[:, (np.arange(384)*2+1)*512//768]
    pillow = np.asarray(Image.fromarray(ids).resize((384, 64), Image.Resampling.NEAREST))
    assert (pillow != exact).any()
    _, (got,) = resize_scene_arrays(np.zeros((64, 512, 3), np.uint8), [ids], (64, 384))
    assert (got == exact).all() and (resize_labels(ids, (64, 384)) == exact).all()
    assert 'def resize_labels' in paint_program() and 'NEAREST' not in paint_program()


def test_arrays_are_ids_and_nothing_else():
    for a in (np.zeros((16, 16), np.int64), np.full((16, 16), 255, np.uint8), np.ones((16, 16), bool)):
        ids, remarks = read_map(a, SCENE_LABELS)
        assert (ids == a).all() and ids.dtype == np.uint8 and not remarks


# ---- the table of the docs --------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1]/'docs'/'pages'/'howto'/'label-maps.md'
ROWS = dict(re.split(r' \| ', line.strip('| \n'), maxsplit=1) for line in PAGE.read_text().split('|---|---|\n')[1].split('\n\n')[0].splitlines())
IDS = np.kron([[SKY, WATER], [TREE, ROAD]], np.ones((16, 16), int)).astype(np.uint8)


def _lists(kind, text):
    return lambda d: ((d/kind).write_text(text), load_labels(Image.fromarray(np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9), (250, 9, 9)], np.uint8)[NUMBERS]), palette=d/kind))[1]


NUMBERS = np.kron([[0, 1], [2, 3]], np.ones((16, 16), int)).astype(np.uint8)
NAMES = 'sky', 'water', 'tree', 'road'
FOUR = list(zip(NAMES, ((1, 2, 3), (4, 5, 6), (7, 8, 9), (250, 9, 9))))
OFF = np.where((IDS == WATER)[..., None], np.array((0x20, 0x50, 0xc8), np.uint8), OWN[IDS])
SMOOTH = Image.fromarray(OWN[IDS.repeat(3, 0).repeat(3, 1)]).resize((32, 32), Image.Resampling.BICUBIC)


def _with_names(names, numbers=NUMBERS):
    def read(d):
        (d/'names.txt').write_text('\n'.join(names))
        return load_labels(Image.fromarray(numbers), classes=d/'names.txt')
    return read


def _json_classes(d):
    (d/'a.json').write_text(json.dumps([dict(id=i+1, name=n) for i, n in enumerate(NAMES)]))
    return load_labels(Image.fromarray(NUMBERS+1), classes=d/'a.json')


def _saved(im, kind='png', **options):
    def read(d):
        im.save(d/f'a.{kind}', **options)
        return load_labels(d/f'a.{kind}')
    return read


def _recognized(d):
    save_image(indexed_image(IDS, SCENE_LABELS), d/'a.png')
    (d/'b.txt').write_text('9 9 9 tree')
    return load_labels(d/'a.png', palette=d/'b.txt')


def _low(d):
    (d/'a.png').write_bytes(png(IDS, 4))
    return load_labels(d/'a.png')


PRESENT = np.array([SKY, WATER, TREE, ROAD])
TABLE = {   # what people have -> a function of a scratch folder that reads it, and what comes out where that is not `IDS`
    'gray PNG, values are ids, 255 = unlabelled': (_saved(Image.fromarray(IDS)), IDS),
    'gray PNG of 16 bits, values are ids': (_saved(Image.fromarray(IDS.astype(np.uint16))), IDS),
    'gray PNG of 2 or 4 bits': (_low, IDS),
    "PNG painted in the model's colors, black = unlabelled": (_saved(Image.fromarray(OWN[IDS])), IDS),
    'indexed PNG, numbers are ids, any colors': (_saved(indexed(IDS, [(1, k, 2) for k in range(17)])), IDS),
    "indexed PNG or GIF in the model's colors, in another order": (_saved(indexed(3-NUMBERS, OWN[PRESENT[::-1]]), 'gif'), IDS),
    'indexed PNG in grays, as optimizers save gray maps': (_saved(indexed(NUMBERS, [(k, k, k) for k in PRESENT])), IDS),
    'transparent parts, whatever kind of file': (_saved(indexed(NUMBERS, OWN[PRESENT]), transparency=3), np.where(IDS == ROAD, UNLABELLED, IDS)),
    'a map that `msca parse` wrote, beside one of another tool': (_recognized, IDS),
    'ids of another label set, with its `classes.txt` beside them or as `--classes`': (_with_names(NAMES), IDS),
    'classes of which some have no counterpart': (_with_names((*NAMES[:3], 'pagoda')), np.where(IDS == ROAD, UNLABELLED, IDS)),
    '`background`, `_background_`, `void` in the list of classes': (_with_names(('_background_', *NAMES[1:])), np.where(IDS == SKY, UNLABELLED, IDS)),
    "labelme's `labels.txt`, which begins with `__ignore__`": (_with_names(('__ignore__', *NAMES)), IDS),
    'COCO-like JSON categories': (_json_classes, IDS),
    "other colors, with CVAT's `labelmap.txt`": (_lists('labelmap.txt', ''.join(f'{n}:{r},{g},{b}::\n' for n, (r, g, b) in FOUR)), IDS),
    'other colors, with `class_dict.csv`': (_lists('class_dict.csv', 'name,r,g,b\n'+''.join(f'{n},{r},{g},{b}\n' for n, (r, g, b) in FOUR)), IDS),
    'other colors, with a GIMP palette': (_lists('mine.gpl', 'GIMP Palette\n#\n'+''.join(f'{r} {g} {b}\t{n}\n' for n, (r, g, b) in FOUR)), IDS),
    'other colors, with a text file of lines `R G B name` or `#RRGGBB name`': (_lists('colors.txt', ''.join(f'{r} {g} {b} {n}\n' for n, (r, g, b) in FOUR)), IDS),
    'smoothed edges': (_saved(SMOOTH), None),
    'a color that is a little off': (_saved(Image.fromarray(OFF)), None),
    'a color that no class has': (_saved(Image.fromarray(np.where((IDS == ROAD)[..., None], np.uint8(255), OWN[IDS]))), None),
    "a map turned into web colors (`convert('P')`)": (_saved(Image.fromarray(OWN[IDS]).convert('P')), None),
    'a mask of only 0 and 255': (_saved(Image.fromarray(NUMBERS//2*255)), NUMBERS//2*255),
    'grays in a palette that can be read in two ways': (_saved(indexed(NUMBERS//2, [(0,)*3, (255,)*3])), None),
    'WebP without loss, painted in the model\'s colors': (_saved(Image.fromarray(OWN[IDS]), 'webp', lossless=True, icc_profile=bytes(3000)), IDS),
    'JPEG': (_saved(Image.fromarray(OWN[IDS]), 'jpg'), None),
    'WebP with loss': (_saved(Image.fromarray(OWN[IDS]), 'webp'), None),
    'half-transparent pixels': (_saved(Image.fromarray(np.dstack([OWN[IDS], np.full(IDS.shape, 200, np.uint8)]))), None),
    'ids saved as RGB': (_saved(Image.fromarray(IDS).convert('RGB')), None),
    'instance numbers, such as 26001': (_saved(Image.fromarray(IDS.astype(np.uint16)+26001)), None),
    'nothing labelled': (_saved(Image.new('L', (32, 32), UNLABELLED)), None)}


def test_the_table_is_whole(): assert set(ROWS) == set(TABLE)


@pytest.mark.parametrize('have', TABLE)
def test_table(have, tmp_path):
    "Read as the table says, or refused or remarked on in its words."
    read, wanted = TABLE[have]
    does = ROWS[have]
    quoted = next((q for q in re.findall('`([^`]+)`', does) if len(q) > 28 or ' ' in q and '--' not in q), None)
    if wanted is None:
        assert does.startswith('refused') and quoted in complaint(read, tmp_path)
        return
    got, said = quiet(read, tmp_path)
    assert (got == wanted).all() and not does.startswith('refused')
    if 'warning' in does: assert quoted in said[0]
    else: assert not said


@pytest.mark.parametrize('im', [SMOOTH, Image.fromarray(OFF), Image.fromarray(np.dstack([OWN[IDS], np.full(IDS.shape, 200, np.uint8)]))], ids=['smooth', 'off', 'half'])
def test_snap_reads_what_the_table_says(im): assert (quiet(load_labels, im, snap=True)[0] == IDS).mean() > .95


# ---- the commands' options -----------------------------------------------------------------------------------------------------

def told(*argv):
    "What `read_told_maps` makes of a command line of `msca synth`."
    from msca.commands.options import command_parser, read_told_maps
    from msca.commands.synth import COMMANDS
    args = command_parser(COMMANDS).parse_args(['synth', '--exemplar', 'x.png', *map(str, argv)])
    read_told_maps(args, SCENE_LABELS)
    return args


def test_options_for_two_maps(tmp_path):
    "A layout in one palette, an exemplar's map in another one's numbers; without such options the files go on as they are."
    (tmp_path/'a.txt').write_text(''.join(f'{r} {g} {b} {n}\n' for n, (r, g, b) in FOUR))
    (tmp_path/'b.txt').write_text('\n'.join(NAMES[::-1]))
    Image.fromarray(np.array([c for _, c in FOUR], np.uint8)[NUMBERS]).save(tmp_path/'a.png')
    Image.fromarray(3-NUMBERS).save(tmp_path/'b.png')
    maps = '--layout', tmp_path/'a.png', '--exemplar-layout', tmp_path/'b.png', '--palette', tmp_path/'a.txt'
    args = told(*maps, '--exemplar-classes', tmp_path/'b.txt')
    assert (args.layout[0] == IDS).all() and (np.asarray(args.exemplar_layout).reshape(IDS.shape) == IDS).all() and args.palette is None
    assert told(*maps).layout == [str(tmp_path/'a.png')]
    SMOOTH.save(tmp_path/'s.png')
    assert set(np.unique(quiet(told, '--layout', tmp_path/'s.png', '--snap')[0].layout[0])) == set(np.unique(IDS))
    with pytest.raises(InputError, match='no such file'): told(*maps, '--exemplar-palette', tmp_path/'gone.txt')


def test_palette_of_a_dataset(tmp_path):
    "Painted maps in a folder: read with a palette file, in the folder's own classes and in the shared ones."
    from msca.data.published import dataset_class, open_dataset
    for part in ('images', 'labels'): (tmp_path/'data'/part).mkdir(parents=True)
    save_image(np.zeros((32, 32, 3), np.uint8), tmp_path/'data'/'images'/'a.png')
    Image.fromarray(np.array([c for _, c in FOUR], np.uint8)[NUMBERS]).save(tmp_path/'data'/'labels'/'a.png')
    (tmp_path/'data'/'classes.txt').write_text('road\nsky\ntree\nwater\n')
    (tmp_path/'labelmap.txt').write_text('background:0,0,0::\nlamp:9,9,9::\n'+''.join(f'{n}:{r},{g},{b}::\n' for n, (r, g, b) in FOUR))
    own = open_dataset(tmp_path/'data', palette=tmp_path/'labelmap.txt')
    assert (own[0].labels == np.array([1, 3, 2, 0])[NUMBERS]).all() and 'lamp' in own.remarks[-1]
    assert (open_dataset(tmp_path/'data', label_set=SCENE_LABELS, palette=tmp_path/'labelmap.txt')[0].labels == IDS).all()
    assert 'not in the palette' in complaint(lambda: dataset_class(tmp_path/'data').survey(tmp_path/'data')[0])
    (tmp_path/'other.txt').write_text('1 2 3 lamp\n')
    assert 'no class in it is one of' in complaint(open_dataset, tmp_path/'data', palette=tmp_path/'other.txt')


def test_check_remarks_on_masks(tmp_path):
    from msca.data.check import check_dataset
    for part in ('images', 'labels'): (tmp_path/part).mkdir()
    for k in range(3):
        save_image(np.full((32, 32, 3), k, np.uint8), tmp_path/'images'/f'{k}.png')
        Image.fromarray(NUMBERS//2*255).save(tmp_path/'labels'/f'{k}.png')
    (tmp_path/'classes.txt').write_text('lawn\n')
    assert any('0 and 255' in line for line in check_dataset(tmp_path).lines())
    ids, said = quiet(load_labels, tmp_path/'labels'/'0.png', LabelSet('lawn', ['lawn'], [(9, 99, 9)]))   # as a layout too: no file tells which half the lawn is
    assert "black was read as 'lawn', white as unlabelled" in said[0] and (ids == NUMBERS//2*255).all()
