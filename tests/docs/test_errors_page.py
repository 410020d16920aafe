"""The page of errors knows every text that the package can raise, and no other."""

import ast
import builtins
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
INTERNAL = {"kind must be one that fused kernels know"}  # a path that was asked for a loss it does not take
TERMS = re.findall(r"^`(.*)`\n: ", (ROOT / "docs" / "reference" / "errors.md").read_text(), re.MULTILINE)


def text(message: ast.expr) -> str:
    if isinstance(message, ast.JoinedStr):
        return "".join(text(part) if isinstance(part, ast.Constant) else "…" for part in message.values)
    assert isinstance(message, ast.Constant)
    return str(message.value)


def rules(path: Path) -> list[str]:
    """Return every text that a file raises, up to "got": the name of the argument, and what it must be."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args]
    texts = [text(call.args[0]) for call in calls if isinstance(call.func, ast.Name) and is_error(call.func.id)]
    return [re.split(r"[,;] got|; |, …(?!\))", one)[0] for one in texts]


def is_error(name: str) -> bool:
    """Tell the errors of a user from other names; those of an import have a place apart on the page."""
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ImportError | AssertionError)


def pattern(rule: str) -> str:
    return "(.+)".join(map(re.escape, rule.split("…")))


RULES = [rule for path in sorted((ROOT / "src").rglob("*.py")) for rule in rules(path) if rule not in INTERNAL]


def test_every_error_is_explained() -> None:
    assert len(RULES) > 60
    assert not [rule for rule in RULES if not any(re.fullmatch(pattern(rule), term) for term in TERMS)]


def test_every_explanation_has_its_error() -> None:
    specific = [rule for rule in RULES if rule != "… must be …"]
    assert not [
        term for term in TERMS if term not in RULES and not any(re.fullmatch(pattern(rule), term) for rule in specific)
    ]
