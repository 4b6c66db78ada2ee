"Package build; every field comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

# `dev` has them all
extras = {name: cfg[f"{name}_requirements"].split() for name in ("app", "evidence", "distributed", "export", "scenes", "huggingface", "photos", "video", "annotations")}

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"], author=cfg["author"],
    project_urls={} if "OWNER" in cfg["git_url"] else {"Source": cfg["git_url"]},  # the address comes with the first publication
    license=cfg["license"], keywords=cfg["keywords"].split(),
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={**extras, "docs": cfg["docs_requirements"].split(), "dev": sum(extras.values(), cfg["dev_requirements"].split())},
    packages=find_packages(include=["msca", "msca.*"]),
    include_package_data=False,  # with it setuptools takes pretrained_models, which holds no module, for a forgotten package
    package_data={"msca": ["py.typed", "pretrained_models/*/*", "photos/*"], "msca.app": ["*.ipynb", "static/*"]},
    entry_points={"console_scripts": ["msca=msca.commands.cli:main"], "nbdev": ["msca=msca._modidx:d"]},
    classifiers=["Development Status :: 4 - Beta", "Intended Audience :: Science/Research", "Programming Language :: Python :: 3",
                 "Topic :: Scientific/Engineering :: Image Processing", "Topic :: Scientific/Engineering :: Artificial Intelligence"],
    zip_safe=False,
)
