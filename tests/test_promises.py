"What docs/pages/promises.md promises, as far as no notebook and no other file of tests shows it."
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint
from fuzzing import run, tiny_model
from PIL import Image

from msca.base.files import folder_lock, save_image
from msca.base.labels import SCENE_LABELS, InputError
from msca.base.palettes import distinct_colors, read_classes, rgb_to_lab
from msca.data.render import procedural_scene
from msca.data.scene import load_labels, load_photo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    tiny_model(folder)
    return folder


@pytest.fixture
def own_model(model, tmp_path):
    "A copy that may be spoiled."
    folder = tmp_path/'model'
    folder.mkdir()
    for p in model.iterdir(): (folder/p.name).write_bytes(p.read_bytes())
    return folder


@pytest.fixture
def given(tmp_path):
    "A layout and a photo."
    scene = procedural_scene(3, 64)
    Image.fromarray(scene.labels).save(tmp_path/'l.png')
    scene.image.save(tmp_path/'x.png')
    return tmp_path/'l.png', tmp_path/'x.png'


def refused(*argv):
    "What a command says that ends with exit code 2 and one line."
    code, err = run(*argv)
    lines = [line for line in err.splitlines() if not line.startswith('msca: warning: ')]
    assert code == 2 and len(lines) == 1 and 'unexpected' not in lines[0] and len(lines[0]) < 700, (code, err)
    return lines[0]


def test_every_test_that_the_page_names_exists():
    page = (ROOT/'docs'/'pages'/'promises.md').read_text()
    assert all((ROOT/f).is_file() for f in re.findall(r'`(tests/\w+\.py)`', page))
    notebooks = re.findall(r'notebook `([\w.]+)`(?:, \*([^*]+)\*)?', page)
    assert len(notebooks) > 8
    for name, heading in notebooks: assert heading in (ROOT/'nbs'/f'{name}.ipynb').read_text()


# ---- results --------------------------------------------------------------------------------------------------------------------------

def header_of(path):
    raw = path.read_bytes()
    n = struct.unpack('<Q', raw[:8])[0]
    return json.loads(raw[8:8+n]), raw[8+n:]


def write_weights(path, header, data):
    head = json.dumps(header).encode()
    head += b' ' * (-len(head) % 8)
    path.write_bytes(struct.pack('<Q', len(head)) + head + data)


@pytest.mark.parametrize('file', ['model.safetensors', 'parser.safetensors'])
@pytest.mark.parametrize('types', [{'F32': 'I32', 'F16': 'I16'}, {'F16': 'BF16', 'F32': 'I32'}])
def test_bytes_that_are_called_another_type_are_refused(own_model, given, tmp_path, file, types):
    header, data = header_of(own_model/file)
    for k, v in header.items():
        if k != '__metadata__': v['dtype'] = types.get(v['dtype'], v['dtype'])
    write_weights(own_model/file, header, data)
    layout, photo = given
    said = refused('synth', '--layout', layout, '--exemplar', photo, '--model', own_model, '--device', 'cpu', '--out', tmp_path/'o.png')
    assert 'is stored as' in said and file in said and not (tmp_path/'o.png').exists()


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -1.])
def test_weights_that_give_no_picture_are_refused(own_model, given, tmp_path, value):
    header, data = header_of(own_model/'model.safetensors')
    data, layout, photo = bytearray(data), *given
    a, b = next(v['data_offsets'] for k, v in header.items() if 'running_var' in k)
    data[a:b] = struct.pack('<f', value) * ((b-a)//4)
    write_weights(own_model/'model.safetensors', header, data)
    said = refused('synth', '--layout', layout, '--exemplar', photo, '--model', own_model, '--device', 'cpu', '--out', tmp_path/'o.png')
    assert 'running_var' in said and not (tmp_path/'o.png').exists()


def test_large_weights_are_weights(model, given, tmp_path):
    layout, photo = given
    procedural_scene(5, 64).image.save(tmp_path/'y.png')
    for name, weights in (('a', '1,1'), ('b', '1e308,1e308'), ('c', '1e-320,1e-320')):
        assert run('interpolate', '--layout', layout, '--exemplars', photo, tmp_path/'y.png', '--model', model, '--device', 'cpu', '--weights', weights,
                   '--out', tmp_path/f'{name}.png')[0] == 0
    a, b, c = (np.asarray(Image.open(tmp_path/f'{n}.png')).astype(int) for n in 'abc')
    assert a.std() > 1 and np.abs(a-b).max() <= 1 and np.abs(a-c).max() <= 1


@pytest.mark.parametrize('other', ['sub/../m.png', 'soft.png', 'hard.png', './m.png'])
def test_an_overlay_does_not_replace_the_label_map(model, given, tmp_path, other):
    (tmp_path/'sub').mkdir()
    (tmp_path/'m.png').write_bytes(b'before')
    (tmp_path/'soft.png').symlink_to('m.png')
    os.link(tmp_path/'m.png', tmp_path/'hard.png')
    said = refused('parse', '--image', given[1], '--model', model, '--device', 'cpu', '--out', tmp_path/'m.png', '--overlay', f'{tmp_path}/{other}')
    assert 'name two files' in said and (tmp_path/'m.png').read_bytes() == b'before'


@pytest.mark.parametrize('n', [213, 214, 215, 230, 255])
def test_colors_stay_apart_however_many_classes(n):
    colors = distinct_colors(n)
    lab = rgb_to_lab([*colors, (0, 0, 0), (255, 255, 255)])
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[~np.eye(n+2, dtype=bool)].min()
    assert len(set(colors)) == n and apart > 2 and colors[:100] == distinct_colors(100)


def test_odd_photos_are_read(tmp_path):
    pa = Image.new('PA', (32, 32))
    assert load_photo(pa).getpixel((3, 3)) == (255, 255, 255)
    for name in ('a b.png', '$a_{b.png', '日本.png', '-x.png', 'é'*120 + '.png', '.png.png', "it's.png"):
        save_image(procedural_scene(1, 32).image, tmp_path/name)
        assert load_photo(tmp_path/name).size == (32, 32)


# ---- files ----------------------------------------------------------------------------------------------------------------------------

def test_threads_that_make_files_leave_the_mask_alone(tmp_path):
    before = os.umask(0o27)
    try:
        threads = [threading.Thread(target=lambda k=k: [save_image(Image.new('L', (9, 9)), tmp_path/f'{k}-{i}.png') for i in range(30)]) for k in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert os.umask(0o27) == 0o27
        assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o640} and len(list(tmp_path.iterdir())) == 240
    finally: os.umask(before)


TRAIN = ('train', '--procedural', '8', '--size', '32', '--batch-size', '4', '--parser-epochs', '0', '--pretrain-epochs', '0', '--warmup-epochs', '0', '--no-cache',
         '--perceptual', 'none')


def test_two_trainings_never_share_a_folder(tmp_path):
    with folder_lock(tmp_path/'run'):
        others = [threading.Thread(target=lambda: said.append(refused(*TRAIN, '--out', tmp_path/'run')))]
        said = []
        for t in others: t.start()
        for t in others: t.join()
    assert f'is in use by process {os.getpid()} on {socket.gethostname()} since ' in said[0]
    assert not (tmp_path/'run').exists() or list((tmp_path/'run').iterdir()) == []


@pytest.mark.slow
def test_a_killed_training_gives_its_folder_back_and_its_leftovers_are_removed(tmp_path):
    out = tmp_path/'run'
    first = subprocess.Popen([sys.executable, '-m', 'msca', *TRAIN, '--out', out, '--epochs', '0,200', '--checkpoint-every', '1'], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (out/'training.pt').exists() and first.poll() is None: time.sleep(.1)
    second = subprocess.run([sys.executable, '-m', 'msca', 'train', '--out', out, '--resume'], cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2 and f'is in use by process {first.pid} on' in second.stderr and second.stderr.count('\n') == 1
    first.kill()
    first.wait()
    for f in ('.history.csv.77.tmp', 'samples/.stage2-000001.jpg.77-0123abcd.tmp', 'best/.model.safetensors.77.tmp'):
        (out/f).parent.mkdir(exist_ok=True)
        (out/f).write_bytes(b'half')
    (out/'samples'/'.mine.tmp').write_bytes(b'mine')
    third = subprocess.Popen([sys.executable, '-m', 'msca', 'train', '--out', out, '--resume'], cwd=ROOT, stdout=subprocess.DEVNULL)
    while any(p.name != '.mine.tmp' for p in out.rglob('.*.77*.tmp')) and third.poll() is None: time.sleep(.1)
    third.kill()
    third.wait()
    assert [p.name for p in out.rglob('.*.tmp') if '.77' in p.name or 'mine' in p.name] == ['.mine.tmp']


STATE = dict(config='{}', position=dict(phase=0, epoch=0, batch=0), iteration=3, averaged=1, best={}, seconds=1., networks={}, opts={}, scalers={})


@pytest.mark.parametrize('part', [dict(position={}), dict(position=dict(phase=-1, epoch=0, batch=0)), dict(position=dict(phase=0, epoch=True, batch=0)), dict(iteration='x'),
                                  dict(config='x'), dict(config='[]'), dict(config='[' * 10**5), dict(networks=[]), dict(opts=None), dict(scalers=None), dict(best=None)])
def test_states_of_other_parts_are_refused(tmp_path, part):
    import torch

    from msca.learning.states import kept_states, newest_state
    torch.save(STATE, tmp_path/'training.pt')
    assert newest_state(tmp_path)[1] == STATE
    (tmp_path/'training.9x.pt').write_text('')
    assert [p.name for p in kept_states(tmp_path)] == ['training.pt']
    torch.save(STATE | part, tmp_path/'training.pt')
    assert 'not a training state' in complaint(newest_state, tmp_path)


# ---- limits ---------------------------------------------------------------------------------------------------------------------------

def peak_of(program, *args):
    "Megabytes that a program took beyond its imports, and what it said."
    watch = "import sys, resource\npeak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
    done = subprocess.run([sys.executable, '-c', watch + program, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [int(v) if v.isdigit() else v for v in done.stdout.split('\n')[:-1]]


LOAD = '''
from msca.base.labels import InputError
from msca.model.checkpoint import load_synthesizer
from msca.model.segmenter import load_segmenter
before = peak()
try: dict(config=load_synthesizer, parser=load_segmenter)[sys.argv[2]](sys.argv[1])
except InputError as e: print(e)
print(peak()-before)
'''


@pytest.mark.parametrize('which', ['config', 'parser'])
def test_a_small_description_takes_no_gigabytes(own_model, which):
    about = json.loads((own_model/f'{which}.json').read_text())
    if which == 'config':
        for k, v in about['synthesizer'].items():
            if isinstance(v, list): about['synthesizer'][k] = [4096] * len(v)
    else: about['config']['width'] = 8192
    (own_model/f'{which}.json').write_text(json.dumps(about))
    said, megabytes = peak_of(LOAD, own_model, which)
    assert 'far larger network' in said and megabytes < 500


@pytest.mark.slow
def test_the_largest_photo_is_parsed_and_tinted_within_bounds(model, tmp_path):
    Image.new('RGB', (8192, 8192), (9, 99, 199)).save(tmp_path/'x.png')
    program = '''
from msca.commands.cli import main
before = peak()
code = main(['parse', '--image', sys.argv[1]+'/x.png', '--model', sys.argv[2], '--device', 'cpu', '--out', sys.argv[1]+'/m.png', '--overlay', sys.argv[1]+'/o.png'])
print(code)
print(peak())
'''
    *_, code, megabytes = peak_of(program, tmp_path, model)
    assert code == 0 and megabytes < 1500


def test_a_large_map_is_the_same_in_strips(monkeypatch):
    import torch

    import msca.model.segmenter as segmenter
    logits = torch.randn(2, 5, 30, 40, generator=torch.Generator().manual_seed(0))
    for size in ((1200, 900), (513, 64), (30, 40)):
        whole = segmenter._best_label(logits, size)
        with monkeypatch.context() as m:
            m.setattr(segmenter, '_LARGE', 0)
            strips = segmenter._best_label(logits, size)
        assert strips.shape == whole.shape and (strips != whole).float().mean() < 1e-4   # but for pixels where two scores are equal


@pytest.mark.parametrize('option', ['classes', 'palette'])
def test_a_pipe_is_no_list_of_names(given, tmp_path, option):
    os.mkfifo(tmp_path/'pipe')
    assert 'pipe' in complaint(load_labels, given[0], **{option: tmp_path/'pipe'})
    assert 'pipe' in refused('synth', '--layout', given[0], '--exemplar', given[1], f'--{option}', tmp_path/'pipe', '--out', tmp_path/'o.png')


def test_endless_and_odd_names_end_in_a_line(given, tmp_path):
    from msca.pretrained.synthesizer import Synthesizer
    for name in ('x'*5000, 'a\0b', 'dir/'*2000):
        for f in (load_photo, Synthesizer.load):
            with pytest.raises(InputError) as e: f(name)
            assert len(str(e.value)) <= 600
    layout, photo = given
    for option in ('--layout', '--exemplar', '--model', '--out'):
        options = {'--layout': layout, '--exemplar': photo, '--out': tmp_path/'o.png', option: 'x'*5000 + '.png'}
        refused('synth', *(v for pair in options.items() for v in pair))


def test_names_of_others_do_not_reach_the_terminal(tmp_path):
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32) % 2).save(tmp_path/'m.png')
    for names in ('x'*10**6 + '\ny', '\x1b[31mfoo\nquux', '\u202efoo\nquux'):
        (tmp_path/'classes.txt').write_text(names)
        try: read_classes(tmp_path/'classes.txt')
        except InputError as e: assert str(e).isprintable() and len(str(e)) <= 600
        with pytest.raises(InputError) as e: load_labels(tmp_path/'m.png')
        assert str(e.value).isprintable() and len(str(e.value)) <= 600


def test_what_pillow_does_not_read_by_name_is_not_opened(tmp_path):
    for kind in ('EPS', 'PDF'):
        Image.new('RGB', (64, 64), 'red').save(tmp_path/'drawn.png', kind)
        assert 'not an image in a format that can be read' in complaint(load_photo, tmp_path/'drawn.png')
    (tmp_path/'drawn.png').write_text('<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>')
    assert 'not an image' in complaint(load_labels, tmp_path/'drawn.png', SCENE_LABELS)


# ---- long ones ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_two_thousand_pictures_take_no_more_memory_than_two_hundred(model):
    program = '''
import os
from msca.data.render import procedural_scene
from msca.pretrained.synthesizer import Synthesizer
s, scene = Synthesizer.load(sys.argv[1], device='cpu', quiet=True), procedural_scene(3, 32)
now = lambda: int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 2**20
sizes = []
for k in range(2000):
    s(scene.labels, scene.image)
    if k % 200 == 199: sizes.append(now())
print(' '.join(map(str, sizes)))
'''
    sizes = [int(v) for v in str(peak_of(program, model)[-1]).split()]
    assert max(sizes) - sizes[0] < 40, sizes


def test_check_shows_no_control_characters_of_names(tmp_path, capsys):
    "A name cannot move the cursor, set a window's title or color the terminal."
    from msca.commands.cli import main
    from msca.data.datasets import ProceduralScenes, write_scenes
    write_scenes(ProceduralScenes(8, 64), tmp_path/'photos')
    (tmp_path/'photos'/'images'/'x\x1b]0;owned\x07.png').write_bytes(b'no picture')
    main(['check', '--data', str(tmp_path/'photos')])
    said = ''.join(capsys.readouterr())
    assert 'owned' in said and all(line.isprintable() for line in said.split('\n'))


def test_archives_are_measured_before_they_are_unpacked(tmp_path):
    "As weights, as a state, as a file of the cache: one line, and no memory."
    from zipfile import ZIP_DEFLATED, ZipFile

    from msca.base.labels import InputError
    from msca.base.weights import load_weights_file
    from msca.data.cache import MappedArrays
    from msca.learning.states import read_state
    for name, read in (('w.npz', load_weights_file), ('w.pth', load_weights_file), ('training.0.pt', read_state), ('cache.zip', MappedArrays)):
        with ZipFile(tmp_path/name, 'w', ZIP_DEFLATED) as z: z.writestr('a.npy', bytes(2**26))
        with pytest.raises(InputError, match='would unpack to 67108864'): read(tmp_path/name)
