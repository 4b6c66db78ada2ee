"Photos of every kind that people have: colors as they were meant, sizes that fit, sources that are no files; or one line."
import io
import struct
import sys
import threading
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from complaints import complaint
from PIL import Image, ImageCms, features
from sklearn.datasets import load_sample_image

from msca.base.labels import SCENE_LABELS, InputError, colorize
from msca.base.photos import load_photo, open_image, photo_size, read_photo, scaled_size
from msca.data.check import check_dataset
from msca.data.datasets import SceneFolder
from msca.data.scene import Scene, load_labels, read_ids

CHINA = Image.fromarray(load_sample_image('china.jpg'))
PRIMARIES = {'sRGB': None, 'Display P3': ((.51512, .24120, -.00105), (.29198, .69225, .04189), (.15710, .06657, .78407)),
             'Adobe RGB': ((.60974, .31111, .01947), (.20528, .62567, .06087), (.14919, .06322, .74457))}


def profile(name):
    "An sRGB profile with other primaries."
    b = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes())
    for k in range(struct.unpack('>I', b[128:132])[0]):
        tag, at, _ = struct.unpack('>4sII', b[132+12*k:144+12*k])
        if tag in (b'rXYZ', b'gXYZ', b'bXYZ') and PRIMARIES[name]: b[at+8:at+20] = struct.pack('>3i',
            *(round(v*65536) for v in PRIMARIES[name][b'rgb'.index(tag[:1])]))
    return bytes(b)


def saved(img, kind, **saving):
    data = io.BytesIO()
    img.save(data, kind, **saving)
    return data.getvalue()


def off(a, b): return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))


# ---- colors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', PRIMARIES)
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP', 'JPEG', 'AVIF'])
def test_pixels_are_what_a_viewer_shows(name, kind):
    if kind == 'AVIF' and not features.check('avif'): pytest.skip('this Pillow has no AVIF')
    lossless = dict(WEBP=dict(lossless=True, exact=True), AVIF=dict(quality=100, subsampling='4:4:4')).get(kind, {})
    data = saved(CHINA, kind, icc_profile=profile(name), **lossless)
    stored = Image.open(io.BytesIO(data)).convert('RGB')
    shown = ImageCms.profileToProfile(stored, io.BytesIO(profile(name)), ImageCms.createProfile('sRGB'), outputMode='RGB')
    assert off(load_photo(data), shown).max() <= (2 if name == 'sRGB' else 0)
    if name == 'sRGB': assert off(load_photo(data), stored).max() == 0      # to the bit
    else: assert off(load_photo(data), stored).max() > 15


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGBA', '1', 'I;16', 'CMYK'])
def test_every_mode_with_a_profile_is_read(mode):
    image = Image.fromarray(np.asarray(CHINA.convert('L')).astype(np.uint16)*257) if mode == 'I;16' else CHINA.convert(mode)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for icc in (profile('Display P3'), b'no profile', ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()):
            data = saved(image, 'TIFF' if mode == 'CMYK' else 'PNG', icc_profile=icc)
            photo, plain = load_photo(data), load_photo(saved(image, 'TIFF' if mode == 'CMYK' else 'PNG'))
            assert photo.mode == 'RGB' and photo.size == CHINA.size and off(photo, plain).mean() < 12


def test_transparent_pixels_stay_white_under_a_profile():
    image = CHINA.convert('RGBA')
    image.putalpha(Image.fromarray(np.repeat([[0, 255]], CHINA.width//2, 1).repeat(CHINA.height, 0).astype(np.uint8)))
    photo = np.asarray(load_photo(saved(image, 'PNG', icc_profile=profile('Display P3'))))
    opaque = np.asarray(load_photo(saved(CHINA, 'PNG', icc_profile=profile('Display P3'))))
    half = CHINA.width//2
    assert (photo[:, :half] == 255).all() and (photo[:, half:] == opaque[:, half:]).all()


@pytest.mark.parametrize('icc', [b'x', b'no profile at all', profile('sRGB')[:300], bytes(5000)])
def test_damaged_profiles_are_remarked_not_obeyed(icc, tmp_path):
    CHINA.save(tmp_path/'x.png', icc_profile=icc)
    with pytest.warns(UserWarning, match='x.png: its color profile cannot be used'): photo = load_photo(tmp_path/'x.png')
    assert off(photo, CHINA).max() == 0
    image, remarks = read_photo(tmp_path/'x.png')                          # without a warning, for whoever counts
    assert len(remarks) == 1 and off(image, CHINA).max() == 0


def test_check_counts_damaged_profiles(tmp_path):
    for part in ('images', 'labels'): (tmp_path/part).mkdir()
    for k in range(4):
        CHINA.resize((64, 48)).save(tmp_path/'images'/f'{k}.png', **(dict(icc_profile=b'no profile') if k else {}))
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path/'labels'/f'{k}.png')
    (tmp_path/'classes.txt').write_text('sky')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [r for r in check_dataset(tmp_path).remarks if r.startswith('3 photos (1): its color profile')]


def test_threads_that_read_photos_leave_the_process_its_warnings():
    "Python's warning filters belong to the whole process: two threads that silence Pillow at once would leave them off for good."
    pictures = [saved(CHINA.resize((48, 32)), kind) for kind in ('PNG', 'TIFF')]
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool: list(pool.map(load_photo, pictures*100))
    finally: sys.setswitchinterval(interval)
    assert list(warnings.filters) == before


def test_a_photo_is_converted_once():
    source = Image.open(io.BytesIO(saved(CHINA, "PNG", icc_profile=profile("Display P3"))))
    photo = load_photo(source)
    assert off(load_photo(photo), photo).max() == 0 and off(Scene(photo, np.zeros(CHINA.size[::-1], np.uint8)).image, photo).max() == 0
    assert "icc_profile" in source.info


def test_one_profile_in_many_threads():
    data = saved(CHINA, 'PNG', icc_profile=profile("Adobe RGB"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_photo(data).tobytes())) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(found) == 8 and len(set(found)) == 1


# ---- sizes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('size', [(9000, 200), (200, 9000), (16385, 64), (65000, 150)])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF'])
def test_panoramas_are_scaled(size, kind):
    image = CHINA.resize(size)
    photo = load_photo(saved(image, kind))
    assert photo.size == scaled_size(size) and max(photo.size) <= 8192 and off(photo, CHINA.resize(photo.size)).mean() < 6


def test_sizes_from_headers_agree_with_reading(tmp_path):
    turned = Image.Exif()
    turned[0x112] = 8
    for k, (size, saving) in enumerate([((64, 48), {}), ((64, 48), dict(exif=turned)), ((9001, 40), {}), ((9001, 40), dict(exif=turned))]):
        for ending in ('jpg', 'png', 'webp'):
            CHINA.resize(size).save(tmp_path/f'{k}.{ending}', **saving)
            assert photo_size(tmp_path/f'{k}.{ending}') == load_photo(tmp_path/f'{k}.{ending}').size


def test_phone_of_200_million_pixels(tmp_path):
    "More than Pillow opens; scaled while it is decoded, it needs little time and memory."
    Image.new('L', (16320, 12240), 90).save(tmp_path/'x.jpg')
    assert photo_size(tmp_path/'x.jpg') == (8160, 6120)
    photo = load_photo(tmp_path/'x.jpg')
    assert photo.size == (8160, 6120) and photo.getpixel((4000, 3000)) == (90, 90, 90)


def test_claims_of_sizes_are_not_believed():
    png = bytearray(saved(Image.new('L', (64, 64)), 'PNG'))
    png[16:24] = struct.pack('>II', 30000, 30000)
    png[29:33] = struct.pack('>I', zlib.crc32(png[12:29]))
    jpeg = bytearray(saved(Image.new('L', (64, 64)), 'JPEG'))
    at = jpeg.index(b'\xff\xc0')
    jpeg[at+5:at+9] = struct.pack('>HH', 65000, 65000)
    for data in (png, jpeg): assert 'million' in complaint(load_photo, bytes(data))


def test_label_maps_keep_their_limit(tmp_path):
    Image.fromarray(np.zeros((32, 9000), np.uint8)).save(tmp_path/'m.png')
    assert '9000×32' in complaint(load_labels, tmp_path/'m.png') and '9000×32' in complaint(open_image, tmp_path/'m.png')


@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_large_scenes_of_a_folder_are_read(ending, tmp_path):
    ids = np.repeat(np.arange(3, dtype=np.uint8), 3001)[None].repeat(40, 0)
    for part in ('images', 'labels'): (tmp_path/part).mkdir()
    CHINA.resize((9003, 40)).save(tmp_path/'images'/'x.jpg')
    Image.fromarray(ids).save(tmp_path/'labels'/f'x.{ending}')
    (tmp_path/'classes.txt').write_text('sky\nwater\ntree')
    source = SceneFolder(tmp_path, None)
    assert source.size_of(0) == source[0].size == (20, 4502) and check_dataset(tmp_path).faults == []
    want = ids[0][(2*np.arange(4502)+1)*9003//(2*4502)]
    assert (source[0].labels == want).all()


# ---- formats --------------------------------------------------------------------------------------------------------

def test_heic_from_a_phone(tmp_path):
    heif = pytest.importorskip('pillow_heif')
    heif.from_pillow(CHINA).save(tmp_path/'IMG_1.HEIC', quality=95)
    assert off(load_photo(tmp_path/'IMG_1.HEIC'), CHINA).mean() < 4 and photo_size(tmp_path/'IMG_1.HEIC') == CHINA.size
    for part in ('images', 'labels'): (tmp_path/'set'/part).mkdir(parents=True)
    (tmp_path/'IMG_1.HEIC').rename(tmp_path/'set'/'images'/'IMG_1.HEIC')
    Image.fromarray(np.zeros(CHINA.size[::-1], np.uint8)).save(tmp_path/'set'/'labels'/'IMG_1.png')
    (tmp_path/'set'/'classes.txt').write_text('sky')
    assert SceneFolder(tmp_path/'set', None)[0].size == CHINA.size[::-1]


def test_formats_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    heic = b'\0\0\0\x18ftypheic'+bytes(64)
    assert '\n' not in complaint(load_photo, heic)
    monkeypatch.setattr('msca.base.photos._know_heif', lambda: None)
    monkeypatch.setattr('msca.base.photos._FORMATS', ('PNG', 'JPEG'))
    monkeypatch.delitem(Image.OPEN, 'HEIF', raising=False)
    assert 'pillow-heif' in complaint(load_photo, heic) and 'JPEG XL' in complaint(load_photo, b'\xff\x0a'+bytes(64))
    monkeypatch.setattr('msca.base.photos.features.check', lambda what: False)
    assert 'AVIF' in complaint(load_photo, b'\0\0\0\x18ftypavif'+bytes(64))
    CHINA.save(tmp_path/'DSC_1.NEF', 'TIFF')
    assert 'raw data of a camera' in complaint(load_photo, tmp_path/'DSC_1.NEF')


# ---- what is no file ------------------------------------------------------------------------------------------------

class Upload:
    "A file that cannot be rewound, such as a download."
    def __init__(self, data): self.data = data
    def read(self): return self.data


def archive(data):
    with zipfile.ZipFile(io.BytesIO(), 'w') as z:
        z.writestr('x.png', data)
        return z.open('x.png').read() and z.open('x.png')


SOURCES = {'bytes': bytes, 'bytearray': bytearray, 'memoryview': memoryview, 'BytesIO': io.BytesIO, 'a download': Upload,
           'read to its end': lambda d: (b := io.BytesIO(d), b.read())[0]}


@pytest.mark.parametrize('kind', SOURCES)
def test_files_in_memory(kind):
    ids = np.zeros((64, 96), np.uint8)
    ids[32:] = 5
    assert off(load_photo(SOURCES[kind](saved(CHINA, 'PNG'))), CHINA).max() == 0
    for image in (Image.fromarray(ids), Image.fromarray(colorize(ids, SCENE_LABELS))):
        assert (load_labels(SOURCES[kind](saved(image, 'PNG')), SCENE_LABELS) == ids).all()
        assert (read_ids(SOURCES[kind](saved(image, 'PNG')), SCENE_LABELS) == ids).all()
    scene = Scene.load(SOURCES[kind](saved(CHINA.resize((96, 64)), 'PNG')), SOURCES[kind](saved(Image.fromarray(ids), 'PNG')))
    assert scene.size == (64, 96)


def test_open_files_and_members_of_archives(tmp_path):
    CHINA.save(tmp_path/'x.png')
    with open(tmp_path/'x.png', 'rb') as f: assert off(load_photo(f), CHINA).max() == 0
    with zipfile.ZipFile(tmp_path/'x.zip', 'w') as z: z.write(tmp_path/'x.png', 'x.png')
    with zipfile.ZipFile(tmp_path/'x.zip') as z, z.open('x.png') as f: assert off(load_photo(f), CHINA).max() == 0


@pytest.mark.parametrize('change', [lambda t: t, lambda t: t.permute(2, 0, 1), lambda t: t.permute(2, 0, 1).contiguous(),
                                    lambda t: t[None][0]])
def test_tensors(change):
    a = np.asarray(CHINA)
    assert off(load_photo(change(torch.from_numpy(a.copy()))), a).max() == 0
    assert off(load_photo(np.asarray(change(torch.from_numpy(a.copy())))), a).max() == 0


@pytest.mark.parametrize('kind', [torch.uint8, torch.int32, torch.int64])
def test_label_maps_as_tensors(kind):
    ids = np.zeros((64, 96), np.uint8)
    ids[32:] = 5
    assert (load_labels(torch.from_numpy(ids).to(kind), SCENE_LABELS) == ids).all() and (load_labels(ids.tolist(),
        SCENE_LABELS) == ids).all()


@pytest.mark.parametrize('source', [None, 7, 1.5, True, {}, {'image': 1}, object(), [], [[1], [2, 3]], ['a'], b'', b'junk', io.BytesIO(),
                                    io.StringIO('text'), Upload('text'), Upload(None),
                                    torch.zeros(3, 32, 32), torch.zeros(32, 32, dtype=torch.bfloat16), np.zeros((32, 32), object),
                                    np.zeros((32, 32), 'datetime64[s]'),
                                    np.zeros((0, 0), np.uint8), np.zeros((3, 0, 32), np.uint8), torch.zeros(32, dtype=torch.uint8),
                                    'https://example.org/x.jpg'], ids=lambda s: type(s).__name__)
def test_anything_else_is_one_line(source):
    for read in (load_photo, lambda s: load_labels(s, SCENE_LABELS), lambda s: read_ids(s, SCENE_LABELS)):
        if isinstance(source, torch.Tensor) and source.dtype == torch.float32 and read is not load_photo: continue
        with pytest.raises(InputError) as e: read(source)
        assert '\n' not in str(e.value) and len(str(e.value)) < 400
