"`msca app` as people meet it: a page in a browser, on this computer only, that follows the hand and ends when it is told to."
import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import msca.commands.app
from msca.app.worker import opening
from msca.base.labels import SCENE_LABELS
from msca.commands.cli import main
from msca.data.scene import load_labels

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER),
                                   reason='no Chromium with chromedriver; `make browser` installs them where it can')
PATIENCE = 90  # seconds; a busy machine is no failure


# ---- mistakes ---------------------------------------------------------------------------------------------------------

def refusal(capsys, *argv):
    "The only line that a command says before it gives up."
    capsys.readouterr()
    assert main(['app', '--no-browser', *argv]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1, (out, err)
    return err


def test_a_port_that_is_taken(capsys):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        assert f'port {port} is taken' in refusal(capsys, '--port', str(port))


def test_without_voila(capsys, monkeypatch):
    monkeypatch.setattr(msca.commands.app, 'find_spec', lambda name: None)
    assert "pip install voila" in refusal(capsys, '--port', '0')


def test_a_model_or_device_that_is_not_there(capsys):
    assert 'neither a shipped model' in refusal(capsys, '--port', '0', '--model', 'no-such-model')
    assert 'not available' in refusal(capsys, '--port', '0', '--device', 'cuda:77')


def test_a_server_that_cannot_start_is_reported_in_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(msca.commands.app, 'APP', tmp_path/'missing.ipynb')
    assert main(['app', '--no-browser', '--port', '0']) == 1
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1 and 'did not start' in err and 'missing.ipynb' in err


def test_the_server_starts_without_the_grammar_that_nothing_needs(tmp_path):
    "jsonschema 4.26 compiles rfc3987-syntax 1.1 on import, a second of the processor; the server does without, and still reads its notebook's format."
    code = ("import sys, types; sys.modules['voila.app'] = types.SimpleNamespace(main=lambda: None)\n"
            "from msca.commands.app import APP, _serve_page; _serve_page()\n"
            "import nbformat; nbformat.validate(nbformat.read(APP, 4)); print(sys.modules['rfc3987_syntax'], 'lark' in sys.modules)")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split() == ['None', 'False'], done.stderr


@pytest.fixture
def other_model(tmp_path):
    "An untrained checkpoint whose two classes no procedural layout has, without a parser."
    from msca.base.labels import LabelSet
    from msca.model.checkpoint import save_synthesizer
    from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig
    kitchen = LabelSet('kitchen', ('spoon', 'fork'), ((200, 30, 30), (30, 30, 200)))
    widths = dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'slots', 'widths', 'spade_hidden'), (8,)*5)
    save_synthesizer(SceneSynthesizer(SynthesizerConfig(2, mlp_width=8, init_gain=1., **widths)), kitchen, 64, tmp_path/'kitchen')
    return tmp_path/'kitchen', kitchen


def test_a_model_without_parser_is_refused_on_the_page(other_model, monkeypatch, tmp_path):
    home = tmp_path/'home'
    home.mkdir()
    with msca.commands.app.model_running(dict(model=str(other_model[0])), home) as (process, told, wait):
        wait()
        for name, value in told.items(): monkeypatch.setenv(name, value)
        assert 'has no segmenter' in msca.commands.app.page().value
    assert process.poll() is not None
    assert 'is gone' in msca.commands.app.page().value


def test_a_model_of_other_classes_begins_with_a_blank_layout(other_model):
    from msca.app.page import app_page
    from msca.model.segmenter import SceneSegmenter, SegmenterConfig, save_segmenter
    folder, kitchen = other_model
    save_segmenter(SceneSegmenter(SegmenterConfig(2, width=2)), kitchen, folder)
    mixer, painter, explorer, *_ = app_page(msca.commands.app.open_studio(str(folder))).children[1].children
    assert list(mixer.studio.layouts) == ['blank'] and all(view.picture.value for view in (mixer, painter, explorer))
    assert [name for name, *_ in painter.canvas.palette] == ['spoon', 'fork', 'unlabelled']


@pytest.fixture
def loud(monkeypatch):
    "What a click or a message of the browser raises is raised here; ipywidgets only logs it."
    from ipywidgets.widgets.widget import CallbackDispatcher

    def call(self, *args, **kwargs):
        value = None
        for callback in self.callbacks: value = callback(*args, **kwargs) or value
        return value
    monkeypatch.setattr(CallbackDispatcher, '__call__', call)


def test_what_clicks_and_messages_do(loud):
    "Every button, gallery, upload and key of the page, through what a browser sends: each has an effect and raises nothing."
    from msca.app.page import Pulse, app_page
    mixer, painter, explorer, *_ = app_page(msca.commands.app.open_studio('procedural-128', 'cpu')).children[1].children
    studio, tell = mixer.studio, lambda widget, *buffers, **message: widget._handle_custom_msg(message, list(buffers))
    n = len(studio.layouts)
    mixer.layout_picker.more.click()
    assert studio.worker.wait() and len(studio.layouts) == n+1
    wanted = next(name for name in studio.layouts if name not in mixer.layout_picker.gallery.picked)
    tell(mixer.layout_picker.gallery, pick=wanted)
    assert mixer.layout_picker.gallery.picked == [wanted] and studio.worker.wait()
    photo = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(photo, 'PNG')
    for view in (mixer, painter, explorer):
        tell(view.photos.upload, photo.getvalue(), name=f'{type(view).__name__}.png')
        assert studio.worker.wait() and type(view).__name__ in view.photos.names
    before = painter.canvas.array
    tell(painter.canvas, stroke=True, number=1, first=True, label=0, width=9, points=[(5, 5), (60, 60)])
    painted = painter.canvas.array
    assert (painted != before).any()
    for button, array in ((painter.undo, before), (painter.redo, painted), (painter.undo, before), (painter.redo, painted)):
        button.click()
        assert (painter.canvas.array == array).all()
    painter.keep.click()
    assert (studio.layouts['painted 1'] == painted).all()
    painter.clear.click()
    assert (painter.canvas.array == 255).all() and studio.worker.wait()
    pulse, said = Pulse(), []
    pulse.send = said.append
    tell(pulse, alive=3)
    assert said == [dict(alive=3)]


@pytest.fixture(params=['sean', 'groupdnet', 'no-attention'])
def coded_studio(request):
    "Scenes and an untrained model with class codes."
    import torch

    from msca.app.studio import Studio
    from msca.data.render import procedural_scene
    from msca.model.synthesizer import build_synthesizer, find_variant
    from msca.pretrained.synthesizer import Synthesizer
    torch.manual_seed(0)
    shapes = {'sean': dict(widths=(8, 12, 16, 24, 32), spade_hidden=(8,)*5, code_channels=8, encoder_width=4),
              'groupdnet': dict(widths=(12, 12, 18, 36, 36), spade_hidden=(12, 12, 18, 18, 18), groups=(1, 3, 9, 18, 18), encoder_widths=(4, 6)),
              'no-attention': dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'widths', 'spade_hidden'), (8,)*5)}
    model = build_synthesizer(request.param, find_variant(request.param).config(len(SCENE_LABELS), **shapes[request.param], init_gain=1.)).eval()
    if request.param == 'groupdnet': torch.nn.init.normal_(model.encoder.mean.weight, std=.5)
    scenes = {name: procedural_scene(i, 64) for i, name in ((29, 'lake'), (37, 'shore'), (30, 'other'))}
    parse = lambda photo: np.zeros(photo.size[::-1], dtype=np.uint8)
    return Studio(Synthesizer(model, SCENE_LABELS, 64, parse, name=request.param, precision='float32'), scenes, scenes, size=64)


@pytest.mark.parametrize('variant', ['spade-vae', 'tsit'])
def test_a_model_that_cannot_mix_only_paints(variant, loud):
    "Two tabs; the picture of the first is the one that the model paints with the picked photo."
    import torch

    from msca.app.page import app_page
    from msca.app.studio import Studio
    from msca.base.labels import InputError
    from msca.data.render import procedural_scene
    from msca.model.synthesizer import build_synthesizer, find_variant
    from msca.pretrained.synthesizer import Synthesizer
    torch.manual_seed(0)
    model = build_synthesizer(variant, find_variant(variant).config.compact(len(SCENE_LABELS))).eval()
    scenes = {name: procedural_scene(i, 64) for i, name in ((29, 'lake'), (37, 'shore'))}
    s = Synthesizer(model, SCENE_LABELS, 64, lambda photo: np.zeros(photo.size[::-1], np.uint8), name=variant, precision='float32')
    studio = Studio(s, scenes, scenes, size=64)
    tabs = app_page(studio).children[1]
    assert tabs.titles == ('Paint', 'Boxes') and studio.worker.wait() and not tabs.children[0].message.wrong, tabs.children[0].message.text
    for name in scenes:
        picture = np.asarray(studio.mix(studio.layouts['lake'], {name: 1.}), int)
        assert np.abs(picture-np.asarray(s(scenes['lake'], scenes[name]), int)).max() <= 1
    with pytest.raises(InputError): s.interpolate(scenes['lake'], list(scenes.values()), [1, 1])


def test_a_photo_for_every_class(coded_studio, loud):
    "The tab of models with codes: what its lists, buttons and sliders ask for is what the functions paint; other tabs are those that make sense."
    from msca.app.page import app_page
    from msca.app.process import ASKED
    from msca.steering.class_styles import PhotoCodes, mix_codes, morph, paint_mixed, redraw
    tabs, studio = app_page(coded_studio).children[1], coded_studio
    attends = studio.s.model.variant == 'no-attention'
    assert tabs.titles == ('Mix', 'Classes', 'Paint', *['Explore']*attends, 'Boxes') and studio.has_attention == attends
    views, view = dict(zip(tabs.titles, tabs.children)), tabs.children[1]
    assert studio.worker.wait() and all(v.picture.value and not v.message.wrong for v in tabs.children), [v.message.text for v in tabs.children]
    codes = {n: PhotoCodes(studio.s.model.codes_of(studio.s.encode(studio._known[n].scene, size=0).scales), n) for n in studio.exemplars}
    view.layout_picker.gallery.pick('lake')
    view.photos.gallery.picked = ['lake']

    def shows(wanted):
        assert studio.worker.wait() and not view.message.wrong, view.message.text
        picture = np.asarray(Image.open(io.BytesIO(view.picture.value)).convert('RGB'), dtype=int)
        assert np.abs(picture-np.asarray(paint_mixed(studio.s, studio.layouts['lake'], wanted, 0), dtype=int)).max() <= 1
        return picture

    z, named = codes['lake'].codes.codes, lambda **photos: mix_codes({'*': codes['lake']} | {k: codes[n] for k, n in photos.items()}, SCENE_LABELS).codes
    plain = shows(z)
    view.known['sky'].picker.value = 'shore'
    assert (shows(named(sky='shore')) != plain).any()
    view.moving.value, view.goal.value = 'water', 'shore'
    view.way.value = .5
    shows(morph(named(sky='shore'), codes['shore'], 'water', SCENE_LABELS, .5))
    view.way.value = 0
    for n in (1, 2):
        view.known['sky'].again.click()
        assert view.choices == ({'*': 'lake'}, {'sky': n})
        shows(redraw(studio.s, z, ['sky'], n, [] if studio.has_distribution else list(codes.values())))
    view.known['sky'].picker.value = ''
    shows(z)
    photo = io.BytesIO()
    Image.new('RGB', (64, 96), (200, 60, 30)).save(photo, 'PNG')   # the parser above takes it for sky
    view.photos.upload._handle_custom_msg(dict(name='red.png'), [photo.getvalue()])
    assert studio.worker.wait() and view.photos.names == ['red'] and 'water' in view.absent.text and 'sky' not in view.absent.text
    assert 'red' in dict(view.known['sky'].picker.options).values() and 'red' not in dict(view.known['water'].picker.options).values()
    slider, = views['Mix'].sliders
    slider.value = 1
    last = views['Mix'].photos.names[1]
    assert studio.worker.wait() and not views['Mix'].message.wrong
    mixed = np.asarray(Image.open(io.BytesIO(views['Mix'].picture.value)).convert('RGB'), dtype=int)
    ids = views['Mix'].layout_picker.ids
    assert np.abs(mixed-np.asarray(paint_mixed(studio.s, ids, codes[last].codes.codes, 0), dtype=int)).max() <= 1
    assert 'paint_classes' in ASKED


def test_another_process_paints_class_by_class(coded_studio, tmp_path):
    "What a page of `msca app` gets through the socket is what the studio paints."
    import threading

    from msca.app.process import RemoteStudio, serve_studio
    address, key, ready = str(tmp_path/'socket'), b'key', threading.Event()
    threading.Thread(target=serve_studio, args=(lambda: coded_studio, address, key, ready.set), daemon=True).start()
    assert ready.wait(30)
    page = RemoteStudio(address, key)
    asked = page.layouts['lake'], {'*': 'lake', 'sky': 'shore'}, {'water': 3}, ('sky', 'other', .5)
    assert page.has_codes and page.paint_classes(*asked) == coded_studio.paint_classes(*asked)
    assert page.has_distribution == (coded_studio.s.model.variant == 'groupdnet')
    page.close()


def test_boxes_in_another_process(other_model, tmp_path, loud):
    "A view whose studio is elsewhere: layouts come through the socket, and what is no box is refused in one line; visitors share the memory of layouts."
    import threading

    from msca.app.boxes import BoxPainter
    from msca.app.process import RemoteStudio, serve_studio
    from msca.app.studio import Studio
    from msca.data.render import procedural_scene
    from msca.pretrained.synthesizer import Synthesizer
    scenes = {name: procedural_scene(i, 64) for i, name in ((29, 'lake'), (37, 'shore'))}
    studio = Studio(Synthesizer.load('procedural-128', device='cpu', quiet=True), scenes, scenes, size=64, backgrounds=8)
    address, ready = str(tmp_path/'socket'), threading.Event()
    threading.Thread(target=serve_studio, args=(lambda: studio, address, b'key', ready.set), daemon=True).start()
    assert ready.wait(30)
    page = RemoteStudio(address, b'key')
    view, sky = BoxPainter(page), SCENE_LABELS.index('sky')
    view.canvas._handle_custom_msg(dict(number=1, box=[0, 0, 1, .5], label=sky), [])
    assert page.worker.wait() and not view.message.wrong, view.message.text
    ids, boxes, said = studio.lay_out([('sky', 0, 0, 1, .5)])
    assert (view.canvas.array == ids).all() and (ids[:32] == sky).all() and not (ids[32:] == sky).any() and view.found.text == said
    assert studio.visit()._memory is studio._memory
    picture = np.asarray(Image.open(io.BytesIO(view.picture.value)), int)
    assert np.abs(picture-np.asarray(studio.mix(ids, {view.photos.names[0]: 1}), int)).max() <= 1
    view.rows.children[0].sides.value = '0, 0, 1'
    assert page.worker.wait() and view.message.wrong and 'four numbers' in view.message.text and '\n' not in view.message.text
    assert view.canvas.boxes == [['sky', 0, 0, 1, .5]]
    view.rows.children[0].sides.value = '0, 0, 64, 16'  # in pixels
    assert page.worker.wait() and view.canvas.boxes == [['sky', 0, 0, 1, .25]] and view.rows.children[0].sides.value == '0, 0, 1, 0.25'
    view.rows.children[0].name.value = 'water'
    assert page.worker.wait() and not (view.canvas.array == sky)[:16].any() and (view.canvas.array[:16] == SCENE_LABELS.index('water')).all()
    view.undo.click()
    assert page.worker.wait() and view.canvas.boxes == [['sky', 0, 0, 1, .25]] and not view.undo.disabled
    page.close()


@pytest.fixture
def learning_studio():
    "The shipped model and two scenes, at a size at which learning is quick."
    from msca.app.studio import Studio
    from msca.commands.app import _adaptation
    from msca.data.render import procedural_scene
    from msca.pretrained.synthesizer import Synthesizer
    scenes = {name: procedural_scene(i, 64) for i, name in ((29, 'lake'), (37, 'shore'))}
    return Studio(Synthesizer.load('procedural-128', device='cpu', quiet=True), scenes, scenes, size=64, adaptation=_adaptation)


def test_a_photo_is_learned_in_another_process(learning_studio, tmp_path):
    "One page learns and saves a model that any command can load; another page that asks in between gets what it always got."
    import threading
    import zipfile

    from msca.app.process import RemoteStudio, serve_studio
    from msca.base.labels import InputError
    from msca.pretrained.synthesizer import Synthesizer
    address, ready = str(tmp_path/'socket'), threading.Event()
    threading.Thread(target=serve_studio, args=(lambda: learning_studio, address, b'key', ready.set), daemon=True).start()
    assert ready.wait(30)
    one, two = RemoteStudio(address, b'key'), RemoteStudio(address, b'key')
    lake, before = one.layouts['lake'], {k: v.clone() for k, v in learning_studio.s.model.state_dict().items()}
    plain = one.mix(lake, {'shore': 1})
    counts = []
    for _ in range(3):
        told = one.learn('shore', 0)
        counts.append(told.iterations)
        assert two.mix(lake, {'shore': 1}) == plain and told.more and told.names == ['shore']
    assert counts == [1, 2, 3] and one.can_learn and not learning_studio._models
    painted, (name, content) = one.paint_learned(lake, 'shore'), one.learned_model('shore')
    assert painted != plain and one.mix(lake, {'shore': 1}) == plain
    with pytest.raises(InputError, match='has not been learned'): two.paint_learned(lake, 'shore')
    assert all((v == before[k]).all() for k, v in learning_studio.s.model.state_dict().items())
    assert name == 'shore-model.zip'
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
    loaded = Synthesizer.load(tmp_path/'shore-model', 'cpu', quiet=True)
    again = loaded(lake, learning_studio._known['shore'].scene, size=0, exemplar_size=0)
    assert np.abs(np.asarray(again, int)-np.asarray(painted, int)).max() <= 2
    one.close()
    two.close()


def test_what_is_learned_goes_with_its_visitor(learning_studio, tmp_path):
    "Nothing that a page has learned is kept when it is gone, also where it goes amid learning."
    import gc
    import threading
    import weakref

    from msca.app.process import RemoteStudio, serve_studio
    address, ready, visits = str(tmp_path/'socket'), threading.Event(), []
    visit = learning_studio.visit
    def counted():
        visits.append(weakref.ref(other := visit()))
        return other
    learning_studio.visit = counted
    threading.Thread(target=serve_studio, args=(lambda: learning_studio, address, b'key', ready.set), daemon=True).start()
    assert ready.wait(30)
    page = RemoteStudio(address, b'key')
    page.learn('shore', 0)
    assert visits[0]()._models
    page.close()
    def gone():
        gc.collect()
        return visits[0]() is None
    RemoteStudio(address, b'key').close()  # the loop that answers no longer holds the first page's job
    wait(gone, 20)


def test_a_file_name_of_a_learned_photo_is_harmless(learning_studio):
    "Whatever the photo is called, the archive holds one folder with a plain name."
    import zipfile
    learning_studio._known['../é "a": b'] = learning_studio._known['shore']
    learning_studio.learn('../é "a": b', 0)
    name, content = learning_studio.learned_model('../é "a": b')
    inside = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert re.fullmatch(r'[\w.-]+-model\.zip', name) and '/' not in name and {i.split('/')[0] for i in inside} == {name[:-4]}
    assert not any(i.startswith(('/', '..')) for i in inside)


def test_the_tab_is_made_when_it_is_opened(learning_studio, loud):
    "Until then it costs nothing; a photo that was learned there can be ticked in the painter."
    from msca.app.page import app_page
    tabs = app_page(learning_studio).children[1]
    views = dict(zip(tabs.titles, tabs.children))
    assert list(views) == ['Mix', 'Paint', 'Explore', 'Boxes', 'Learn'] and views['Learn'].children == ()
    tabs.selected_index = 4
    view, = views['Learn'].children
    tabs.selected_index = 0
    tabs.selected_index = 4
    assert views['Learn'].children == (view,) and learning_studio.worker.wait() and view.before.value
    view.button.click()
    wait(lambda: view.learned)
    view.button.click()
    painter = views['Paint']
    painter.photos.gallery.picked = [view.photo]
    assert learning_studio.worker.wait() and not view.message.wrong and painter.learned.layout.display is None
    painter.learned.value = True
    assert learning_studio.worker.wait() and not painter.message.wrong
    shown_now = Image.open(io.BytesIO(painter.picture.value)).convert('RGB')
    assert shown_now == learning_studio.paint_learned(painter.canvas.array, view.photo)


def test_a_callback_that_raises_is_seen_here_only(loud, capsys):
    "The fixture above is needed: without it nobody would hear."
    import ipywidgets as W
    button = W.Button()
    button.on_click(lambda _: 1/0)
    with pytest.raises(ZeroDivisionError): button.click()


# ---- the server --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def server():
    "`msca app` on a free port: (process, address with its key)."
    process = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser'], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE,
                               # a background shell ignores it, and so would its children
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    address = re.match(r'(http://127\.0\.0\.1:\d+/\?token=[\w-]{32}) ', process.stdout.readline())
    assert address, process.stderr.read()
    yield process, address[1]
    process.terminate()
    process.wait(30)


def answer(url, **headers):
    "(status, headers) of a page's answer."
    try: reply = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
    except urllib.error.HTTPError as e: reply = e
    return reply.status, reply.headers


def visit(url):
    "(status, text) of the page as a browser gets it, to its end."
    try: reply = urllib.request.urlopen(url, timeout=300)
    except urllib.error.HTTPError as e: reply = e
    return reply.status, reply.read().decode()


def test_only_this_computer_can_reach_it(server):
    "It listens on the loopback address alone, and a page elsewhere cannot borrow another name for it."
    url = server[1].split('?')[0]
    port = int(url.split(':')[-1].strip('/'))
    outward = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET) if not a[4][0].startswith('127.')]
    for host in outward:
        with socket.socket() as s: assert s.connect_ex((host, port)) != 0
    assert answer(url, Host='elsewhere.example')[0] == 403
    assert answer(f'{url}voila/files/app.ipynb')[0] in (403, 404)


def visits(server):
    "Processes of pages."
    psutil = pytest.importorskip('psutil')
    return sum('ipykernel' in ' '.join(p.cmdline()) for p in psutil.Process(server[0].pid).children(recursive=True))


def test_it_asks_for_the_key(server):
    "Without the key, or with another one, a form asks for it and nothing is started; no command line shows it."
    psutil = pytest.importorskip('psutil')
    address, key = server[1].split('?token=')
    for url in (address, f'{address}?token=guess'):
        reply = urllib.request.urlopen(url, timeout=PATIENCE)
        assert '/login?' in reply.geturl() and key not in reply.read().decode()
    assert answer(f'{address}api/kernels/00000000-0000-0000-0000-000000000000')[0] in (403, 404)
    assert visits(server) == 0
    processes = [psutil.Process(server[0].pid), *psutil.Process(server[0].pid).children(recursive=True)]
    assert not [p for p in processes if key in ' '.join(p.cmdline())]


@pytest.mark.parametrize('site', ['cross-site', 'same-site'])
def test_another_page_cannot_start_a_visit(server, site):
    "Not even one that knows the key; a page of another port of this computer counts as one of the same site."
    assert answer(server[1], **{'Sec-Fetch-Site': site})[0] == 403
    assert visits(server) == 0


@pytest.mark.slow
def test_visits_are_counted_take_little_memory_and_end_when_a_page_is_closed(server):
    "The model is in one process; before that was so, a visit took 490 MiB for itself."
    from concurrent.futures import ThreadPoolExecutor
    psutil, most = pytest.importorskip('psutil'), msca.commands.app.MOST_VISITS
    with ThreadPoolExecutor(most+3) as pool: answers = list(pool.map(lambda _: visit(server[1]), range(most+3)))
    assert sorted(code for code, _ in answers) == [200]*most + [503]*3 and visits(server) == most
    pages = [p for p in psutil.Process(server[0].pid).children(recursive=True) if 'ipykernel' in ' '.join(p.cmdline())]
    if sys.platform.startswith('linux'): assert max(p.memory_full_info().uss for p in pages)/2**20 < .4*490
    address, key = server[1].split('?token=')
    for kernel in filter(None, (re.search(r'"kernelId": ?"([\w-]+)"', text) for _, text in answers)):
        urllib.request.urlopen(urllib.request.Request(f'{address}voila/api/shutdown/{kernel[1]}', b'', {'Authorization': f'token {key}'}), timeout=PATIENCE)
    assert psutil.wait_procs(pages, 60)[1] == []


@pytest.mark.parametrize('visited', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_killed_app_leaves_no_server_no_model_and_no_folder(visited):
    psutil = pytest.importorskip('psutil')
    process = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser'], text=True, stdout=subprocess.PIPE)
    address = process.stdout.readline().split()[0]
    if visited: assert visit(address)[0] == 200
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) == 2+visited and sum('serve_model' in ' '.join(p.cmdline()) for p in started) == 1
    homes = {Path(a.split('=')[1]).parent for p in started for a in p.cmdline() if 'config_file_paths=' in a}
    assert homes and all(h.is_dir() and h.stat().st_mode & 0o77 == 0 for h in homes)
    process.kill()
    process.wait()
    assert psutil.wait_procs(started, 30)[1] == [] and not [h for h in homes if h.exists()]


def test_without_its_model_the_app_ends_and_says_so():
    psutil = pytest.importorskip('psutil')
    process = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser'], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert 'token=' in process.stdout.readline()
    started = psutil.Process(process.pid).children(recursive=True)
    next(p for p in started if 'serve_model' in ' '.join(p.cmdline())).kill()
    assert process.wait(60) == 1 and process.stderr.read() == "msca: error: the model's process has ended\n"
    assert psutil.wait_procs(started, 30)[1] == []


# ---- the page ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def page(server, tmp_path_factory):
    "The page in headless Chromium, which can resolve no other host, when all its tabs have shown their pictures."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for a in ('headless', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'no-first-run', 'disable-background-networking',
              'disable-component-update', 'disable-sync', 'window-size=1280,1100', 'host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
              f'user-data-dir={tmp_path_factory.mktemp("chromium")}'): options.add_argument(f'--{a}')
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(PATIENCE)
        driver.get(server[1])
        wait(lambda: len(find(driver, '.msca-picture')) == 5 and all(shown(driver, i) is not None for i in range(5)),
             or_say=lambda: f"{read(driver, 'body', 'innerText')} {driver.get_log('browser')}")
        yield driver
    finally: driver.quit()


def wait(condition, seconds=PATIENCE, or_say=lambda: ''):
    "Wait until something is true, and return what it is; fail with what `or_say` knows otherwise."
    end = time.monotonic()+seconds
    while time.monotonic() < end:
        got = condition()
        if got: return got
        time.sleep(.05)
    pytest.fail(f'waited {seconds} seconds in vain {or_say()}')


def find(driver, css): return driver.find_elements('css selector', css)


def read(driver, css, what='textContent'):
    "A property of all elements that match, at one moment."
    return driver.execute_script('return [...document.querySelectorAll(arguments[0])].map(e => e[arguments[1]])', css, what)


def open_tab(driver, name):
    next(t for t in find(driver, '.lm-TabBar-tab') if t.text == name).click()
    assert find(driver, '.lm-mod-current')[0].text == name


READ = '''const im = document.querySelectorAll('.msca-picture')[arguments[0]]
if (!im.complete || !im.naturalWidth) return null
const c = document.createElement('canvas'); c.width = im.naturalWidth; c.height = im.naturalHeight
c.getContext('2d').drawImage(im, 0, 0); return c.toDataURL()'''


def from_url(url): return Image.open(io.BytesIO(base64.b64decode(url.split(',')[1])))


def shown(driver, tab):
    "Pixels of the picture that a tab shows, None where there is none yet."
    url = driver.execute_script(READ, tab)
    return url and np.asarray(from_url(url).convert('RGB'), dtype=int)


def shows(driver, tab, expected, tolerance=2):
    "Wait until a tab shows a picture, up to rounding."
    expected = np.asarray(expected, dtype=int)
    def same():
        got = shown(driver, tab)
        return got is not None and got.shape == expected.shape and np.abs(got-expected).max() <= tolerance
    wait(same)


def shows_another(driver, tab, than):
    "Wait until a tab shows another picture, and return that."
    return wait(lambda: (p := shown(driver, tab)) is not None and (p.shape != than.shape or np.abs(p-than).max() > 8) and (p,))[0]


@pytest.fixture(scope='module')
def studio():
    "What the page should show, computed here."
    from msca.commands.app import open_studio
    return open_studio(device='cpu')


def pick(page, *names):
    "Click pictures of the galleries of the open tab, by their names."
    for name in names: next(b for b in find(page, f'.msca-gallery button[title={name}]') if b.is_displayed()).click()


@needs_browser
def test_the_slider_goes_from_photo_to_photo(page, studio):
    from selenium.webdriver.common.keys import Keys
    open_tab(page, 'Mix')
    coast, first = studio.layouts['coast'], opening(studio.layouts, studio.exemplars)[1][:2]
    pick(page, 'coast', *(n for n in ('day', 'sunset') if n not in first), *(n for n in first if n not in ('day', 'sunset')))
    wait(lambda: read(page, '.msca-caption')[0].strip() == 'day 50% · sunset 50%')
    shows(page, 0, studio.mix(coast, dict(day=1, sunset=1)))
    half = shown(page, 0)
    handle = find(page, '.msca-mix .noUi-handle')[0]
    for key, name in ((Keys.END, 'sunset'), (Keys.HOME, 'day'), (Keys.END, 'sunset')):
        handle.send_keys(key)
        shows(page, 0, studio.mix(coast, {name: 1}))
        shows_another(page, 0, half)
    handle.send_keys(*[Keys.ARROW_LEFT]*9)  # faster than pictures can be made
    wait(lambda: read(page, '.msca-caption')[0].strip() == 'day 9% · sunset 91%')
    shows(page, 0, studio.mix(coast, dict(day=.09, sunset=.91)))


@needs_browser
def test_a_small_picture_follows_the_hand_and_the_large_one_comes_when_it_rests(page, studio):
    from selenium.webdriver.common.keys import Keys
    open_tab(page, 'Mix')
    page.execute_script("""window.sizes = []; const im = document.querySelectorAll('.msca-picture')[0]
        im.addEventListener('load', () => window.sizes.push([im.naturalWidth, !!document.querySelector('.msca-stale')]))""")
    handle = find(page, '.msca-mix .noUi-handle')[0]
    for _ in range(8): handle.send_keys(Keys.ARROW_LEFT)
    sizes = wait(lambda: (s := page.execute_script('return window.sizes')) and s[-1][0] == studio.size and s)
    assert len(sizes) > 1 and {width for width, _ in sizes[:-1]} == {studio.draft}
    wait(lambda: not find(page, '.msca-stale'))  # and only the large one is saved
    assert from_url(read(page, '.msca-save a[download="mixture.png"]', 'href')[0]).size == (studio.size,)*2


@needs_browser
def test_three_photos_have_three_sliders(page, studio):
    open_tab(page, 'Mix')
    pick(page, 'night')
    wait(lambda: len(find(page, '.msca-mix .noUi-handle')) == 3)
    shows(page, 0, studio.mix(studio.layouts['coast'], dict(day=1, sunset=1, night=1)))
    pick(page, 'street')
    shows(page, 0, studio.mix(studio.layouts['street'], dict(day=1, sunset=1, night=1)))


def saved_layout(page): return load_labels(from_url(read(page, '.msca-save a[download="layout.png"]', 'href')[0]))


def drag(page, canvas, *points):
    "Press, move and release at points given as parts of the canvas."
    from selenium.webdriver.common.action_chains import ActionChains
    at = [(round((x-.5)*canvas.size['width']), round((y-.5)*canvas.size['height'])) for x, y in points]
    moves = ActionChains(page, duration=20).move_to_element_with_offset(canvas, *at[0]).click_and_hold()
    for p in at[1:]: moves.move_to_element_with_offset(canvas, *p)
    moves.release().perform()


@needs_browser
def test_a_stroke_is_painted_and_taken_back(page, studio):
    open_tab(page, 'Paint')
    coast, sand = studio.layouts['coast'], SCENE_LABELS.index('sand')
    pick(page, 'coast', 'day')
    shows(page, 1, studio.mix(coast, dict(day=1)))
    before = shown(page, 1)
    next(b for b in find(page, '.msca-palette button') if b.text == 'sand').click()
    canvas = find(page, '.msca-paint canvas')[0]
    drag(page, canvas, (.2, .2), (.5, .25), (.8, .2))
    shows_another(page, 1, before)
    painted = wait(lambda: (ids := saved_layout(page))[51, 204] == sand and (ids,))[0]  # the stroke's end has arrived
    assert (painted != coast).any() and (painted[painted != coast] == sand).all()
    assert (painted[51, 51:204:16] == sand).sum() >= 3 and (painted[100:] == coast[100:]).all()
    shows(page, 1, studio.mix(painted, dict(day=1)))

    next(b for b in find(page, '.msca-tools button') if b.text == 'Fill').click()
    drag(page, canvas, (.5, .05))
    filled = wait(lambda: (ids := saved_layout(page))[0, 128] == sand and (ids,))[0]
    shows(page, 1, studio.mix(filled, dict(day=1)))
    undo = next(b for b in find(page, '.msca-tools button') if b.text == 'Undo')
    for _ in range(2): undo.click()
    shows(page, 1, before)
    wait(lambda: (saved_layout(page) == coast).all())


@needs_browser
def test_boxes_are_drawn_moved_and_typed(page, studio):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    open_tab(page, 'Boxes')
    here = lambda css: [e for e in find(page, css) if e.is_displayed()]
    canvas, water, tree = here('.msca-paint canvas')[0], SCENE_LABELS.index('water'), SCENE_LABELS.index('tree')
    pick(page, 'day')

    def layout():
        links = read(page, '.msca-save:not(.msca-stale) a[download="layout.png"]', 'href')  # that of this tab is the last
        return load_labels(from_url(links[-1])) if links else np.zeros((256, 256))

    def has(ids, label, left, top, right, bottom): return (ids[round(256*top)+3:round(256*bottom)-3, round(256*left)+3:round(256*right)-3] == label).all()

    next(b for b in here('.msca-palette button') if b.text == 'water').click()
    drag(page, canvas, (.1, .6), (.5, .8), (.9, .95))
    wait(lambda: has(layout(), water, .1, .6, .9, .95))
    next(b for b in here('.msca-palette button') if b.text == 'tree').click()
    drag(page, canvas, (.2, .2), (.3, .4), (.4, .7))
    ids = wait(lambda: has(ids := layout(), tree, .2, .2, .4, .7) and (ids,))[0]
    shows(page, 4, studio.mix(ids, dict(day=1)))
    assert read(page, '.msca-move') == ['water', 'tree']
    name = here('.msca-move')[1]
    ActionChains(page, duration=20).move_to_element(name).click_and_hold().move_by_offset(round(.4*canvas.size['width']), 0).release().perform()
    moved = wait(lambda: has(ids := layout(), tree, .6, .2, .8, .7) and not (ids[:, :128] == tree).any() and (ids,))[0]
    shows(page, 4, studio.mix(moved, dict(day=1)))
    typed = next(e for e in here('input[type=text]') if e.get_attribute('placeholder') == 'sky=0,0,1,.4')
    typed.send_keys('xyzzy=0,0,1,1', Keys.ENTER)
    wait(lambda: any("'xyzzy': no class of" in t for t in read(page, '.msca-error')))
    typed.send_keys(Keys.CONTROL, 'a')
    typed.send_keys('sky=0,0,1,.15', Keys.ENTER)
    wait(lambda: read(page, '.msca-move') == ['water', 'tree', 'sky'] and has(layout(), SCENE_LABELS.index('sky'), 0, 0, 1, .15))
    wait(lambda: not any(read(page, '.msca-error')))
    canvas.send_keys(Keys.CONTROL, 'z')
    wait(lambda: (layout() == moved).all())


@needs_browser
def test_label_maps_are_opened_or_refused_in_a_line(page, studio, tmp_path):
    open_tab(page, 'Paint')
    ids = np.repeat([SCENE_LABELS.index('sky'), SCENE_LABELS.index('grass')], 64).astype(np.uint8)[:, None].repeat(160, 1).repeat(2, 0).repeat(2, 1)
    Image.fromarray(ids).save(tmp_path/'meadow.png')
    (tmp_path/'notes.png').write_text('no picture')
    button = find(page, 'label[title^="a PNG of class ids"] input')[0]
    button.send_keys(str(tmp_path/'notes.png'))
    said = wait(lambda: list(filter(None, read(page, '.msca-error'))))
    assert said == ['notes.png: not an image in a format that can be read']
    line = next(e for e in find(page, '.msca-error') if e.text)  # below the button that caused it, and announced
    above, there = find(page, 'label[title^="a PNG of class ids"]')[0].rect, line.rect
    assert 0 <= there['y']-above['y']-above['height'] < 40 and line.get_attribute('role') == 'alert'
    button.send_keys(str(tmp_path/'meadow.png'))
    shows(page, 1, studio.mix(ids, dict(day=1)))
    assert not any(read(page, '.msca-error'))


def pointed_at(page):
    "Row and column that the explorer speaks of."
    said = re.search(r'row (\d+), column (\d+)', read(page, '.msca-caption')[1])
    return said and (int(said[1]), int(said[2]))


@needs_browser
def test_pointing_shows_where_the_style_comes_from(page, studio):
    from selenium.webdriver.common.action_chains import ActionChains
    open_tab(page, 'Explore')
    pick(page, 'coast', 'day')
    told, seen = studio.explain(studio.layouts['coast'], 'day'), []
    target = find(page, '.msca-point img')[0]
    for x, y in ((.3, .2), (.3, .9), (.3, .2)):
        offset = round((x-.5)*target.size['width']), round((y-.5)*target.size['height'])
        ActionChains(page, duration=20).move_to_element_with_offset(target, *offset).perform()
        wait(lambda: (p := pointed_at(page)) and max(abs(p[0]-y*256), abs(p[1]-x*256)) <= 3)
        time.sleep(.5)  # the pointer passes other pixels on its way
        row, col = pointed_at(page)
        shows(page, 3, told.source_picture(row, col, 2))
        seen.append(shown(page, 3))
    assert np.abs(seen[0]-seen[1]).max() > 50 and np.abs(seen[0]-seen[2]).max() <= 2
    find(page, '.msca-gallery button[title="scale 4"]')[0].click()
    shows(page, 3, told.source_picture(row, col, 4))
    find(page, '.msca-gallery button[title="slot 3"]')[0].click()
    shows_another(page, 3, np.asarray(told.source_picture(row, col, 4), dtype=int))


@needs_browser
def test_a_photo_is_learned_stopped_and_saved(page, server, tmp_path):
    "The bar moves, the picture after is renewed, Stop keeps it, and the model that is saved can be loaded."
    import zipfile

    from msca.pretrained.synthesizer import Synthesizer
    page.execute_cdp_cmd('Browser.setDownloadBehavior', dict(behavior='allow', downloadPath=str(tmp_path)))
    open_tab(page, 'Learn')
    button = wait(lambda: next((b for b in find(page, 'button') if b.text == 'Learn this photo'), None))
    pick(page, 'coast', 'day')
    share = lambda: page.execute_script('return document.querySelector(".msca-progress progress").value')
    assert share() == 0
    wait(lambda: shown(page, 5) is not None)
    button.click()
    wait(lambda: share() > 0 and button.text == 'Stop')
    first = share()
    wait(lambda: share() > first)
    button.click()
    wait(lambda: button.text == 'Continue' and 'iterations' in ' '.join(read(page, '.msca-caption')))
    wait(lambda: (after := shown(page, 6)) is not None and after.shape == (256, 256, 3))
    saver = wait(lambda: next((b for b in find(page, '.msca-saver button') if b.is_displayed()), None))
    saver.click()
    file = tmp_path/'day-model.zip'
    wait(file.exists)
    wait(lambda: saver.text == 'Save the model')
    zipfile.ZipFile(file).extractall(tmp_path)
    assert 'adapted to day' in Synthesizer.load(tmp_path/'day-model', 'cpu', quiet=True).notice
    wait(lambda: '✓ day' in read(page, '.msca-gallery span'))
    open_tab(page, 'Paint')
    pick(page, 'day')
    wait(lambda: any(e.is_displayed() and 'has learned this photo' in e.text for e in find(page, '.widget-checkbox')))


IN_SIGHT = '''const e = [...document.querySelectorAll('.msca-shown')].find(e => e.offsetParent).querySelector('img').getBoundingClientRect()
return e.top >= -1 && e.bottom <= innerHeight+1'''


@needs_browser
@pytest.mark.parametrize('width, height', [(390, 844), (768, 1024), (1280, 800)])
def test_the_picture_stays_in_sight_at_every_width(page, width, height):
    page.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=height, deviceScaleFactor=2, mobile=width < 700))
    try:
        for name in ('Mix', 'Paint', 'Explore', 'Boxes', 'Learn'):
            open_tab(page, name)
            assert page.execute_script('return document.documentElement.scrollWidth') <= width
            for part in (0, .5, 1):
                page.execute_script('window.scrollTo(0, arguments[0]*(document.documentElement.scrollHeight-innerHeight))', part)
                wait(lambda: page.execute_script(IN_SIGHT), 5, lambda: f'{name} at {width}, scrolled {part}')
            page.execute_script('window.scrollTo(0, 0)')
    finally: page.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


@needs_browser
def test_the_palette_is_beside_the_canvas_and_words_are_explained(page):
    open_tab(page, 'Paint')
    canvas, palette = (find(page, css)[0].rect for css in ('.msca-paint canvas', '.msca-palette'))
    assert palette['x'] >= canvas['x']+canvas['width'] and abs(palette['y']-canvas['y']) < 4
    open_tab(page, 'Explore')
    explained = {e.text.lower().rstrip('s'): e.get_attribute('title') for e in find(page, 'abbr.msca-term')}
    assert {'slot', 'scale'} <= set(explained) and all(len(t) > 30 for t in explained.values())
    pick(page, "'slot 2'")
    wait(lambda: [e for e in find(page, '.msca-caption abbr') if e.text == 'gate'])
    pick(page, "'slot 2'")


@needs_browser
def test_every_picture_has_words(page):
    words = read(page, 'img', 'alt')
    assert len(words) > 60 and all(len(w) > 3 for w in words)


@needs_browser
def test_the_page_is_dark_where_the_system_is(page):
    def brightness(css): return [int(n) for n in re.findall(r'\d+', page.execute_script('return getComputedStyle(document.querySelector(arguments[0])).backgroundColor', css))][:3]
    colors = {}
    for scheme in ('light', 'dark'):
        page.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value=scheme)]))
        colors[scheme] = max(brightness('.msca-shown'))
    page.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[]))
    assert colors['light'] > 240 and colors['dark'] < 60


@needs_browser
def test_no_traceback_and_no_other_host(page, server):
    "The page says nothing of errors, and asked nobody else for anything."
    text = ' '.join(read(page, '.jp-OutputArea'))
    assert 'Paint a label map' in text and not re.search('traceback|error|exception', text, re.I)
    sent, stopped = {}, set()
    for entry in page.get_log('performance'):
        m = json.loads(entry['message'])['message']
        if m['method'] == 'Network.requestWillBeSent': sent[m['params']['requestId']] = m['params']['request']['url']
        if m['method'] == 'Network.webSocketCreated': sent[m['params']['requestId']] = m['params']['url']
        if m['method'] == 'Network.loadingFailed' and m['params'].get('blockedReason') == 'csp': stopped.add(m['params']['requestId'])
    asked = {url for i, url in sent.items() if url.startswith(('http', 'ws')) and i not in stopped}
    base = server[1].split('?')[0]
    own = base, base.replace('http', 'ws')
    assert any(url.startswith('ws') for url in asked) and [url for url in asked if not url.startswith(own)] == []


@needs_browser
@pytest.mark.slow
def test_a_page_whose_process_is_gone_finds_it_out(page, server):
    "As after a sleep in which the process was ended: a reload helps. When the server is gone, it does not."
    psutil = pytest.importorskip('psutil')
    assert read(page, '.msca-banner') == ['']
    for p in psutil.Process(server[0].pid).children(recursive=True):
        if 'ipykernel' in ' '.join(p.cmdline()): p.kill()
    wait(lambda: 'The picture maker sleeps' in read(page, '.msca-banner')[0])
    find(page, '.msca-banner button')[0].click()
    wait(lambda: len(find(page, '.msca-picture')) == 5 and all(shown(page, i) is not None for i in range(5)))
    assert read(page, '.msca-banner') == ['']


def test_ctrl_c_ends_it_with_all_that_it_started(server, request):
    psutil = pytest.importorskip('psutil')
    process, url = server
    answer(url)  # a visit, with a process of its own
    started = psutil.Process(process.pid).children(recursive=True)
    homes = {Path(a.split('=')[1]).parent for p in started for a in p.cmdline() if 'config_file_paths=' in a}
    assert len(started) >= 2 and all(h.is_dir() for h in homes) and homes
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stdout.read() == 'stopped\n' and process.stderr.read() == ''
    psutil.wait_procs(started, 30)
    assert not [p for p in started if p.is_running()] and not [h for h in homes if h.exists()]
    if CHROMIUM and DRIVER:
        driver = request.getfixturevalue('page')
        wait(lambda: 'msca app has ended' in read(driver, '.msca-banner')[0])
