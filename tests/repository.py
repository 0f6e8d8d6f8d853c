"""Where the repository is, and what build servers set."""

from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
# The policy for undecided gates depends on them.
CI_VARIABLES = ("CI", "BUILD_NUMBER", "JENKINS_URL", "TF_BUILD", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID")
