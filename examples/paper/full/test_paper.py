"""The tests of the study beside this directory, with the settings of this one."""

from study import *  # noqa: F403
