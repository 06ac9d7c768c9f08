"""All kinds of planted faults, and the rule that each ought to be found by.

The kinds were written from the annotation standard and from what users of public releases reported,
by someone who had not read the rules; only the last table was filled from the rules' names, before
it was known which of them fire.
"""

from __future__ import annotations

import planted_anatomy
import planted_content
import planted_files
import planted_further
import planted_masks
import planted_scans
import planted_series
import planted_standard
from planted_kind import KINDS, Kind

# Importing the modules is what fills the list.
MODULES = (
    planted_files,
    planted_masks,
    planted_anatomy,
    planted_content,
    planted_standard,
    planted_scans,
    planted_further,
    planted_series,
)

# kind | rules of which one ought to name it, by the names in `pantskit check --rules`
_OUGHT = """
mask-origin-shifted         | labels
labels-origin-shifted       | grid
labels-affine-flipped       | grid
mask-affine-flipped         | labels
mask-spacing-wrong          | labels
spacing-lost                | spacing-lost scale volume
forms-disagree              | image
no-place                    | image labels
unit-micron                 | image-file label-file
mask-slope                  | label-file
map-slope                   | combined-file
mask-of-fractions           | label-file
mask-not-binary             | label-file
mask-not-finite             | labels
mask-of-another-shape       | labels
ct-cut-short                | image
mask-cut-short              | labels
mask-is-no-image            | labels
ct-missing                  | image-missing
two-files-of-one-structure  | labels mask-twice
map-unknown-id              | combined-values
map-numbered-otherwise      | combined-ids
map-lacks-voxels            | combined-complete
mask-missing                | mask-missing
ct-slices-blank             | slice-blank
labels-mirrored             | mirrored upside-down other-ct
tumour-without-lesion       | tumour-flag
lesion-without-tumour       | tumour-flag
lesion-tiny                 | lesion-small
liver-overlaps-spleen       | overlap-far
kidneys-overlap             | overlap-far
stomach-overlaps-spleen     | overlap
pancreas-takes-duodenum     | overlap
pancreas-takes-veins        | overlap
same-mask-twice             | identical overlap
parts-leave-a-gap           | pancreas-parts
parts-protrude              | pancreas-parts
parts-overlap               | pancreas-parts overlap
stray-piece                 | stray
hole                        | hole
slices-missing              | missed-slice gap
slices-missing-of-a-vessel  | missed-slice gap
slices-shifted              | missed-slice
labels-of-another-slab      | other-ct
labels-of-another-case      | other-ct
liver-in-part               | straight-cut volume
pancreas-eroded             | volume rim
pancreas-dilated            | volume fat
kidneys-swapped             | sides
lungs-swapped               | sides
adrenals-swapped            | sides
femurs-swapped              | sides
stomach-colon-swapped       | place
liver-spleen-swapped        | wrong-side
aorta-postcava-swapped      | postcava-side
celiac-sma-swapped          | artery-order
head-tail-swapped           | parts-order
body-absent                 | parts-missing parts-apart
parts-border-shifted        | parts-borders
lesion-away                 | lesion-outside
duct-outside                | duct-outside
duct-cut                    | duct-extent duct-broken
duct-short                  | duct-extent
aorta-short-above           | aorta-extent
aorta-short-below           | aorta-extent
postcava-short-above        | postcava-extent
celiac-detached             | artery-origin
sma-detached                | artery-origin
veins-short-of-liver        | veins-reach
veins-short-of-spleen       | veins-reach
veins-cut                   | veins-broken
postcava-on-the-left        | postcava-side
femur-too-short             | femur-length femur-ends
kidney-pelvis-filled        | renal-sinus
lung-with-effusion          | effusion
bladder-too-high            | bladder-place
prostate-too-high           | prostate-place
gall-bladder-away           | wrong-side place
bile-duct-into-stomach      | neighbours
adrenal-in-kidney           | adrenal-height
duodenum-away               | neighbours place
spleen-too-low              | place
hu-offset                   | hu-offset image-values
hu-scaled                   | image-values hu
phase-wrong                 | phase
age-impossible              | age
metadata-spacing-wrong      | metadata-grid
metadata-shape-wrong        | metadata-grid
sex-wrong                   | sex
metadata-without-row        | metadata-row
patient-on-both-sides       | patient-in-both-splits
scan-twice                  | duplicate-scan
description-wrong           | description
organ-said-to-be-missing    | empty
organ-emptied               | empty-in-view
all-masks-empty             | all-empty
organ-in-two                | pieces
lower-half-displaced        | jump
slices-exchanged            | jump missed-slice
aorta-wall-alone            | ring
femur-cortex-alone          | ring
drawn-on-thick-slices       | step-slices
kidney-in-part              | kidney-sizes volume straight-cut
kidney-pelvis-with-contrast | renal-pelvis
bile-duct-short-below       | bile-duct-extent
bile-duct-short-above       | bile-duct-extent
aorta-with-iliac-arteries   | aorta-iliac
femur-head-missing          | femur-heights femur-head
lesion-huge                 | lesion-volume
head-with-body-of-stomach   | hu volume
aorta-with-spine            | bone volume
colon-lumen-left-out        | hole
hu-beyond-the-range         | hu-range
metal-not-clipped           | hu-range
files-turned                | orientation
scan-of-few-slices          | volume-tiny
scan-of-another-region      | view
spacing-impossible          | spacing
labels-gone                 | labels-missing
map-origin-shifted          | combined-grid
word-unknown                | metadata-words
row-without-case            | metadata-orphan
scan-again-with-other-values | duplicate-labels
mask-forgotten-in-one-case  | mask-forgotten
far-from-all-others         | unusual
columns-mirrored-in-one-mask | sides wrong-side
mask-saved-again            | mask-twice
map-unreadable              | combined-map
map-of-another-shape        | combined-grid combined-map
map-left-behind             | combined-content
slice-distance-wrong        | stretched
slices-dropped-or-repeated  | stretched
femur-too-long              | femur-ends femur-length
femurs-too-long             | femur-length
femur-head-cut-slanting     | femur-head
femur-with-hip-bone         | femur-heights volume
kidney-drawn-wide           | fat
adrenal-too-low             | adrenal-height
gland-interrupted           | parts-apart pieces
postcava-short-below        | postcava-extent
stomach-in-part             | neighbours straight-cut
bladder-in-part             | straight-cut
slices-filled-in            | slice-repeated
slices-of-one-value         | slice-blank
slices-lost-from-scan-and-masks | slice-missing
window-saved                | hu-clipped
scale-wrong                 | scale volume
mask-under-no-known-name    | mask-unknown
tables-disagree             | metadata-table
fields-left-empty           | metadata-gaps
"""

OUGHT: dict[str, tuple[str, ...]] = {
    kind.strip(): tuple(rules.split())
    for kind, rules in (line.split("|") for line in _OUGHT.strip().splitlines())
}


# Of every group some whose outcome could hang on the size of voxels: for scans of 512 x 512 x 300
FULL = (
    "mask-origin-shifted",
    "mask-slope",
    "ct-cut-short",
    "map-unreadable",
    "map-left-behind",
    "lesion-without-tumour",
    "liver-overlaps-spleen",
    "parts-overlap",
    "hole",
    "stray-piece",
    "slices-missing",
    "slices-shifted",
    "labels-of-another-slab",
    "liver-in-part",
    "kidneys-swapped",
    "duct-outside",
    "aorta-short-below",
    "aorta-wall-alone",
    "veins-cut",
    "femur-head-missing",
    "femur-too-long",
    "bladder-in-part",
    "lung-with-effusion",
    "kidney-drawn-wide",
    "gland-interrupted",
    "hu-offset",
)


def all_kinds(names: list[str] | None = None) -> list[Kind]:
    """The kinds, or those whose name begins with one of these.

    Raises:
        SystemExit: If none does.
    """
    order = [module.__name__ for module in MODULES]
    ordered = sorted(KINDS, key=lambda kind: order.index(kind.plant.__module__))
    found = [k for k in ordered if not names or any(k.name.startswith(n) for n in names)]
    if not found:
        raise SystemExit(f"no kind is called {' or '.join(names or [])}")
    return found
