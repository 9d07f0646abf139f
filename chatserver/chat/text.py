"""Text that people read."""

from __future__ import annotations

from collections.abc import Callable

import regex

# From the Unicode Character Database: White_Space (PropList.txt); Default_Ignorable_Code_Point
# (DerivedCoreProperties.txt), which has the zero-width characters, the fillers of Hangul, selectors and tags; the
# controls and formats (General_Category Cc and Cf) except those that are drawn, such as U+0600
# (Prepended_Concatenation_Mark). No property names the last three, whose glyphs are empty: the Braille pattern
# blank, the musical null notehead and the filler of the Khitan small script.
_INVISIBLE = regex.compile(
    r"[[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\u2800\U0001D159\U00016FE4]"
    r"--\p{Prepended_Concatenation_Mark}]",
    regex.V1,
)
# The other planes have none of them.
_PLANES = (*range(0x20000), *range(0xE0000, 0xE1000))

shows_nothing: Callable[[str], bool] = frozenset(
    _INVISIBLE.findall("".join(map(chr, _PLANES)))
).issuperset
"""Returns True for a text without a visible character."""
