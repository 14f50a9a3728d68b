"""What the estimates take for granted of each kind of core."""

from dataclasses import replace

import pytest

from luthier.codegen.detect import named_target
from luthier.schedule.spaces.traffic import PerCore, kind_of_core, stays_in_l3

MB = 1 << 20
WIDE = replace(named_target("x86-64-v4"), l3_bytes=300 * MB)
KINDS = {"wide": WIDE, "double": replace(WIDE, cpu="emeraldrapids"), "narrow": replace(WIDE, vector_bits=256)}


@pytest.mark.parametrize("kind", KINDS)
def test_each_target_is_of_one_kind(kind):
    assert kind_of_core(KINDS[kind]) == kind
    assert (
        PerCore(wide=1.0, double=2.0, narrow=3.0).of(KINDS[kind]) == {"wide": 1.0, "double": 2.0, "narrow": 3.0}[kind]
    )


@pytest.mark.parametrize(
    ("kind", "alone", "share"),
    [
        ("wide", True, 2),
        ("double", True, 5),
        ("narrow", True, 3),
        ("wide", False, 2),
        ("double", False, 9),
        ("narrow", False, 9),
    ],
)
def test_a_part_of_the_last_level_cache_stays(kind, alone, share):
    part = 300 * MB // share
    assert stays_in_l3(part - MB, KINDS[kind], alone) and not stays_in_l3(part + MB, KINDS[kind], alone)
