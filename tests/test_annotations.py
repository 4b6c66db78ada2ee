"Annotation files of four tools: what is painted, what is found, what is refused in one line; and the command that converts them."
import base64
import json
import math
import os
import random
import zipfile

import numpy as np
import pytest
from complaints import complaint
from PIL import Image

from msca.base.labels import UNLABELLED, InputError
from msca.commands.cli import main
from msca.data.annotations import convert_annotations, drawn_shape, filled_polygons, paint_shapes, read_annotations, unpacked_runs
from msca.data.check import check_dataset
from msca.data.datasets import SceneFolder
from msca.data.exports import convert_exports

mask = pytest.importorskip('pycocotools.mask')
W, H = 64, 48
SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]


def labelme(*shapes, photo='a.jpg', **more):
    return dict(version='5.4.1', flags={}, imagePath=photo, imageData=None, imageWidth=W, imageHeight=H, shapes=list(shapes)) | more


def outline(label='house', points=SQUARE, kind='polygon', **more): return dict(label=label, points=points, shape_type=kind) | more


def coco(*segmentations, photo='a.jpg', categories=('house',)):
    return dict(images=[dict(id=1, file_name=photo, width=W, height=H)], categories=[dict(id=7*k+3, name=c) for k, c in enumerate(categories)],
                annotations=[dict(id=k, image_id=1, category_id=3, segmentation=s) for k, s in enumerate(segmentations)])


def studio(*values, photo='/data/upload/1/0a1b2c3d-a.jpg', **more):
    kinds = {'rle': 'brushlabels', 'points': 'polygonlabels', 'radiusX': 'ellipselabels', 'width': 'rectanglelabels'}
    results = [dict(type=(kind := next(k for key, k in kinds.items() if key in v)), original_width=W, original_height=H, image_rotation=0,
                    value=v | {kind: ['house']}) | more for v in values]
    return [dict(id=1, data=dict(image=photo), annotations=[dict(id=1, result=results)])]


def cvat(*elements, image='', photo='a.jpg'):
    return f'<annotations><image id="0" name="{photo}" width="{W}" height="{H}" {image}>{"".join(elements)}</image></annotations>'


def polygon(points=SQUARE, label='house', **more):
    attributes = ' '.join(f'{k}="{v}"' for k, v in more.items())
    return f'<polygon label="{label}" points="{";".join(f"{x},{y}" for x, y in points)}" {attributes}/>'


def kept(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding='utf-8')
    return path


def painted(path, content, **ids):
    "The map of the first photo of a file; house is 0."
    return paint_shapes(read_annotations(kept(path, content)).photos[0], dict(house=0) | ids)


# ---- what is painted ------------------------------------------------------------------------------------------------

def test_the_border_of_a_square_in_every_tool(tmp_path):
    "A square of 20×20: the COCO library paints 400 pixels, labelme's Pillow 441."
    flat = [[c for p in SQUARE for c in p]]
    percent = [[100*x/W, 100*y/H] for x, y in SQUARE]
    counts = {'labelme': painted(tmp_path/'l.json', labelme(outline())), 'coco': painted(tmp_path/'c.json', coco(flat)),
              'cvat': painted(tmp_path/'c.xml', cvat(polygon())), 'studio': painted(tmp_path/'s.json', studio(dict(points=percent))),
              'labelme box': painted(tmp_path/'b.json', labelme(outline(points=[[30, 30], [10, 10]], kind='rectangle'))),
              'cvat box': painted(tmp_path/'b.xml', cvat('<box label="house" xtl="10" ytl="10" xbr="30" ybr="30"/>')),
              'studio box': painted(tmp_path/'sb.json', studio(dict(x=1000/W, y=1000/H, width=2000/W, height=2000/H)))}
    assert {k: int((m == 0).sum()) for k, m in counts.items()} == {
        'labelme': 441, 'coco': 400, 'cvat': 400, 'studio': 400, 'labelme box': 441, 'cvat box': 400, 'studio box': 400}
    assert (counts['coco'][10:30, 10:30] == 0).all() and (counts['labelme'][10:31, 10:31] == 0).all()


def test_ellipses_and_turned_boxes_have_their_area(tmp_path):
    ellipse = '<ellipse label="house" cx="32" cy="24" rx="20" ry="10" rotation="{}"/>'
    for degrees in (0, 30, 90):
        for m in (painted(tmp_path/'e.xml', cvat(ellipse.format(degrees))),
                  painted(tmp_path/'e.json', studio(dict(x=50, y=50, radiusX=2000/W, radiusY=1000/H, rotation=degrees)))):
            assert abs((m == 0).sum()/(math.pi*200)-1) < .08
            rows, columns = np.nonzero(m == 0)
            assert abs(rows.mean()-23.5) < 1 and abs(columns.mean()-31.5) < 1
    box = painted(tmp_path/'t.xml', cvat('<box label="house" xtl="22" ytl="14" xbr="42" ybr="34" rotation="45"/>')) == 0
    assert abs(box.sum()/400-1) < .08 and box[24, 20] and not box[15, 23]


def test_circles_lines_points_and_masks_of_labelme(tmp_path):
    stamp = np.zeros((6, 5), np.uint8)
    stamp[2:, 1:4] = 255
    png = tmp_path/'stamp.png'
    Image.fromarray(stamp).save(png)
    def one(shape): return painted(tmp_path/'x.json', labelme(shape)) == 0
    assert abs(one(outline(points=[[30, 24], [40, 24]], kind='circle')).sum()/(math.pi*100)-1) < .12
    assert one(outline(points=[[5, 20], [55, 20]], kind='line')).sum() > 450
    assert one(outline(points=[[30, 20]], kind='point')).sum() == drawn_shape('point', [[30, 20]], (W, H)).sum() > 70
    area = one(outline(points=[[60, 45], [64, 50]], kind='mask', mask=base64.b64encode(png.read_bytes()).decode()))   # cut at the border
    want = np.zeros((H, W), bool)
    want[45:48, 60:64] = (stamp > 0)[:3, :4]
    assert (area == want).all()


def test_masks_of_cvat_are_rows_in_their_box(tmp_path):
    m = painted(tmp_path/'m.xml', cvat('<mask label="house" rle="2, 3, 4, 1" left="7" top="5" width="4" height="3"/>')) == 0
    want = np.zeros((H, W), bool)
    want[5:8, 7:11] = np.reshape([0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0], (3, 4))
    assert (m == want).all()


@pytest.mark.parametrize('seed', range(5))
def test_run_lengths_of_coco_come_back(seed, tmp_path):
    area = np.random.default_rng(seed).random((H, W)) < (.02, .3, .5, .9, 0)[seed]
    code = mask.encode(np.asfortranarray(area.astype(np.uint8)))
    counts, value, run = [], False, 0
    for v in area.T.ravel():
        if v == value: run += 1
        else: counts, value, run = [*counts, run], v, 1
    for c in (code['counts'].decode(), [*counts, run]):
        assert ((painted(tmp_path/'r.json', coco(dict(size=[H, W], counts=c))) == 0) == area).all()


def packed(values, literal=0):
    "Label Studio's code: runs of equal values, or of up to 8 different ones."
    bits, k = f'{len(values):032b}{7:05b}' + ''.join(f'{n-1:04b}' for n in (3, 4, 8, 16)), 0
    while k < len(values):
        if literal:
            n = min(8, len(values)-k)
            bits += '000' + f'{n-1:03b}' + ''.join(f'{v:08b}' for v in values[k:k+n])
        else:
            n = next((i for i in range(1, min(2**16, len(values)-k)) if values[k+i] != values[k]), min(2**16, len(values)-k))
            bits += f'111{n-1:016b}{values[k]:08b}'
        k += n
    return [int(bits[i:i+8].ljust(8, '0'), 2) for i in range(0, len(bits), 8)]


@pytest.mark.parametrize('literal', [0, 1])
def test_brush_strokes_come_back(literal, tmp_path):
    area = np.zeros((H, W), bool)
    area[5:20, 7:50] = np.random.default_rng(0).random((15, 43)) < .8
    code = packed(np.repeat(area.ravel()*255, 4).tolist(), literal)
    assert (unpacked_runs(code, 4*W*H).reshape(H, W, 4)[..., 3] == area*255).all()
    assert ((painted(tmp_path/'b.json', studio(dict(format='rle', rle=code))) == 0) == area).all()


def test_code_of_the_real_converter():
    code = [0, 0, 0, 80, 57, 27, 254, 27, 0, 183, 255, 56, 5, 191, 248, 194, 111, 128, 0]
    assert unpacked_runs(code, 80).reshape(4, 5, 4)[..., 3].tolist() == [[0]*5, [0, 0, 255, 255, 255], [0, 0, 255, 255, 255], [9, 0, 0, 0, 0]]


def test_later_areas_lie_on_top_and_void_erases(tmp_path):
    inner = [[15, 15], [25, 15], [25, 25], [15, 25]]
    assert painted(tmp_path/'a.json', labelme(outline(), outline('tree', inner)), tree=1)[20, 20] == 1
    assert painted(tmp_path/'b.json', labelme(outline('tree', inner), outline()), tree=1)[20, 20] == 0
    assert painted(tmp_path/'c.json', labelme(outline(), outline('__ignore__', inner)))[20, 20] == UNLABELLED
    m = painted(tmp_path/'d.xml', cvat(polygon(inner, 'tree', z_order=5), polygon(z_order=2)), tree=1)
    assert m[20, 20] == 1 and m[12, 12] == 0 and m[40, 40] == UNLABELLED


@pytest.mark.parametrize('seed', range(4))
def test_polygons_agree_with_the_odd_even_rule_but_at_the_border(seed):
    rng = random.Random(seed)
    angles = sorted(rng.uniform(0, 2*math.pi) for _ in range(8))
    ring = [(32+r*math.cos(a), 24+r*math.sin(a)) for a in angles for r in [rng.uniform(8, 22)]]
    slow = np.zeros((H, W), bool)
    for i, j in np.ndindex(H, W):
        x, y = j+.5, i+.5
        slow[i, j] = sum((ya > y) != (yb > y) and x < xa+(y-ya)*(xb-xa)/(yb-ya) for (xa, ya), (xb, yb) in zip(ring, ring[1:]+ring[:1])) % 2
    border = drawn_shape('linestrip', [*ring, ring[0]], (W, H))
    for area in (filled_polygons([ring], (W, H)), drawn_shape('polygon', ring, (W, H))):
        assert ((area != slow) & ~border).sum() < 4                                           # at sharp corners


# ---- what is refused ------------------------------------------------------------------------------------------------

BAD = {'nothing known': {}, 'a list': [], 'numbers': [1, 2], 'no json': '{', 'no xml': '<annotations', 'other xml': '<annotation><object/></annotation>',
       'video': '<annotations><track id="0"/></annotations>', 'two points': labelme(outline(points=[[1, 1], [2, 2]])), 'no label': labelme(dict(points=SQUARE)),
       'no size': labelme(outline(), imageWidth=None), 'huge size': labelme(outline(), imageWidth=10**9), 'far': labelme(outline(points=[[0, 0], [1e9, 0], [0, 5]])),
       'text points': labelme(outline(points=[['a', 1], [2, 2], [3, 3]])), 'unknown shape': labelme(outline(kind='spiral')), 'empty label': labelme(outline('')),
       'odd outline': coco([[1, 2, 3]]), 'bad counts': coco(dict(size=[H, W], counts='zzz')), 'negative counts': coco(dict(size=[H, W], counts=[-1, W*H+1])),
       'another size': coco(dict(size=[W, H], counts=[W*H])), 'no category': coco([[0, 0, 5, 0, 5, 5]]) | dict(categories=[]),
       'no image': coco([[0, 0, 5, 0, 5, 5]]) | dict(images=[]), 'not a number': cvat('<polygon label="a" points="1,x;2,2;3,3"/>'),
       'no name': cvat('<polygon points="1,1;2,2;3,1"/>'), 'runs too long': cvat('<mask label="a" rle="1,99" left="0" top="0" width="3" height="3"/>'),
       'a mask without a place': cvat('<mask label="a" rle="1,2" left="0" width="3" height="3"/>'),
       'turned': studio(dict(points=[[0, 0], [9, 0], [9, 9]]), image_rotation=90), 'endless': cvat(polygon([[0, 0], [float('inf'), 0], [5, 5]]))}


@pytest.mark.parametrize('kind', BAD)
def test_what_cannot_be_read_is_one_line(kind, tmp_path):
    content = BAD[kind]
    path = kept(tmp_path/f'x.{"xml" if isinstance(content, str) and content.startswith("<") else "json"}', content)
    assert str(path) in complaint(read_annotations, path)


@pytest.mark.parametrize('code', [[], [1, 2, 3], packed([0]*(4*W*H))[:-3], packed([0]*8), [300]*50, ['a'], None])
def test_damaged_strokes_leave_the_photo_out(code, tmp_path):
    Image.new('RGB', (W, H)).save(tmp_path/'a.jpg')
    kept(tmp_path/'s.json', studio(dict(rle=code)))
    with pytest.raises(InputError) as e: convert_annotations([tmp_path/'s.json'], tmp_path/'out')
    assert '\n' not in str(e.value) and not (tmp_path/'out').exists()


def test_without_the_library_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pycocotools', None)
    assert 'msca[annotations]' in complaint(filled_polygons, [SQUARE], (W, H))
    assert (painted(tmp_path/'l.json', labelme(outline())) == 0).sum() == 441                 # labelme needs it not


# ---- folders of them ------------------------------------------------------------------------------------------------

def photo(path, size=(W, H), **saving):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path, **saving)
    return path


def test_a_folder_of_every_tool_becomes_a_dataset(tmp_path):
    for name in ('one', 'two', 'three', 'four'): photo(tmp_path/'in'/'photos'/f'{name}.jpg')
    kept(tmp_path/'in'/'one.json', labelme(outline('sky'), photo='photos\\one.jpg'))
    kept(tmp_path/'in'/'coco.json', coco([[0, 0, 20, 0, 20, 20]], photo='two.jpg', categories=['house', 'lake']))
    kept(tmp_path/'in'/'cvat.xml', cvat(polygon(label='tree'), '<points label="tree" points="1,1"/>', photo='holiday/three.jpg'))
    kept(tmp_path/'in'/'studio.json', studio(dict(points=[[0, 0], [50, 0], [50, 50]]), photo='/data/upload/9/12ab34cd-four.jpg'))
    kept(tmp_path/'in'/'package.json', dict(name='something else'))
    done = convert_annotations([tmp_path/'in'], tmp_path/'out')
    assert done.photos == 4 and sorted(done.classes) == ['house', 'lake', 'sky', 'tree'] and ['package.json' in f.path for f in done.faults] == [True]
    source = SceneFolder(tmp_path/'out', None)
    assert source.names == ['four', 'one', 'three', 'two'] and check_dataset(source).faults == []
    assert {source.label_set.classes[s.labels[s.labels != UNLABELLED][0]] for s in source} == {'sky', 'house', 'tree'}
    assert (tmp_path/'out'/'images'/'one.jpg').read_bytes() == (tmp_path/'in'/'photos'/'one.jpg').read_bytes()


def test_photos_of_one_name_keep_their_folders(tmp_path):
    for place in ('n', 'so'): kept(photo(tmp_path/'in'/place/'a.jpg').with_suffix('.json'), labelme(outline(place)))
    done = convert_annotations([tmp_path/'in'], tmp_path/'out')
    source = SceneFolder(tmp_path/'out', None)
    assert source.names == ['n/a', 'so/a'] and done.faults == []
    assert [source.label_set.classes[s.labels[20, 20]] for s in source] == ['n', 'so']
    kept(tmp_path/'in'/'all.json', coco([[0, 0, 20, 0, 20, 20]]))                            # which of the two?
    assert any('2 photos are called so' in str(f) for f in convert_annotations([tmp_path/'in'], tmp_path/'more').faults)


def test_copies_and_named_folders_settle_which_photo_is_meant(tmp_path):
    "A dataset that was made before holds the photos again: copies are one photo. Folders that are named come before what lies beside."
    kept(photo(tmp_path/'in'/'a.jpg').with_suffix('.json'), labelme(outline('sky')))
    for out in ('in/first', 'in/second'):
        assert convert_annotations([tmp_path/'in'/'a.json'], tmp_path/out).faults == []
    os.remove(tmp_path/'in'/'a.jpg')
    assert convert_annotations([tmp_path/'in'/'a.json'], tmp_path/'in'/'third').faults == []
    other = photo(tmp_path/'named folder'/'a.jpg')
    assert other.read_bytes() != (tmp_path/'in'/'first'/'images'/'a.jpg').read_bytes()
    convert_annotations([tmp_path/'in'/'a.json'], tmp_path/'out', [tmp_path/'named folder'])
    assert (tmp_path/'out'/'images'/'a.jpg').read_bytes() == other.read_bytes()


def zipped(path, files):
    with zipfile.ZipFile(path, 'w') as z:
        for name, content in files.items(): z.writestr(name, content)
    return path


def test_convert_takes_zips(tmp_path, capsys):
    "CVAT's two exports as they are handed out, photos packed as well; whatever is wrong names the zip and not where it was unpacked."
    inside = photo(tmp_path/'p'/'a.png').read_bytes()
    xml = (f'<annotations><image name="a.png" width="{W}" height="{H}"><polygon label="sky" points="0,0;20,0;20,20;0,20"/></image>'
           f'<image name="lost.png" width="{W}" height="{H}"><polygon label="sky" points="0,0;20,0;20,20;0,20"/></image></annotations>')
    alone, whole = zipped(tmp_path/'images.zip', {'annotations.xml': xml}), zipped(tmp_path/'photos.ZIP', {'some/a.png': inside})
    assert main(['convert', str(alone), '--photos', str(whole), '--out', str(tmp_path/'out')]) == 2    # one photo is lost
    said = ''.join(capsys.readouterr())
    assert 'images.zip/annotations.xml, lost.png: no such photo' in said and 'msca-' not in said.replace('msca-test', '')
    assert (tmp_path/'out'/'images'/'a.png').read_bytes() == inside
    (tmp_path/'bad.zip').write_bytes(b'PK nothing')
    assert main(['convert', str(tmp_path/'bad.zip'), '--out', str(tmp_path/'no')]) == 2
    assert 'bad.zip: cannot be unpacked' in capsys.readouterr().err and not (tmp_path/'no').exists()
    for data, word in ((alone, 'is packed'), (tmp_path/'masks', 'msca convert')):
        (tmp_path/'masks'/'SegmentationClass').mkdir(parents=True, exist_ok=True)
        assert main(['check', '--data', str(data)]) == 2
        assert word in capsys.readouterr().err


def test_masks_that_hold_ids(tmp_path):
    "labelme's converter writes numbers with a palette of its own, and their names in class_names.txt; phones' photos lie on their side."
    turned = Image.Exif()
    turned[0x112] = 6
    photo(tmp_path/'in'/'JPEGImages'/'a.jpg', (H, W), exif=turned)            # W×H when it is shown
    ids = np.zeros((H, W), np.uint8)
    ids[:10], ids[20:] = 1, 2
    mask = Image.fromarray(ids)
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    (tmp_path/'in'/'SegmentationClass').mkdir()
    mask.save(tmp_path/'in'/'SegmentationClass'/'a.png')
    kept(tmp_path/'in'/'class_names.txt', '_background_\nsky\nhouse\n')
    done = convert_exports([tmp_path/'in'], tmp_path/'out')
    assert (done.classes, done.faults, done.remarks) == (['sky', 'house'], [], ['unlabelled: _background_'])
    assert (SceneFolder(tmp_path/'out', None)[0].labels == np.array([UNLABELLED, 0, 1])[ids]).all()


def test_photos_that_lie_on_their_side(tmp_path):
    turned = Image.Exif()
    turned[0x112] = 6
    photo(tmp_path/'in'/'up.jpg', (H, W), exif=turned)                                        # W×H when it is shown
    photo(tmp_path/'in'/'lying.jpg', (W, H), exif=turned)
    for name in ('up', 'lying'): kept(tmp_path/'in'/f'{name}.json', labelme(outline(points=[[0, 0], [20, 0], [20, 10], [0, 10]]), photo=f'{name}.jpg'))
    convert_annotations([tmp_path/'in'], tmp_path/'out')
    lying, up = SceneFolder(tmp_path/'out', None)
    assert up.size == (H, W) and up.labels[5, 10] == 0 and lying.size == (W, H) and lying.labels[10, W-20] == 0 and lying.labels[10, 5] == UNLABELLED
    assert (np.rot90(up.labels, -1) == lying.labels).all()


def test_sides_lists_and_wanted_classes(tmp_path):
    for side in ('train', 'val'):
        for k in range(2): photo(tmp_path/'in'/'images'/f'{side}{k}.jpg')
    (tmp_path/'in'/'annotations').mkdir()
    for side in ('train', 'val'):
        both = coco(photo='x', categories=['house', 'void', 'lake'])
        both['images'] = [dict(id=k, file_name=f'{side}{k}.jpg', width=W, height=H) for k in range(2)]
        both['annotations'] = [dict(image_id=k, category_id=c, segmentation=[[0, 0, 9*c, 0, 9*c, 9]]) for k in range(2) for c in (17, 3)]
        kept(tmp_path/'in'/'annotations'/f'instances_{side}2017.json', both)
    files = sorted((tmp_path/'in'/'annotations').iterdir())
    convert_annotations(files, tmp_path/'out')                                               # the photos are found from the files' place
    source = SceneFolder(tmp_path/'out', None)
    assert source.label_set.classes == ('house', 'lake') and source.split('val').names == ['val0', 'val1'] and len(source.split('train')) == 2
    (tmp_path/'wanted.txt').write_text('water\nlake\n')
    done = convert_annotations(files, tmp_path/'fewer', classes=tmp_path/'wanted.txt')
    assert done.classes == ['water', 'lake'] and 'house' in ' '.join(done.remarks)
    assert set(np.unique(SceneFolder(tmp_path/'fewer', None)[0].labels)) == {1, UNLABELLED}


def test_the_command_tells_what_it_left_out(tmp_path, capsys):
    kept(photo(tmp_path/'in'/'a.jpg').with_suffix('.json'), labelme(outline()))
    assert main(['convert', str(tmp_path/'in'), '--out', str(tmp_path/'out')]) == 0
    assert '1 photos, 1 classes (house)' in capsys.readouterr().out
    kept(tmp_path/'in'/'b.json', labelme(outline(), photo='b.jpg'))
    assert main(['convert', str(tmp_path/'in'), '--out', str(tmp_path/'more')]) == 2
    said = capsys.readouterr()
    assert 'b.jpg: no such photo' in said.out and said.err.count('\n') == 1 and len(SceneFolder(tmp_path/'more', None)) == 1
    for line in (['convert', str(tmp_path/'in'), '--out', str(tmp_path/'out')], ['convert', str(tmp_path/'nothing'), '--out', str(tmp_path/'x')],
                 ['convert', str(tmp_path/'out'/'labels'), '--out', str(tmp_path/'x')]):
        assert main(line) == 2 and capsys.readouterr().err.count('\n') == 1 and not (tmp_path/'x').exists()
