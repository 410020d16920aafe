"""The page of errors knows every text that the package can raise, and no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TERMS = re.findall(r"^`(.*)`\n: ", (ROOT / "docs" / "reference" / "errors.md").read_text(), re.MULTILINE)


def text(message: ast.expr) -> str:
    if isinstance(message, ast.JoinedStr):
        return "".join(text(part) if isinstance(part, ast.Constant) else "…" for part in message.values)
    assert isinstance(message, ast.Constant)
    return str(message.value)


def rules(path: Path) -> list[str]:
    """Return every text that a file raises, up to "got": the name of the argument, and what it must be."""
    raised = [node.exc for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    texts = [text(call.args[0]) for call in raised if isinstance(call, ast.Call)]
    return [re.split(r"[,;] got|; |, …(?!\))", one)[0] for one in texts]


def pattern(rule: str) -> str:
    return "(.+)".join(map(re.escape, rule.split("…")))


RULES = [
    rule
    for name in ("cbcore/_arrays.py", "cbcore/_checks.py", "cbcore_torch/_training.py")
    for rule in rules(ROOT / "src" / name)
]


def test_every_error_is_explained() -> None:
    assert len(RULES) > 40
    assert not [rule for rule in RULES if not any(re.fullmatch(pattern(rule), term) for term in TERMS)]


def test_every_explanation_has_its_error() -> None:
    specific = [rule for rule in RULES if rule != "… must be …"]
    assert not [
        term for term in TERMS if term not in RULES and not any(re.fullmatch(pattern(rule), term) for rule in specific)
    ]
