"""How fast the page of `msca export --format web` is, and how much it loads: `python benchmarks/web.py --out results/web.json`.

Headless Chromium, every host but this one blocked. Each load has a browser profile of its own, so nothing is cached. A stroke is timed inside the page,
from the end of the pointer's way to the moment at which its whole picture is on the canvas. Of several rounds, which take turns, the least and the median
are kept: other work on the machine only ever adds. Beside the seconds stand processor seconds, the work that Chromium's processes did in that time: on a
quiet machine nothing on one thread takes longer than these.
"""
import argparse
import base64
import functools
import http.server
import io
import json
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import numpy as np
import psutil

from msca import Synthesizer
from msca.base.labels import SCENE_LABELS, UNLABELLED
from msca.commands.cli import main as msca
from msca.data.photographs import example_photo

ISOLATED = ('Cross-Origin-Opener-Policy', 'same-origin'), ('Cross-Origin-Embedder-Policy', 'require-corp')
STROKE = '''
const done = arguments[arguments.length-1], canvas = document.querySelector('.msca-sheet canvas'), r = canvas.getBoundingClientRect(), d = document.documentElement.dataset
const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {bubbles: true, pointerId: 1, clientX: r.left+x*r.width, clientY: r.top+y*r.height, isPrimary: true}))
const before = +d.shown
send('pointerdown', .3, .3); send('pointermove', .4, .35); send('pointermove', .5, .3); send('pointerup', .5, .3)
const began = performance.now()
const look = () => +d.shown > before && d.shown === d.asked ? done((performance.now()-began)/1000) : setTimeout(look, 2)
look()
'''


class Host(http.server.SimpleHTTPRequestHandler):
    "Sends files, and counts."
    headers_too, sent = (), [0]

    def log_message(self, *args): pass

    def end_headers(self):
        for header in self.headers_too: self.send_header(*header)
        super().end_headers()

    def copyfile(self, source, out):
        content = source.read()
        self.sent[0] += len(content)
        out.write(content)


def serve(folder, headers):
    "A host of files on this computer: (server, address, a list with the number of bytes that it has sent)."
    sent = [0]
    handler = type('Here', (Host,), dict(headers_too=headers, sent=sent))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f'http://127.0.0.1:{server.server_address[1]}/', sent


def browser(profile):
    "Headless Chromium that can resolve no host but this one."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), '')
    for a in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'no-first-run', 'disable-background-networking', 'disable-component-update', 'disable-sync',
              'window-size=1280,1000', 'host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', f'user-data-dir={profile}'): options.add_argument(f'--{a}')
    driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    driver.set_script_timeout(300)
    return driver


def wait(driver, code, seconds=300):
    "Until an expression is true in the page; its value."
    end = time.monotonic()+seconds
    while not (got := driver.execute_script(f'return {code}')):
        if time.monotonic() > end: raise SystemExit(f'{code}: waited in vain; {driver.get_log("browser")[-3:]}')
        time.sleep(.01)
    return got


def work(driver):
    "Processor seconds of the browser so far."
    browser = psutil.Process(driver.service.process.pid).children(recursive=True)
    return sum(sum(p.cpu_times()[:2]) for p in browser if p.is_running())


def timed(driver, code, *args):
    "(seconds that the page says, processor seconds) of an asynchronous script."
    before = work(driver)
    seconds = driver.execute_async_script(code, *args)
    return seconds, work(driver)-before


def pixels(driver, css):
    "What a canvas shows, H×W×3."
    w, h, data = driver.execute_script('''const c = document.querySelector(arguments[0]), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data
        let s = ''; for (let i = 0; i < d.length; i += 8190) s += String.fromCharCode(...d.subarray(i, i+8190)); return [c.width, c.height, btoa(s)]''', css)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(h, w, 4)[..., :3].astype(int)


def drawn(driver):
    "The label map on the drawing."
    known = {tuple(c): i for i, c in enumerate(SCENE_LABELS.palette)} | {(0, 0, 0): UNLABELLED}
    shown = pixels(driver, '.msca-sheet canvas')
    return np.array([known[tuple(c)] for c in shown.reshape(-1, 3).tolist()], np.uint8).reshape(shown.shape[:2])


def round_of(folder, headers, strokes, s):
    "One visit: seconds to the first picture, of strokes at two sizes, of a photo; bytes; the largest difference from Python's pictures."
    server, address, sent = serve(folder, headers)
    out, far = dict(load=os.getloadavg()[0]), []
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            for size in (256, 128):
                before = work(driver)
                driver.get(f'{address}?size={size}')
                ready = wait(driver, 'document.documentElement.dataset.ready')
                threads = driver.execute_script('return document.documentElement.dataset.threads')
                if size == 256: out.update(first_picture=(int(ready)/1000, work(driver)-before), threads=int(threads), first_bytes=sent[0])
                far.append(abs(pixels(driver, '#picture')-np.asarray(s(drawn(driver), example_photo('temple'), size=0))).max())
                out[f'stroke_{size}'] = tuple(map(min, zip(*(timed(driver, STROKE) for _ in range(strokes)))))
                far.append(abs(pixels(driver, '#picture')-np.asarray(s(drawn(driver), example_photo('temple'), size=0))).max())
            before, content = sent[0], io.BytesIO()
            example_photo('mountains').resize((640, 480)).save(content, 'PNG')
            for name in ('photo_cold', 'photo_warm'):  # the first photo loads parser and encoder as well
                out[name] = timed(driver, '''const done = arguments[2], data = new DataTransfer(), bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0))
                    data.items.add(new File([bytes], arguments[1])); const d = document.documentElement.dataset, before = +d.shown, began = performance.now()
                    document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}))
                    const look = () => +d.shown > before && d.shown === d.asked ? done((performance.now()-began)/1000) : setTimeout(look, 2); look()''',
                    base64.b64encode(content.getvalue()).decode(), f'{name}.png')
            out['photo_bytes'] = sent[0]-before
            far.append(abs(pixels(driver, '#picture')-np.asarray(s(drawn(driver), example_photo('mountains').resize((640, 480)), size=0))).max())
        finally:
            driver.quit()
            server.shutdown()
    return out | dict(levels_from_python=int(max(far)))


def summary(rounds):
    "The least and the median of all rounds, and the least work."
    times = ('first_picture', 'stroke_256', 'stroke_128', 'photo_cold', 'photo_warm')
    told = lambda n: dict(least=round(min(r[n][0] for r in rounds), 3), median=round(statistics.median(r[n][0] for r in rounds), 3),
                          processor=round(min(r[n][1] for r in rounds), 3))
    return dict(threads=rounds[0]['threads'], **{n: told(n) for n in times}, load_average=[round(r['load'], 1) for r in rounds])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', default='results/web.json')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--strokes', type=int, default=8, help='at each size, of which the quickest counts in a round')
    p.add_argument('--page', help='a folder that was exported before')
    args = p.parse_args()
    s = Synthesizer.load(device='cpu', quiet=True, precision='float32')
    with tempfile.TemporaryDirectory() as d:
        folder = Path(args.page or d)/('' if args.page else 'page')
        if not args.page and msca(['export', '--format', 'web', '--out', str(folder)]): raise SystemExit(1)
        about = json.loads((folder/'manifest.json').read_text(encoding='utf-8'))
        rounds = {'one thread': [], 'threads': []}
        for k in range(args.rounds):
            for name, headers in (('one thread', ()), ('threads', ISOLATED)):
                rounds[name].append(round_of(folder, headers, args.strokes, s))
                print(k, name, rounds[name][-1], flush=True)
        version = Path('/proc/cpuinfo').read_text().split('model name')[1].split('\n')[0].strip('\t :') if Path('/proc/cpuinfo').exists() else platform.processor()
        any_of = rounds['one thread'][0]
        out = dict(made_by=dict(command='python benchmarks/web.py --out results/web.json', seed=0, data='layouts and photographs of the package', date=str(date.today()),
                                hardware=f'{os.cpu_count()} shared processors ({version})', runtime=f"onnxruntime-web {about['runtime']}", model=s.name,
                                browser=chromium_version(), rounds=args.rounds, other_work='the machine is shared: load averages are given, least and median'),
                   goals=dict(first_picture=3, stroke_256=dict(one_thread=.8, threads=.5), stroke_128=dict(one_thread=.4, threads=.25), bytes=14e6, levels_from_python=2),
                   seconds={name: summary(r) for name, r in rounds.items()},
                   bytes=dict(until_first_picture=any_of['first_bytes'], with_a_photo=any_of['first_bytes']+any_of['photo_bytes'],
                              files={name: entry['bytes'] for name, entry in about['files'].items()}),
                   levels_from_python=max(r['levels_from_python'] for rs in rounds.values() for r in rs))
    Path(args.out).write_text(json.dumps(out, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')
    print(json.dumps(out['seconds'], indent=1))


def chromium_version():
    "For the record."
    with tempfile.TemporaryDirectory() as d:
        driver = browser(d)
        try: return f"Chromium {driver.capabilities['browserVersion']}, headless"
        finally: driver.quit()


if __name__ == '__main__': main()
