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


def test_a_model_without_parser_is_refused_on_the_page(other_model, monkeypatch):
    monkeypatch.setenv('MSCA_APP_MODEL', str(other_model[0]))
    assert 'has no segmenter' in msca.commands.app.page().value


def test_a_model_of_other_classes_begins_with_a_blank_layout(other_model, monkeypatch):
    from msca.model.segmenter import SceneSegmenter, SegmenterConfig, save_segmenter
    folder, kitchen = other_model
    save_segmenter(SceneSegmenter(SegmenterConfig(2, width=2)), kitchen, folder)
    monkeypatch.setenv('MSCA_APP_MODEL', str(folder))
    mixer, painter, explorer = msca.commands.app.page().children[1].children
    assert list(mixer.studio.layouts) == ['blank'] and all(view.picture.value for view in (mixer, painter, explorer))
    assert [name for name, *_ in painter.canvas.palette] == ['spoon', 'fork', 'unlabelled']


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
    "Processes that the server has started."
    psutil = pytest.importorskip('psutil')
    return len(psutil.Process(server[0].pid).children(recursive=True))-1


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
def test_visits_are_counted(server):
    from concurrent.futures import ThreadPoolExecutor
    most = msca.commands.app.MOST_VISITS
    with ThreadPoolExecutor(most+3) as pool: codes = list(pool.map(lambda _: visit(server[1])[0], range(most+3)))
    assert sorted(codes) == [200]*most + [503]*3 and visits(server) == most


def test_a_killed_app_leaves_no_server_and_no_folder():
    psutil = pytest.importorskip('psutil')
    process = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser'], text=True, stdout=subprocess.PIPE)
    assert 'token=' in process.stdout.readline()
    started = psutil.Process(process.pid).children(recursive=True)
    homes = {Path(a.split('=')[1]).parent for p in started for a in p.cmdline() if 'config_file_paths=' in a}
    assert homes and all(h.is_dir() and h.stat().st_mode & 0o77 == 0 for h in homes)
    process.kill()
    process.wait()
    assert psutil.wait_procs(started, 30)[1] == [] and not [h for h in homes if h.exists()]


# ---- the page ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def page(server, tmp_path_factory):
    "The page in headless Chromium, which can resolve no other host, when all three tabs have shown a picture."
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
        wait(lambda: len(find(driver, '.msca-picture')) == 3 and all(shown(driver, i) is not None for i in range(3)),
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
    from msca.commands.app import demo_studio
    from msca.pretrained.synthesizer import Synthesizer
    return demo_studio(Synthesizer.load(device='cpu', quiet=True))


@needs_browser
def test_the_slider_goes_from_photo_to_photo(page, studio):
    from selenium.webdriver.common.keys import Keys
    open_tab(page, 'Mix')
    coast = studio.layouts['coast']
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
def test_three_photos_have_three_sliders(page, studio):
    open_tab(page, 'Mix')
    find(page, '.msca-gallery button[title=night]')[0].click()
    wait(lambda: len(find(page, '.msca-mix .noUi-handle')) == 3)
    shows(page, 0, studio.mix(studio.layouts['coast'], dict(day=1, sunset=1, night=1)))
    find(page, '.msca-gallery button[title=street]')[0].click()
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
    before, coast, sand = shown(page, 1), studio.layouts['coast'], SCENE_LABELS.index('sand')
    shows(page, 1, studio.mix(coast, dict(day=1)))
    next(b for b in find(page, '.msca-palette button') if b.text == 'sand').click()
    canvas = find(page, '.msca-paint canvas')[0]
    drag(page, canvas, (.2, .2), (.5, .25), (.8, .2))
    shows_another(page, 1, before)
    painted = wait(lambda: (ids := saved_layout(page))[26, 102] == sand and (ids,))[0]  # the stroke's end has arrived
    assert (painted != coast).any() and (painted[painted != coast] == sand).all()
    assert (painted[26, 26:102:8] == sand).sum() >= 3 and (painted[60:] == coast[60:]).all()
    shows(page, 1, studio.mix(painted, dict(day=1)))

    next(b for b in find(page, '.msca-tools button') if b.text == 'Fill').click()
    drag(page, canvas, (.5, .05))
    filled = wait(lambda: (ids := saved_layout(page))[0, 64] == sand and (ids,))[0]
    shows(page, 1, studio.mix(filled, dict(day=1)))
    undo = next(b for b in find(page, '.msca-tools button') if b.text == 'Undo')
    for _ in range(2): undo.click()
    shows(page, 1, before)
    wait(lambda: not undo.is_enabled())
    wait(lambda: (saved_layout(page) == coast).all())


@needs_browser
def test_label_maps_are_opened_or_refused_in_a_line(page, studio, tmp_path):
    open_tab(page, 'Paint')
    ids = np.repeat([SCENE_LABELS.index('sky'), SCENE_LABELS.index('grass')], 64).astype(np.uint8)[:, None].repeat(160, 1)
    Image.fromarray(ids).save(tmp_path/'meadow.png')
    (tmp_path/'notes.png').write_text('no picture')
    button = find(page, 'label[title^="a PNG of class ids"] input')[0]
    button.send_keys(str(tmp_path/'notes.png'))
    said = wait(lambda: read(page, '.msca-error'))
    assert said == ['notes.png: not an image in a format that can be read']
    button.send_keys(str(tmp_path/'meadow.png'))
    shows(page, 1, studio.mix(ids, dict(day=1)))
    assert not find(page, '.msca-error')


def pointed_at(page):
    "Row and column that the explorer speaks of."
    said = re.search(r'row (\d+), column (\d+)', read(page, '.msca-caption')[1])
    return said and (int(said[1]), int(said[2]))


@needs_browser
def test_pointing_shows_where_the_style_comes_from(page, studio):
    from selenium.webdriver.common.action_chains import ActionChains
    open_tab(page, 'Explore')
    told, seen = studio.explain(studio.layouts['coast'], 'day'), []
    target = find(page, '.msca-point img')[0]
    for x, y in ((.3, .2), (.3, .9), (.3, .2)):
        offset = round((x-.5)*target.size['width']), round((y-.5)*target.size['height'])
        ActionChains(page, duration=20).move_to_element_with_offset(target, *offset).perform()
        wait(lambda: (p := pointed_at(page)) and max(abs(p[0]-y*128), abs(p[1]-x*128)) <= 2)
        time.sleep(.5)  # the pointer passes other pixels on its way
        row, col = pointed_at(page)
        shows(page, 2, told.source_picture(row, col, 2))
        seen.append(shown(page, 2))
    assert np.abs(seen[0]-seen[1]).max() > 50 and np.abs(seen[0]-seen[2]).max() <= 2
    find(page, '.msca-gallery button[title="scale 4"]')[0].click()
    shows(page, 2, told.source_picture(row, col, 4))
    find(page, '.msca-gallery button[title="slot 3"]')[0].click()
    shows_another(page, 2, np.asarray(told.source_picture(row, col, 4), dtype=int))


@needs_browser
def test_the_page_fits_a_phone(page):
    page.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=390, height=844, deviceScaleFactor=2, mobile=True))
    try:
        for name in ('Mix', 'Paint', 'Explore'):
            open_tab(page, name)
            assert page.execute_script('return document.documentElement.scrollWidth') <= 390
    finally: page.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


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


def test_ctrl_c_ends_it_with_all_that_it_started(server):
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
