"Dataset folders as people have them: nothing is passed over silently, neighbors and copies stay on one side, moved data are known again."
import json
import os
import random
import shutil
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint
from PIL import Image

from msca.base.labels import SCENE_LABELS, UNLABELLED
from msca.data.check import alike_pairs, check_dataset, photo_hashes
from msca.data.datasets import MixedScenes, SceneFolder, record_of, split_scenes, tell_changes
from msca.data.folders import list_folder
from msca.data.places import copied_from, place_of, split_at_least, split_by_place
from msca.data.published import ADE20K, Cityscapes, CocoStuff, open_dataset


def fill(root, names, classes='sky\ngrass\n', ids=(0, 1), photo='jpg', images='images', labels='labels', side=32):
    "Photos with maps of two classes, one above the other, under these names."
    m = np.full((side, 2*side), ids[0], np.uint8)
    m[side//2:] = ids[1]
    for k, name in enumerate(names):
        rng = np.random.default_rng([k, *name.encode()])
        for path in (root/images/f'{name}.{photo}', root/labels/f'{name}.png'): path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (side, 2*side, 3), dtype=np.uint8)).save(root/images/f'{name}.{photo}')
        Image.fromarray(m).save(root/labels/f'{name}.png')
    if classes is not None: (root/'classes.txt').write_text(classes)
    return root


def remarks(folder, label_set=None, kind=SceneFolder): return ' | '.join(kind.survey(folder, label_set).remarks)


# ---- nothing is passed over -----------------------------------------------------------------------------------------

def test_photos_on_all_levels_are_read(tmp_path):
    source = SceneFolder(fill(tmp_path, ['a', 'more/a', 'more/b', 'more/and/more/a']), None)
    assert source.names == ['a', 'more/a', 'more/and/more/a', 'more/b'] and not source.remarks
    for k, name in enumerate(source.names):
        assert source[k].name == name and source[k].image.size == (64, 32) and Path(source.photos[name]).is_file()


@pytest.mark.parametrize('seed', range(20))
def test_every_file_is_read_or_told(seed, tmp_path):
    "Generated folders: each file under images/ and labels/ is part of a scene, in a fault, or counted in a remark."
    rng = random.Random(seed)
    names = [f'{"/".join(rng.choices(["n", "s", "e"], k=rng.randrange(3)))}/{k}'.strip('/') for k in range(rng.randrange(1, 9))]
    fill(tmp_path, names)
    extra = []
    for k in range(rng.randrange(6)):
        part, ending = rng.choice(['images', 'labels']), rng.choice(['heic', 'jpg', 'png', 'json', 'CR2', 'txt', 'jpeg', ''])
        extra.append(tmp_path/part/rng.choice(['.', 'n', 'deep/er'])/(f'x{k}.{ending}' if ending else f'x{k}'))
        extra[-1].parent.mkdir(parents=True, exist_ok=True)
        extra[-1].write_text('x')
    source = SceneFolder.survey(tmp_path, None)
    assert source.names == sorted(names)
    faulty = {os.path.normpath(f.path) for f in source.faults}
    told = sum(int(r.split(': ')[1].split()[0]) for r in source.remarks if 'not read' in r)
    files = {os.path.normpath(p) for part in ('images', 'labels') for p in (tmp_path/part).rglob('*') if p.is_file()}
    read = {os.path.normpath(p) for p in (*source.photos.values(), *source.maps.values())}
    assert len(files - read - faulty) == told and not read & faulty


def test_names_match_in_any_unicode_form(tmp_path):
    fill(tmp_path, ['cafe\u0301', 'o\u0308l/u\u0308'])
    for part, form in (('images', 'NFD'), ('labels', 'NFC')):
        for p in sorted((tmp_path/part).rglob('*'), key=lambda p: -len(p.parts)): p.rename(p.with_name(unicodedata.normalize(form, p.name)))
    (tmp_path/'val.txt').write_text(unicodedata.normalize('NFD', 'café\n'), encoding='utf-8')
    source = SceneFolder(tmp_path, None)
    assert source.names == ['café', 'öl/ü'] and source.split('val').names == ['café'] and source[1].size == (32, 64)


@pytest.mark.parametrize('line, found', [
    ('p0', 'train/p0'), ('train/p0.jpg', 'train/p0'), ('images/val/q0.jpg', 'val/q0'), ('./images/val/q0', 'val/q0'),
    ('val\\q0.png', 'val/q0'),
    ('/home/me/data/images/val/q0.JPG', 'val/q0'), ('labels/train/p0.png', 'train/p0'), ('same', None), ('val/same', 'val/same'),
    ('p9', None)])
def test_lists_name_photos_in_many_ways(line, found, tmp_path):
    fill(tmp_path, ['train/p0', 'val/q0', 'train/same', 'val/same'])
    (tmp_path/'val.txt').write_text(f'{line}\n')
    if found: assert SceneFolder(tmp_path, None).split('val').names == [found]
    else: assert 'val.txt' in complaint(SceneFolder, tmp_path, None)


def test_what_both_lists_forget_is_told(tmp_path):
    fill(tmp_path, 'abcde')
    (tmp_path/'train.txt').write_text('a\nb')
    (tmp_path/'val.txt').write_text('c')
    assert '2 scenes on neither side of its own split: d, e' in remarks(tmp_path)


@pytest.mark.parametrize('sides, split',
                         [(('train', 'val'), (2, 2)), (('training', 'validation'), (2, 2)), (('train', 'valid'), (2, 2)),
                          (('Train', 'Test'), (2, 2)),
                                          (('train', 'val', 'test'), (2, 2)), (('train', 'more'), None), (('train', ), None)])
def test_folders_of_sides(sides, split, tmp_path):
    fill(tmp_path/'inside', [f'{s}/{k}' for s in sides for k in range(2)])
    for s in sides: fill(tmp_path/'outside', '01', images=f'{s}/images', labels=f'{s}/labels')
    for folder in ('inside', 'outside'):
        if folder == 'outside' and 'more' in sides: continue
        source = SceneFolder.survey(tmp_path/folder, None)
        assert len(source) == 2*len(sides)
        if split: assert tuple(len(source.split(w)) for w in ('train', 'val')) == split
        else: assert source.sides == {}
        assert ('neither side' in ' '.join(source.remarks)) == ('test' in sides)


def test_pictures_beside_the_folders_are_named(tmp_path):
    fill(tmp_path, 'ab')
    fill(tmp_path, 'ab', images='test')
    shutil.copy(tmp_path/'images'/'a.jpg', tmp_path/'lost.jpg')
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'notes.txt').touch()
    said = remarks(tmp_path)
    assert 'lost.jpg, test/' in said and 'run' not in said


def test_maps_in_other_lossless_formats(tmp_path):
    fill(tmp_path, 'abc')
    for name, ending in zip('abc', ('tif', 'bmp', 'gif')):
        with Image.open(tmp_path/'labels'/f'{name}.png') as im: im.save(tmp_path/'labels'/f'{name}.{ending}')
        (tmp_path/'labels'/f'{name}.png').unlink()
    for scene in SceneFolder(tmp_path, None): assert scene.labels[0, 0] == 0 and scene.labels[-1, -1] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason='nothing is closed to root')
def test_closed_folders_are_faults(tmp_path):
    fill(tmp_path, ['a', 'closed/b'])
    (tmp_path/'images'/'closed').chmod(0)
    try: assert any('cannot be listed' in f.problem for f in SceneFolder.survey(tmp_path, None).faults)
    finally: (tmp_path/'images'/'closed').chmod(0o755)


def test_links_that_lead_back_or_nowhere(tmp_path):
    fill(tmp_path, ['a', 'n/b'])
    (tmp_path/'images'/'n'/'up').symlink_to(tmp_path/'images')
    (tmp_path/'images'/'self').symlink_to(tmp_path/'images'/'self')
    (tmp_path/'disk').mkdir()
    shutil.move(tmp_path/'labels', tmp_path/'disk'/'labels')
    (tmp_path/'labels').symlink_to(tmp_path/'disk'/'labels')            # labels on another disk
    source = SceneFolder.survey(tmp_path, None)
    assert source.names == ['a', 'n/b'] and not source.faults
    assert len(list_folder(tmp_path, ['.jpg']).files) == 2


# ---- classes --------------------------------------------------------------------------------------------------------

def test_void_classes_are_unlabelled_and_named(tmp_path):
    fill(tmp_path, 'ab', 'void\nlake\nUnlabeled\n')
    source = SceneFolder.survey(tmp_path, None)
    assert source.label_set.classes == ('lake',) and source[0].labels[0, 0] == UNLABELLED and source[0].labels[-1, 0] == 0
    assert 'void, Unlabeled' in remarks(tmp_path)


def test_labels_folder_may_hold_the_classes(tmp_path):
    fill(tmp_path, 'ab')
    (tmp_path/'classes.txt').rename(tmp_path/'labels'/'classes.txt')
    source = open_dataset(tmp_path)
    assert source.label_set.classes == ('sky', 'grass') and not source.remarks
    (tmp_path/'classes.txt').write_text('grass\nsky\n')
    assert 'names other classes' in remarks(tmp_path) and SceneFolder.survey(tmp_path, None).label_set.classes == ('grass', 'sky')


def published(root, kind, ids, classes):
    "Two scenes a side in a published tree."
    for side in ('train', 'val'):
        if kind is Cityscapes: where, ends = (f'leftImg8bit/{side}/{side}town', f'gtFine/{side}/{side}town'), ('_leftImg8bit.png',
            '_gtFine_labelIds.png')
        elif kind is ADE20K: where, ends = (f'images/{side}ing'.replace('valing', 'validation'),
                                            f'annotations/{side}ing'.replace('valing', 'validation')), ('.jpg', '.png')
        else: where, ends = (f'images/{side}2017', f'stuffthingmaps/{side}2017'), ('.jpg', '.png')
        for folder, end in zip(where, ends):
            (root/folder).mkdir(parents=True, exist_ok=True)
            for k in range(2):
                m = np.full((32, 64), ids[0], np.uint8)
                m[16:] = ids[1]
                Image.fromarray(m).save(root/folder/f'{side}town_{k:06}_000019{end}')
    (root/'classes.txt').write_text('\n'.join(classes))
    return root


@pytest.mark.parametrize('kind', [Cityscapes, ADE20K, CocoStuff])
def test_own_classes_in_published_trees(kind, tmp_path):
    source = open_dataset(published(tmp_path/'own', kind, (0, 2), ['void', 'roof', 'pool']))
    assert type(source) is kind and source.label_set.classes == ('roof', 'pool') and any('what the numbers mean' in r
        for r in source.remarks)
    assert source[0].labels[0, 0] == UNLABELLED and source[0].labels[-1, 0] == 1 and len(source.split('val')) == 2
    numbered = open_dataset(published(tmp_path/'same', kind, (1, 7), kind.written.classes))
    assert numbered.remarks == [] and numbered.label_set == kind.about
    listed = kind.survey(published(tmp_path/'listed', kind, (1, 7), kind.about.classes), None)
    assert listed[0].labels.tolist() == numbered[0].labels.tolist() and ('not as its lines' in ' '.join(listed.remarks)) == (kind.about != kind.written)
    assert 'range' in complaint(lambda: open_dataset(published(tmp_path/'short', kind, (0, 3), ['a', 'b', 'c']))[0])


# ---- places ---------------------------------------------------------------------------------------------------------

def test_numbers_anywhere_keep_neighbors_together():
    for form in ('clip_{:04}_rgb', '{:04}_left', 'cam2_{:06}_right_1', 'frame{:05}a', 'IMG_{:04}-edited', 'v1_{:04}_s', 'walk {:03} (1)',
                 'x_{:04}.leftview'):
        places = [place_of(form.format(k)) for k in range(60)]
        assert [places[k] == places[k+1] for k in range(59)] == [k % 10 != 9 for k in range(59)], form


@pytest.mark.parametrize('photo', ['street7', 'clip_0017', 'IMG_0412', 'barn', 'coast_nat12', 'IMG_20240131_142355', '0001TP_006690'])
@pytest.mark.parametrize('copy', ['{}_flip', '{}_aug3', '{}_aug_12', 'flip_{}', '{}_jpg.rf.a1f', '{}_png.rf.00f2ab', '{}-mirrored',
                                  '{}_rot90', '{} - Copy (2)', '{}_FLIPPED'])
def test_copies_stay_with_their_photo(photo, copy):
    if photo == 'barn' and copy == '{}_aug_12': photo = 'barn1'          # without a number of its own, 12 may count photos
    assert place_of(copy.format(photo)) == place_of(photo)


def test_phone_times_are_hours():
    day = [f'IMG_20240131_{h:02}{m:02}00' for h in range(24) for m in range(0, 60, 7)]
    assert len({place_of(n) for n in day}) == 24
    assert place_of('PXL_20240131_142355123.MP') != place_of('PXL_20240201_142355123.MP')


def test_a_split_of_copies_separates_no_copy():
    names = [f'street{k}{c}' for k in range(9) for c in ('', '_flip', '_aug1', '_jpg.rf.9')] + [f'lane_{k:03}_rgb' for k in range(40)]
    for seed in range(10):
        train, valid = split_by_place(names, .2, seed)
        assert not {copied_from(names[i]) for i in train} & {copied_from(names[i]) for i in valid}


@pytest.mark.parametrize('names', [[f'IMG_{k:04}' for k in range(8)], [f'p{k}' for k in range(8)], [f'photo ({k})' for k in range(1, 9)],
                                   [*'abcdefgh'],
                                   [f'IMG_20240131_1420{k:02}' for k in range(8)], [f'scene_{k:02}/rgb' for k in range(8)]])
def test_eight_photos_are_enough(names, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        train, valid = split_scenes(SceneFolder(fill(tmp_path, names), None))
        assert (len(train), len(valid)) == (4, 4) and sorted(train.names + valid.names) == sorted(names)
        mixed = split_scenes(MixedScenes([SceneFolder(tmp_path, None)]))
        assert [len(side) for side in mixed] == [4, 4]
    assert 'too few photos (only 7)' in complaint(split_scenes, SceneFolder(fill(tmp_path/'seven', names[:7]), None))


def test_whole_places_are_held_out_where_they_can_be():
    names = [f'{place}__{k}' for place in 'abcdef' for k in range(3)]
    for least in range(1, 10):
        train, valid, whole = split_at_least(names, least)
        assert min(len(train), len(valid)) >= least and whole == (not {place_of(names[i]) for i in train} & {place_of(names[i])
            for i in valid})
        assert whole or least in (8,)                                     # 8 and 8 of 18 are no whole threes
    assert split_at_least(names, 10) is None


# ---- near-duplicates ------------------------------------------------------------------------------------------------

def test_near_duplicates_across_the_split_are_reported(tmp_path):
    from PIL import ImageOps
    from sklearn.datasets import load_sample_image
    china, flower = (Image.fromarray(load_sample_image(f)) for f in ('china.jpg', 'flower.jpg'))
    fill(tmp_path, [f'noise{k}0' for k in range(6)])
    for name, image in (('first', china), ('second', ImageOps.mirror(china.resize((300, 200)))), ('third', flower)):
        image.save(tmp_path/'images'/f'{name}.jpg', quality=60)
        Image.fromarray(np.zeros(image.size[::-1], np.uint8)).save(tmp_path/'labels'/f'{name}.png')
    (tmp_path/'val.txt').write_text('second\nnoise00\nnoise10\nnoise20\n')
    report = check_dataset(tmp_path)
    assert [pair[:2] for pair in report.alike] == [('second', 'first')] and report.duplicates == []
    assert any('second ~ first (across the split)' in line for line in report.lines())
    (tmp_path/'val.txt').write_text('first\nsecond\nnoise00\nnoise10\n')                     # now on one side
    assert check_dataset(tmp_path).alike == []


def test_without_the_library_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'imagehash', None)
    report = check_dataset(fill(tmp_path, 'abcdefgh'))
    assert report.alike is None and any('not looked for' in line for line in report.lines())


def test_alike_pairs_agree_with_a_slow_loop():
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 2, 64)) < .5, rng.random((50, 2, 64)) < .5
    for k in range(12): b[k, 0] = a[k, k % 2] ^ (rng.permutation(64) < k)
    slow = {(i, j): min(int((a[i, m] != b[j, 0]).sum()) for m in (0, 1)) for i in range(40) for j in range(50)}
    assert {p[:2]: p[2] for p in alike_pairs(a, b)} == {p: d for p, d in slow.items() if d <= 6} and len(alike_pairs(a, b)) == 7


def test_hash_of_the_mirror_image_is_the_mirrored_hash():
    from PIL import ImageOps
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    assert (photo_hashes(image)[::-1] == photo_hashes(ImageOps.mirror(image))).all()


# ---- moved data -----------------------------------------------------------------------------------------------------

def test_moved_data_are_known_again(tmp_path):
    here = fill(tmp_path/'here', ['a', 'n/b', 'c'])
    before = record_of(SceneFolder(here, None))
    shutil.copytree(here, tmp_path/'there')
    now = lambda: record_of(MixedScenes([SceneFolder(tmp_path/'there', None)]))
    assert tell_changes(before, now()) == ''
    (tmp_path/'there'/'labels'/'c.png').write_bytes((here/'labels'/'c.png').read_bytes() + b' ')
    assert tell_changes(before, now()) == 'there: of 3 photos 1 of another size (c)'
    fill(tmp_path/'there', ['d'], None)
    for part in ('images/a.jpg', 'labels/a.png'): (tmp_path/'there'/part).unlink()
    assert tell_changes(before, now()) == 'there: of 3 photos 1 missing (a), 1 new (d), 1 of another size (c)'
    shutil.copytree(here, tmp_path/'other')
    (tmp_path/'other'/'classes.txt').write_text('sky\nlawn\nmore')
    assert tell_changes(before, record_of(SceneFolder(tmp_path/'other', None))) == "other: class 1 is 'lawn', it was 'grass'"


# ---- the real folders -----------------------------------------------------------------------------------------------

HELD_OUT = dict(siftflow=272, labelmefacade=117, stanford_background=39, msrc_v2=29, camvid=34, coco_stuff_samples=8)


@pytest.mark.skipif(not os.environ.get('MSCA_DATA'), reason='MSCA_DATA does not name a folder of real datasets')
@pytest.mark.parametrize('name', HELD_OUT)
def test_committed_results_know_these_splits(name):
    "The numbers of held-out photos at the time of the committed measurements."
    path = Path(os.environ['MSCA_DATA'])/name
    if not path.is_dir(): pytest.skip(f'MSCA_DATA has no {name}')
    assert len(open_dataset(path, None, SCENE_LABELS).split('val')) == HELD_OUT[name]


def test_a_run_knows_its_data_wherever_they_are(tmp_path):
    from msca.commands.training import check_record, keep_record, known_places
    here, run = fill(tmp_path/'here', [f'{c}{k}0' for c in 'ab' for k in range(6)]), tmp_path/'run'
    (here/'val.txt').write_text('a00\na10\nb00\nb10')
    run.mkdir()
    sides = lambda folder: split_scenes(MixedScenes([SceneFolder(folder, None)]))
    check_record(run, *sides(here))                                           # nothing to compare with yet
    keep_record(run, *sides(here), [str(here)])
    there = here.rename(tmp_path/'there')
    check_record(run, *sides(there))
    assert 'give its new place with --data' in complaint(known_places, [str(here)], run)
    keep_record(run, *sides(there), [str(there)])
    there.rename(here)
    assert known_places([str(there)], run) == [str(here)]                     # where it has been before
    (here/'val.txt').write_text('a00\na10\nb00\nb20')
    line = complaint(check_record, run, *sides(here))
    assert 'missing (b20)' in line and '--init' in line
    (run/'data.json').write_text('[]')
    assert 'damaged' in complaint(check_record, run, *sides(here))


def test_eight_photos_are_split_alike_whatever_their_folder_is_called(tmp_path):
    names = [f'IMG_{k:04}' for k in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        a, b = (split_scenes(MixedScenes([SceneFolder(fill(tmp_path/name, names), None)])) for name in ('here', 'there'))
    assert [[n.split('/')[1] for n in side.names] for side in a] == [[n.split('/')[1] for n in side.names] for side in b]


@pytest.mark.parametrize('name', ['labelmap.txt', 'class_dict.csv', 'labels.json'])
def test_a_list_of_a_tool_in_place_of_classes_txt(tmp_path, name):
    "Its names and colors are read; beside a classes.txt it says nothing."
    colors = {'roof': (200, 30, 30), 'gravel': (90, 90, 120)}
    for part in ('images', 'labels'): (tmp_path/part).mkdir()
    ids = np.kron([[0, 1], [1, 0]], np.ones((16, 16), int)).astype(np.uint8)
    Image.new('RGB', (32, 32)).save(tmp_path/'images'/'a.png')
    Image.fromarray(np.array(list(colors.values()), np.uint8)[ids]).save(tmp_path/'labels'/'a.png')
    (tmp_path/name).write_text({
        'labelmap.txt': '# label:color_rgb:parts:actions\n' + ''.join(f'{n}:{r},{g},{b}::\n' for n, (r, g, b) in colors.items()),
        'class_dict.csv': 'name,r,g,b\n' + ''.join(f'{n},{r},{g},{b}\n' for n, (r, g, b) in colors.items()),
        'labels.json': json.dumps(dict(classes=list(colors), palette=list(colors.values())))}[name])
    source = SceneFolder(tmp_path, None)
    assert source.label_set.classes == ('roof', 'gravel') and (source[0].labels == ids).all() and any(name in r for r in source.remarks)
    Image.fromarray(ids).save(tmp_path/'labels'/'a.png')
    (tmp_path/'classes.txt').write_text('sea\nsky\n')
    source = SceneFolder(tmp_path, None)
    assert source.label_set.classes == ('sea', 'sky') and (source[0].labels == ids).all() and not any(name in r for r in source.remarks)
