"""Where the repository is, what build servers set, and examples in another place."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
# The policy for undecided gates depends on them.
CI_VARIABLES = ("CI", "BUILD_NUMBER", "JENKINS_URL", "TF_BUILD", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID")


def smaller_copy(example, where, project, changes):
    """A copy of an example without what it has stored, some texts of its project's settings replaced."""
    shutil.copytree(example, where, ignore=shutil.ignore_patterns(".fairtest", "__pycache__"))
    settings = where / project / "pyproject.toml"
    text = settings.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    settings.write_text(text)
    return where
