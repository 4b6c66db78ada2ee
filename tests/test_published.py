"Published layouts and the check of whole datasets: what is read, what is refused, what is reported."
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint
from PIL import Image

from msca.base.files import save_image
from msca.base.labels import SCENE_LABELS, UNLABELLED, InputError, colorize, label_lut
from msca.commands.cli import main
from msca.commands.training import training_scenes
from msca.data.check import check_dataset
from msca.data.datasets import MixedScenes, ProceduralScenes, SceneFolder, write_scenes
from msca.data.patches import nonoverlapping_boxes
from msca.data.published import (
    ADE20K,
    ADE20K_LABELS,
    CITYSCAPES_LABELS,
    COCO_STUFF_LABELS,
    FORMATS,
    Cityscapes,
    CocoStuff,
    dataset_class,
    open_dataset,
    scene_kind,
    scenes_of_kind,
)

SCENES = list(ProceduralScenes(6, 48, seed=4))
SIDES = ['train'] * 4 + ['val'] * 2


def coco_files(k, side): return f'images/{side}2017/{k:012d}.jpg', f'stuffthingmaps/{side}2017/{k:012d}.png'


def ade_files(k, side):
    folder = dict(train='training', val='validation')[side]
    return f'images/{folder}/ADE_{side}_{k:08d}.jpg', f'annotations/{folder}/ADE_{side}_{k:08d}.png'


def city_files(k, side):
    city, frame = dict(train='aachen', val='ulm')[side], f'{k:06d}_000019'
    return f'leftImg8bit/{side}/{city}/{city}_{frame}_leftImg8bit.png', f'gtFine/{side}/{city}/{city}_{frame}_gtFine_labelIds.png'


# format: (files of scene k, its classes, those that its numbers mean, the number of unlabelled pixels, one that must be refused)
LAYOUTS = {'coco-stuff': (coco_files, COCO_STUFF_LABELS, COCO_STUFF_LABELS, 255, 182),
           'ade20k': (ade_files, ADE20K_LABELS, ADE20K.written, 0, 151),
           'cityscapes': (city_files, CITYSCAPES_LABELS, Cityscapes.written, 0, 34)}


def numbered(labels, format):
    "Shared ids as the numbers of a published set; what it has no class for is unlabelled."
    _, own, written, void, _ = LAYOUTS[format]
    table = np.full(256, void, dtype=np.uint8)
    for name in reversed(own.classes): table[SCENE_LABELS.index(name)] = written.index(name)
    return table[labels]


def publish(folder, format):
    "Six drawn scenes in a published layout, four of them for training."
    files = LAYOUTS[format][0]
    for k, (scene, side) in enumerate(zip(SCENES, SIDES)):
        photo, labels = files(k, side)
        save_image(scene.image, folder / photo)
        save_image(numbered(scene.labels, format), folder / labels)
    return folder


@pytest.fixture(params=LAYOUTS)
def dataset(request, tmp_path): return publish(tmp_path / 'set', request.param), request.param


def file_of(source, i, part): return Path(getattr(source, part)[source.names[i]])


# ---- reading --------------------------------------------------------------------------------------------------------

def test_published_numbers_come_back_as_drawn(dataset):
    folder, format = dataset
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        shared, own = open_dataset(folder, format, SCENE_LABELS), open_dataset(folder, format)
    assert type(shared) is FORMATS[format] and shared.label_set == SCENE_LABELS and own.label_set.name == format
    known = {SCENE_LABELS.index(c) for c in own.label_set.classes}
    for k, drawn in enumerate(SCENES):
        assert shared[k].labels.tolist() == np.where(np.isin(drawn.labels, list(known)), drawn.labels, UNLABELLED).tolist()
        names = {own.label_set.classes[i] for i in np.unique(own[k].labels) if i != UNLABELLED}
        assert {SCENE_LABELS.index(n) for n in names} == set(np.unique(shared[k].labels).tolist()) - {UNLABELLED}
        assert shared.size_of(k) == shared[k].size == (48, 48)


def test_official_split(dataset):
    folder, format = dataset
    source = open_dataset(folder, format)
    assert [len(source.split(side, valid_share=.9, seed=k)) for side in ('train', 'val') for k in (0, 1)] == [4, 4, 2, 2]
    assert not set(source.split('train').names) & set(source.split('val').names)
    mixed = MixedScenes([source, source]).split('val')
    assert len(mixed) == 4


def test_format_is_detected(dataset):
    folder, format = dataset
    assert dataset_class(folder) is FORMATS[format]
    for other in set(FORMATS) - {format}: assert str(folder) in complaint(open_dataset, folder, other)


def test_detection_of_folders_and_of_nothing(tmp_path):
    write_scenes(SCENES, tmp_path / 'mine')
    assert dataset_class(tmp_path / 'mine') is SceneFolder
    (tmp_path / 'nothing').mkdir()
    line = complaint(open_dataset, tmp_path / 'nothing')
    assert all(f'({format})' in line for format in FORMATS)
    assert 'no such folder' in complaint(open_dataset, tmp_path / 'nowhere')
    assert 'coco-stuff, ade20k' in complaint(open_dataset, tmp_path / 'mine', 'voc')


@pytest.mark.parametrize('photos, maps', [
    ('images/{}2017', 'annotations/{}2017'), ('images/{}2017', 'annotations/stuffthingmaps/{}2017'), ('images/{}2017', '{}2017'),
    ('images/{}2017', 'images/{}2017'), ('{}2017', 'stuffthingmaps/{}2017'), ('{}2017', '{}2017'), ('{}_img', '{}_label')])
def test_coco_layouts(photos, maps, tmp_path):
    publish(tmp_path / 'usual', 'coco-stuff')
    usual = CocoStuff(tmp_path / 'usual', None)
    for side in ('train', 'val'):
        for kind, target in (('images', photos), ('stuffthingmaps', maps)):
            new = tmp_path / 'other' / target.format(side)
            new.mkdir(parents=True, exist_ok=True)
            for file in (tmp_path / 'usual' / kind / f'{side}2017').iterdir(): shutil.copy(file, new)
    (tmp_path / 'other' / maps.format('train') / '000000000000_labelTrainIds.png').touch()   # made by another project
    other = open_dataset(tmp_path / 'other')
    assert type(other) is CocoStuff and other.names == usual.names and other.sides == usual.sides
    assert all((a.labels == b.labels).all() for a, b in zip(other, usual))


def test_flat_coco(tmp_path):
    for k, (scene, side) in enumerate(zip(SCENES, SIDES)):
        save_image(scene.image, tmp_path / 'images' / f'{side}_{k}.jpg')
        save_image(numbered(scene.labels, 'coco-stuff'), tmp_path / 'labels' / f'{side}_{k}.png')
    assert dataset_class(tmp_path) is SceneFolder                  # nothing says that these are COCO-Stuff's numbers
    assert len(open_dataset(tmp_path, 'coco-stuff').split('val')) == 2
    (tmp_path / 'classes.txt').write_text('\n'.join(COCO_STUFF_LABELS.classes))
    assert type(open_dataset(tmp_path)) is CocoStuff
    (tmp_path / 'classes.txt').write_text('\n'.join(COCO_STUFF_LABELS.classes[1:]))
    assert dataset_class(tmp_path) is SceneFolder and 'COCO-Stuff has' in complaint(open_dataset, tmp_path, 'coco-stuff')


def test_instances_of_cityscapes(tmp_path):
    "Read from the file beside the label map, only when asked for; a photo without the file has none."
    path = publish(tmp_path / 'city', 'cityscapes')
    plain = Cityscapes(path, None)
    made = np.full((48, 48), 7, dtype=np.uint16)
    made[:9, :9], made[9:20, :9], made[30:, 30:] = 26000, 26001, 24
    file = Path(plain.maps[plain.names[0]].replace('labelIds', 'instanceIds'))
    Image.fromarray(made).save(file)
    told = Cityscapes(path, None).with_instances()
    assert np.array_equal(told[0].instances, np.where(made >= 1000, made, 0)) and told[0].instances.dtype == np.uint16
    assert told[1].instances is None and plain[0].instances is None and told.split('train')[0].instances is not None
    assert np.array_equal(told[0].labels, plain[0].labels) and told.key_of(0) == plain.key_of(0)
    file.write_bytes(b'nothing')
    assert plain[0].instances is None   # nobody looks at the file
    assert 'instanceIds' in complaint(lambda: told[0])


@pytest.mark.parametrize('above', ['annotations', ''])
def test_instances_of_coco(above, tmp_path):
    "Segments of things are numbered, whatever their numbers in the file; other segments, crowds and photos without a picture are 0 or None."
    path = publish(tmp_path / 'coco', 'coco-stuff')
    plain, folder = CocoStuff(path, None), path / above / 'panoptic_train2017'
    folder.mkdir(parents=True)
    segments = {2**24-1: (1, 0), 300: (1, 0), 70000: (1, 1), 9: (187, 0)}   # number: (category, crowd)
    ids = np.full((48, 48), 9)
    ids[:9, :9], ids[9:20, :9], ids[30:, 30:] = 2**24-1, 300, 70000
    name = f'{Path(plain.photos[plain.names[0]]).stem}.png'
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)).save(folder / name)
    told = CocoStuff(path, None).with_instances()
    assert 'panoptic_train2017.json: no such file' in complaint(lambda: told[0])
    folder.with_suffix('.json').write_text(json.dumps(dict(
        categories=[dict(id=1, isthing=1), dict(id=187, isthing=0)],
        annotations=[dict(file_name=name, segments_info=[dict(id=n, category_id=c, iscrowd=crowd) for n, (c, crowd) in segments.items()])])))
    assert np.array_equal(told[0].instances, np.select([ids == 300, ids == 2**24-1], [1, 2], 0))
    assert told[1].instances is None and plain[0].instances is None
    mixed = MixedScenes([CocoStuff(path), ProceduralScenes(2, 48)]).with_instances()
    assert mixed[0].instances.max() == 2 and mixed[len(plain)].instances.any()


def test_one_side_alone_is_split_by_place(tmp_path):
    publish(tmp_path, 'coco-stuff')
    shutil.rmtree(tmp_path / 'stuffthingmaps' / 'val2017')
    with pytest.warns(UserWarning, match='val2017: photos without label maps'): source = open_dataset(tmp_path)
    assert len(source) == 4 and source.sides == {} and 0 < len(source.split('val')) < 4


def test_classes_of_the_published_sets():
    for label_set, n in ((COCO_STUFF_LABELS, 182), (ADE20K_LABELS, 150), (CITYSCAPES_LABELS, 19)):
        table, unmatched = label_lut(label_set, SCENE_LABELS)
        assert len(label_set) == n and unmatched == []
        found = {name: SCENE_LABELS.classes[table[i]] for i, name in enumerate(label_set.classes)}
        meant = dict(sky='sky', clouds='sky', snow='mountain', hill='mountain', sea='water', lake='water', earth='sand', dirt='sand',
                     rock='rock',
                     grass='grass', terrain='grass', straw='field', field='field', tree='tree', vegetation='tree', palm='tree',
                     bush='plant',
                     flower='plant', road='road', runway='road', pavement='pavement', sidewalk='pavement', skyscraper='building',
                     wall='building', windowpane='window', door='door', minibike='vehicle', boat='vehicle', truck='vehicle',
                     rider='person', person='person', bicycle='other', bridge='other', animal='other', cow='other', television='other')
        assert {c: k for c, k in found.items() if c in meant} == {c: k for c, k in meant.items() if c in found}
    assert [CITYSCAPES_LABELS.classes.index(c) for c in ('road', 'sky', 'bicycle')] == [0, 10, 18]
    assert [Cityscapes.written.classes.index(c) for c in ('road', 'sky', 'bicycle')] == [7, 23, 33]
    assert [ADE20K.written.classes.index(c) for c in ('wall', 'sea', 'flag')] == [1, 27, 150]
    assert [COCO_STUFF_LABELS.index(c) for c in ('person', 'toothbrush', 'banner', 'sky-other', 'wood')] == [0, 89, 91, 156, 181]


def test_ade20k_info_must_name_the_published_classes(tmp_path):
    publish(tmp_path, 'ade20k')
    row = '{}\t0.1\t9\t9\t{}, something else '
    rows = ['Idx\tRatio\tTrain\tVal\tName', *(row.format(k, c) for k, c in enumerate(ADE20K_LABELS.classes, 1))]
    (tmp_path / 'objectInfo150.txt').write_text('\n'.join(rows))
    assert len(open_dataset(tmp_path)) == 6
    (tmp_path / 'objectInfo150.txt').write_text('\n'.join(rows[:100]))
    assert 'objectInfo150.txt: names other classes' in complaint(open_dataset, tmp_path)


# ---- faults ---------------------------------------------------------------------------------------------------------

def test_numbers_outside_the_set_are_refused(dataset):
    folder, format = dataset
    source, wrong = open_dataset(folder, format), LAYOUTS[format][-1]
    save_image(np.full((48, 48), wrong, dtype=np.uint8), file_of(source, 1, 'maps'))
    line = complaint(lambda: source[1])
    assert f'label id {wrong} (2304 pixels) out of range' in line and str(file_of(source, 1, 'maps')) in line
    (fault,) = check_dataset(source).faults
    assert str(fault) == line


@pytest.mark.parametrize('part, kind', [('photos', 'no photo'), ('maps', 'no map')])
def test_missing_partners(part, kind, dataset):
    folder, format = dataset
    source = open_dataset(folder, format)
    left = file_of(source, 2, {'photos': 'maps', 'maps': 'photos'}[part])
    file_of(source, 2, part).unlink()
    line = complaint(open_dataset, folder, format)
    assert str(left) in line and 'has no partner' in line and file_of(source, 2, part).name in line
    survey = FORMATS[format].survey(folder, None)
    assert [(f.kind, Path(f.path)) for f in survey.faults] == [(kind, left)] and len(survey) == 5
    assert check_dataset(folder).faults == survey.faults


def test_cut_photos_jpeg_maps_and_color_maps(tmp_path):
    publish(tmp_path, 'coco-stuff')
    source = CocoStuff(tmp_path, None)
    cut, jpeg, painted, smooth = file_of(source, 0, 'photos'), *(file_of(source, k, 'maps') for k in (1, 2, 3))
    cut.write_bytes(cut.read_bytes()[:len(cut.read_bytes()) * 2 // 3])
    Image.open(jpeg).save(jpeg.with_suffix('.jpg'))
    jpeg.unlink()
    save_image(colorize(source[2].labels, COCO_STUFF_LABELS), painted)             # in the set's own colors: fine
    save_image(SCENES[3].image, smooth)                                          # in any others: refused
    report = check_dataset(tmp_path)
    said = {Path(f.path).name: f.problem for f in report.faults}
    assert 'cut short' in said[cut.name] and 'as JPEG' in said[jpeg.with_suffix('.jpg').name] and 'not in the palette' in said[smooth.name]
    assert len(said) == 3 and report.sizes == {(48, 48): 3}


# ---- which scenes ---------------------------------------------------------------------------------------------------

def test_scenes_of_kind(tmp_path):
    publish(tmp_path / 'coco', 'coco-stuff')
    source = open_dataset(tmp_path / 'coco')
    by_kind = {kind: scenes_of_kind(source, kind).names for kind in ('outdoor', 'indoor', 'objects', 'unclear')}
    assert sorted(n for names in by_kind.values() for n in names) == source.names and by_kind['outdoor']
    assert scenes_of_kind(source, rule=partial(scene_kind, most_things=-1)).names == []
    assert scenes_of_kind(source).split('val').names == [n for n in by_kind['outdoor'] if source.sides[n] == 'val']
    assert check_dataset(source).kinds == {kind: len(names) for kind, names in by_kind.items() if names}
    publish(tmp_path / 'ade', 'ade20k')
    assert 'no COCO-Stuff' in complaint(scenes_of_kind, open_dataset(tmp_path / 'ade'))


@pytest.mark.parametrize('shares, kind', [
    ({'sky-other': .5, 'sea': .5}, 'outdoor'), ({'sky-other': .97, 'sea': .03}, 'objects'), ({'clouds': .5, 'sky-other': .5}, 'objects'),
    ({'grass': .5, 'tree': .5}, 'outdoor'), ({'grass': .5, 'road': .5}, 'objects'), ({'sky-other': .5, 'road': .25, 'car': .25}, 'outdoor'),
    ({'sky-other': .35, 'road': .3, 'car': .35}, 'objects'), ({'wall-other': .6, 'floor-wood': .4}, 'indoor'),
    ({'wall-brick': .6, 'road': .4}, 'unclear'), ({'floor-tile': .3, 'tree': .7}, 'unclear'), ({'sky-other': .25, 'sea': .24}, 'unclear')])
def test_scene_kind(shares, kind):
    ids = [COCO_STUFF_LABELS.index(c) for c, share in shares.items() for _ in range(round(100 * share))]
    assert scene_kind(ids + [UNLABELLED] * (100 - len(ids))) == kind


# ---- keys -----------------------------------------------------------------------------------------------------------

def test_key_changes_with_the_content(dataset):
    folder, format = dataset
    keys = lambda source: [source.key_of(k) for k in range(len(source))]
    before = keys(open_dataset(folder, format))
    assert len(set(before)) == 6 and keys(open_dataset(folder, format)) == before
    assert not set(keys(open_dataset(folder, format, SCENE_LABELS))) & set(before)
    source = open_dataset(folder, format)
    for k, part in ((1, 'photos'), (4, 'maps')):
        stamp = os.stat(file_of(source, k, part))
        save_image(Image.open(file_of(source, k, part)).copy().transpose(Image.Transpose.ROTATE_180), file_of(source, k, part))
        os.utime(file_of(source, k, part), ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert [a == b for a, b in zip(keys(source), before)] == [True, False, True, True, False, True]
    assert MixedScenes([source, source], [1, 2]).key_of(13) == source.key_of(1)
    file_of(source, 0, 'maps').unlink()
    assert str(file_of(source, 0, 'maps')) in complaint(source.key_of, 0)


def test_key_of_drawn_scenes():
    a = ProceduralScenes(4, 32)
    assert len({a.key_of(0), a.key_of(1), ProceduralScenes(4, 48).key_of(0), ProceduralScenes(4, 32, seed=1).key_of(0),
                ProceduralScenes(4, 32, label_set=CITYSCAPES_LABELS).key_of(0)}) == 5
    assert a.key_of(0) == ProceduralScenes(9, 32).key_of(0)


# ---- the check ------------------------------------------------------------------------------------------------------

def test_duplicates_across_the_split(tmp_path):
    publish(tmp_path, 'cityscapes')
    source = Cityscapes(tmp_path, None)
    shutil.copy(file_of(source, 0, 'photos'), file_of(source, 1, 'photos'))
    Image.open(file_of(source, 2, 'photos')).save(file_of(source, 5, 'photos'), compress_level=1)    # the same pixels, another file
    report = check_dataset(source)
    names = source.names
    assert sorted(map(sorted, report.duplicates)) == [[names[0], names[1]], [names[2], names[5]]]
    assert [sorted(g) for g in report.straddling] == [[names[2], names[5]]]
    assert 'on both sides of the split' in '\n'.join(report.lines())


def test_report_of_a_sample(tmp_path):
    write_scenes(ProceduralScenes(20, 32), tmp_path / 'set')
    names = SceneFolder(tmp_path / 'set').names
    (tmp_path / 'set' / 'labels' / f'{names[1]}.png').write_text('no map')
    report = check_dataset(tmp_path / 'set', most=5)
    assert (report.seen, report.pairs, report.faults) == (5, 20, []) and 'of 5 looked at' in report.summary()
    assert len(check_dataset(tmp_path / 'set', most=20).faults) == 1


def test_nothing_but_faults(tmp_path):
    write_scenes(SCENES[:2], tmp_path / 'set')
    for file in (tmp_path / 'set' / 'images').iterdir(): file.unlink()
    report = check_dataset(tmp_path / 'set')
    assert (report.pairs, len(report.faults), report.classes) == (0, 2, {}) and report.picture() is None
    assert 'label maps without photo: 2' in '\n'.join(report.lines(128))
    json.dumps(report.to_dict())


def test_check_needs_little_memory(tmp_path):
    write_scenes(list(ProceduralScenes(1, 512)), tmp_path / 'set')
    for part in ('images', 'labels'):
        file = next((tmp_path / 'set' / part).iterdir())
        for k in range(50): (file.parent / f'copy {k}.png').symlink_to(file)
    tracemalloc.start()
    report = check_dataset(tmp_path / 'set')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(report.duplicates[0]) == 51 and peak < 25e6        # photos and label maps alone are 53 MB


def test_too_small_is_what_gives_no_two_patches(tmp_path):
    write_scenes(SCENES[:1], tmp_path / 'set')
    report = check_dataset(tmp_path / 'set')
    for size in (16, 32, 48, 64):
        for w, h in ((16, 32), (31, 200), (32, 64), (63, 64), (64, 64), (96, 130), (127, 128), (500, 130)):
            report.sizes = {(w, h): 1}
            try: fits = bool(nonoverlapping_boxes(h, w, size, np.random.default_rng(0)))
            except ValueError: fits = False
            assert report.too_small(size) == (not fits)


# ---- the commands ---------------------------------------------------------------------------------------------------

def test_check_command(dataset, tmp_path, capsys):
    folder, format = dataset
    assert main(['check', '--data', str(folder), '--out', str(tmp_path / 'report'), '--size', '32', '--labels', 'scenes']) == 0
    out = capsys.readouterr().out
    assert f'6 scenes, format {format}' in out and '6 for two patches of --size 32' in out and '4 train, 2 val (its own)' in out
    report = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert report['pairs'] == 6 and report['too_small'] == 6 and report['label_set'] == 'scenes'
    assert abs(sum(report['classes'].values()) + report['unlabelled'] - 1) < 1e-9
    assert Image.open(tmp_path / 'report' / 'samples.png').width > 800
    file_of(open_dataset(folder), 0, 'photos').write_text('broken')
    file_of(open_dataset(folder), 1, 'maps').unlink()
    assert main(['check', '--data', str(folder), '--format', format]) == 2
    said = capsys.readouterr()
    assert '2 of its files' in said.err and said.err.count('\n') == 1 and 'not an image' in said.out and 'has no partner' in said.out


@pytest.mark.parametrize('line, expected', [
    ('--data nowhere', 'no such folder'), ('--data empty', 'looked for'), ('--data set --out file', 'file'),
    ('--data set --out file/x', 'file'),
    ('--data set --format ade20k', 'ADE20K has photos'), ('--data strange --labels scenes', 'no class is known')])
def test_check_command_refuses(line, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('set', 'strange'): write_scenes(SCENES, name)
    Path('strange/classes.txt').write_text('\n'.join(f'thing {k}' for k in range(17)))
    Path('empty').mkdir()
    Path('file').write_text('precious')
    assert main(['check', *line.split()]) == 2
    said = capsys.readouterr()
    assert expected in said.err and said.err.count('\n') == 1 and Path('file').read_text() == 'precious'


def test_check_does_not_import_torch(tmp_path):
    write_scenes(SCENES, tmp_path / 'set')
    code = f'import sys; from msca.commands.cli import main; main(["check", "--data", {str(tmp_path / "set")!r}]); ' \
           'sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 0


def test_training_reads_published_datasets(tmp_path, capsys):
    sources = [publish(tmp_path / format, format) for format in LAYOUTS]
    train, valid, label_set = training_scenes(sources, 0, None, 32)
    assert (len(train), len(valid), label_set) == (12, 6, SCENE_LABELS)
    assert capsys.readouterr().out.count('6 photos, ') == 3
    publish(tmp_path / 'ade20k' / 'more', 'ade20k')
    with pytest.raises(InputError, match='too few photos'): training_scenes(sources[:1], 0, None, 32, only='outdoor')
    with pytest.raises(InputError, match='no such dataset'): training_scenes(sources, 0, None, 32, format='cityscapes')
    file_of(open_dataset(sources[2]), 0, 'photos').write_text('broken')
    file_of(open_dataset(sources[2]), 1, 'photos').write_text('broken')
    with pytest.raises(InputError, match='2 such files; msca check lists them'): training_scenes(sources, 0, None, 32)


# ---- real photos ----------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not os.environ.get('MSCA_DATA'), reason='MSCA_DATA does not name a folder of real datasets')
def test_real_coco_stuff():
    path = Path(os.environ['MSCA_DATA']) / 'coco_stuff_samples'
    if not path.is_dir(): pytest.skip('MSCA_DATA has no coco_stuff_samples')
    source = open_dataset(path)
    assert type(source) is CocoStuff and (path / 'classes.txt').read_text().split('\n')[:182] == [*COCO_STUFF_LABELS.classes]
    report = check_dataset(source)
    assert report.sides == {'train': 13, 'val': 8} and report.split == 'its own' and not report.faults and not report.duplicates
    assert report.kinds == {'outdoor': 6, 'indoor': 4, 'objects': 10, 'unclear': 1} and len(scenes_of_kind(source)) == 6
    assert report.picture().axes and report.unlabelled < .1
    unused = 'street sign', 'hat', 'shoe', 'eye glasses', 'plate', 'mirror', 'window', 'desk', 'door', 'blender', 'hair brush'
    assert not set(unused) & set(report.classes)


@pytest.mark.skipif(not os.environ.get('MSCA_DATA'), reason='MSCA_DATA does not name a folder of real datasets')
def test_real_duplicates_are_found():
    path = Path(os.environ['MSCA_DATA']) / 'msrc_v2'
    if not path.is_dir(): pytest.skip('MSCA_DATA has no msrc_v2')
    report = check_dataset(path)
    assert sorted(map(sorted, report.duplicates)) == [['1_26_s', '9_10_s'], ['1_27_s', '9_15_s']]
