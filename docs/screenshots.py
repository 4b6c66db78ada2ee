"""Take the pictures of `msca app` and of the web page for README.md, the notebooks and the site: `python docs/screenshots.py`.

Writes nbs/images/app-*.jpg and web-page.jpg; needs Chromium with chromedriver, and selenium and Voilà (`.[dev]`).
"""
import contextlib
import functools
import http.server
import io
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

OUT = Path(__file__).parents[1]/'nbs'/'images'
BOXES = 'sky=0,0,1,.45', 'mountain=.05,.2,.6,.6', 'water=0,.62,1,1', 'tree=.66,.15,.95,.75'
LEARNED = 'countryside', 'dandelions'  # layout and photo
BOTTOM = 'return Math.max(...[...document.querySelectorAll(".jp-OutputArea *")].filter(e => e.offsetParent).map(e => e.getBoundingClientRect().bottom))'


def find(page, css): return page.find_elements('css selector', css)
def press(page, css, text): next(b for b in find(page, css) if b.text == text).click()


def shoot(page, name):
    "The page as it is, without the empty part below, 960 pixels wide."
    time.sleep(4)  # pictures follow a moment later
    picture = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert('RGB')
    picture = picture.crop((0, 0, picture.width, min(picture.height, round(page.execute_script(BOTTOM))+12)))
    picture.resize((960, round(960*picture.height/picture.width)), Image.Resampling.LANCZOS).save(OUT/f'app-{name}.jpg', quality=82)


def chromium(profile, height=1400):
    "A browser."
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), '')
    for a in ('headless', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', f'window-size=1280,{height}', f'user-data-dir={profile}'): options.add_argument(f'--{a}')
    return webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))


def web_page():
    "The page of `msca export --format web`, its upper part."
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([sys.executable, '-m', 'msca', 'export', '--format', 'web', '--out', f'{d}/page'], check=True, stdout=subprocess.DEVNULL)
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=f'{d}/page'))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = chromium(f'{d}/profile')
        try:
            page.get(f'http://127.0.0.1:{server.server_address[1]}/')
            state = lambda: page.execute_script('const d = document.documentElement.dataset; return d.ready && d.shown === d.asked')
            WebDriverWait(page, 200).until(lambda p: state())
            find(page, '#photos .card[title=mountains]')[0].click()
            WebDriverWait(page, 200).until(lambda p: state())
            bottom = page.execute_script('document.getElementById("status").textContent = ""; return document.querySelector("#photos").getBoundingClientRect().bottom')
            picture = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert('RGB')
            picture = picture.crop((0, 0, picture.width, round(bottom)+14))
            picture.resize((960, round(960*picture.height/picture.width)), Image.Resampling.LANCZOS).save(OUT/'web-page.jpg', quality=82)
        finally:
            page.quit()
            server.shutdown()


@contextlib.contextmanager
def app(*options):
    "A browser at the page of `msca app` with its first pictures."
    server = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser', *options], text=True, stdout=subprocess.PIPE)
    page = None
    with tempfile.TemporaryDirectory() as profile:
        try:
            page = chromium(profile)
            page.get(server.stdout.readline().split()[0])
            WebDriverWait(page, 90).until(lambda p: len([x for x in find(p, '.msca-picture') if x.get_attribute('src')]) >= 3)
            yield page
        finally:
            if page: page.quit()
            server.terminate()


def choose(page, row, option):
    "Pick in the list beside a name."
    rows = find(page, '.widget-hbox')
    lists = next(r.find_elements('css selector', 'select') for r in rows if r.is_displayed() and r.text.startswith(row))
    Select(lists[0]).select_by_visible_text(option)


def main():
    web_page()
    with app() as page:
        for name in ('Mix', 'Paint', 'Explore'):
            press(page, '.lm-TabBar-tab', name)
            if name == 'Mix': find(page, '.msca-gallery button[title=countryside]')[0].click()
            if name == 'Explore':
                target = find(page, '.msca-point img')[0]
                ActionChains(page).move_to_element_with_offset(target, 0, round(-.3*target.size['height'])).perform()
            shoot(page, name.lower())
        press(page, '.lm-TabBar-tab', 'Boxes')
        typed = next(e for e in find(page, 'input[type=text]') if e.is_displayed() and e.get_attribute('placeholder'))
        for n, box in enumerate(BOXES, 1):
            typed.send_keys(box, Keys.ENTER)
            WebDriverWait(page, 120).until(lambda p: len(find(p, '.msca-frame-box')) == n)
        shoot(page, 'boxes')
        press(page, '.lm-TabBar-tab', 'Learn')
        WebDriverWait(page, 60).until(lambda p: [b for b in find(p, 'button') if b.text == 'Learn this photo'])
        for name in LEARNED: next(b for b in find(page, f'.msca-gallery button[title={name}]') if b.is_displayed()).click()
        press(page, 'button', 'Learn this photo')
        WebDriverWait(page, 600).until(lambda p: [b for b in find(p, '.msca-progress') if b.text == 'learned'])
        shoot(page, 'learn')
    with app('--model', 'groupdnet-128') as page:
        press(page, '.lm-TabBar-tab', 'Classes')
        time.sleep(5)
        for row, photo in (('sky', 'sunset'), ('mountain', 'autumn'), ('grass', 'autumn'), ('tree', 'autumn')): choose(page, row, photo)
        shoot(page, 'classes')


if __name__ == '__main__': main()
