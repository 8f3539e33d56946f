"""Writes scanner_sim/data/xray.toml: tube spectra and attenuation for the simulated scanner.

Run once, with spekpy 2.5.4 installed beside (it is not a dependency of the project):
    python scripts/xray_tables.py > scanner_sim/data/xray.toml
Sources: SpekPy (Poludniowski et al., Med Phys 2021;48:3630) for tungsten spectra, 12 degrees anode,
6 mm aluminium in all; its tables of attenuation coefficients follow NIST. Cryoprobes are made of
nickel-chromium superalloy: SpekPy's Inconel.
"""

import numpy as np
import spekpy

EDGES_KEV = np.array([15, 30, 40, 48, 56, 64, 74, 86, 100, 118, 140], float)
KVPS = (80, 100, 120, 135, 140)


def spectrum(kvp: int) -> spekpy.Spek:
    return spekpy.Spek(kvp=kvp, th=12, dk=0.5, z=100).filter("Al", 6.0)


def binned(k: np.ndarray, values: np.ndarray) -> np.ndarray:
    which = np.digitize(k, EDGES_KEV) - 1
    return np.array([values[which == b].sum() for b in range(len(EDGES_KEV) - 1)])


def main() -> None:
    beams = {kvp: spectrum(kvp) for kvp in KVPS}
    k, _ = spectrum(140).get_spectrum()
    in_range = (k > EDGES_KEV[0]) & (k < EDGES_KEV[-1])
    # Attenuation per bin, weighted by what a patient of 200 mm of water lets through at 120 kVp.
    k120, f120 = beams[120].get_spectrum()
    data = {
        name: log_interpolated(matl, k)
        for name, matl in (
            ("water", "Water, Liquid"),
            ("bone", "Bone, Cortical (ICRU)"),
            ("metal", "Nickel Alloy (Iconel)"),
        )
    }
    weight = np.interp(k, k120, f120, right=1e-3) * np.exp(-20.0 * data["water"]) + 1e-30
    print(__doc__ and "# Written by scripts/xray_tables.py: see there for method and sources.")
    print("# Photons per mm2 and mAs at 1 m in each bin; attenuation per mm; keV.")
    print(f"edges_kev = {EDGES_KEV.tolist()}")
    print("[attenuation_per_mm]")
    for name, mu in data.items():
        mean = binned(k[in_range], (weight * mu)[in_range]) / binned(k[in_range], weight[in_range])
        print(f"{name} = [{', '.join(f'{v / 10:.6g}' for v in mean)}]")
    mean_kev = binned(k[in_range], (weight * k)[in_range]) / binned(k[in_range], weight[in_range])
    print("[bin]")
    print(f"mean_kev = [{', '.join(f'{v:.4g}' for v in mean_kev)}]")
    print("[photons_per_mm2_mas]")
    for kvp, beam in beams.items():
        kk, flu = beam.get_spectrum()  # per cm2 and keV, per mAs
        per_mm2 = binned(kk, flu * 0.5 / 100.0)
        print(f"{kvp} = [{', '.join(f'{v:.5g}' for v in per_mm2)}]")


def log_interpolated(matl: str, k: np.ndarray) -> np.ndarray:
    """Linear attenuation in 1/cm at energies ``k``, from the transmission of 1e-3 cm."""
    beam = spekpy.Spek(kvp=140, th=12, dk=0.5, z=100)
    before = np.interp(k, *beam.get_spectrum())
    beam.filter(matl, 0.01)
    after = np.interp(k, *beam.get_spectrum())
    return -np.log(np.maximum(after, 1e-300) / np.maximum(before, 1e-300)) / 0.001


if __name__ == "__main__":
    main()
