"""What made-up runs are about, and the texts that attack whoever shows them."""

from __future__ import annotations

CATEGORIES: dict[str, tuple[str, str, str, str]] = {
    "college_biology": ("College biology", "biology", "STEM", "cell membrane protein enzyme gene species"),
    "virology": ("Virology", "health", "other", "virus infection host strain vaccine outbreak"),
    "college_medicine": ("College medicine", "health", "other", "patient dose artery tissue symptom blood"),
    "nutrition": ("Nutrition", "health", "other", "vitamin diet protein calorie fat fibre"),
    "college_chemistry": (
        "College chemistry",
        "chemistry",
        "STEM",
        "acid bond ion molecule reaction solvent",
    ),
    "high_school_physics": (
        "High school physics",
        "physics",
        "STEM",
        "force mass velocity charge field wave",
    ),
    "abstract_algebra": ("Abstract algebra", "math", "STEM", "group ring ideal field order kernel"),
    "us_history": ("US history", "history", "humanities", "senate treaty colony union war president"),
    "philosophy": ("Philosophy", "philosophy", "humanities", "mind moral duty reason belief truth"),
    "econometrics": ("Econometrics", "economics", "social sciences", "price demand market trend tax trade"),
    "computer_security": (
        "Computer security",
        "computer science",
        "STEM",
        "key cipher packet login hash port",
    ),
    "everyday_life": ("Everyday life", "everyday", "other", "kitchen garden train friend dinner weather"),
}
COMMON = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "with",
    "as",
    "was",
    "on",
    "are",
    "by",
    "this",
    "be",
    "at",
    "from",
    "or",
    "which",
    "an",
    "not",
    "have",
]

HOSTILE = [
    "<script>window.hacked=1</script>",
    '<img src=x onerror="window.hacked=1">',
    '"><svg onload=window.hacked=1>',
    "[click](javascript:window.hacked=1)",
    ":red[fake] **bold** `code` | pipe | $x^2$ :material/delete:",
    "\u202eright to left\u202c \u200bzero\u200d width\ufeff",
    "x" * 10_000,
    "new\nline\ttab\x00nul\x1b[31m",
    "' OR 1=1; DROP TABLE latents; --",
    "![pixel](http://127.0.0.1:9/pixel.png)",
    '=HYPERLINK("http://127.0.0.1:9/","x")',
]
