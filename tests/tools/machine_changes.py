"""First-order changes of source text: of Python by its syntax tree, of C++ and JavaScript token by token.

A change has a name that survives edits elsewhere in its file: the file, the function, the kind, and the expression
before and after it.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

#: An expression shorter than this is shown with what is around it.
_CLEAR = 12


@dataclass(frozen=True)
class Change:
    """One change of one file.

    Attributes:
        file: its name.
        function: where, such as `Term.zero`; empty at the top of the file.
        kind: comparison, operator, constant, function, sign, assignment, logic or branch.
        was, now: the expression before and after.
        source: the whole text of the changed file.
        nth: which one of several with the same name, from 1.
    """

    file: str
    function: str
    kind: str
    was: str
    now: str
    source: str
    nth: int = 1

    @property
    def name(self) -> str:
        """What the list of equivalent changes calls it, beside file and function."""
        again = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.kind}: {self.was} → {self.now}{again}"


def changes(file: str, text: str) -> list[Change]:
    """Every change of a file, in the order of its text; how it is read follows from its ending."""
    made = python_changes(file, text) if file.endswith(".py") else text_changes(file, text)
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for change in made:
        seen[change.function, change.name] += 1
        numbered.append(replace(change, nth=seen[change.function, change.name]))
    return numbered


# Python.

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_FUNCTIONS = {
    **{"any": "all", "all": "any", "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like"},
    **{"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "argmax": "argmin", "floor": "ceil"},
    **{"smaller": "larger", "larger": "smaller", "fmin": "fmax", "fmax": "fmin", "some": "every", "every": "some"},
}
#: What no answer depends on: types and decorators. Texts are left out too.
_SKIPPED = {"annotation", "returns", "decorator_list"}


def python_changes(file: str, text: str) -> Iterator[Change]:
    """The changes of a Python module; comments and layout are lost in them."""
    tree = ast.parse(text)
    for place in _places(tree, [], ""):
        for kind, other in _alternatives(place.node):
            context = place.context()
            was = _shown(context)
            place.put(other)
            now = _shown(other if context is place.node else context)
            source = ast.unparse(tree)
            place.put(place.node)
            yield Change(file, place.function, kind, was, now, source)


@dataclass(frozen=True)
class _Place:
    """A node and where it hangs in the tree: a field of its parent, or an item of a list there."""

    node: ast.AST
    above: list[ast.AST]
    function: str
    field: str
    index: int | None

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.above[-1], self.field, node)
        else:
            getattr(self.above[-1], self.field)[self.index] = node

    def context(self) -> ast.AST:
        """The smallest expression around the node that is long enough to be found, or its simple statement."""
        best = self.node
        for node in (self.node, *reversed(self.above)):
            if isinstance(node, ast.stmt):
                return node if isinstance(node, ast.Assign | ast.AugAssign | ast.Return | ast.AnnAssign) else best
            if isinstance(node, ast.expr):
                best = node
                if len(ast.unparse(node)) >= _CLEAR:
                    break
        return best


def _places(parent: ast.AST, above: list[ast.AST], function: str) -> Iterator[_Place]:
    for field, value in ast.iter_fields(parent):
        if field in _SKIPPED:
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr):
                continue
            inside = function
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                inside = f"{function}.{node.name}".lstrip(".")
            yield _Place(node, [*above, parent], function, field, index)
            yield from _places(node, [*above, parent], inside)


def _alternatives(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                for other in _COMPARISONS[type(op)]:
                    yield "comparison", _with(node, ops=[*ops[:at], other(), *ops[at + 1 :]])
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            yield "operator", _with(node, op=_OPERATORS[type(op)]())
        case ast.AugAssign(op=op, target=target, value=value):
            if type(op) in _OPERATORS:
                yield "operator", _with(node, op=_OPERATORS[type(op)]())
            yield "assignment", ast.copy_location(ast.Assign(targets=[target], value=value), node)
        case ast.UnaryOp(op=ast.USub() | ast.Invert() | ast.Not(), operand=operand):
            yield "sign", operand
        case ast.Constant(value=bool(value)):
            yield "constant", _with(node, value=not value)
        case ast.Constant(value=int(value) | float(value)):
            yield "constant", _with(node, value=value + 1)
        case ast.Attribute(attr=name) if name in _FUNCTIONS:
            yield "function", _with(node, attr=_FUNCTIONS[name])
        case ast.Name(id=name) if name in _FUNCTIONS:
            yield "function", _with(node, id=_FUNCTIONS[name])
        case ast.BoolOp(op=op):
            yield "logic", _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.IfExp(test=test, body=body, orelse=orelse) if not _changed_alone(test):
            yield "branch", _with(node, body=orelse, orelse=body)
        case ast.If(test=test) if not _changed_alone(test):
            yield "branch", _with(node, test=ast.UnaryOp(op=ast.Not(), operand=test))
        case ast.comprehension(ifs=[test, *others]):
            yield "branch", _with(node, ifs=[ast.UnaryOp(op=ast.Not(), operand=test), *others])


def _changed_alone(test: ast.expr) -> bool:
    """Whether a change of the condition itself already swaps its branches."""
    return isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and len(test.ops) == 1)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for field, value in fields.items():
        setattr(other, field, value)
    return other


def _shown(node: ast.AST) -> str:
    """A node on one line; of an `if` its condition."""
    return f"if {ast.unparse(node.test)}" if isinstance(node, ast.If) else " ".join(ast.unparse(node).split())


# C++ and JavaScript. In both, the formatter puts spaces on both sides of an operator with two operands, and only there.

_TOKEN = re.compile(
    r"""(?P<skipped> //[^\n]* | /\*.*?\*/ | \#[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | `(?:\\.|[^`\\])*`)
      | (?P<word> [A-Za-z_$][\w$]*)
      | (?P<number> 0[xX][0-9a-fA-F.]+(?:[pP][+-]?\d+)?f? | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?f?)
      | (?P<operator> (?<=\ )(?:[<>=!]==?|[-+*/&|]=|\*\*|&&|\|\||[-+*/<>&|])(?=[\ \n]))
      | (?P<minus> (?<=[(,=?:\ ])-(?=[\w(])) | (?P<not> !(?=[\w(]))""",
    re.VERBOSE | re.DOTALL,
)
_TEXT_OPERATORS = {
    **{"<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"]},
    **{"==": ["!="], "!=": ["=="], "===": ["!=="], "!==": ["==="]},
    **{"+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "**": ["*"], "&": ["|"], "|": ["&"], "&&": ["||"], "||": ["&&"]},
    **{"+=": ["-=", "="], "-=": ["+=", "="], "*=": ["/=", "="], "/=": ["*=", "="]},
}
#: A line that starts a function, in the first column, or a method or constant function of JavaScript.
_HEADS = (
    re.compile(r"^[A-Za-z](?!.*[;=]).*?(?<!operator)\b(\w+)\("),
    re.compile(r"^  (?:static |\*)?(?!(?:if|for|while|switch)\b)(\w+)\(.*\) \{$"),
    re.compile(r"^const (\w+) = \("),
)
#: How much of a line is shown on each side of a change.
_AROUND = 40


def text_changes(file: str, text: str) -> Iterator[Change]:
    """The changes of a C++ or JavaScript file; comments, texts and lines for the preprocessor stay."""
    for token in _TOKEN.finditer(text):
        for kind, other in _other_tokens(token):
            start, end = token.span()
            first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
            last = len(text) if last < 0 else last
            before, after = _clipped(text[first:start].lstrip(), text[end:last].rstrip())
            yield Change(
                file,
                _function_at(text, start),
                kind,
                f"{before}{token[0]}{after}",
                f"{before}{other}{after}",
                f"{text[:start]}{other}{text[end:]}",
            )


def _other_tokens(token: re.Match[str]) -> Iterator[tuple[str, str]]:
    said = token[0]
    match token.lastgroup:
        case "operator":
            for other in _TEXT_OPERATORS.get(said, ()):
                compares = said[0] in "<>!" or said.startswith("==")
                yield ("comparison" if compares else "logic" if said in ("&&", "||") else "operator"), other
        case "minus" | "not":
            yield "sign", ""
        case "number" if not said.lower().startswith("0x"):
            digits, suffix = (said[:-1], "f") if said.endswith("f") else (said, "")
            yield "constant", f"{int(digits) + 1}" if digits.isdigit() else f"{float(digits) + 1!r}{suffix}"
        case "word" if said in ("true", "false"):
            yield "constant", "false" if said == "true" else "true"
        case "word" if said in _FUNCTIONS and token.string[token.end()] in "(<":
            yield "function", _FUNCTIONS[said]


def _clipped(before: str, after: str) -> tuple[str, str]:
    """The nearest characters of a line on both sides, cut between words where there are several."""
    if len(before) > _AROUND:
        near = before[-_AROUND:]
        before = "…" + (near.partition(" ")[2] or near)
    if len(after) > _AROUND:
        near = after[:_AROUND]
        after = (near.rpartition(" ")[0] or near) + "…"
    return before, after


def _function_at(text: str, position: int) -> str:
    for line in reversed(text[: text.find("\n", position)].splitlines()):
        for head in _HEADS:
            if found := head.match(line):
                return found[1]
    return ""
