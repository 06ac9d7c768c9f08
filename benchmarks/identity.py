"""How surely copies of a scan are found, and other patients not: fingerprints, measured.

    python benchmarks/identity.py bodies --count 1420 --out PRINTS    # distinct patients, resumable
    python benchmarks/identity.py pairs PRINTS                        # all pairs of them
    python benchmarks/identity.py copies PRINTS --patients 20 [--real CT.nii.gz ...]
    python benchmarks/identity.py time --count 36390

Bodies are small phantoms of different patients: they have 4 to 5 mm voxels and one atlas, so they
are more alike than people are, and false pairs among them are more likely. Copies are of phantoms
of 2.5 mm voxels and of real scans, searched for among all bodies. With no false pair in n, the
rate is below 3 / n (95 %).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pantskit.core.geometry import Geometry
from pantskit.core.volume import Volume, read_volume
from pantskit.ingest.dicom.hounsfield import volume_to_hu
from pantskit.ingest.sources.duplicates import kind_of
from pantskit.measure.fingerprint import Fingerprint, Likeness, compare, fingerprint
from pantskit.measure.fingerprint_search import candidates, find_alike
from pantskit.phantom.case import lesion_shifts, make_case
from pantskit.phantom.patient import anatomy
from pantskit.phantom.render import render
from pantskit.phantom.scans import CohortPlan, plan_scan, scan_geometry, scanner_for
from pantskit.phantom.sites import SITES, Grid
from pantskit.phantom.voxelize import tissue_map

HU = NDArray[np.int16]
Change = Callable[[Volume], Volume]
_FINER = Grid(176, 152, 2.5)
# Other scans of the patient: another phase, and the same one once more.
_PHASES = ("portal_venous", "arterial", "non_contrast", "portal_venous")


def _volume(array: NDArray[np.generic], spacing: Sequence[float]) -> Volume:
    held = np.asfortranarray(array.astype(np.int16))
    return Volume(held, Geometry.from_spacing(held.shape, tuple(spacing)))


def _mirrored(*axes: int) -> Change:
    return lambda ct: _volume(np.flip(ct.array, axes), ct.geometry.spacing)


def _resampled(spacing: tuple[float | None, ...], order: int = 1) -> Change:
    """As tools do by default: without smoothing before. None keeps an axis."""

    def change(ct: Volume) -> Volume:
        old = ct.geometry.spacing
        wanted = [o if s is None else s for o, s in zip(old, spacing, strict=True)]
        factors = [o / s for o, s in zip(old, wanted, strict=True)]
        made = ndimage.zoom(
            ct.array.astype(np.float32), factors, order=order, grid_mode=True, mode="nearest"
        )
        kept = [o * n / m for o, n, m in zip(old, ct.array.shape, made.shape, strict=True)]
        return _volume(np.rint(made), kept)

    return change


def _cropped(low: tuple[float, ...], high: tuple[float, ...]) -> Change:
    def change(ct: Volume) -> Volume:
        box = tuple(
            slice(int(a * n), int(b * n)) for a, b, n in zip(low, high, ct.array.shape, strict=True)
        )
        return _volume(ct.array[box], ct.geometry.spacing)

    return change


def _clipped(low: int, high: int) -> Change:
    return lambda ct: _volume(np.clip(ct.array, low, high), ct.geometry.spacing)


def _all_of(*changes: Change) -> Change:
    def change(ct: Volume) -> Volume:
        for one in changes:
            ct = one(ct)
        return ct

    return change


_HALF = _cropped((0, 0, 0.5), (1, 1, 1))
_BOX = _cropped((0.2, 0.2, 0.35), (0.8, 0.8, 0.95))
CHANGES: dict[str, Change] = {
    "mirrored x": _mirrored(0),
    "mirrored y and z": _mirrored(1, 2),
    "mirrored x, y, z": _mirrored(0, 1, 2),
    "resampled to 1.5 mm": _resampled((1.5, 1.5, 1.5)),
    "resampled to 3 mm": _resampled((3.0, 3.0, 3.0)),
    "slices of 5 mm": _resampled((None, None, 5.0)),
    "slices of 7.5 mm": _resampled((None, None, 7.5)),
    "nearest voxel of 4 mm": _resampled((4.0, 4.0, 4.0), order=0),
    "10 % off each axis": _cropped((0.05,) * 3, (0.95,) * 3),
    "upper half": _HALF,
    "lower half": _cropped((0, 0, 0), (1, 1, 0.5)),
    "a third of the slices": _cropped((0, 0, 0.45), (1, 1, 0.78)),
    "a box of 0.6 an axis": _BOX,
    "clipped to -160, 240": _clipped(-160, 240),
    "clipped to -96, 215": _clipped(-96, 215),
    "clipped to -17, 201": _clipped(-17, 201),
    "all, mild": _all_of(
        _mirrored(0),
        _resampled((1.5, 1.5, 1.5)),
        _cropped((0.05,) * 3, (0.95,) * 3),
        _clipped(-160, 240),
    ),
    "all, strong: half, 3 mm": _all_of(
        _mirrored(1, 2), _HALF, _resampled((3.0, 3.0, 3.0)), _clipped(-96, 215)
    ),
    "all, strong: box, 5 mm": _all_of(
        _mirrored(0), _BOX, _resampled((None, None, 5.0)), _clipped(-96, 215)
    ),
}


def breathed(ct: Volume, mm: float = 12.0) -> Volume:
    """A scan in which the upper half of what is seen moved down, most at the top."""
    step = ct.geometry.spacing[2]
    k = np.arange(ct.array.shape[2], dtype=np.float64)
    moved = mm / step * np.clip(2 * k / len(k) - 0.6, 0, 1)
    low = np.clip(k + moved, 0, len(k) - 1)
    first = np.floor(low).astype(int)
    second = np.minimum(first + 1, len(k) - 1)
    weight = (low - first).astype(np.float32)
    made = ct.array[:, :, first] * (1 - weight) + ct.array[:, :, second] * weight
    return _volume(np.rint(made), ct.geometry.spacing)


def _print_of(ct: Volume) -> Fingerprint:
    return fingerprint(ct.array, ct.geometry.spacing)


def scans_of_patient(seed: int) -> Iterator[Volume]:
    """One phantom in several phases, on tables that lie a little differently."""
    plan = CohortPlan(cases=1, seed=seed, sites=4)
    first = replace(plan_scan(plan, 0), site=replace(SITES[seed % 3], small=_FINER))
    for visit, phase in enumerate(_PHASES):
        scan = replace(first, phase=phase, visit=visit, seed=(seed, visit, 13))
        grid, body = scan_geometry(scan, anatomy(scan.patient, prone=scan.site.prone), "small")
        tissues = tissue_map(body, grid, thin_mm=0.6 * grid.spacing[0])
        hu = render(
            tissues,
            grid.spacing,
            phase,
            scan.rng(2),
            scanner=scanner_for(scan.site, "small"),
            shifts=lesion_shifts(scan),
        )
        yield Volume(hu, grid).reoriented()


def bodies(count: int, out: Path, seconds: float) -> None:
    """Fingerprints of small phantoms of different patients, those that are missing."""
    out.mkdir(parents=True, exist_ok=True)
    stop = time.monotonic() + seconds
    for number in range(count):
        path = out / f"{number:05d}.npz"
        if path.exists():
            continue
        if time.monotonic() > stop:
            break
        plan = CohortPlan(cases=1, seed=100_000 + number, sites=4)
        made = _print_of(make_case(plan, number % 4).ct.reoriented())
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, places=made.places, descriptions=made.descriptions, extent=made.extent)
        part.rename(path)
    print(f"{len(list(out.glob('*.npz')))} of {count} fingerprints in {out}")


def _held(folder: Path) -> list[Fingerprint]:
    prints = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as held:
            prints.append(Fingerprint(held["places"], held["descriptions"], held["extent"]))
    return prints


def pairs(folder: Path, seconds: float) -> None:
    """False pairs among all pairs, by the search; and some pairs compared one by one."""
    prints = _held(folder)
    total = len(prints) * (len(prints) - 1) // 2
    start = time.monotonic()
    near = candidates(prints)
    found = [compare(prints[a], prints[b]) for a, b in near]
    false = Counter(kind for one in found if (kind := kind_of(one)))
    print(
        f"search: {len(prints)} bodies, {total:,} pairs, {len(near)} looked at, "
        f"{time.monotonic() - start:.0f} s; false pairs {dict(false) or 0}; "
        f"rate below {(3 if not false else np.nan) / total:.1e} (95 %)"
    )
    print("looked at   ", _spread(found))
    random = np.random.default_rng(0)
    start, compared = time.monotonic(), []
    while time.monotonic() - start < seconds:
        a, b = random.choice(len(prints), 2, replace=False)
        compared.append(compare(prints[a], prints[b]))
    false = Counter(kind for one in compared if (kind := kind_of(one)))
    print(f"one by one: {len(compared):,} pairs; false pairs {dict(false) or 0}")
    print("one by one  ", _spread(compared))


def _spread(found: Sequence[Likeness]) -> str:
    if not found:
        return "none"
    shares = np.array([one.alike for one in found])
    parts = [f"{q:g}: {np.quantile(shares, q):.3f}" for q in (0.5, 0.9, 0.99, 0.999, 1)]
    return f"share alike, by quantile: {', '.join(parts)} (a pair from 0.13 on)"


def copies(folder: Path, patients: int, real: Sequence[Path], seconds: float) -> None:
    """What becomes of changed copies, other phases and other patients."""
    bodies = _held(folder)
    table: dict[str, list[Likeness]] = defaultdict(list)
    searched: dict[str, list[bool]] = defaultdict(list)
    stop = time.monotonic() + seconds
    done = 0
    for seed in range(500, 500 + patients):
        if time.monotonic() > stop:
            break
        done += 1
        _measure(list(scans_of_patient(seed)), bodies, table, searched, "phantoms: ")
    for path in real:
        _measure([volume_to_hu(read_volume(path))[0]], bodies, table, searched, "real: ")
    print(f"{done} phantoms, {len(real)} real scans")
    for name, found in table.items():
        kinds = Counter(kind_of(one) or "not found" for one in found)
        told = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        by_search = f"{sum(searched[name])}/{len(found)} by the search"
        alike, apart = min(o.alike for o in found), max(o.difference for o in found)
        print(f"{name:42} {told}; {by_search}; alike >= {alike:.2f}, HU <= {apart:.1f}")


def _measure(
    scans: Sequence[Volume],
    bodies: Sequence[Fingerprint],
    table: dict[str, list[Likeness]],
    searched: dict[str, list[bool]],
    what: str,
) -> None:
    first = _print_of(scans[0])
    changed = {name: _print_of(change(scans[0])) for name, change in CHANGES.items()}
    again = [_print_of(scan) for scan in scans[1:]]
    if again:
        changed |= {
            "another phase (arterial)": again[0],
            "another phase (non-contrast)": again[1],
            "the same phase again": again[2],
            "the same phase again, breathed 12 mm": _print_of(breathed(scans[3])),
            "another phase, breathed 12 mm": _print_of(breathed(scans[1])),
        }
    near = set(candidates([first, *changed.values(), *bodies]))
    for number, (name, other) in enumerate(changed.items(), 1):
        table[what + name].append(compare(first, other))
        searched[what + name].append((0, number) in near)


def clock(count: int) -> None:
    """Time to search so many fingerprints: made up, a hundred of them copies of others."""
    random = np.random.default_rng(0)
    extent = np.full(3, 400, np.float32)
    # Like bodies, descriptions have a common part, so that buckets are as full as real ones.
    common = random.integers(40, 200, (400, 108))
    prints = []
    for _ in range(count):
        places = random.uniform(0, 400, (200, 3)).astype(np.float32)
        like = common[random.integers(0, len(common), 200)]
        made = np.clip(like + random.normal(0, 25, like.shape), 0, 255).astype(np.uint8)
        prints.append(Fingerprint(places, made, extent))
    for n in range(100):
        noisy = prints[n].descriptions.astype(np.int16) + random.integers(-3, 4, (200, 108))
        prints[-1 - n] = Fingerprint(
            prints[n].places, np.clip(noisy, 0, 255).astype(np.uint8), extent
        )
    start = time.monotonic()
    found = find_alike(prints, fewest_places=12)
    right = sum(a < 100 and b == count - 1 - a for a, b, _ in found)
    print(f"{count:,} fingerprints: {time.monotonic() - start:.0f} s, {right} of 100 copies found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["bodies", "pairs", "copies", "time"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=1420)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=200.0, help="stop then, and go on later")
    given = parser.parse_args()
    if given.what == "bodies":
        bodies(given.count, given.out, given.seconds)
    elif given.what == "pairs":
        pairs(given.folder, given.seconds)
    elif given.what == "copies":
        copies(given.folder, given.patients, given.real, given.seconds)
    else:
        clock(given.count)


if __name__ == "__main__":
    main()
