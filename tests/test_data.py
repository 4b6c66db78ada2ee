"Bad and unusual input of the data room: every fault ends in one clear line, every readable photo is read."
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint
from PIL import Image

from msca.base.files import save_image
from msca.base.labels import SCENE_LABELS, UNLABELLED, InputError, colorize
from msca.data.check import check_dataset
from msca.data.datasets import MixedScenes, ProceduralScenes, SceneFolder, write_scenes
from msca.data.places import place_of, split_by_place
from msca.data.render import procedural_scene
from msca.data.scene import Scene, load_labels, load_photo


@pytest.fixture(scope='module')
def scene(): return procedural_scene(3, 64)


# ---- photos that cannot be read -------------------------------------------------------------------------------------

def png_bytes(scene, path):
    scene.image.save(path)
    return path.read_bytes()


BAD_PHOTOS = {
    'missing': (lambda p, s: None, 'no such file'),
    'empty': (lambda p, s: p.write_bytes(b''), 'empty'),
    'truncated': (lambda p, s: p.write_bytes(png_bytes(s, p)[:2000]), 'cut short'),
    'header only': (lambda p, s: p.write_bytes(png_bytes(s, p)[:20]), 'in.png'),
    'text': (lambda p, s: p.write_text('hello'), 'not an image'),
    'zeros': (lambda p, s: p.write_bytes(bytes(5000)), 'not an image'),
    'folder': (lambda p, s: p.mkdir(), 'folder'),
    'below a file': (lambda p, s: p.parent.joinpath('x').touch(), 'no such file'),
    'narrow': (lambda p, s: Image.new('RGB', (15, 200)).save(p), '15×200'),
    'long': (lambda p, s: Image.new('1', (8193, 16)).save(p), '8193×16'),
    'bomb': (lambda p, s: Image.new('1', (20000, 9000)).save(p), '134 million'),
    'damaged': (lambda p, s: p.write_bytes(b'\xff'.join([png_bytes(s, p)[:1500], bytes(3000)])), 'in.png'),
}


@pytest.mark.parametrize('kind', BAD_PHOTOS)
def test_bad_photo(kind, scene, tmp_path):
    make, expected = BAD_PHOTOS[kind]
    path = tmp_path / 'in.png'
    make(path, scene)
    if kind == 'below a file': path = tmp_path / 'x' / 'in.png'
    line = complaint(load_photo, path)
    assert line.startswith(str(path)) and expected in line


def test_truncated_jpeg(scene, tmp_path):
    path = tmp_path / 'in.jpg'
    scene.image.save(path)
    path.write_bytes(path.read_bytes()[:700])
    assert 'cut short' in complaint(load_photo, path)


def test_lazily_opened_image_is_checked_too(scene, tmp_path):
    path = tmp_path / 'in.png'
    path.write_bytes(png_bytes(scene, path)[:2000])
    assert 'truncated' in complaint(load_photo, Image.open(path))


def test_bad_array():
    assert 'float64' in complaint(load_photo, np.zeros((32, 32, 3)))
    assert '32×32×2' in complaint(load_photo, np.zeros((32, 32, 2), dtype=np.uint8))


# ---- photos that only look unusual ----------------------------------------------------------------------------------

def turned(img, path):
    exif = Image.Exif()
    exif[0x112] = 6
    img.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


def with_alpha(img):
    img = img.convert('RGBA')
    img.putalpha(Image.new('L', img.size, 255))
    return img


GOOD_PHOTOS = {
    'grayscale.png': lambda i, p: i.convert('L').save(p),
    'palette.png': lambda i, p: i.quantize(256).save(p),
    'transparent palette.png': lambda i, p: i.quantize(255).save(p, transparency=255),
    'cmyk.jpg': lambda i, p: i.convert('CMYK').save(p, quality=95),
    'ycc.tif': lambda i, p: i.convert('YCbCr').save(p),
    'rgba.png': lambda i, p: with_alpha(i).save(p),
    'la.png': lambda i, p: i.convert('LA').save(p),
    'sixteen.png': lambda i, p: Image.fromarray(np.asarray(i.convert('L')).astype(np.uint16) * 257).save(p),
    'int32.tif': lambda i, p: Image.fromarray(np.asarray(i.convert('L')).astype(np.int32) * 257).save(p),
    'float.tif': lambda i, p: Image.fromarray(np.asarray(i.convert('L')).astype(np.float32) / 255).save(p),
    'one bit.png': lambda i, p: i.convert('1').save(p),
    'turned.jpg': turned,
    'progressive.jpg': lambda i, p: i.save(p, progressive=True, quality=95),
    'page.gif': lambda i, p: i.save(p),
    'modern.webp': lambda i, p: i.save(p, quality=95),
    'name with ünïcode.bmp': lambda i, p: i.save(p),
}


@pytest.mark.parametrize('name', GOOD_PHOTOS)
def test_good_photo(name, scene, tmp_path):
    image = scene.image.crop((0, 0, 64, 48))                        # not square, so that a wrong turn shows
    GOOD_PHOTOS[name](image, tmp_path / name)
    photo = load_photo(tmp_path / name)
    assert photo.mode == 'RGB' and photo.size == (64, 48)
    if name == 'one bit.png': return
    gray = [np.asarray(i.convert('L')).astype(float) for i in (photo, image)]
    assert np.abs(gray[0] - gray[1]).mean() < 8


@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_exif_orientation_is_upright(orientation, tmp_path):
    photo = np.zeros((32, 48, 3), dtype=np.uint8)
    photo[:16, :24, 0] = photo[16:, 24:, 1] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}                # how a camera held that way would store it
    stored = Image.fromarray(photo)
    if orientation in undo: stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x112] = orientation
    stored.save(tmp_path / 'a.png', exif=exif)
    assert (np.asarray(load_photo(tmp_path / 'a.png')) == photo).all()


# ---- label maps -----------------------------------------------------------------------------------------------------

def foreign(labels):
    labels = labels.copy()
    labels[:2, :3] = 200
    return Image.fromarray(labels)


def smudged(scene):
    a = colorize(scene.labels, SCENE_LABELS)
    a[0, :5] = (1, 2, 3)
    return Image.fromarray(a)


def veiled(scene):
    img = Image.fromarray(colorize(scene.labels, SCENE_LABELS))
    img.putalpha(128)
    return img


BAD_MAPS = {
    'missing.png': (lambda s: None, 'no such file'),
    'jpeg.jpg': (lambda s: Image.fromarray(s.labels), 'JPEG'),
    'painted.jpg': (lambda s: Image.fromarray(colorize(s.labels, SCENE_LABELS)), 'JPEG'),
    'lossy.webp': (lambda s: Image.fromarray(colorize(s.labels, SCENE_LABELS)), 'WEBP'),
    'range.png': (lambda s: foreign(s.labels), '200 (6 pixels)'),
    'deep.png': (lambda s: Image.fromarray(s.labels.astype(np.uint16) * 300), 'out of range'),
    'color.png': (smudged, '#010203 (5 pixels)'),
    'gray.png': (lambda s: Image.fromarray(s.labels).convert('RGB'), '8-bit grayscale'),
    'half.png': (veiled, 'half-transparent'),
    'mode.tif': (lambda s: s.image.convert('CMYK'), 'CMYK'),
    'float.tif': (lambda s: Image.fromarray(s.labels.astype(np.float32)), 'mode F'),
    'nothing.png': (lambda s: Image.fromarray(np.full((64, 64), UNLABELLED, dtype=np.uint8)), 'no pixel has a label'),
    'small.png': (lambda s: Image.fromarray(s.labels[:12]), '64×12'),
}


@pytest.mark.parametrize('name', BAD_MAPS)
def test_bad_map(name, scene, tmp_path):
    make, expected = BAD_MAPS[name]
    image, path = make(scene), tmp_path / name
    if image: image.save(path)
    line = complaint(load_labels, path)
    assert str(path) in line and expected in line


@pytest.mark.parametrize('text, expected', [
    (None, 'no such file'), ('', 'no class names'), ('\n \n', 'no class names'), ('sky\n\ntree', 'line 2'), ('sky\ntree\nSky\n', "'Sky'"),
    ('\n'.join(f'c{i}' for i in range(256)), '256 classes'), (b'\xff\xfe\x00s', 'not a text file')])
def test_bad_classes(text, expected, scene, tmp_path):
    path = tmp_path / 'names.txt'
    if text is not None: path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = complaint(load_labels, scene.labels, classes=path)
    assert line.startswith(str(path)) and expected in line


@pytest.mark.parametrize('text, expected', [
    (None, 'no such file'), ('', 'no colors'), ('blue sky', 'line 1'), ('256 0 0 sky', '0 to 255'), ('1 2 3\n4 5 6', '17 classes'),
    ('1 2 3 sky\n4 5 6', 'some lines'), ('1 2 3 sky\n1 2 3 tree', 'share a color'), ('0 0 0 sky', 'black')])
def test_bad_palette(text, expected, scene, tmp_path):
    path = tmp_path / 'colors.txt'
    if text is not None: path.write_text(text)
    line = complaint(load_labels, colorize(scene.labels, SCENE_LABELS), palette=path)
    assert expected in line


def test_map_of_unknown_classes_is_refused(scene, tmp_path):
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'classes.txt').write_text('\n'.join(f'thing {i}' for i in range(17)))
    Image.fromarray(scene.labels).save(tmp_path / 'labels' / 'a.png')
    line = complaint(load_labels, tmp_path / 'labels' / 'a.png')
    assert 'more than half' in line and 'thing' in line


def test_partly_unknown_classes_warn(scene, tmp_path):
    rare = min(np.unique(scene.labels), key=lambda i: (scene.labels == i).sum())
    names = [f'strange {c}' if i == rare else c for i, c in enumerate(SCENE_LABELS.classes)]
    (tmp_path / 'classes.txt').write_text('\n'.join(names))
    Image.fromarray(scene.labels).save(tmp_path / 'a.png')
    with pytest.warns(UserWarning, match=f'strange {SCENE_LABELS.classes[rare]}'): labels = load_labels(tmp_path / 'a.png')
    assert (labels == np.where(scene.labels == rare, UNLABELLED, scene.labels)).all()


def test_palette_colors_win_over_classes_file(scene, tmp_path):
    (tmp_path / 'classes.txt').write_text('tree\nsky\n')
    Image.fromarray(colorize(scene.labels, SCENE_LABELS)).save(tmp_path / 'a.png')
    assert (load_labels(tmp_path / 'a.png') == scene.labels).all()


@pytest.mark.parametrize('mode', ['L', 'I;16', 'I', 'P', 'RGB', 'RGBA', 'LA'])
def test_every_kind_of_map_reads_the_same(mode, scene, tmp_path):
    ids, painted = Image.fromarray(scene.labels), Image.fromarray(colorize(scene.labels, SCENE_LABELS))
    image = {'I;16': lambda: Image.fromarray(scene.labels.astype(np.uint16)), 'I': lambda: Image.fromarray(scene.labels.astype(np.int32)),
             'RGB': lambda: painted, 'RGBA': lambda: painted.convert('RGBA')}.get(mode, lambda: ids.convert(mode))()
    if mode == 'P':
        image = ids.copy()
        image.putpalette([random.Random(0).randrange(256) for _ in range(768)])
    assert image.mode == mode
    path = tmp_path / ('a.tif' if mode == 'I' else 'a.png')
    image.save(path)
    assert (load_labels(path) == scene.labels).all() and (load_labels(image) == scene.labels).all()


def test_transparent_is_unlabelled(scene):
    image = Image.fromarray(colorize(scene.labels, SCENE_LABELS)).convert('RGBA')
    hole = np.full((64, 64), 255, dtype=np.uint8)
    hole[:20] = 0
    image.putalpha(Image.fromarray(hole))
    labels = load_labels(image)
    assert (labels[:20] == UNLABELLED).all() and (labels[20:] == scene.labels[20:]).all()


def test_sizes_must_agree(scene, tmp_path):
    Image.fromarray(scene.labels[:, :60]).save(tmp_path / 'a.png')
    line = complaint(Scene.load, scene.image, tmp_path / 'a.png')
    assert '64×64' in line and '60×64' in line


def test_reading_data_does_not_import_torch():
    code = 'import msca.data.datasets, msca.data.published, msca.data.check, sys; ' \
           'sys.exit("torch" in sys.modules or "matplotlib" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


# ---- writing --------------------------------------------------------------------------------------------------------

def test_unwritable_output(scene, tmp_path):
    (tmp_path / 'file').write_text('precious')
    for path in (tmp_path / 'file' / 'out.png', tmp_path / 'file' / 'deep' / 'out.png', tmp_path, tmp_path / 'out.xyz', tmp_path / 'out'):
        complaint(save_image, scene.image, path)
    for path in (tmp_path / 'file', tmp_path / 'file' / 'set', tmp_path):
        complaint(write_scenes, [scene], path)
    assert [p.name for p in tmp_path.iterdir()] == ['file'] and (tmp_path / 'file').read_text() == 'precious'


def test_failed_writing_leaves_nothing(scene, tmp_path):
    def interrupted():
        yield scene
        raise InputError('stopped')
    complaint(write_scenes, interrupted(), tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []


# ---- folders --------------------------------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    write_scenes(ProceduralScenes(4, 32), tmp_path / 'set')
    return tmp_path / 'set'


def first(folder, part): return min((folder / part).iterdir())


BAD_FOLDERS = {
    'no images': (lambda f: [p.unlink() for p in (f / 'images').iterdir()] and (f / 'images').rmdir(), 'images: no such folder'),
    'no labels': (lambda f: [p.unlink() for p in (f / 'labels').iterdir()] and (f / 'labels').rmdir(), 'labels: no such folder'),
    'no classes': (lambda f: (f / 'classes.txt').unlink(), 'classes.txt: no such file'),
    'no names': (lambda f: (f / 'classes.txt').write_text(''), 'no class names'),
    'double names': (lambda f: (f / 'classes.txt').write_text('sky\nsky'), "'sky'"),
    'unknown names': (lambda f: (f / 'classes.txt').write_text('qwe\nasd'), 'no class is known'),
    'JPEG map': (lambda f: first(f, 'labels').rename(first(f, 'labels').with_suffix('.jpg')), 'as JPEG'),
    'photo alone': (lambda f: first(f, 'labels').unlink(), 'has no partner labels'),
    'map alone': (lambda f: first(f, 'images').unlink(), 'has no partner images'),
    'empty': (lambda f: [p.unlink() for d in ('images', 'labels') for p in (f / d).iterdir()], 'empty'),
    'two photos': (lambda f: first(f, 'images').with_suffix('.jpg').touch(), 'same name'),
    'empty list': (lambda f: (f / 'val.txt').write_text('\n'), 'val.txt: no names'),
    'unknown in list': (lambda f: (f / 'train.txt').write_text('nobody'), "'nobody'"),
    'both lists': (lambda f: [(f / f'{w}.txt').write_text(first(f, 'images').stem) for w in ('train', 'val')],
                   'both train.txt and val.txt'),
}


@pytest.mark.parametrize('kind', BAD_FOLDERS)
def test_bad_folder(kind, folder):
    spoil, expected = BAD_FOLDERS[kind]
    spoil(folder)
    line = complaint(SceneFolder, folder)
    assert str(folder) in line and expected in line


def test_missing_folder(tmp_path): assert 'no such folder' in complaint(SceneFolder, tmp_path / 'nowhere')


@pytest.mark.parametrize('spoil, expected', [
    (lambda f: Image.fromarray(np.full((32, 32), 77, dtype=np.uint8)).save(first(f, 'labels')), '77 (1024 pixels)'),
    (lambda f: Image.fromarray(np.zeros((32, 40), dtype=np.uint8)).save(first(f, 'labels')), '40×32'),
    (lambda f: first(f, 'labels').write_bytes(b'junk'), 'not an image'),
    (lambda f: first(f, 'images').write_bytes(b''), 'empty'),
    (lambda f: first(f, 'images').write_bytes(b'junk'), 'not an image')])
def test_bad_files_are_found_on_access_and_by_check(spoil, expected, folder):
    spoil(folder)
    data = SceneFolder(folder)
    assert data[1].size == (32, 32)
    name = data.names[0]
    line, (fault,) = complaint(lambda: data[0]), check_dataset(data).faults
    for said in (line, str(fault)): assert name in said and expected in said


def test_clutter_is_ignored(folder):
    for name in ('.DS_Store', 'Thumbs.db', '.hidden.png', 'notes.txt'): (folder / 'images' / name).touch()
    assert len(SceneFolder(folder)) == 4


# ---- holding out ----------------------------------------------------------------------------------------------------

def test_split_is_stable_and_keeps_places_together():
    rng = random.Random(0)
    names = [f'{rng.choice(["lane", "hill", "DSC_"])}{rng.randrange(3000)}' for _ in range(800)]
    held = {names[i] for i in split_by_place(names)[1]}
    assert not {place_of(n) for n in held} & {place_of(n) for n in set(names) - held}
    for _ in range(5):
        some = rng.sample(names, 400)
        assert {some[i] for i in split_by_place(some)[1]} == held & set(some)


def test_one_photo_in_two_datasets_is_on_one_side():
    names = [f'insidecity_art{i}' for i in range(500)]
    copies = [f'spatial_envelope_256x256_static_8outdoorcategories__{n}' for n in names]
    assert split_by_place(names) == split_by_place(copies)


@pytest.mark.parametrize('n', [1, 2, 3, 9, 10, 11, 25])
def test_small_folders_get_two_sides(n):
    train, valid = split_by_place([f'IMG_{i}' for i in range(n)])
    assert sorted(train + valid) == list(range(n)) and (n == 1 or train and valid)


def test_sources_agree(folder):
    drawn, read = ProceduralScenes(4, 32), SceneFolder(folder)
    for a, b in zip(drawn, read): assert a.name == b.name and (a.labels == b.labels).all() and a.image.tobytes() == b.image.tobytes()
    both = MixedScenes([drawn, read])
    assert len(both) == 8 and both[5].name == read.names[1]
    with pytest.raises(IndexError): both[8]


# ---- real photos ----------------------------------------------------------------------------------------------------

REAL = {'siftflow': .1, 'labelmefacade': .1, 'stanford_background': .05, 'msrc_v2': .25, 'camvid': .1, 'coco_stuff_samples': .1}


@pytest.mark.skipif(not os.environ.get('MSCA_DATA'), reason='MSCA_DATA does not name a folder of real datasets')
@pytest.mark.parametrize('name', REAL)
def test_real_folder(name):
    path = Path(os.environ['MSCA_DATA']) / name
    if not path.is_dir(): pytest.skip(f'MSCA_DATA has no {name}')
    with warnings.catch_warnings():
        warnings.simplefilter('error')                              # every class of these folders has a counterpart
        data = SceneFolder(path)
    report = check_dataset(data, most=60, samples=0)
    assert not report.faults and not report.unmatched and report.unlabelled < REAL[name]
    assert sum(share > .01 for share in report.classes.values()) >= 5
    sides = [data.split(which) for which in ('train', 'val')]
    assert not set(map(place_of, sides[0].names)) & set(map(place_of, sides[1].names))
    if name != 'coco_stuff_samples': assert .03 < len(sides[1]) / len(data) < .3
    scene = sides[1][0]
    assert scene.size == scene.image.size[::-1] and scene.labels.dtype == np.uint8
