"""Take the pictures of `msca app` for README.md: `python docs/screenshots.py` (needs Chromium with chromedriver). Writes nbs/images/app-*.jpg."""
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

OUT = Path(__file__).parents[1]/'nbs'/'images'
BOTTOM = 'return Math.max(...[...document.querySelectorAll(".jp-OutputArea *")].filter(e => e.offsetParent).map(e => e.getBoundingClientRect().bottom))'


def find(page, css): return page.find_elements('css selector', css)
def press(page, css, text): next(b for b in find(page, css) if b.text == text).click()


def shoot(page, name):
    "The page as it is, without the empty part below, 960 pixels wide."
    time.sleep(4)  # pictures follow a moment later
    picture = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert('RGB')
    picture = picture.crop((0, 0, picture.width, min(picture.height, round(page.execute_script(BOTTOM))+12)))
    picture.resize((960, round(960*picture.height/picture.width)), Image.Resampling.LANCZOS).save(OUT/f'app-{name}.jpg', quality=82)


def main():
    server = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser'], text=True, stdout=subprocess.PIPE)
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))))
    with tempfile.TemporaryDirectory() as profile:
        for a in ('headless', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'window-size=1280,1400', f'user-data-dir={profile}'): options.add_argument(f'--{a}')
        page = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
        try:
            page.get(server.stdout.readline().split()[0])
            while len([p for p in find(page, '.msca-picture') if p.get_attribute('src')]) < 3: time.sleep(.5)
            for name in ('Mix', 'Paint', 'Explore'):
                press(page, '.lm-TabBar-tab', name)
                if name == 'Mix': find(page, '.msca-gallery button[title=countryside]')[0].click()
                if name == 'Explore':
                    target = find(page, '.msca-point img')[0]
                    ActionChains(page).move_to_element_with_offset(target, 0, round(.25*target.size['height'])).perform()
                shoot(page, name.lower())
        finally:
            page.quit()
            server.terminate()


if __name__ == '__main__': main()
