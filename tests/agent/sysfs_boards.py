"""The power sensors of real boards, as small trees of sysfs and outputs of vendors' programs.

They are not recordings of these boards: names, files and units are facts of the public sources that each board names,
and the numbers are chosen to give the watts that were published there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Found = tuple[str, str, float]  # name, boundary, watts


@dataclass(frozen=True)
class Board:
    """`files` of sysfs; `counters` are those that count microjoules, with their watts."""

    device: str  # the shipped configuration that is for it
    chosen: str  # the sensor that is the source of its power
    sensors: list[Found]  # in the order in which they are found
    files: dict[str, object]
    counters: dict[str, float] = field(default_factory=dict)
    vcgencmd: str = ""  # what `vcgencmd pmic_read_adc` prints; empty: it is not installed

    def write(self, root: Path) -> None:
        """Make the tree."""
        for path, content in {**self.files, **dict.fromkeys(self.counters, 1_000_000)}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"{content}\n")

    def count(self, root: Path, seconds: int) -> None:
        """What the counters hold after this time."""
        for path, watts in self.counters.items():
            (root / path).write_text(f"{1_000_000 + round(watts * seconds * 1e6)}\n")


def under(folder: str, **files: Any) -> dict[str, object]:
    return {f"{folder}/{name}": content for name, content in files.items()}


def iio(place: str, *rails: tuple[str, int]) -> dict[str, object]:
    """JetPack 4's driver: the names and milliwatts of a chip's rails."""
    folder = f"bus/i2c/drivers/ina3221x/{place}"
    files = under(folder, name="ina3221x")
    for number, (label, milliwatts) in enumerate(rails):
        files |= {f"{folder}/rail_name_{number}": label, f"{folder}/in_power{number}_input": milliwatts}
        files |= {f"{folder}/in_voltage{number}_input": 5000, f"{folder}/in_current{number}_input": milliwatts // 5}
    return files


def ina3221(hwmon: int, *rails: tuple[str, int, int], shunt: int = 5000) -> dict[str, object]:
    """Linux's driver: the label, millivolts and milliamperes of a chip's rails, and its sums, which are not rails."""
    folder = f"class/hwmon/hwmon{hwmon}"
    files = under(folder, name="ina3221", in7_label="sum of shunt voltages", in7_input=1200, curr4_input=360)
    for number, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {f"{folder}/in{number}_label": label, f"{folder}/in{number}_enable": 1}
        files |= {f"{folder}/in{number}_input": millivolts, f"{folder}/curr{number}_input": milliamperes}
        files |= {f"{folder}/shunt{number}_resistor": shunt, f"{folder}/in{number + 3}_input": 400}
    return files


def rapl(zone: str, name: str) -> dict[str, object]:
    return under(f"class/powercap/{zone}", name=name, max_energy_range_uj=262_143_328_850)


# Rails and addresses: energymon, jetson/JetsonPowerRails.md, from NVIDIA's device trees of L4T 32.6.1. Paths:
# rbonghi/jetson_stats, issue 131. Watts: lines of tegrastats in DataDog/datadog-agent, jetson_test.go, nanoSample and
# tx2Sample; those of the TX2's carrier board are invented.
JETSON_NANO = Board(
    device="jetson_nano",
    chosen="ina3221 POM_5V_IN",
    sensors=[
        ("ina3221 POM_5V_IN", "module", 1.022),
        ("ina3221 POM_5V_GPU", "rail", 0.0),
        ("ina3221 POM_5V_CPU", "rail", 0.204),
    ],
    files=iio("6-0040/iio:device0", ("POM_5V_IN", 1022), ("POM_5V_GPU", 0), ("POM_5V_CPU", 204)),
)
JETSON_TX2 = Board(
    device="jetson",
    chosen="ina3221 VDD_IN",
    sensors=[
        ("ina3221 VDD_IN", "module", 3.056),
        ("ina3221 VDD_SYS_GPU", "rail", 0.152),
        ("ina3221 VDD_SYS_SOC", "rail", 0.687),
        ("ina3221 VDD_4V0_WIFI", "rail", 0.0),
        ("ina3221 VDD_SYS_CPU", "rail", 0.152),
        ("ina3221 VDD_SYS_DDR", "rail", 0.883),
        ("ina3221 VDD_MUX", "rail", 5.7),
        ("ina3221 VDD_5V0_IO_SYS", "rail", 1.9),
        ("ina3221 VDD_3V3_SYS", "rail", 0.4),
    ],
    files={
        **iio("0-0040/iio:device0", ("VDD_SYS_GPU", 152), ("VDD_SYS_SOC", 687), ("VDD_4V0_WIFI", 0)),
        **iio("0-0041/iio:device1", ("VDD_IN", 3056), ("VDD_SYS_CPU", 152), ("VDD_SYS_DDR", 883)),
        **iio("0-0042/iio:device2", ("VDD_MUX", 5700), ("VDD_5V0_IO_SYS", 1900), ("VDD_3V3_SYS", 400)),
    },
)

# The same sources; hwmon's names are those of JetPack 5 (rbonghi/jetson_stats, jtop/core/power.py).
JETSON_XAVIER_NX = Board(
    device="jetson",
    chosen="ina3221 VDD_IN",
    sensors=[
        ("ina3221 VDD_IN", "module", 4.067),
        ("ina3221 VDD_CPU_GPU_CV", "rail", 0.738),
        ("ina3221 VDD_SOC", "rail", 1.353),
    ],
    files=ina3221(3, ("VDD_IN", 4984, 816), ("VDD_CPU_GPU_CV", 4984, 148), ("VDD_SOC", 4976, 272)),
)
JETSON_AGX_XAVIER = Board(
    device="jetson_xavier",
    chosen="ina3221 sum of GPU, CPU, SOC, CV, VDDRQ, SYS5V",
    sensors=[
        ("ina3221 sum of GPU, CPU, SOC, CV, VDDRQ, SYS5V", "module", 3.346),
        ("ina3221 GPU", "rail", 0.0),
        ("ina3221 CPU", "rail", 0.311),
        ("ina3221 SOC", "rail", 0.932),
        ("ina3221 CV", "rail", 0.0),
        ("ina3221 VDDRQ", "rail", 0.621),
        ("ina3221 SYS5V", "rail", 1.482),
    ],
    files={
        **ina3221(3, ("GPU", 19416, 0), ("CPU", 19416, 16), ("SOC", 19416, 48)),
        **ina3221(4, ("CV", 19416, 0), ("VDDRQ", 19408, 32), ("SYS5V", 4976, 298)),
    },
)

# Labels and shunts: Linux, arch/arm64/boot/dts/nvidia/tegra234-p3767.dtsi. Watts: the same tests.
JETSON_ORIN_NANO = Board(
    device="jetson",
    chosen="ina3221 VDD_IN",
    sensors=[
        ("ina3221 VDD_IN", "module", 5.299),
        ("ina3221 VDD_CPU_GPU_CV", "rail", 0.773),
        ("ina3221 VDD_SOC", "rail", 1.424),
    ],
    files=ina3221(1, ("VDD_IN", 4952, 1070), ("VDD_CPU_GPU_CV", 4960, 156), ("VDD_SOC", 4944, 288)),
)

# Labels and shunts: tegra234-p3701.dtsi; "NC" is NVIDIA's own kernel (alumet-dev/alumet, issue 212). Watts: one line of
# tegrastats, 3150, 14312, 4968 and 1091 mW. The last is a part of the third: Jetson Linux Developer Guide 36.4.3.
_ORINS_SUM = "ina3221 sum of VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"
JETSON_AGX_ORIN = Board(
    device="jetson_orin",
    chosen=_ORINS_SUM,
    sensors=[
        (_ORINS_SUM, "module", 22.43),
        ("ina3221 VDD_GPU_SOC", "rail", 3.150),
        ("ina3221 VDD_CPU_CV", "rail", 14.312),
        ("ina3221 VIN_SYS_5V0", "rail", 4.968),
        ("ina3221 VDDQ_VDD2_1V8AO", "rail", 1.091),
    ],
    files={
        **ina3221(3, ("VDD_GPU_SOC", 19688, 160), ("VDD_CPU_CV", 19632, 729), ("VIN_SYS_5V0", 4968, 1000), shunt=2000),
        **ina3221(4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4960, 220), ("NC", 0, 0), shunt=2000),
    },
)

# rbonghi/jetson_stats, pull request 900: the INA238 reports microwatts and has no label; entries of USB-C ports are no
# rails. What it includes: NVIDIA developer forum 366461. Watts: NVIDIA/skills,
# jetson-diagnostic/references/tegrastats-fields.md, of R38.4.
JETSON_AGX_THOR = Board(
    device="jetson",
    chosen="hwmon:ina238 VIN",
    sensors=[
        ("ina3221 VDD_GPU", "rail", 1.962),
        ("ina3221 VDD_CPU_SOC_MSS", "rail", 5.887),
        ("ina3221 VIN_SYS_5V0", "rail", 5.635),
        ("hwmon:ina238 VIN", "board_dc", 19.78),
    ],
    files={
        "firmware/devicetree/base/compatible": "nvidia,tegra264\0",
        **ina3221(4, ("VDD_GPU", 19816, 99), ("VDD_CPU_SOC_MSS", 19824, 297), ("VIN_SYS_5V0", 5008, 1125)),
        **under("class/hwmon/hwmon5", name="ina238", in0_input=2, in1_input=19780, curr1_input=1000),
        **under("class/hwmon/hwmon5", power1_input=19_780_000, temp1_input=41_000),
        **under("class/hwmon/hwmon6", name="ucsi_source_psy_2_00081", in0_input=20_000, curr1_input=3000),
        **under("class/hwmon/hwmon7", name="ucsi_port", power1_input=60_000_000),  # a supply by its device
        "class/hwmon/hwmon7/device/type": "USB",
        **under("class/power_supply/ucsi-source-psy-2-00081", type="USB", online=1, voltage_now=20_000_000),
    },
)

# The format and the readings: github.com/jfikar/RPi5-power, README; there the same board took more at its input.
RASPBERRY_PI_5 = Board(
    device="raspberry_pi",
    chosen="pmic",
    sensors=[("pmic", "rail", 10.823)],
    files=under("class/hwmon/hwmon0", name="cpu_thermal", temp1_input=52_000)
    | under("class/hwmon/hwmon1", name="rpi_volt", in0_lcrit_alarm=0),
    vcgencmd="""\
 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
""",
)

# Zones: Linux, Documentation/power/powercap/powercap.rst. Battery: Documentation/ABI/testing/sysfs-class-power. The
# watts are invented.
LAPTOP = Board(
    device="cpu",
    chosen="rapl",
    sensors=[
        ("rapl", "package", 12.5),
        ("rapl core", "rail", 8.0),
        ("rapl psys", "board_dc", 21.0),
        ("battery", "board_dc", 23.1),
    ],
    files={
        **rapl("intel-rapl:0", "package-0"),
        **rapl("intel-rapl:0:0", "core"),
        **rapl("intel-rapl:0:1", "uncore"),
        **rapl("intel-rapl:1", "psys"),
        **under("class/power_supply/AC", type="Mains", online=0),
        **under("class/power_supply/BAT0", type="Battery", status="Discharging", power_now=23_100_000),
        **under("class/power_supply/hidpp_battery_0", type="Battery", scope="Device", status="Discharging"),
        **under("class/hwmon/hwmon1", name="BAT0", in0_input=12_000, curr1_input=1900, power1_input=23_100_000),
        "class/hwmon/hwmon1/device/type": "Battery",
    },
    counters={
        "class/powercap/intel-rapl:0/energy_uj": 12.5,
        "class/powercap/intel-rapl:0:0/energy_uj": 8.0,
        "class/powercap/intel-rapl:0:1/energy_uj": 1.0,
        "class/powercap/intel-rapl:1/energy_uj": 21.0,
    },
)

# Zones as above; Linux, Documentation/hwmon/acpi_power_meter.rst. The watts are invented.
SERVER = Board(
    device="cpu",
    chosen="rapl",
    sensors=[
        ("rapl", "package", 210.0),
        ("rapl dram", "rail", 26.0),
        ("hwmon:power_meter power1", "board_dc", 345.0),
    ],
    files={
        **rapl("intel-rapl:0", "package-0"),
        **rapl("intel-rapl:0:0", "dram"),
        **rapl("intel-rapl:1", "package-1"),
        **rapl("intel-rapl:1:0", "dram"),
        **under("class/hwmon/hwmon0", name="coretemp", temp1_input=55_000),
        **under("class/hwmon/hwmon1", name="power_meter", power1_average=345_000_000, power1_average_interval=1000),
    },
    counters={
        "class/powercap/intel-rapl:0/energy_uj": 120.0,
        "class/powercap/intel-rapl:0:0/energy_uj": 12.0,
        "class/powercap/intel-rapl:1/energy_uj": 90.0,
        "class/powercap/intel-rapl:1:0/energy_uj": 14.0,
    },
)

BOARDS = {
    "jetson nano": JETSON_NANO,
    "jetson tx2": JETSON_TX2,
    "jetson xavier nx": JETSON_XAVIER_NX,
    "jetson agx xavier": JETSON_AGX_XAVIER,
    "jetson orin nano": JETSON_ORIN_NANO,
    "jetson agx orin": JETSON_AGX_ORIN,
    "jetson agx thor": JETSON_AGX_THOR,
    "raspberry pi 5": RASPBERRY_PI_5,
    "laptop": LAPTOP,
    "server": SERVER,
}
