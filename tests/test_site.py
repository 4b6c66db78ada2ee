"The documentation site: it builds without a warning, every picture has words, and no page loads anything from elsewhere."
import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip('sphinx', reason="needs the packages of the site: make docs")


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    for name in ('docs', 'nbs', 'msca', 'results'):
        shutil.copytree(ROOT/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '*.safetensors'))
    r = subprocess.run([sys.executable, 'docs/site.py'], cwd=folder, capture_output=True, text=True, timeout=900)
    assert r.returncode == 0, r.stderr[-2000:]
    return folder/'_site'/'html'


@pytest.mark.slow
def test_site_builds_and_is_whole(site):
    pages = {p.relative_to(site).as_posix(): p.read_text(encoding='utf-8') for p in site.rglob('*.html')}
    for notebook in (ROOT/'nbs').glob('[0-9]*.ipynb'): assert f'notebooks/{notebook.stem}.html' in pages
    for name, text in pages.items():
        pictures = re.findall(r'<img [^>]*>', text)
        assert not [i for i in pictures if not re.search(r'alt="[^"]{8,}"', i)], f'{name}: a picture without words'
        sources = [p.split('?')[0] for p in re.findall(r'<img [^>]*src="([^":]+)"', text)]
        assert all((site/name).parent.joinpath(p).is_file() for p in sources), f'{name}: a picture that is not there'
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"|<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]+)"', text)
        assert not loaded, f'{name} loads {loaded}'
        for target in re.findall(r'<(?:a|img|script|link)\b[^>]*? (?:href|src)="([^"#?]+)', text):  # Sphinx does not look into HTML, nor at pages that it does not make
            if not re.match(r'[a-z]+:', target): assert ((site/name).parent/unquote(target)).exists(), f'{name}: {target}'
    from msca.commands.cli import build_parser
    commands = re.sub(r'<[^>]+>', '', pages['reference/commands.html'])
    for path, parser in parsers(build_parser()):
        assert path in commands
        for option in parser._option_string_actions: assert option in commands or option in ('-h', '--help', '--version'), f'{path} {option}'


def parsers(parser, path='msca'):
    "Every command's parser with the words that call it."
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, p in action.choices.items():
                yield f'{path} {name}', p
                yield from parsers(p, f'{path} {name}')


@pytest.mark.slow
def test_equations_are_drawn_where_nothing_can_be_reached(site, tmp_path):
    "In a browser that resolves no name: every equation is a picture, without an error; nothing is broken or wider than a phone."
    webdriver = pytest.importorskip('selenium.webdriver')
    chromium = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not (chromium and shutil.which('chromedriver')): pytest.skip('no Chromium with chromedriver; `make browser` installs them where it can')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for a in ('headless', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'host-resolver-rules=MAP * ~NOTFOUND', f'user-data-dir={tmp_path}'): options.add_argument(f'--{a}')
    from selenium.webdriver.chrome.service import Service
    driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    try:
        least = {'index': 0, 'ideas/method': 12, 'notebooks/210_model.attention': 40, 'reference/commands': 0, 'results/table1-siftflow': 0, 'gallery': 0}
        for page, equations in least.items():
            for width in (390, 768, 1280):
                driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 700))
                driver.get((site/f'{page}.html').as_uri())
                seen = driver.execute_async_script("""const done = arguments[0], all = s => [...document.querySelectorAll(s)]
                    Promise.resolve(window.MathJax && MathJax.startup.promise).then(() => done({
                    drawn: all('mjx-container svg').length, wrong: all('mjx-merror, [data-mjx-error]').length,
                    raw: all('.math').filter(e => !e.querySelector('mjx-container')).length, broken: all('img').filter(i => i.complete && !i.naturalWidth).map(i => i.src),
                    wide: document.documentElement.scrollWidth-document.documentElement.clientWidth}))""")
                assert seen['drawn'] >= equations and (seen['wrong'], seen['raw'], seen['broken']) == (0, 0, []) and seen['wide'] <= 0, (page, width, seen)
    finally: driver.quit()


@pytest.mark.slow
def test_gallery_is_what_its_commands_make(tmp_path):
    here = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, ROOT/'docs'/'gallery.py', '--check'], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-1000:]
