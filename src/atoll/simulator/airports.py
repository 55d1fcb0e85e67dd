"""Where locations are: airports of the world, and how long light in fibre takes between them."""

import math
from dataclasses import dataclass
from random import Random
from typing import Final

EARTH_RADIUS_KM: Final = 6371.0
FIBRE_KM_PER_S: Final = 200_000.0
DETOUR: Final = 1.5
"""How much longer cables are than the shortest way over the globe, routers included."""
NEAREST_S: Final = 0.0005
"""Two nodes in one city are this far apart."""

TABLE: Final = """
ATL 33.6 -84.4|LAX 33.9 -118.4|ORD 42.0 -87.9|DFW 32.9 -97.0|DEN 39.9 -104.7|JFK 40.6 -73.8
SFO 37.6 -122.4|SEA 47.4 -122.3|LAS 36.1 -115.2|MCO 28.4 -81.3|EWR 40.7 -74.2|CLT 35.2 -80.9
PHX 33.4 -112.0|IAH 30.0 -95.3|MIA 25.8 -80.3|BOS 42.4 -71.0|MSP 44.9 -93.2|DTW 42.2 -83.4
PHL 39.9 -75.2|BWI 39.2 -76.7|SLC 40.8 -112.0|IAD 38.9 -77.5|SAN 32.7 -117.2|TPA 28.0 -82.5
PDX 45.6 -122.6|STL 38.7 -90.4|BNA 36.1 -86.7|AUS 30.2 -97.7|MCI 39.3 -94.7|SMF 38.7 -121.6
SJC 37.4 -121.9|RDU 35.9 -78.8|MSY 30.0 -90.3|CLE 41.4 -81.8|IND 39.7 -86.3|PIT 40.5 -80.2
CVG 39.0 -84.7|CMH 40.0 -82.9|SAT 29.5 -98.5|JAX 30.5 -81.7|ABQ 35.0 -106.6|ANC 61.2 -150.0
HNL 21.3 -157.9|OMA 41.3 -95.9|MEM 35.0 -90.0|RIC 37.5 -77.3|BUF 42.9 -78.7|OKC 35.4 -97.6
BOI 43.6 -116.2|TUS 32.1 -110.9|ELP 31.8 -106.4|FAT 36.8 -119.7|BHM 33.6 -86.8|ORF 36.9 -76.2
YYZ 43.7 -79.6|YVR 49.2 -123.2|YUL 45.5 -73.7|YYC 51.1 -114.0|YEG 53.3 -113.6|YOW 45.3 -75.7
YWG 49.9 -97.2|YHZ 44.9 -63.5|YXE 52.2 -106.7|YQB 46.8 -71.4|YYT 47.6 -52.8|YZF 62.5 -114.4
MEX 19.4 -99.1|CUN 21.0 -86.9|GDL 20.5 -103.3|MTY 25.8 -100.1|TIJ 32.5 -117.0|QRO 20.6 -100.2
GUA 14.6 -90.5|SAL 13.4 -89.1|TGU 14.1 -87.2|MGA 12.1 -86.2|SJO 10.0 -84.2|PTY 9.1 -79.4
HAV 23.0 -82.4|KIN 17.9 -76.8|SDQ 18.4 -69.7|SJU 18.4 -66.0|NAS 25.0 -77.5|BGI 13.1 -59.5
POS 10.6 -61.3|CUR 12.2 -69.0|PAP 18.6 -72.3|GND 12.0 -61.8|BOG 4.7 -74.1|MDE 6.2 -75.4
CLO 3.5 -76.4|BAQ 10.9 -74.8|CCS 10.6 -67.0|UIO -0.1 -78.4|GYE -2.2 -79.9|LIM -12.0 -77.1
CUZ -13.5 -71.9|LPB -16.5 -68.2|VVI -17.6 -63.1|ASU -25.2 -57.5|MVD -34.8 -56.0|EZE -34.8 -58.5
COR -31.3 -64.2|NQN -38.9 -68.2|SCL -33.4 -70.8|CCP -36.8 -73.1|ARI -18.3 -70.3|GRU -23.4 -46.5
GIG -22.8 -43.2|BSB -15.9 -47.9|CNF -19.6 -44.0|POA -30.0 -51.2|CWB -25.5 -49.2|FLN -27.7 -48.5
SSA -12.9 -38.3|REC -8.1 -34.9|FOR -3.8 -38.5|BEL -1.4 -48.5|MAO -3.0 -60.0|GYN -16.6 -49.2
CGB -15.7 -56.1|CAY 4.8 -52.4|PBM 5.5 -55.2|GEO 6.5 -58.3|LHR 51.5 -0.5|MAN 53.4 -2.3
EDI 55.9 -3.4|DUB 53.4 -6.3|ORK 51.8 -8.5|CDG 49.0 2.5|MRS 43.4 5.2|LYS 45.7 5.1
NCE 43.7 7.2|TLS 43.6 1.4|BOD 44.8 -0.7|AMS 52.3 4.8|BRU 50.9 4.5|LUX 49.6 6.2
FRA 50.0 8.6|MUC 48.4 11.8|TXL 52.6 13.3|HAM 53.6 10.0|DUS 51.3 6.8|STR 48.7 9.2
ZRH 47.5 8.5|GVA 46.2 6.1|VIE 48.1 16.6|PRG 50.1 14.3|BTS 48.2 17.2|BUD 47.4 19.3
WAW 52.2 21.0|KRK 50.1 19.8|MAD 40.5 -3.6|BCN 41.3 2.1|VLC 39.5 -0.5|AGP 36.7 -4.5
BIO 43.3 -2.9|LPA 27.9 -15.4|LIS 38.8 -9.1|OPO 41.2 -8.7|FCO 41.8 12.2|MXP 45.6 8.7
NAP 40.9 14.3|PMO 38.2 13.1|VCE 45.5 12.4|MLA 35.9 14.5|ATH 37.9 23.9|SKG 40.5 23.0
LCA 34.9 33.6|IST 41.3 28.7|ESB 40.1 33.0|ADB 38.3 27.2|SOF 42.7 23.4|OTP 44.6 26.1
CLJ 46.8 23.7|BEG 44.8 20.3|ZAG 45.7 16.1|LJU 46.2 14.5|SJJ 43.8 18.3|TGD 42.4 19.3
TIA 41.4 19.7|SKP 42.0 21.6|PRN 42.6 21.0|KIV 46.9 28.9|KBP 50.3 30.9|ODS 46.4 30.7
LWO 49.8 24.0|MSQ 53.9 28.0|VNO 54.6 25.3|RIX 56.9 24.0|TLL 59.4 24.8|HEL 60.3 25.0
ARN 59.7 17.9|GOT 57.7 12.3|CPH 55.6 12.7|OSL 60.2 11.1|BGO 60.3 5.2|TRD 63.5 10.9
KEF 64.0 -22.6|SVO 56.0 37.4|LED 59.8 30.3|KJA 56.2 92.5|SVX 56.7 60.8|OVB 55.0 82.7
VVO 43.4 132.1|KHV 48.5 135.2|IKT 52.3 104.4|KZN 55.6 49.3|ROV 47.5 39.9|TBS 41.7 45.0
EVN 40.1 44.4|GYD 40.5 50.1|ALA 43.4 77.0|NQZ 51.0 71.5|TAS 41.3 69.3|FRU 43.1 74.5
DYU 38.5 68.8|ASB 38.0 58.4|TLV 32.0 34.9|HFA 32.8 35.0|AMM 31.7 36.0|BEY 33.8 35.5
DAM 33.4 36.5|BGW 33.3 44.2|EBL 36.2 44.0|BSR 30.5 47.7|IKA 35.4 51.2|KWI 29.2 48.0
BAH 26.3 50.6|DOH 25.3 51.6|DXB 25.3 55.4|AUH 24.4 54.7|MCT 23.6 58.3|RUH 25.0 46.7
JED 21.7 39.2|DMM 26.5 49.8|SAH 15.5 44.2|CAI 30.1 31.4|ALG 36.7 3.2|TUN 36.9 10.2
CMN 33.4 -7.6|RAK 31.6 -8.0|TIP 32.7 13.2|DKR 14.7 -17.1|BKO 12.5 -7.9|OUA 12.4 -1.5
ABJ 5.3 -3.9|ACC 5.6 -0.2|LOS 6.6 3.3|ABV 9.0 7.3|COO 6.4 2.4|LFW 6.2 1.3
DLA 4.0 9.7|LBV 0.5 9.4|FIH -4.4 15.4|BZV -4.3 15.3|LAD -8.9 13.2|KRT 15.6 32.6
ADD 9.0 38.8|JIB 11.5 43.2|NBO -1.3 36.9|MBA -4.0 39.6|EBB 0.0 32.4|KGL -2.0 30.1
DAR -6.9 39.2|LUN -15.3 28.5|HRE -17.9 31.1|MPM -25.9 32.6|GBE -24.6 25.9|WDH -22.5 17.5
JNB -26.1 28.2|CPT -34.0 18.6|DUR -29.6 31.1|TNR -18.8 47.5|MRU -20.4 57.7|RUN -20.9 55.5
SEZ -4.7 55.5|KHI 24.9 67.2|LHE 31.5 74.4|ISB 33.6 72.8|KBL 34.6 69.2|DEL 28.6 77.1
BOM 19.1 72.9|MAA 13.0 80.2|BLR 13.2 77.7|HYD 17.2 78.4|CCU 22.7 88.4|AMD 23.1 72.6
COK 10.2 76.4|NAG 21.1 79.0|PAT 25.6 85.1|CMB 7.2 79.9|MLE 4.2 73.5|KTM 27.7 85.4
DAC 23.8 90.4|CGP 22.2 91.8|PBH 27.4 89.4|RGN 16.9 96.1|MDL 21.7 96.0|BKK 13.7 100.7
CNX 18.8 99.0|HKT 8.1 98.3|VTE 18.0 102.6|PNH 11.5 104.8|SGN 10.8 106.7|HAN 21.2 105.8
DAD 16.0 108.2|KUL 2.7 101.7|JHB 1.6 103.7|PEN 5.3 100.3|SIN 1.4 104.0|BWN 4.9 114.9
CGK -6.1 106.7|SUB -7.4 112.8|DPS -8.7 115.2|KNO 3.6 98.9|MNL 14.5 121.0|CEB 10.3 124.0
DVO 7.1 125.6|HKG 22.3 113.9|MFM 22.1 113.6|TPE 25.1 121.2|KHH 22.6 120.3|PEK 40.1 116.6
PVG 31.1 121.8|CAN 23.4 113.3|SZX 22.6 113.8|CTU 30.6 103.9|CKG 29.7 106.6|XIY 34.4 108.8
KMG 25.1 102.9|WUH 30.8 114.2|NKG 31.7 118.9|HGH 30.2 120.4|TAO 36.4 120.1|DLC 39.0 121.5
SHE 41.6 123.5|HRB 45.6 126.2|URC 43.9 87.5|LHW 36.5 103.6|CSX 28.2 113.2|XMN 24.5 118.1
ULN 47.8 106.8|ICN 37.5 126.5|PUS 35.2 128.9|NRT 35.8 140.4|KIX 34.4 135.2|NGO 34.9 136.8
FUK 33.6 130.5|CTS 42.8 141.7|OKA 26.2 127.6|SYD -33.9 151.2|MEL -37.7 144.8|BNE -27.4 153.1
PER -31.9 116.0|ADL -34.9 138.5|CBR -35.3 149.2|HBA -42.8 147.5|DRW -12.4 130.9|CNS -16.9 145.8
AKL -37.0 174.8|CHC -43.5 172.5|WLG -41.3 174.8|NOU -22.0 166.2|SUV -18.0 178.6|PPT -17.6 -149.6
GUM 13.5 144.8|POM -9.4 147.2|APW -13.8 -172.0|TBU -21.2 -175.1
"""
"""Their IATA codes, with latitude and longitude in degrees, to a tenth."""


@dataclass(frozen=True, slots=True)
class Site:
    """Somewhere on the globe."""

    code: str
    latitude: float
    longitude: float

    def __sub__(self, other: "Site") -> float:
        """Return the distance in kilometres, over the globe."""
        here, there = math.radians(self.latitude), math.radians(other.latitude)
        east = math.radians(other.longitude - self.longitude)
        half = (
            math.sin((there - here) / 2) ** 2
            + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
        )
        return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def _sites() -> dict[str, Site]:
    rows = (row.split() for row in TABLE.replace("|", "\n").split("\n") if row)
    return {code: Site(code, float(north), float(east)) for code, north, east in rows}


SITES: Final = _sites()


def one_way_s(a: Site, b: Site) -> float:
    """Return the least time that a message takes from one site to another."""
    return max(NEAREST_S, (a - b) * DETOUR / FIBRE_KM_PER_S)


def draw_sites(random: Random, count: int) -> list[Site]:
    """Draw different sites. The first are where people expect a world to begin."""
    first = [SITES[code] for code in ("LHR", "IAD", "SIN")]
    others = [site for site in SITES.values() if site not in first]
    return [*first[:count], *random.sample(others, max(0, count - len(first)))]
