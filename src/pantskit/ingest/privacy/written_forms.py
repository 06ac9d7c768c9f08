"""How names, dates, times, numbers and UIDs are written: read back from any of their forms.

A date is looked for by reading every date in a text, whatever its form, and not by listing the
forms of one date: `17.03.1950`, `March 17, 1950` and `19500317T1230` are all 1950-03-17.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

Date = tuple[int, int, int]  # year, month, day; day 0 where only the month is told

WORD = re.compile(r"[^\W_]+")
_PART = re.compile(r"[^\W\d_]+|\d+")

# Letters that no decomposition reduces to plain ones.
_LETTERS = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)
# How names are written where a keyboard lacks the letter: Müller is Mueller too.
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})

# Month names of the languages of most hospitals; abbreviations are their first letters.
_MONTHS = (
    "january januar janvier enero gennaio janeiro januari styczen stycznia января",
    "february februar fevrier febrero febbraio fevereiro februari luty lutego февраля",
    "march maerz marz mars marzo marco maart marts marzec marca марта",
    "april avril abril aprile kwiecien kwietnia апреля",
    "may mai mayo maggio maio mei maj maja мая",
    "june juni juin junio giugno junho czerwiec czerwca июня",
    "july juli juillet julio luglio julho lipiec lipca июля",
    "august aout agosto augustus augusti sierpien sierpnia августа",
    "september septembre septiembre settembre setembro wrzesien wrzesnia сентября",
    "october oktober octobre octubre ottobre outubro oktober pazdziernik pazdziernika октября",
    "november novembre noviembre novembro listopad listopada ноября",
    "december dezember decembre diciembre dicembre dezembro grudzien grudnia декабря",
)
_SHORTEST_MONTH = 3


def plain(text: str) -> str:
    """Lower case, without accents, wide and styled letters as plain ones, spaces single."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        bare = "".join(c for c in decomposed if not unicodedata.combining(c))
        # Separators of other scripts, such as the middle dot between names, are none of \w.
        return " ".join(bare.casefold().translate(_LETTERS).split())
    return " ".join(text.lower().split())


def spelt_out(text: str) -> str:
    """As `plain`, but umlauts as two letters: `Jürgen` is `juergen`."""
    return plain(unicodedata.normalize("NFC", text).casefold().translate(_SPELT_OUT))


def words_of(plain_text: str) -> list[str]:
    """Runs of letters and digits."""
    return WORD.findall(plain_text)


def parts_of(word: str) -> list[str]:
    """A word's letters and digits apart: `QX778812` is `qx` and `778812`."""
    return _PART.findall(word)


def has_own_words(word: str) -> bool:
    """Whether a script puts no space between words: Chinese, Japanese, Korean, Thai."""
    return any("\u0e00" <= c <= "\u0e7f" or c >= "\u1100" for c in word)


@cache
def _months() -> dict[str, int]:
    """Every beginning of a month's name that fits one month alone, to its number."""
    fits: dict[str, set[int]] = {}
    for number, names in enumerate(_MONTHS, 1):
        for name in names.split():
            name = plain(name)
            for length in range(min(_SHORTEST_MONTH, len(name)), len(name) + 1):
                fits.setdefault(name[:length], set()).add(number)
    return {name: months.pop() for name, months in fits.items() if len(months) == 1}


_EIGHT = re.compile(r"(?<!\d)(?<!\d\.)(\d{8})(?:\d{2}|\d{4}|\d{6})?(?!\d)")
_SIX = re.compile(r"(?<!\d)(?<!\d\.)(\d{6})(?!\d)(?!\.\d)")
_SEPARATED = re.compile(
    r"(?<!\d)(?<!\d[./-])(\d{1,4})\s?([./_ -])\s?(\d{1,2})\s?\2\s?(\d{1,4})(?!\d)"
)
_MONTH = r"[^\W\d_]{3,12}"
_DAY_FIRST = re.compile(
    rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th|er|º|ª)?[\s./_-]{{0,2}}(?:of |de |d.)?({_MONTH})"
    r"[.,]?[\s./_-]{0,2}(?:of |de |del )?(\d{4}|\d{2})(?!\d)"
)
_MONTH_FIRST = re.compile(
    rf"({_MONTH})\.?[\s_-]?(\d{{1,2}})(?:st|nd|rd|th)?[\s,._-]{{1,2}}(\d{{4}})(?!\d)"
)
_YEAR_FIRST = re.compile(rf"(?<!\d)(\d{{4}})[\s._-]?({_MONTH})\.?[\s._-]?(\d{{1,2}})(?!\d)")
_MONTH_YEAR = re.compile(rf"(?<![^\W_])({_MONTH})\.?[\s,_-]{{0,2}}(\d{{4}})(?!\d)")
_YEAR_DASH_MONTH = re.compile(r"(?<!\d)(?<!\d[./-])(\d{4})[/-](\d{1,2})(?!\d)(?![./-]\d)")
_MONTH_DASH_YEAR = re.compile(r"(?<!\d)(?<!\d[./-])(\d{1,2})[/-](\d{4})(?!\d)(?![./-]\d)")
# Year, month, day with their Chinese, Japanese and (decomposed) Korean signs.
_SIGNS = [plain(signs) for signs in ("年년", "月월", "日일")]
_WITH_SIGNS = re.compile(
    rf"(\d{{4}})\s?(?:{_SIGNS[0][0]}|{_SIGNS[0][1:]})\s?"
    rf"(\d{{1,2}})\s?(?:{_SIGNS[1][0]}|{_SIGNS[1][1:]})\s?(\d{{1,2}})"
)


def dates_in(text: str, *, two_digit_years: tuple[int, ...] = ()) -> Iterator[Date]:
    """Every date that a plain text may hold, in each reading: 03/04/1950 is two.

    Args:
        text: from `plain`.
        two_digit_years: years of which two digits suffice (`17.3.50`, `500317`).
    """
    years = {y % 100: y for y in two_digit_years}
    for match in _EIGHT.finditer(text):
        yield from _orders(match[1][:4], match[1][4:6], match[1][6:8], {})
        yield from _orders(match[1][:2], match[1][2:4], match[1][4:8], {})
    for match in _SIX.finditer(text) if years else ():
        yield from _orders(match[1][:2], match[1][2:4], match[1][4:6], years)
    for match in _SEPARATED.finditer(text):
        # Numbers with spaces between are a date only where the year is whole.
        yield from _orders(match[1], match[3], match[4], {} if match[2] == " " else years)
    for match in _WITH_SIGNS.finditer(text):
        yield from _orders(match[1], match[2], match[3], {})
    yield from _named(text, years)
    for match in _YEAR_DASH_MONTH.finditer(text):
        yield from _valid(int(match[1]), int(match[2]), 0)
    for match in _MONTH_DASH_YEAR.finditer(text):
        yield from _valid(int(match[2]), int(match[1]), 0)


def _named(text: str, years: dict[int, int]) -> Iterator[Date]:
    """Dates whose month is a word."""
    months = _months()
    for pattern, (y, m, d) in (
        (_DAY_FIRST, (3, 2, 1)),
        (_MONTH_FIRST, (3, 1, 2)),
        (_YEAR_FIRST, (1, 2, 3)),
    ):
        for match in pattern.finditer(text):
            if match[m] in months:
                yield from _valid(_year(match[y], years), months[match[m]], int(match[d]))
    for match in _MONTH_YEAR.finditer(text):
        if match[1] in months:
            yield from _valid(int(match[2]), months[match[1]], 0)


def _orders(a: str, b: str, c: str, years: dict[int, int]) -> Iterator[Date]:
    """Three numbers as year-month-day, day-month-year and month-day-year."""
    if len(a) == 4 or (len(a) == 2 and years):
        yield from _valid(_year(a, years), int(b), int(c))
    if len(c) == 4 or (len(c) == 2 and years):
        yield from _valid(_year(c, years), int(b), int(a))
        yield from _valid(_year(c, years), int(a), int(b))


def _year(text: str, years: dict[int, int]) -> int:
    return int(text) if len(text) == 4 else years.get(int(text), 0)


def _valid(year: int, month: int, day: int) -> Iterator[Date]:
    if 1850 < year < 2200 and 1 <= month <= 12 and 0 <= day <= 31:
        yield (year, month, day)


_CLOCK = re.compile(r"(?<![\d:])(\d{1,2})\s?[:h]\s?([0-5]\d)(?::([0-5]\d))?(?!\d)\s?(am|pm)?")
_CLOCK_DIGITS = re.compile(r"(?<!\d)(?:\d{8}t?)?([0-2]\d)([0-5]\d)([0-5]\d)(?!\d)(?=$|\D)")


def times_in(text: str) -> Iterator[str]:
    """Times of day in a plain text as `hhmmss`, or `hhmm` where no seconds are told."""
    for match in _CLOCK.finditer(text):
        hour = int(match[1]) % 24
        if match[4]:
            hour = hour % 12 + (12 if match[4] == "pm" else 0)
        yield f"{hour:02d}{match[2]}{match[3] or ''}"
    for match in _CLOCK_DIGITS.finditer(text):
        before = text[max(match.start() - 2, 0) : match.start()]
        if not (len(before) == 2 and before[0].isdigit() and before[1] == "."):
            yield match[1] + match[2] + match[3]


_UID = re.compile(r"(?<![\d.])\d+(?:[._-]\d+){2,}")


def uids_in(text: str) -> Iterator[str]:
    """Dotted numbers of three parts or more, also where `_` or `-` stands for the dot."""
    for match in _UID.finditer(text):
        yield re.sub("[_-]", ".", match[0])


_NUMBER = re.compile(r"(?<!\d)(?<!\d[.,])\d+(?!\d)(?![.,]\d)")
_BEFORE = re.compile(r"(?:[^\W\d_]|[_^=#/\\:]|[^\W_]-)$")
_AFTER = re.compile(r"[^\W\d_]|[_^=#/\\:]|-[^\W_]")
_DIGEST = re.compile(r"(?<![^\W_])(?=[0-9]*[a-f])[0-9a-f]{24,}(?![^\W_])")


def numbers_in(text: str) -> Iterator[tuple[str, bool]]:
    """Whole numbers in a plain text, and whether each stands alone or is joined to a word.

    A number beside another one, in a list or a sentence, may be a measurement. Decimal numbers
    and digits inside hashes are none. Leading zeros are gone.
    """
    text = _DIGEST.sub(" ", text)
    for match in _NUMBER.finditer(text):
        start, stop = match.span()
        alone = start == 0 and stop == len(text)
        joined = _BEFORE.search(text[max(start - 2, 0) : start]) or _AFTER.match(text, stop)
        yield match[0].lstrip("0"), alone or bool(joined)
