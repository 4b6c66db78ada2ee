"Recipes, plans and run folders of earlier versions still open; the options of `msca train` are the fields of the recipe."
import argparse
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from msca.base.labels import InputError
from msca.commands.training import _train_options, recall_options, run_options, saved_options, training_recipe
from msca.learning.recipe import MAY_CHANGE, RECIPES, LossWeights, Phase, TrainingConfig, phases

ROOT = Path(__file__).parents[1]
OPTIONS = {  # options.json of version 0.1, before the options were made from the recipe
    'data': [], 'format': None, 'only': None, 'procedural': 20, 'labels': None, 'config': 'compact', 'variant': 'msca', 'noise': 1,
    'padding': None, 'upsampling': None, 'parser_epochs': 1, 'seed': 5, 'init': None, 'parser_weights': None, 'vgg_weights': 'imagenet',
    'loss_weights': [['l1', 8.0], ['texture', 1.0]], 'size': 32, 'epochs': [1, 1], 'pretrain_epochs': 1, 'warmup_epochs': 1,
    'batch_size': 4, 'lr': None, 'pretrain_lr': None, 'discriminator_lr': None, 'betas': None, 'eps': None, 'generator_every': 2,
    'stages': None, 'pair_discriminator': None, 'discriminator_width': None, 'ema_decay': None, 'perceptual': None,
    'perceptual_weights': None, 'precision': None, 'micro_batches': None, 'channels_last': None, 'compile': None, 'fused': None,
    'loss_limit': None, 'sample_every': 10, 'checkpoint_every': 3, 'keep_states': None}
SETTINGS = {  # the recipe in the state of that run
    'size': 32, 'pretrain_epochs': 1, 'warmup_epochs': 1, 'epochs': [1, 1], 'stages': [1, 2], 'batch_size': 4, 'lr': 0.0002,
    'pretrain_lr': 0.001, 'betas': [0.9, 0.999], 'eps': 1e-08, 'generator_every': 2,
    'losses': {'adversarial': 1.0, 'feature_matching': 5.0, 'perceptual': 2.0, 'l1': 8.0, 'self_reconstruction': 1.0, 'texture': 1.0,
               'color': 0.0},
    'perceptual': 'none', 'discriminator_width': 32, 'discriminator_lr': 0.0002, 'pair_discriminator': True, 'ema_decay': 0.999,
    'precision': 'float32', 'micro_batches': 1, 'channels_last': False, 'compile': False, 'fused': False, 'seed': 5}


def test_older_run_is_recalled(tmp_path):
    "Options of an older run, and fewer of them, give the recipe that its state was made with; saved anew they are the same."
    for left_out in ((), ('keep_states', 'upsampling', 'fused')):
        (tmp_path/'options.json').write_text(json.dumps({k: v for k, v in OPTIONS.items() if k not in left_out}))
        args = _train_options(['--out', str(tmp_path), '--resume', '--keep-states', '3'])
        recall_options(args)
        recipe = training_recipe(args)
        assert (args.noise, args.procedural, args.parser_epochs, args.vgg_weights, recipe.keep_states) == (1, 20, 1, 'imagenet', 3)
        shapes = {k: v for k, v in json.loads(json.dumps(recipe.to_dict())).items() if k not in MAY_CHANGE}
        assert {k: shapes[k] for k in SETTINGS if k != 'losses'} == {k: v for k, v in SETTINGS.items() if k != 'losses'}
        assert {k: shapes['losses'][k] for k in SETTINGS['losses']} == SETTINGS['losses'] and shapes['losses']['pixel'] == 0
        later = {k: shapes[k] for k in shapes.keys()-SETTINGS.keys()}  # they change nothing
        assert later == dict(half_crops=False, lr_decay=0., lr_end=.05, discriminator_betas=None, discriminator_eps=None, discriminator='pair',
                             backbone='efficientnet-lite0', adversarial_ramp=0)
        anew = json.loads(json.dumps(run_options(args).to_dict()))
        assert {k: v for k, v in anew.items() if k in OPTIONS or v is not None} == OPTIONS | dict(keep_states=3)  # not the later ones


WRONG = (dict(epochs='1,1'), dict(epochs=[1]), dict(size=True), dict(loss_weights=[['l1', 'much']]), dict(data='photos'), dict(seed=-1),
         dict(speed=1))


@pytest.mark.parametrize('change', WRONG, ids=lambda c: next(iter(c)))
def test_damaged_options(tmp_path, change):
    "A wrong type in options.json: one line with the file's name and the option's."
    (tmp_path/'options.json').write_text(json.dumps(OPTIONS | change))
    with pytest.raises(InputError, match=r'options\.json: damaged') as e: saved_options(tmp_path)
    assert next(iter(change)) in str(e.value) and '\n' not in str(e.value)


def test_recipes_of_results_and_shipped_models_open():
    "Every recipe that is committed; procedural-128 was trained before `precision` took the place of `bf16`."
    models = [json.loads(p.read_text()) for p in (ROOT/'msca'/'pretrained_models').glob('scenes-*/config.json')]
    recipes = [m['training'] for m in models if 'training' in m]  # scenes-256 was trained by a script of its own
    recipes += [json.loads(p.read_text())['plan']['recipe'] for p in (ROOT/'results').glob('*/table1.json')]
    assert len(recipes) >= 4
    for r in recipes:
        again = json.loads(json.dumps(TrainingConfig.from_dict(r).to_dict()))
        assert {k: again[k] for k in r if k != 'losses'} == {k: v for k, v in r.items() if k != 'losses'}


def test_plans_of_results_open():
    from msca.evidence.plan import Plan
    plans = [json.loads(p.read_text())['plan'] for p in (ROOT/'results').glob('*/table1.json')]
    assert len(plans) >= 2
    for p in plans:
        plan = Plan.from_dict(p)
        assert plan.to_dict() | dict(models=p['models'], seeds=p['seeds']) == p
        for wrong in (dict(photos='many'), dict(seeds=[0, .5]), dict(models=3), dict(updates=0), dict(speed=1)):
            with pytest.raises(ValueError, match=next(iter(wrong))): Plan.from_dict(p | wrong)


def test_options_are_the_recipe():
    "Given nothing, every named recipe comes out as it is; given everything, every field is set."
    for name in RECIPES: assert training_recipe(_train_options(['--out', 'run', '--config', name])) == getattr(TrainingConfig, name)()
    changed = dict(size=64, epochs=(3, 4), pretrain_epochs=5, warmup_epochs=6, batch_size=12, lr=.5, pretrain_lr=.25, discriminator_lr=.125,
                   betas=(0., .5), eps=.5, generator_every=7, stages=(3, 1), pair_discriminator=False, discriminator_width=9, ema_decay=.5,
                   perceptual='vgg19', perceptual_weights='vgg.npz', precision='bfloat16', micro_batches=2, channels_last=True,
                   compile=True, fused=True, loss_limit=8., sample_every=3, checkpoint_every=4, keep_states=5, half_crops=True, lr_decay=.5, lr_end=.25, discriminator_eps=.125,
                   discriminator_betas=(.25, .5), discriminator='semantic', backbone='vgg16', backbone_weights='vgg16.pth', adversarial_ramp=7)
    argv = ['--out', 'run', '--seed', '9', '--loss-weights', 'l1=3', 'color=2.5']
    for k, v in changed.items():
        option = k.replace('_', '-')
        text = ','.join(map(str, v)) if isinstance(v, tuple) else str(v)
        argv += [f'--{option}' if v else f'--no-{option}'] if isinstance(v, bool) else [f'--{option}', text]
    args = _train_options(argv)
    weights = LossWeights(**TrainingConfig().losses.to_dict() | dict(l1=3., color=2.5))
    wanted = TrainingConfig(**changed, seed=9, losses=weights)
    assert training_recipe(args) == wanted
    assert all(getattr(wanted, f.name) != getattr(TrainingConfig(), f.name) for f in fields(TrainingConfig))


@pytest.mark.parametrize('text', ['l1', 'l1=', 'l1=-1', 'l1=nan', 'weight=3'])
def test_wrong_loss_weights(text):
    from msca.commands.training import _loss_weight
    with pytest.raises(argparse.ArgumentTypeError): _loss_weight(text)


def test_batches_are_the_loaders():
    "The recipe's arithmetic agrees with what the loaders hand out."
    from msca.data.datasets import ProceduralScenes
    from msca.learning.samples import PhotoStore, stage_loaders
    for n, size in ((13, 4), (4, 8), (5, 2), (9, 6)):
        store = PhotoStore(ProceduralScenes(n, 64, seed=1), 32)
        for stage in (1, 2, 3):
            loader = stage_loaders(store, store, 17, stage, size).train
            assert Phase('x', stage, 3, True).batches(n, size) == 3*len(loader), (n, size, stage)
    assert [p.name for p in phases(TrainingConfig.paper())] == ['pretrain', 'stage1', 'stage2']


def test_recipe_needs_no_torch():
    code = "import sys, msca.learning.recipe, msca.commands.training; print({'torch', 'fastai', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == 'set()'
