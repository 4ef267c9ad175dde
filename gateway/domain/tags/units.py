"""Units of run parameters: UCUM as plants write them, with the common codes of UN/CEFACT Recommendation 20.

UCUM (Unified Code for Units of Measure) is what messages carry; the code is what ERP systems and OPC UA's
EUInformation know it by (OPC 10000-8; the pairs of code and number are those of the OPC Foundation's UNECE table).
"""

import difflib
import re
from typing import Final

COMMON_CODES: Final = {
    # counts and shares
    "1": "C62", "{pcs}": "H87", "{piece}": "H87", "{each}": "EA", "%": "P1", "[ppm]": "59",
    # mass
    "mg": "MGM", "g": "GRM", "kg": "KGM", "t": "TNE", "[lb_av]": "LBR", "[oz_av]": "ONZ",
    # length, area, volume
    "um": "4H", "mm": "MMT", "cm": "CMT", "m": "MTR", "km": "KMT", "[in_i]": "INH", "[ft_i]": "FOT",
    "mm2": "MMK", "cm2": "CMK", "m2": "MTK",
    "mm3": "MMQ", "cm3": "CMQ", "m3": "MTQ", "mL": "MLT", "cL": "CLT", "L": "LTR", "hL": "HLT", "[gal_us]": "GLL",
    # time, frequency, speed
    "ms": "C26", "s": "SEC", "min": "MIN", "h": "HUR", "d": "DAY",
    "Hz": "HTZ", "kHz": "KHZ", "MHz": "MHZ", "/s": "C97", "/min": "C94", "/h": "H10",
    "{rev}/min": "RPM", "{rev}/s": "RPS",
    "mm/s": "C16", "m/s": "MTS", "m/min": "2X", "km/h": "KMH",
    # flow
    "L/s": "G51", "L/min": "L2", "L/h": "E32", "m3/s": "MQS", "m3/min": "G53", "m3/h": "MQH",
    "g/min": "F28", "kg/s": "KGS", "kg/min": "F31", "kg/h": "E93",
    # force, torque, pressure
    "N": "NEW", "kN": "B47", "N.m": "NU", "Pa": "PAL", "hPa": "A97", "kPa": "KPA", "MPa": "MPA", "mbar": "MBR",
    "bar": "BAR", "[psi]": "PS",
    # energy, electricity
    "J": "JOU", "kJ": "KJO", "MJ": "3B", "W": "WTT", "kW": "KWT", "MW": "MAW",
    "W.h": "WHR", "kW.h": "KWH", "MW.h": "MWH", "mV": "2Z", "V": "VLT", "kV": "KVT", "mA": "4K", "A": "AMP",
    "A.h": "AMH", "Ohm": "OHM", "V.A": "D46", "kV.A": "KVA",
    # temperature, angle, light, sound, chemistry, materials
    "Cel": "CEL", "K": "KEL", "[degF]": "FAH", "deg": "DD", "rad": "C81", "lx": "LUX", "dB": "2N", "[pH]": "Q30",
    "mol": "C34", "mg/L": "M1", "g/L": "GL", "g/cm3": "23", "kg/m3": "KMQ", "Pa.s": "C65", "mPa.s": "C24",
    "S/m": "D10", "S/cm": "H43", "uS/cm": "G42",
}  # fmt: skip
"""UCUM → common code. A small `l` for litre is taken as well, as UCUM has it."""

_MEANT: Final = {
    "°C": "Cel", "C": "Cel", "degC": "Cel", "celsius": "Cel", "°F": "[degF]", "F": "[degF]", "°": "deg",
    "rpm": "{rev}/min", "U/min": "{rev}/min", "1/min": "/min", "1/s": "/s", "1/h": "/h",
    "pcs": "{pcs}", "pieces": "{pcs}", "pc": "{pcs}", "each": "{each}", "percent": "%", "ppm": "[ppm]", "pH": "[pH]",
    "sec": "s", "minute": "min", "hr": "h", "hour": "h", "day": "d",
    "Nm": "N.m", "psi": "[psi]", "Pas": "Pa.s", "mPas": "mPa.s",
    "Wh": "W.h", "kWh": "kW.h", "MWh": "MW.h", "Ah": "A.h", "VA": "V.A", "kVA": "kV.A", "ohm": "Ohm", "Ω": "Ohm",
    "ltr": "L", "litre": "L", "µm": "um", "µS/cm": "uS/cm", "m²": "m2", "m³": "m3", "m³/h": "m3/h", "lux": "lx",
    "lb": "[lb_av]", "oz": "[oz_av]", "in": "[in_i]", "ft": "[ft_i]", "gal": "[gal_us]",
}  # fmt: skip
"""What people write, and UCUM's word for it."""

_ANNOTATION: Final = re.compile(r"\{[\x21-\x7a\x7c\x7e]*\}")
_SMALL_LITRE: Final = re.compile(r"(?<![A-Za-z])([mch]?)l(?![A-Za-z])")


def is_unit(unit: str) -> bool:
    """True for a unit of the table, with any annotation in braces: `kg`, `/min`, `{bottle}/min`, `{pcs}`."""
    return _plain(unit) in COMMON_CODES


def common_code(unit: str) -> str | None:
    """The code of UN/CEFACT Recommendation 20 for a UCUM unit, None for one that is not in the table."""
    written = _litre(unit)
    return COMMON_CODES.get(written) or COMMON_CODES.get(_plain(unit))


def nearest_units(unit: str) -> list[str]:
    """The units that may have been meant, best first, at most three."""
    if unit in _MEANT:
        return [_MEANT[unit]]
    lower: dict[str, str] = {}
    for known in COMMON_CODES:
        lower.setdefault(known.lower(), known)
    for said, meant in _MEANT.items():
        lower.setdefault(said.lower(), meant)
    close = difflib.get_close_matches(unit.lower(), lower, n=3, cutoff=0.5)
    return list(dict.fromkeys(lower[word] for word in close))


def _plain(unit: str) -> str:
    """Without annotations: `{bottle}/min` is `/min`, `{pcs}` is `1`."""
    return _litre(_ANNOTATION.sub("", unit)) or ("1" if unit else "")


def _litre(unit: str) -> str:
    return _SMALL_LITRE.sub(r"\1L", unit)
