"The page that paints: its scripts against Python's answers, the folder that the command writes, and what a browser makes of it."
import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
import pytest
import torch
from PIL import Image

import msca.commands.web as web
from msca import Synthesizer
from msca.app.painter import STATIC, LabelCanvas, brushed, filled
from msca.base.labels import SCENE_LABELS, UNLABELLED, InputError, LabelSet, colorize, resize_labels
from msca.commands.cli import main
from msca.data.photographs import example_photo
from msca.data.render import procedural_scene
from msca.data.scene import image_to_tensor
from msca.model.checkpoint import save_synthesizer
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig, build_synthesizer, find_variant
from msca.pretrained.models import model_folder, parser_folder

NODE = shutil.which('node')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')
needs_node = pytest.mark.skipif(not NODE, reason='no Node.js')
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='no Chromium with chromedriver; `make browser` installs them where it can')
PATIENCE = 90  # seconds; a busy machine is no failure
CLOSE = 2  # levels of 255


# ---- the scripts, in Node.js --------------------------------------------------------------------------------------------

def node(code, **given):
    "What a module gives for JSON: the code sees `given` and all that the page's modules export, and calls `tell`."
    names = dict(maps='brushed, filled, resized, shares, History, readColors', pillow='resample, LANCZOS, BILINEAR',
                 photos='readySize, workSize, forParser, forEncoder, bestLabels')
    imports = '\n'.join(f"import {{{what}}} from {json.dumps((Path(str(STATIC))/f'{name}.js').as_uri())}" for name, what in names.items())
    program = f'''{imports}
    import fs from 'fs'
    const given = JSON.parse(fs.readFileSync(0)), tell = x => process.stdout.write(JSON.stringify(x))
    const bytes = text => new Uint8Array(Buffer.from(text, 'base64')), text = a => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('base64')
    {code}'''
    done = subprocess.run([NODE, '--no-warnings', '--input-type=module', '-e', program], input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text_of(a): return base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()
def array_of(text, shape, dtype=np.uint8): return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


@needs_node
def test_strokes_and_fills_are_pythons():
    "The page and the widget of `msca app` paint the same pixels."
    rng, ids = np.random.default_rng(0), np.zeros((40, 56), np.uint8)
    strokes = [dict(points=(rng.random((int(rng.integers(1, 5)), 2))*(70, 50)-6).tolist(), label=int(rng.integers(1, 4)), width=float(w)) for w in (1, 1.5, 3, 8, 21)*6]
    fills = [dict(row=int(rng.integers(40)), col=int(rng.integers(56)), label=int(rng.integers(4))) for _ in range(12)]
    theirs = node('''let map = {ids: bytes(given.ids), size: given.size}
        const before = map.ids.slice(), first = map
        for (const s of given.strokes) map = brushed(map, s.points, s.label, s.width)
        const strokes = text(map.ids)
        for (const f of given.fills) map = filled(map, f.row, f.col, f.label)
        tell([strokes, text(map.ids), text(resized(map, [64, 24]).ids), before.every((v, i) => v === first.ids[i])])''',
        ids=text_of(ids), size=ids.shape, strokes=strokes, fills=fills)
    for s in strokes: ids = brushed(ids, **s)
    assert len(np.unique(ids)) == 4 and (array_of(theirs[0], ids.shape) == ids).all()
    for f in fills: ids = filled(ids, **f)
    assert (array_of(theirs[1], ids.shape) == ids).all()
    assert (array_of(theirs[2], (64, 24)) == resize_labels(ids, (64, 24))).all()
    assert theirs[3]


@needs_node
def test_undoing_is_pythons():
    "The same messages leave the same map and the same steps in both owners of a drawing."
    stroke = dict(stroke=True, label=2, width=6)
    told = [dict(stroke, first=True, points=[(3, 3), (20, 9)]), dict(stroke, first=False, points=[(20, 9), (28, 28)]), dict(fill=True, row=30, col=2, label=1), dict(undo=True),
            dict(undo=True), dict(undo=True), dict(redo=True), dict(stroke, first=True, points=[(9, 20)]), dict(redo=True), dict(undo=True)]
    canvas = LabelCanvas(np.zeros((32, 32), np.uint8), SCENE_LABELS)
    ours = []
    for number, what in enumerate(told):
        canvas.receive(dict(what, number=number))
        ours.append([text_of(canvas.array), list(canvas.steps)])
    assert ours == node('''const history = new History({ids: new Uint8Array(32*32), size: [32, 32]})
        tell(given.told.map(what => { history.apply(what); return [text(history.map.ids), history.steps] }))''', told=told)
    assert [steps for _, steps in ours][-3:] == [[2, 0], [2, 0], [1, 1]]


@needs_node
@pytest.mark.parametrize('size', ((64, 64), (60, 60), (37, 91), (300, 201), (41, 333), (120, 40), (33, 90)))
def test_photos_are_resized_as_pillow_does(size):
    "Every byte, smaller and larger, for both filters; before Pillow 13 the order of the passes was another."
    rng = np.random.default_rng(1)
    photo, wanted = rng.integers(0, 256, (120, 90, 3), np.uint8), (size[1], size[0])
    for name in ('LANCZOS', 'BILINEAR'):
        theirs = node(f'tell(text(resample(bytes(given.photo), given.from, given.to, {name})))', photo=text_of(photo), **{'from': photo.shape[:2], 'to': size})
        ours = np.asarray(Image.fromarray(photo).resize(wanted, Image.Resampling[name])).astype(int)
        assert abs(array_of(theirs, (*size, 3))-ours).max() <= (0 if int(PIL.__version__.split('.')[0]) >= 13 else 2)


@needs_node
@pytest.mark.parametrize('size', ((256, 256), (200, 331), (64, 80), (700, 500), (16, 250)))
def test_a_photo_is_parsed_as_in_python(size):
    "Sizes, the padded photo, and the labels that are read off the scores."
    s, segmenter = Synthesizer.load(device='cpu', quiet=True), load_segmenter(parser_folder(model_folder(None)))[0].requires_grad_(False)
    photo = example_photo('stream').resize(size[::-1])
    ready, config = s.read_exemplar(photo), segmenter.config
    small, padded, work, mine = node('''const rgb = bytes(given.photo), p = forParser(rgb, given.size, given.sides), ready = readySize(given.size, given.short)
        tell([text(p.pixels), p.size, p.work, text(forEncoder(rgb, given.size, ready))])''',
        photo=text_of(photo), size=size, sides=[config.min_side, config.max_side], short=s.size)
    assert (array_of(mine, ready.photo.shape) == ready.photo).all()
    with torch.inference_mode(): scores = segmenter(image_to_tensor(array_of(small, (*padded, 3)))[None])[0].numpy()
    labels = node('''const [ids] = [bestLabels(new Float32Array(bytes(given.scores).buffer), given.dims, given.work, given.size, given.ready)]; tell(text(ids))''',
                  scores=text_of(scores), dims=scores.shape, work=work, size=size, ready=ready.ids.shape)
    assert (array_of(labels, ready.ids.shape) == ready.ids).mean() > .9995


@needs_node
def test_smoothed_edges_snap_and_a_photo_is_no_layout():
    palette = [[n, f'#{bytes(c).hex()}', i] for i, (n, c) in enumerate(zip(SCENE_LABELS.classes, SCENE_LABELS.palette))] + [['unlabelled', '#000000', UNLABELLED]]
    ids = procedural_scene(2, 96).labels.copy()
    ids[:9, :9] = UNLABELLED
    exact = np.dstack([colorize(ids, SCENE_LABELS), np.full_like(ids, 255)])
    smooth = np.array(Image.fromarray(exact).resize((192, 192), Image.Resampling.BILINEAR))
    code = 'const {map, snapped} = readColors(bytes(given.rgba), given.size, given.palette); tell([text(map.ids), snapped])'
    got, snapped = node(code, rgba=text_of(exact), size=ids.shape, palette=palette)
    assert (array_of(got, ids.shape) == ids).all() and snapped == 0
    got, snapped = node(code, rgba=text_of(smooth), size=(192, 192), palette=palette)
    assert snapped > 0 and (array_of(got, (192, 192)) == resize_labels(ids, (192, 192))).mean() > .97
    photo = np.dstack([np.asarray(example_photo('stream')), np.full((example_photo('stream').height,)*2, 255)]).astype(np.uint8)
    said = node(f'try {{ {code} }} catch (e) {{ tell(e.message) }}', rgba=text_of(photo), size=photo.shape[:2], palette=palette)
    assert 'no label map in the colors' in said


def test_the_widget_and_the_page_draw_with_one_source():
    source = (Path(str(STATIC))/'drawing.js').read_text(encoding='utf-8')
    assert LabelCanvas._esm.default_value if hasattr(LabelCanvas._esm, 'default_value') else str(LabelCanvas._esm).startswith(source)
    assert "from './drawing.js'" in (Path(str(STATIC))/'page.js').read_text(encoding='utf-8')


# ---- mistakes -----------------------------------------------------------------------------------------------------------

def refusal(capsys, *argv):
    "The only line that a command says before it gives up."
    capsys.readouterr()
    assert main(['export', *argv]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1, (out, err)
    return err


def toy(folder, variant='msca', n_labels=2):
    "An untrained checkpoint."
    kitchen = LabelSet('kitchen', ('spoon', 'fork'), ((200, 30, 30), (30, 30, 200)))
    torch.manual_seed(0)
    if variant == 'msca':
        widths = dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'slots', 'widths', 'spade_hidden'), (8,)*5)
        model = SceneSynthesizer(SynthesizerConfig(2, mlp_width=8, init_gain=1., **widths))
    else: model = build_synthesizer(variant, find_variant(variant).config.compact(2), None)
    save_synthesizer(model, kitchen, 64, folder)
    return folder


def test_mistakes_are_said_in_a_line(capsys, tmp_path, monkeypatch):
    "Before anything is computed or written."
    other = tmp_path/'other'
    other.mkdir()
    (other/'notes.txt').write_text('mine')
    wrong = tmp_path/'runtime.tgz'
    wrong.write_bytes(b'something else')
    assert 'has other files in it' in refusal(capsys, '--format', 'web', '--out', str(other))
    assert 'by its checksum' in refusal(capsys, '--format', 'web', '--out', str(tmp_path/'a'), '--runtime', str(wrong))
    assert 'no such file' in refusal(capsys, '--format', 'web', '--out', str(tmp_path/'a'), '--runtime', str(tmp_path/'absent.tgz'))
    assert '--data goes with --format web' in refusal(capsys, '--out', str(tmp_path/'a'), '--data', str(other))
    monkeypatch.setenv('MSCA_CACHE', str(tmp_path/'empty'))
    monkeypatch.setattr(web.shutil, 'which', lambda name: None)
    assert 'npm pack onnxruntime-web@' in refusal(capsys, '--format', 'web', '--out', str(tmp_path/'a'))
    assert not (tmp_path/'a').exists() and (other/'notes.txt').read_text() == 'mine'


def test_models_without_kept_styles_and_without_a_parser_are_refused(tmp_path):
    s = Synthesizer.load(toy(tmp_path/'kitchen'), device='cpu', quiet=True)
    with pytest.raises(InputError, match=r'has no parser.*--data'): web.page_scenes(s)
    from msca.model.stages import cut_stages
    for variant in ('spade', 'spade-vae'):
        with pytest.raises(InputError, match='cannot be cut into encode and paint'): cut_stages(Synthesizer.load(toy(tmp_path/variant, variant), device='cpu', quiet=True).model)


# ---- the folder ---------------------------------------------------------------------------------------------------------

def runtime_or_skip():
    "The runtime's archive, or a reason to skip."
    try: return web.fetch_runtime()
    except InputError as e: pytest.skip(str(e))


@pytest.fixture(scope='module')
def folder(made_once):
    "The shipped model's page."
    runtime_or_skip()
    def make(part): assert main(['export', '--format', 'web', '--out', str(part/'page')]) == 0
    return made_once('web-page', make)/'page'


@pytest.fixture(scope='module')
def synthesizer(): return Synthesizer.load(device='cpu', quiet=True, precision='float32')


@pytest.mark.slow
def test_the_folder_is_whole_and_small(folder):
    about = json.loads((folder/'manifest.json').read_text(encoding='utf-8'))
    there = {p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file()}
    assert there == {*about['written'], 'manifest.json'} and set(web.PAGE) < there
    for name, entry in about['files'].items():
        packed = (folder/name).read_bytes()
        assert len(packed) == entry['bytes'] and hashlib.sha256(gzip.decompress(packed)).hexdigest() == entry['sha256']
    assert about['classes'] == list(SCENE_LABELS.classes) and 'non-commercial' in about['about']
    assert sum(p.stat().st_size for p in folder.rglob('*')) < 14e6 and about['first'] < 9e6
    credited = {e['name'] for e in about['examples']['exemplars'] if 'credit' in e}
    assert {'temple', 'sunset', 'autumn', 'stream', 'dandelions', 'mountains'} == credited


@pytest.mark.slow
def test_the_page_names_no_other_host(folder):
    for name in web.PAGE:
        addresses = set(re.findall(r'https?://[^\s"\'<>)]+', (folder/name).read_text(encoding='utf-8')))
        assert addresses <= {'http://www.w3.org/2000/svg'}, name


class Graphs:
    "The graphs of a page in Python's runtime."
    def __init__(self, folder):
        self.about = json.loads((folder/'manifest.json').read_text(encoding='utf-8'))
        self.sessions = {p.name[:-8]: onnxruntime.InferenceSession(gzip.decompress(p.read_bytes())) for p in folder.glob('*.onnx.gz')}

    def run(self, name, *arrays):
        session = self.sessions[name]
        return session.run(None, dict(zip([i.name for i in session.get_inputs()], arrays)))[0]

    def paint(self, layout, styles, weights, classes=None):
        weights = np.array(weights, np.float32)
        if classes is None: classes = np.ones((1, len(self.about['classes'])+1))
        return self.run('paint', layout, styles, weights, np.array(classes, np.float32))[..., :3].astype(int)


@pytest.mark.slow
def test_the_graphs_paint_what_the_synthesizer_paints(folder, synthesizer):
    "One photo, between two, and one for the sky with another for the rest; at two sizes."
    s, graphs = synthesizer, Graphs(folder)
    photos = [s.read_exemplar(example_photo(n)) for n in ('sunset', 'stream')]
    styles = np.concatenate([graphs.run('encode', r.photo, r.ids) for r in photos])
    for ids in (procedural_scene(3, 256).labels, procedural_scene(4, 128).labels[:80]):
        one = abs(graphs.paint(ids, styles[1:], [[1]])-np.asarray(s(ids, photos[1], size=0)))
        assert one.max() <= CLOSE and one.mean() < .1
        between, = s.interpolate(ids, *photos, weights=[[.3, .7]], size=0)
        assert abs(graphs.paint(ids, styles, [[.3, .7]])-np.asarray(between)).max() <= CLOSE
        sky = (np.arange(18) == 0).astype(float)
        apart = s.interpolate_space(ids, photos, np.stack([ids == 0, ids != 0]), size=0)
        assert abs(graphs.paint(ids, styles, np.eye(2), [sky, 1-sky])-np.asarray(apart)).max() <= CLOSE


@pytest.mark.slow
def test_the_parser_sees_what_the_segmenter_sees(folder, synthesizer):
    graphs, segmenter = Graphs(folder), load_segmenter(parser_folder(model_folder(None)))[0].requires_grad_(False)
    photo = np.asarray(example_photo('autumn').resize((208, 192)))
    with torch.inference_mode(): wanted = segmenter(image_to_tensor(photo)[None])[0].numpy()
    got = graphs.run('parser', photo)
    assert abs(got-wanted).max() < .05 and (got.argmax(0) == wanted.argmax(0)).mean() > .999


# ---- in the browser -------------------------------------------------------------------------------------------------------

class _Files(http.server.SimpleHTTPRequestHandler):
    headers_too = ()

    def log_message(self, *args): pass

    def end_headers(self):
        for name, value in self.headers_too: self.send_header(name, value)
        super().end_headers()


def serve(folder, *headers):
    "A host of files, and its address."
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(type('Files', (_Files,), dict(headers_too=headers)), directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f'http://127.0.0.1:{server.server_address[1]}/'


def start_browser(profile):
    "Headless Chromium that can resolve no host but this one."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for a in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'no-first-run', 'disable-background-networking', 'disable-component-update', 'disable-sync',
              'window-size=1280,1000', 'host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', f'user-data-dir={profile}'): options.add_argument(f'--{a}')
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    return driver


class Page:
    "The page as a visitor sees it."
    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        driver.get(address)
        self.wait(lambda: self.js('return document.documentElement.dataset.ready'))

    def js(self, code, *args): return self.driver.execute_script(code, *args)
    def find(self, css): return self.driver.find_elements('css selector', css)
    def text(self, css): return self.js('return document.querySelector(arguments[0]).textContent', css)
    def wrong(self): return '' if self.js('return document.getElementById("wrong").hidden') else self.text('#wrong')

    def wait(self, condition, seconds=PATIENCE):
        end = time.monotonic()+seconds
        while time.monotonic() < end:
            if got := condition(): return got
            time.sleep(.03)
        pytest.fail(f'waited in vain; the page says: {self.wrong()} {self.text("#status")} {self.driver.get_log("browser")[-3:]}')

    def change(self, act):
        "Do something that asks for a picture, and wait until the last one that is asked for is shown."
        before = self.js('return +(document.documentElement.dataset.shown || 0)')
        act()
        self.wait(lambda: self.js('const d = document.documentElement.dataset; return +d.shown > arguments[0] && d.shown === d.asked', before))
        return self.picture()

    def pixels(self, css):
        "What a canvas shows, H×W×3."
        w, h, data = self.js('''const c = document.querySelector(arguments[0]), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data
            let s = ''; for (let i = 0; i < d.length; i += 8190) s += String.fromCharCode(...d.subarray(i, i+8190)); return [c.width, c.height, btoa(s)]''', css)
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(h, w, 4)[..., :3].astype(int)

    def picture(self): return self.pixels('#picture')

    def ids(self):
        "The label map that is on the drawing."
        known = {tuple(c): i for i, c in enumerate(SCENE_LABELS.palette)} | {(0, 0, 0): UNLABELLED}
        shown = self.pixels('.msca-sheet canvas')
        colors, at = np.unique(shown.reshape(-1, 3), axis=0, return_inverse=True)
        return np.array([known[tuple(c)] for c in colors.tolist()], np.uint8)[at].reshape(shown.shape[:2])

    def press(self, text, css='button'): next(b for b in self.find(css) if b.text.strip() == text).click()

    def drag(self, *points):
        "Press, move and release on the drawing, at parts of its sides."
        from selenium.webdriver.common.action_chains import ActionChains
        canvas = self.find('.msca-sheet canvas')[0]
        self.js('arguments[0].scrollIntoView({block: "center"})', canvas)
        at = [(round((x-.5)*canvas.size['width']), round((y-.5)*canvas.size['height'])) for x, y in points]
        moves = ActionChains(self.driver, duration=20).move_to_element_with_offset(canvas, *at[0]).click_and_hold()
        for p in at[1:]: moves.move_to_element_with_offset(canvas, *p)
        moves.release().perform()

    def drop(self, name, content, css='body'):
        "Drop a file."
        self.js('''const bytes = Uint8Array.from(atob(arguments[1]), c => c.charCodeAt(0)), data = new DataTransfer(), at = document.querySelector(arguments[2])
            data.items.add(new File([bytes], arguments[0])); at.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))''',
            name, base64.b64encode(content).decode(), css)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp('chromium'))
    yield driver
    driver.quit()


@pytest.fixture(scope='module')
def page(folder, browser):
    server, address = serve(folder)
    yield Page(browser, address)
    server.shutdown()


def file_of(image, kind='PNG', **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def far(a, b): return abs(np.asarray(a, dtype=int)-np.asarray(b, dtype=int)).max()


@needs_browser
@pytest.mark.slow
def test_the_first_picture_is_pythons(page, synthesizer):
    assert page.text('#loading-text') and not page.wrong()
    assert far(page.picture(), synthesizer(page.ids(), example_photo('temple'))) <= CLOSE


@needs_browser
@pytest.mark.slow
def test_a_stroke_by_pointer_is_painted_and_taken_back(page, synthesizer):
    before, ids = page.picture(), page.ids()
    page.press('sand', '.msca-palette button')
    sand, photo = SCENE_LABELS.index('sand'), example_photo('temple')
    after = page.change(lambda: page.drag((.2, .8), (.5, .7), (.8, .8)))
    drawn = page.ids()
    assert (drawn == sand).mean() > .03 and set(np.unique(drawn[drawn != ids])) == {sand}
    assert far(after, synthesizer(drawn, photo)) <= CLOSE
    page.press('Fill')
    filled_in = page.change(lambda: page.drag((.5, .05)))
    assert (page.ids() == sand).mean() > .3 and far(filled_in, synthesizer(page.ids(), photo)) <= CLOSE
    page.press('Brush')
    page.change(lambda: page.press('Undo'))
    assert (page.ids() == drawn).all()
    assert far(page.change(lambda: page.press('Undo')), before) == 0 and (page.ids() == ids).all()
    assert not page.find('#undo')[0].is_enabled()
    page.change(lambda: page.press('Redo'))
    assert (page.ids() == drawn).all()
    page.change(lambda: page.press('Undo'))


@needs_browser
@pytest.mark.slow
def test_it_is_painted_by_keys(page):
    from selenium.webdriver.common.keys import Keys
    ids, canvas = page.ids(), page.find('.msca-sheet canvas')[0]
    page.press('road', '.msca-palette button')
    canvas.send_keys(Keys.ARROW_UP)
    assert re.fullmatch(r'[a-z]+, row \d+, column \d+', page.text('.msca-said'))
    page.change(lambda: canvas.send_keys('p', Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, 'p'))
    assert set(np.unique(page.ids()[page.ids() != ids])) == {SCENE_LABELS.index('road')}
    page.change(lambda: canvas.send_keys(Keys.CONTROL, 'z'))
    while page.find('#undo')[0].is_enabled(): page.change(lambda: page.press('Undo'))
    assert (page.ids() == ids).all()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize('kind', ('PNG', 'JPEG'))
def test_a_dropped_photo_gives_its_style(page, synthesizer, kind):
    "Parsed, encoded and painted in the browser; its sides are no multiples of 16, and it is larger than the model's size."
    photo = example_photo('mountains').resize((411, 300))
    content = file_of(photo, kind, **(dict(quality=92) if kind == 'JPEG' else {}))
    got = page.change(lambda: page.drop(f'my {kind}.x', content))
    assert page.find('#photos .card[aria-pressed=true]')[0].text == f'my {kind}'
    assert far(got, synthesizer(page.ids(), Image.open(io.BytesIO(content)))) <= CLOSE


@needs_browser
@pytest.mark.slow
def test_what_is_no_picture_is_refused_in_a_line(page):
    n = len(page.find('#photos .card'))
    page.drop('notes.txt', b'sky and water')
    page.wait(page.wrong)
    assert page.wrong() == 'notes.txt: is no picture that this browser can read' and len(page.find('#photos .card')) == n
    page.drop('photo.png', file_of(example_photo('stream')), '.msca-sheet canvas')
    page.wait(lambda: 'no label map' in page.wrong())


@needs_browser
@pytest.mark.slow
def test_a_layout_is_opened_and_its_edges_snap(page):
    ids = procedural_scene(5, 256).labels
    smooth = Image.fromarray(colorize(ids, SCENE_LABELS)).resize((640, 640), Image.Resampling.BILINEAR)
    page.change(lambda: page.drop('layout.png', file_of(smooth), '.msca-sheet canvas'))
    assert (page.ids() == ids).mean() > .98 and not page.wrong()
    page.change(lambda: page.press('Undo'))


@needs_browser
@pytest.mark.slow
def test_the_slider_is_the_interpolation(page, synthesizer):
    page.press('One photo')
    for name in ('autumn', 'sunset'): page.change(lambda: page.press(name, '#photos .card'))
    page.change(lambda: page.press('Between two'))
    slider = page.find('#factor')[0]
    got = page.change(lambda: page.js("arguments[0].value = .25; arguments[0].dispatchEvent(new Event('input'))", slider))
    names = [page.text('#mix-a'), page.text('#mix-b')]
    assert set(names) == {'autumn', 'sunset'}
    wanted, = synthesizer.interpolate(page.ids(), *map(example_photo, names), factors=[.25])
    assert far(got, wanted) <= CLOSE
    page.change(lambda: page.press('One photo'))


@needs_browser
@pytest.mark.slow
def test_a_photo_for_every_class(page, synthesizer):
    page.press('A photo per class')
    select = page.find('#by-class label')[0]
    assert select.text.startswith('sky')
    first = page.find('#photos .card[aria-pressed=true]')[0].text
    got = page.change(lambda: page.js('''const s = arguments[0].querySelector('select')
        s.selectedIndex = [...s.options].findIndex(o => o.text.startsWith('stream')); s.dispatchEvent(new Event('change'))''', select))
    ids = page.ids()
    wanted = synthesizer.interpolate_space(ids, [example_photo('stream'), example_photo(first)], np.stack([ids == 0, ids != 0]))
    assert far(got, wanted) <= CLOSE
    page.change(lambda: page.press('One photo'))


@needs_browser
@pytest.mark.slow
def test_an_empty_layout_is_said(page):
    before = page.picture()
    page.press('Clear')
    page.wait(lambda: 'empty' in page.text('#status'))
    assert far(page.picture(), before) == 0
    page.change(lambda: page.press('Undo'))


@needs_browser
@pytest.mark.slow
def test_it_fits_every_width_and_follows_the_system(page):
    backs = set()
    for dark in (False, True):
        page.driver.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value='dark' if dark else 'light')]))
        for width in (390, 768, 1280):
            page.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=840, deviceScaleFactor=1, mobile=False))
            for mode in ('Between two', 'A photo per class', 'One photo'):
                page.press(mode)
                assert page.js('return document.documentElement.scrollWidth') <= width
                outside = page.js('''return [...document.querySelectorAll('button, canvas, select, input[type=range]')].filter(e => e.offsetParent)
                    .filter(e => !e.closest('.gallery, .msca-palette') && (e.getBoundingClientRect().right > innerWidth+1 || e.getBoundingClientRect().left < -1))
                    .map(e => e.outerHTML.slice(0, 80))''')
                assert not outside, (width, mode)
        backs.add(page.js('return getComputedStyle(document.body).backgroundColor'))
    assert len(backs) == 2
    page.driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


@needs_browser
@pytest.mark.slow
def test_everything_has_a_name(page):
    "Buttons, fields and pictures, for a screen reader."
    nameless = page.js('''const named = e => e.getAttribute('aria-label') || e.alt || e.textContent.trim() || e.labels?.length || e.closest('button, label')?.textContent.trim()
        return [...document.querySelectorAll('button, input, select, canvas, img')].filter(e => e.offsetParent && !named(e)).map(e => e.outerHTML.slice(0, 90))''')
    assert not nameless
    assert page.find('[role=status]') and page.find('[role=alert], #wrong[role=alert]')


@needs_browser
@pytest.mark.slow
def test_nothing_is_asked_of_anybody_else_and_nothing_is_sent(page):
    asked = []
    for entry in page.driver.get_log('performance'):
        message = json.loads(entry['message'])['message']
        if message['method'] == 'Network.requestWillBeSent': asked.append(message['params']['request'])
    assert asked
    names = page.js("return performance.getEntriesByType('resource').map(e => e.name)")
    assert names and all(n.startswith((page.address, 'blob:', 'data:')) for n in names)
    for request in asked:
        assert request['method'] == 'GET' and not request.get('hasPostData'), request
        assert request['url'].startswith((page.address, 'blob:', 'data:', 'chrome')), request['url']
    errors = [e for e in page.driver.get_log('browser') if e['level'] == 'SEVERE' and 'favicon' not in e['message']]
    assert not errors, errors


@needs_browser
@pytest.mark.slow
def test_a_smaller_sheet_is_painted_too(folder, browser, synthesizer):
    "For slow machines, by the address."
    server, address = serve(folder)
    small = Page(browser, f'{address}?size=128')
    assert small.picture().shape == (128, 128, 3) and far(small.picture(), synthesizer(small.ids(), example_photo('temple'), size=0)) <= CLOSE
    server.shutdown()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize('name, harm, said', (
    ('paint.onnx.gz', lambda b: b[:-5000], 'paint.onnx.gz: is damaged'),
    ('paint.onnx.gz', lambda b: gzip.compress(b'another model'), 'paint.onnx.gz: is damaged'),
    ('examples.bin.gz', lambda b: gzip.compress(gzip.decompress(b)[:-4]+b'1234'), 'examples.bin.gz: is'),
    ('runtime/ort.wasm.gz', None, 'runtime/ort.wasm.gz: is missing on the server (404)')))
def test_a_broken_copy_says_which_file(folder, browser, tmp_path, name, harm, said):
    shutil.copytree(folder, tmp_path/'page')
    if harm is None: (tmp_path/'page'/name).unlink()
    else: (tmp_path/'page'/name).write_bytes(harm((folder/name).read_bytes()))
    server, address = serve(tmp_path/'page')
    browser.get(address)
    end = time.monotonic()+PATIENCE
    while time.monotonic() < end and not (text := browser.execute_script("const p = document.getElementById('wrong'); return p && !p.hidden && p.textContent")): time.sleep(.05)
    server.shutdown()
    assert text.startswith(said), text


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize('gone, said', (('WebAssembly', 'no WebAssembly'), ('DecompressionStream', 'cannot unpack'), ('OffscreenCanvas', 'cannot compute beside the page')))
def test_what_a_browser_lacks_is_said(folder, browser, gone, said):
    server, address = serve(folder)
    script = browser.execute_cdp_cmd('Page.addScriptToEvaluateOnNewDocument', dict(source=f'delete globalThis.{gone}'))
    try:
        browser.get(address)
        text = browser.execute_script("const p = document.getElementById('wrong'); return p.hidden ? '' : p.textContent")
    finally:
        browser.execute_cdp_cmd('Page.removeScriptToEvaluateOnNewDocument', script)
        server.shutdown()
    assert said in text


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize('how', ('headers', 'service worker'))
def test_threads_where_the_host_allows_them(folder, tmp_path, how, synthesizer):
    "By headers, or from the second visit on by the page's own service worker; the picture stays the same."
    server, address = serve(folder, *([('Cross-Origin-Opener-Policy', 'same-origin'), ('Cross-Origin-Embedder-Policy', 'require-corp')] if how == 'headers' else []))
    driver = start_browser(tmp_path/'chromium')
    try:
        page = Page(driver, address)
        if how != 'headers':
            assert page.js('return document.documentElement.dataset.threads') == '1'
            page.wait(lambda: page.js('return !!navigator.serviceWorker.controller'))
            page = Page(driver, address)
        assert page.js('return crossOriginIsolated') and page.js('return +document.documentElement.dataset.threads') >= min(2, page.js('return navigator.hardwareConcurrency'))
        assert far(page.picture(), synthesizer(page.ids(), example_photo('temple'))) <= CLOSE
    finally:
        driver.quit()
        server.shutdown()


# ---- somebody's own model -----------------------------------------------------------------------------------------------

def only_page(folder, profile):
    "A page in a browser of its own."
    server, address = serve(folder)
    driver = start_browser(profile)
    return Page(driver, address), lambda: (driver.quit(), server.shutdown())


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize('variant', ('msca', 'no-attention'))
def test_a_freshly_trained_model_has_a_page(made_once, tmp_path, variant):
    "From `msca train` to a picture in the browser, for slots and for a code of every class; photos come with the dataset that is named."
    runtime_or_skip()
    def make(part):
        assert main(['scenes', '--n', '6', '--size', '64', '--out', str(part/'data')]) == 0
        assert main([*'train --procedural 12 --size 32 --batch-size 4 --parser-epochs 0 --pretrain-epochs 0 --warmup-epochs 0 --epochs 1,0 --device cpu --variant'.split(),
                     variant, '--out', str(part/'run')]) == 0
        assert main(['export', '--format', 'web', '--model', str(part/'run'), '--data', str(part/'data'), '--out', str(part/'page')]) == 0
    made = made_once(f'web-trained-{variant}', make)
    s, (page, end) = Synthesizer.load(made/'run', device='cpu', quiet=True, precision='float32'), only_page(made/'page', tmp_path/'chromium')
    try:
        about = json.loads((made/'page'/'manifest.json').read_text(encoding='utf-8'))
        first = about['examples']['exemplars'][0]
        exemplar = next((made/'data'/'images').glob(first['name']+'*')), next((made/'data'/'labels').glob(first['name']+'*'))
        assert far(page.picture(), s(page.ids(), *exemplar)) <= CLOSE
        page.press('sky', '.msca-palette button')
        assert far(page.change(lambda: page.drag((.1, .9), (.9, .9))), s(page.ids(), *exemplar)) <= CLOSE
        assert bool(about['parserSides']) == bool(s.segmenter)
        if not s.segmenter: assert not page.find('#photos .add')[0].is_displayed()
    finally: end()
