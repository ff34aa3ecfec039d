"""Where a run's power figures come from: a source that is read while a phase runs, a specification, or nowhere.

Only a source gives `power_w`. An estimate has names of its own and the boundary `estimated`.
"""

from edlab.power.base import Series, Source
from edlab.power.board import BoardSensor, Target
from edlab.power.choose import choose, sees
from edlab.power.clock import ClockOffset, compare_clocks
from edlab.power.estimate import Estimate
from edlab.power.meter import METERS, HostMeter

__all__ = [
    "METERS",
    "BoardSensor",
    "ClockOffset",
    "Estimate",
    "HostMeter",
    "Series",
    "Source",
    "Target",
    "choose",
    "compare_clocks",
    "sees",
]
