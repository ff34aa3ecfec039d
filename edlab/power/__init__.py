"""The source of a run's power metrics: a source that is read while a phase runs, a specification, or none.

Only a source yields `power_w`. An estimate has its own names and the boundary `estimated`.
"""

from edlab.agent.sensors.base import BOUNDARIES
from edlab.power.align import PATTERN, Alignment, align
from edlab.power.base import Series, Source
from edlab.power.board import BoardSensor, Target
from edlab.power.choose import Choice, choose, measures
from edlab.power.clock import ClockOffset, ClockRelation, compare_clocks
from edlab.power.estimate import Estimate
from edlab.power.meter import METERS, HostMeter, check_options, open_meter
from edlab.power.trial import MeterTrial, try_out

__all__ = [
    "BOUNDARIES",
    "METERS",
    "PATTERN",
    "Alignment",
    "BoardSensor",
    "Choice",
    "ClockOffset",
    "ClockRelation",
    "Estimate",
    "HostMeter",
    "MeterTrial",
    "Series",
    "Source",
    "Target",
    "align",
    "check_options",
    "choose",
    "compare_clocks",
    "measures",
    "open_meter",
    "try_out",
]
