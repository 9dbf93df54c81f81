"""Profiles: the one dial. quick, full and paper hold the same keys with other values."""

import yaml

from trpts.lab.errors import TrptsError

NAMES = ("quick", "full", "paper")


def load_profile(project, name):
    """Read profiles/<name>.yaml: {"profile", "requires": [...], "chapters": {chapter: {parameter: value}}}."""
    if name not in NAMES:
        raise TrptsError(f"profile {name!r} does not exist: expected one of {', '.join(NAMES)}")
    path = project.root / "profiles" / f"{name}.yaml"
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TrptsError(f"{path}: not a readable profile: {error}") from error
    if not isinstance(profile, dict) or set(profile) != {"profile", "requires", "chapters"}:
        raise TrptsError(f"{path}: expected the keys profile, requires and chapters")
    if profile["profile"] != name:
        raise TrptsError(f"{path}: says profile: {profile['profile']!r}, expected {name!r}")
    tables = isinstance(profile["chapters"], dict) and all(isinstance(c, dict) for c in profile["chapters"].values())
    if not tables or not isinstance(profile["requires"], list):
        raise TrptsError(f"{path}: expected chapters to be tables of parameters and requires to be a list")
    return profile


def missing_files(project, profile):
    """One sentence for each file that the profile requires and that is not there: what it is and where it goes."""
    return [
        f"missing: {need['what']}; get {need['source']} and put it at {need['path']}"
        for need in profile["requires"]
        if not (project.root / need["path"]).is_file()
    ]
