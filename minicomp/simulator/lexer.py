"""PTX text to tokens.

    list(tokens("add.u32 %r1, %r2, 0x10;  // next"))
    # add .u32 %r1 , %r2 , 0x10 ; and the end

A token is (kind, text, line). Dotted words (`.u32`, `.L1::no_allocate`) are tokens of their own,
so an opcode is a name and the dotted words after it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from minicomp.errors import PTXSyntaxError

# Quantifiers are possessive, so that no text makes the matching slow.
_TOKEN = re.compile(
    r"""(?P<space>(?:[^\S\n]++|//[^\n]*+)++)
      | (?P<newline>\n)
      | (?P<comment>/\*(?:[^*]++|\*(?!/))*+\*/)
      | (?P<name>[%$A-Za-z_][A-Za-z0-9_$]*+)
      | (?P<dotted>\.[A-Za-z_][A-Za-z0-9_]*+(?:::[A-Za-z0-9_]++)*+)
      | (?P<number>0[fF][0-9A-Fa-f]{8}|0[dD][0-9A-Fa-f]{16}|0[xX][0-9A-Fa-f]++U?+
                  |0[bB][01]++U?+|\d++(?:\.\d*+(?:[eE][-+]?+\d++)?+|[eE][-+]?+\d++|U)?+)
      | (?P<string>"[^"\n]*+")
      | (?P<sign>[][(){}<>,;:@!|+\-=])""",
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    kind: str  # "name", "dotted", "number", "string", "sign" or "end"
    text: str
    line: int


def tokens(text: str) -> list[Token]:
    """The tokens of `text`, and one of kind "end". Raises PTXSyntaxError."""
    if not text.isascii():
        place = next(place for place, character in enumerate(text) if not character.isascii())
        raise PTXSyntaxError(
            f"found {text[place]!r}; PTX is ASCII, its comments too",
            what=f"line {text.count(chr(10), 0, place) + 1}",
        )
    found, position, line = [], 0, 1
    for match in _TOKEN.finditer(text):
        if match.start() != position:
            break
        position = match.end()
        kind = match.lastgroup
        if kind == "newline":
            line += 1
        elif kind == "comment":
            line += match.group().count("\n")
        elif kind != "space":
            found.append(Token(str(kind), match.group(), line))
    if position != len(text):
        raise PTXSyntaxError(
            f"found {text[position : position + 1]!r}, which starts nothing that PTX has",
            what=f"line {line}",
        )
    found.append(Token("end", "the end of the text", line))
    return found
