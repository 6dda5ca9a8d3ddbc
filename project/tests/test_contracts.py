from configparser import ConfigParser

from tests.processes import ROOT

STANDING_APART = {"tests", "docs"}


def test_every_package_of_the_house_is_under_the_import_contracts() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - STANDING_APART
    assert set(contracts["importlinter"]["root_packages"].split()) == packages
