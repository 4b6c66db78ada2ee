"What tests of several variants share: a small model is trained and goes through the commands that every model knows."
from types import SimpleNamespace

from msca.commands.cli import main

SMALL = '--size 32 --batch-size 4 --parser-epochs 0 --warmup-epochs 1 --epochs 1,0 --discriminator-width 8 --device cpu'.split()


def use_commands(variant, folder, *options):
    "Train it and SPADE, paint, measure, compare, export; what the commands were given, as text."
    data, out = folder/'data', folder/'out'
    assert main(['scenes', '--n', '20', '--size', '64', '--out', str(data)]) == 0
    for name in (variant, 'spade'): assert main(['train', '--procedural', '16', '--variant', name, *SMALL, *options, '--out', str(folder/name)]) == 0
    layout, other = sorted((data/'labels').glob('*.png'))[:2]
    own, photo = (next((data/'images').glob(f'{x.stem}.*')) for x in (layout, other))
    model = str(folder/variant)
    pair = ['--layout', str(layout), '--exemplar', str(photo), '--exemplar-layout', str(other), '--model', model]
    assert main(['synth', *pair, '--out', str(out/'synth.png')]) == 0
    assert main(['eval', '--data', str(data), '--model', model, '--tasks', 'mirroring', '--out', str(out/'report.json')]) == 0
    assert main(['compare', '--data', str(data), '--models', model, str(folder/'spade'), '--tasks', 'mirroring', '--out', str(out/'compared')]) == 0
    assert main(['export', '--model', model, '--out', str(out/'exported')]) == 0
    return SimpleNamespace(model=model, data=str(data), out=out, layout=str(layout), other=str(other), own=str(own), photo=str(photo), pair=pair)


def check_refused(argv, says, capsys):
    "The command ends with 2 and says why in a line."
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert says in said and said.strip().count('\n') <= 1


def mix_of(given):
    "`msca mix`, which needs a code for every class."
    photo = ['--style', f'*={given.photo}', '--exemplar-layout', f'{given.photo}={given.other}']
    return ['mix', '--layout', given.layout, *photo, '--model', given.model, '--out', str(given.out/'m.png')]
