from __future__ import annotations

import hashlib
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access import tokens
from access.tokens import ALPHABET, TokenKind
from audit.redaction import holds_secret, redact

pytestmark = pytest.mark.once
SCANNER = re.compile(r"\bkt_(gk|gt|ak)_[a-z0-9]{32}\b")  # design §4


def base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = ALPHABET[digit] + digits
    return digits.rjust(6, "0")


@pytest.mark.parametrize("kind", TokenKind)
def test_a_value_has_the_documented_shape_and_checksum(kind: TokenKind) -> None:
    value = tokens.generate(kind)
    assert SCANNER.fullmatch(value)
    assert value.startswith(kind.value)
    assert value[-6:] == base36(zlib.crc32(value[:-6].encode()) % 36**6)
    assert tokens.is_well_formed(value, kind)


def test_a_value_of_one_kind_is_none_of_another() -> None:
    value = tokens.generate(TokenKind.GATEWAY_KEY)
    assert not tokens.is_well_formed(value, TokenKind.ACCESS_KEY)
    assert not tokens.is_well_formed(value, TokenKind.GATEWAY_TOKEN)


@given(position=st.integers(6, 37), letter=st.sampled_from(ALPHABET))
def test_one_mistyped_character_is_always_noticed(position: int, letter: str) -> None:
    value = tokens.generate(TokenKind.GATEWAY_KEY)
    typo = value[:position] + letter + value[position + 1 :]
    assert tokens.is_well_formed(typo, TokenKind.GATEWAY_KEY) == (typo == value)


@given(st.text(max_size=60))
def test_no_text_upsets_the_check(text: str) -> None:
    assert not tokens.is_well_formed(text, TokenKind.GATEWAY_KEY)
    assert not tokens.is_well_formed("kt_gk_" + text, TokenKind.GATEWAY_KEY)


def test_the_digest_is_sha_256_of_the_value() -> None:
    value = tokens.generate(TokenKind.GATEWAY_KEY)
    assert tokens.digest(value) == hashlib.sha256(value.encode()).digest()


def test_the_hint_is_the_prefix_and_four_characters() -> None:
    value = tokens.generate(TokenKind.GATEWAY_KEY)
    assert tokens.hint(value) == value[:10] + "…"


def test_values_do_not_repeat() -> None:
    assert len({tokens.generate(TokenKind.GATEWAY_KEY) for _ in range(2_000)}) == 2_000


@given(st.text(max_size=30), st.text(max_size=30))
def test_redaction_leaves_no_value_in_any_text(before: str, after: str) -> None:
    value = tokens.generate(TokenKind.GATEWAY_TOKEN)
    text = f"{before}{value}{after}"
    assert holds_secret(text)
    assert value not in redact(text)
    assert not holds_secret(redact(text))
    assert tokens.hint(value) in redact(text)
