"The tables of docs/pages/howto/photos-and-folders.md: what is quoted there is what is said."
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_annotations import BAD, coco, cvat, kept, labelme, outline, photo, polygon
from test_folders import fill, published

from msca.base.labels import InputError
from msca.base.photos import load_photo
from msca.commands.training import check_record, keep_record
from msca.data.annotations import convert_annotations
from msca.data.check import check_dataset
from msca.data.datasets import SceneFolder, split_scenes
from msca.data.exports import convert_exports
from msca.data.published import ADE20K, open_dataset

PAGE = Path(__file__).parents[1]/'docs'/'pages'/'howto'/'photos-and-folders.md'
ROWS = dict(re.split(r' \| ', line.strip('| \n'), maxsplit=1) for line in PAGE.read_text(encoding='utf-8').splitlines()
            if line.startswith('| ') and not line.startswith('| what you have'))


def converted(content, d, name='a.json', size=(64, 48)):
    photo(d/'in'/'a.jpg', size)
    kept(d/'in'/name, content)
    done = convert_annotations([d/'in'], d/'out')
    return [*done.remarks, *map(str, done.faults)]


def spoiled(spoil, d, names='abcdefgh'):
    spoil(fill(d, names))
    return SceneFolder(d, None) and None


def without_heif(d):
    with pytest.MonkeyPatch.context() as m:
        m.setattr('msca.base.photos._know_heif', lambda: None)
        m.setattr('msca.base.photos._FORMATS', ('PNG',))
        m.delitem(Image.OPEN, 'HEIF', raising=False)
        load_photo(b'\0\0\0\x18ftypheic'+bytes(64))


def alike(d):
    from sklearn.datasets import load_sample_image
    china = Image.fromarray(load_sample_image('china.jpg'))
    fill(d, [f'noise{k}0' for k in range(8)])
    for name, image in (('first', china), ('second', china.resize((300, 200)))):
        image.save(d/'images'/f'{name}.jpg')
        Image.fromarray(np.zeros(image.size[::-1], np.uint8)).save(d/'labels'/f'{name}.png')
    (d/'val.txt').write_text('second\nnoise00\nnoise10\nnoise20\n')
    return check_dataset(d).lines()


def moved(d):
    fill(d/'a', [f'p{k}0' for k in range(9)])
    (d/'run').mkdir()
    keep_record(d/'run', *split_scenes(SceneFolder(d/'a', None)), [])
    fill(d/'a', ['p990'], None)
    check_record(d/'run', *split_scenes(SceneFolder(d/'a', None)))


def damaged(d):
    Image.new('RGB', (64, 64)).save(d/'x.png', icc_profile=b'none')
    load_photo(d/'x.png')


def raw(d):
    Image.new('RGB', (64, 64)).save(d/'x.nef', 'TIFF')
    load_photo(d/'x.nef')


def beside(d): fill(fill(d, 'ab'), 'ab', images='more')


WAYS = {
    'areas of `void`': lambda d: converted(labelme(outline(), outline('void')), d),
    'points, lines, boxes': lambda d: converted(cvat(polygon(), '<points label="house" points="1,1"/>'), d, 'a.xml'),
    'a photo that is not there': lambda d: converted(coco([[0, 0, 9, 0, 9, 9]], photo='gone.jpg'), d),
    'a photo of another size': lambda d: converted(labelme(outline()), d, size=(96, 96)),
    'CVAT for video': lambda d: converted(BAD['video'], d, 'v.xml'),
    'masks without a list': lambda d: (photo(d/'in'/'SegmentationClass'/'a.png'), convert_exports([d/'in'], d/'out'))[1],
    'an export of an annotation tool': lambda d: (photo(d/'in'/'SegmentationClass'/'a.png'), open_dataset(d/'in'))[1],
    'other JSON or XML': lambda d: converted({'name': 'x'}, d),
    'a damaged color profile': damaged,
    'HEIC': without_heif,
    "a camera's raw file": raw,
    'an array of floats': lambda d: load_photo(np.zeros((32, 32, 3))),
    '`labelmap.txt`, `class_names.txt`': lambda d: spoiled(lambda d: (d/'classes.txt').rename(d/'class_names.txt'), d),
    'photos on neither list': lambda d: spoiled(lambda d: [(d/f'{w}.txt').write_text(n) for w, n in (('train', 'a'), ('val', 'b'))], d),
    'files that are neither': lambda d: spoiled(lambda d: (d/'labels'/'a.json').touch(), d),
    'pictures beside': lambda d: spoiled(lambda d: beside(d), d),
    'a photo without map': lambda d: spoiled(lambda d: (d/'labels'/'a.png').unlink(), d),
    'own classes in the tree': lambda d: open_dataset(published(d, ADE20K, (0, 2), 'abc')) and None,
    'near-duplicates': alike,
    'a dataset that moved': moved,
}


@pytest.mark.parametrize('row', [r for r in ROWS if any(r.startswith(w) for w in WAYS)])
def test_what_is_quoted_is_said(row, tmp_path):
    quoted = [q for q in re.findall(r'`([^`]+)`', ROWS[row]) if ' ' in q and not q.startswith('pip ') and not q.startswith('msca ')]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try: said = next(f for w, f in WAYS.items() if row.startswith(w))(tmp_path) or []
        except InputError as e: said = [str(e)]
    said = ' '.join([*said, *(str(w.message) for w in caught)])
    assert quoted and all(q in said for q in quoted), said[:600]


def test_every_row_that_quotes_is_tried():
    quoting = {r for r, text in ROWS.items() if re.search(r'(told|refused|left out|note|warning|without|changed)\b[^|]*: `', text)}
    assert quoting == {r for r in ROWS if any(r.startswith(w) for w in WAYS)}
