"""`${{ }}`: what it may say, what it is worth, and that nothing hostile gets through or takes long."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.expression import Condition, Expression, ExpressionError, Template, has_expression
from qw.core.expression.evaluation import FUNCTIONS
from qw.core.expression.pattern import search
from qw.core.task.payload import Json

SCOPE: dict[str, Json] = {
    "input": {
        "name": "Zoë",
        "count": 3,
        "list": [1, 2, 3],
        "none": None,
        "from": "here",
        "on": True,
        "due-by-day": "monday",
    },
    "steps": {
        "orders": {"status": "completed", "result": {"orders": [{"id": 7}, {"id": 8}], "total": 2.5}},
        "make-pdf": {"status": "completed", "result": {"url": "file:a.pdf"}},
        "import": {"status": "completed", "result": "keyword"},
    },
    "run": {"id": "0192", "error": None},
    "env": {"REGION": "eu"},
}


def value(source: str) -> Json:
    return Expression.parse(source).value(SCOPE)


def render(template: Json) -> Json:
    return Template.parse(template, where="with").render(SCOPE)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("7 / 2", 3.5),
        ("input.due-by-day + '!'", "monday!"),
        ("input['due-by-day']", "monday"),
        ("{'due-day': 5}.due-day", 5),
        ("map([{'n-max': 3, 'n': 1}], item.n-max)", [3]),
        ("map([{'n': 3, 'm': 1}], item.n-item.m)", [2]),
        ("input.count-1", 2),
        ("input.count-len(input.list)", 0),
        ("input.count-input.count", 0),
        ("map(input.list, input.count-item)", [2, 1, 0]),
        ("range(3)", [0, 1, 2]),
        ("range(1, input.count + 1)", [1, 2, 3]),
        ("flatten([input.list, [4], 5])", [1, 2, 3, 4, 5]),
        ("7 // 2 - 7 % 4", 0),
        ("-input.count", -3),
        ("'a' + 'b'", "ab"),
        ("input.count > 2 && input.count <= 3", True),
        ("input.count > 5 || input.name == 'Zoë'", True),
        ("!input.none", True),
        ("input.count != 3", False),
        ("! (input.count == 3)", False),
        ("!input.on == false", True),
        ("!input.count == 4", False),
        ("'a && b || !c'", "a && b || !c"),
        ('"it\'s" + " && "', "it's && "),
        ("true and not false and null is None", True),
        ("input.none || 'other'", "other"),
        ("1 < 2 < 3", True),
        ("true == 1", False),
        ("1 == 1.0", True),
        ("'a' in 'cat'", True),
        ("2 in input.list", True),
        ("true in [1]", False),
        ("'name' in input", True),
        ("'x' not in input", True),
        ("'yes' if input.on else 'no'", "yes"),
        ("input.list[0] + input.list[-1]", 4),
        ("steps.orders.result.orders[1].id", 8),
        ("steps['orders']['result'].total", 2.5),
        ("steps.make-pdf.result.url", "file:a.pdf"),
        ("steps['make-pdf'].result.url", "file:a.pdf"),
        ("steps.import.result", "keyword"),
        ("input.from", "here"),
        ("env.REGION", "eu"),
        ("run.id", "0192"),
        ("[input.count, {'a': input.name}]", [3, {"a": "Zoë"}]),
        ("len(steps.orders.result.orders)", 2),
        ("len('Zoë') + len(input)", 10),
        ("lower('ABC') + upper('def') + strip(' g ')", "abcDEFg"),
        ("contains(input.list, 2) && contains('cat', 'a')", True),
        ("startswith(input.name, 'Z') && endswith(input.name, 'ë')", True),
        ("join(input.list)", "1,2,3"),
        ("join(['a', null, true], ' ')", "a  true"),
        ("default(input.none, 'x') + default(input.name, 'y')", "xZoë"),
        ("sum(input.list) + min(3, 1) + max([1, 9, 2])", 16),
        ("min('b', 'a')", "a"),
        ("round(2.567, 2)", 2.57),
        ("round(2.5)", 2),
        ("str(3) + str(true) + str([1])", "3true[1]"),
        ("int('12') + int(2.9) + float('0.5')", 14.5),
        ("keys(input)[0]", "name"),
        ("1 +\n 2", 3),
        ("'it''s' + \"it\\\"s\"", "it'sit\"s"),
        ("'' + 'a'", "a"),
        ("input.none ?? 'x'", "x"),
        ("input.missing ?? input.none.deep ?? 0 ?? 'x'", 0),
        ("input.count ?? 1 / 0", 3),
        ("false || input.missing ?? 'x'", "x"),
        ("input.list[7] ?? -1", -1),
        ("default(steps.orders.result.missing, 7)", 7),
        ("map(filter(input.list, item > 1), item * 10 + index)", [20, 31]),
        ("map(input.list, map(input.list, item * 2))[2][0]", 2),
        ("sort(steps.orders.result.orders, -item.id)[0].id", 8),
    ],
)
def test_an_expression_has_its_value(source: str, expected: Json) -> None:
    result = value(source)

    assert result == expected
    assert isinstance(result, bool) is isinstance(expected, bool)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("${{ input.list }}", [1, 2, 3]),
        ("${{input.count}}", 3),
        ("${{ input.none }}", None),
        (" ${{ input.count }}", " 3"),
        ("${{ input.count }}/${{ input.name }}", "3/Zoë"),
        ("a ${{ input.none }} b ${{ input.on }} ${{ input.list }}", "a  b true [1,2,3]"),
        ("${{ {'a': {'b': 1}} }}", {"a": {"b": 1}}),
        ("${{ '}}' }}${{ '${{' }}", "}}${{"),
        ({"a": ["${{ input.count }}", {"b": "x"}], "n": 1.5, "t": True}, {"a": [3, {"b": "x"}], "n": 1.5, "t": True}),
    ],
)
def test_a_lone_expression_keeps_its_type_and_mixed_text_is_a_string(template: Json, expected: Json) -> None:
    assert render(template) == expected


def test_a_value_that_looks_like_an_expression_is_not_evaluated_again() -> None:
    scope: dict[str, Json] = {**SCOPE, "input": {"name": "${{ run.id }}"}}

    assert Template.parse({"a": "${{ input.name }}"}, where="with").render(scope) == {"a": "${{ run.id }}"}


def test_a_template_tells_the_steps_and_inputs_that_it_names() -> None:
    template = Template.parse({"a": "${{ steps.x.result + steps['y-1'].result }}", "b": "${{ input.q }}"}, where="w")

    assert template.names() == {"x", "y-1"}
    assert template.inputs() == {"q"}
    assert Condition.parse("steps.z-2.result").names() == {"z-2"}


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("true", True),
        ("0", False),
        ("''", False),
        ("[]", False),
        ("null", False),
        ("${{ input.on }}", True),
        ("'x'", True),
    ],
)
def test_a_condition_holds_unless_its_value_is_empty(source: str, holds: bool) -> None:
    assert Condition.parse(source).holds(SCOPE) is holds


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "steps.orders.result.ordrs",
            "steps.orders.result has no 'ordrs'; it has orders, total; did you mean 'orders'?",
        ),
        ("input.list[3]", "input.list has 3 items, so no [3]"),
        ("input.none.x", "cannot take 'x' of input.none, which is null; write … ?? '' if it may be"),
        ("input.name.__class__", "cannot take '__class__' of input.name, which is a string"),
        ("input.list[true]", "cannot take 'True' of input.list, which is a list"),
        ("env.HOME", "env has no 'HOME'; it has REGION"),
        ("run.error.x", "cannot take 'x' of run.error, which is null; write … ?? '' if it may be"),
        ("input.name * 3", "'*' needs numbers, not a string"),
        ("input.list + input.list", "'+' needs numbers, not a list"),
        ("input.on + 1", "'+' needs numbers, not a boolean"),
        ("-input.name", "'-' needs numbers, not a string"),
        ("1 / 0", "division by zero"),
        ("9000000000000000000 * 9000000000000000000", "the number is too large"),
        ("1e308 * 10", "the number is too large"),
        ("int('1' + '0')  < 'a'", "a number and a string have no order"),
        ("1 in 2", "cannot look for a number in a number"),
        ("len(3)", "len() has no value for a number"),
        ("lower(1)", "lower() has no value for a number"),
        ("sum(['a'])", "sum() has no value for a list"),
        ("int('ten')", "int() has no value for a string"),
        ("float('nan')", "the number is too large"),
        ("round(2.5, 99)", "round() has no value for a number, a number"),
        ("round(2, -99999999)", "round() has no value for a number, a number"),
        ("{input.count: 1}", "the key of an object must be a string, not a number"),
        ("input.name.x ?? 1", "cannot take 'x' of input.name, which is a string"),
        (
            "fromjson('{')",
            (
                "fromjson() has no value for a string: Expecting property name enclosed in double quotes: "
                "line 1 column 2 (char 1)"
            ),
        ),
        (
            "match('a', '(')",
            (
                "match() has no value for a string, a string: '(' is not a regular expression: "
                "missing ), unterminated subpattern at position 0"
            ),
        ),
        (
            "match('a', '(a)\\\\1')",
            "match() has no value for a string, a string: groups that look around or back are not supported",
        ),
        ("sort([1, {}])", "sort() has no value for a list"),
        ("sort(input.list, [item])", "sort() orders numbers, strings and booleans only"),
        ("map(input.name, item)", "map() needs a list, not a string"),
        ("format('{1}', 1)", "format() has no value for a string, a number"),
        ("date('31.1.2026')", "date() has no value for a string"),
        ("now()", "now() has no value here"),
    ],
)
def test_a_value_that_does_not_exist_is_named_with_what_there_is(source: str, message: str) -> None:
    expression = Expression.parse(source)

    with pytest.raises(ExpressionError) as caught:
        expression.value(SCOPE)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "source",
    [
        "''.__class__",
        "().__class__.__bases__[0].__subclasses__()",
        "__import__('os').system('id')",
        "open('/etc/passwd')",
        "input.name.upper()",
        "[x for x in input.list]",
        "{**input}",
        "(lambda: 1)()",
        "f'{input}'",
        "b'bytes'",
        "2 ** 99999999",
        "1 << 99999999",
        "~1",
        "+1",
        "input[1:2]",
        "(x := 1)",
        "len(*input.list)",
        "len(x=1)",
        "len()",
        "len(1, 2)",
        "1j",
        "...",
        "(1, 2)",
        "{1, 2}",
        "steps",
        "steps[input.name].result",
        "stepz.a.result",
        "unknown",
        "1 +",
        "1) + (2",
        "import os",
        "x = 1",
        "",
        "   ",
        "'\\d'",
        "99999999999999999999999",
        "'open",
        "await x",
        "yield",
        "input @ input",
    ],
)
def test_what_is_not_on_the_list_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(ExpressionError):
        Expression.parse(source)


@pytest.mark.parametrize(
    "source",
    [
        "-" * 3999 + "1",
        "(" * 1999 + "1" + ")" * 1999,
        "not " * 999 + "1",
        "1" + "+1" * 1900,
        "input" + ".a" * 1900,
        "[" * 150 + "]" * 150,
        "1," * 1900,
        "[" + "1," * 1900 + "]",
        "9" * 3999,
        "!" * 3999,
        "input.list if " * 200 + "1",
        "x" * 5000,
        "'" + "\\" * 3990,
        "(lambda: " + "-" * 900 + "1)",
    ],
)
def test_an_expression_that_is_too_much_is_refused_at_once(source: str) -> None:
    before = time.process_time()

    with pytest.raises(ExpressionError):
        Expression.parse(source)

    assert time.process_time() - before < 0.5


@pytest.mark.parametrize(
    "source",
    [
        "input.big + input.big",
        "join(input.many, input.big)",
        "[input.big, input.big, input.big]",
        "str([input.big, input.big])",
        "input.huge",
    ],
)
def test_a_value_of_more_than_one_mib_is_refused_quickly(source: str) -> None:
    big: dict[str, Json] = {"big": "x" * 600_000, "many": ["a"] * 1000, "huge": ["x" * 1000] * 10_000}
    scope = {**SCOPE, "input": big}
    before = time.process_time()

    with pytest.raises(ExpressionError):
        Template.parse({"a": f"${{{{ {source} }}}}"}, where="with").render(scope)

    assert time.process_time() - before < 0.5


def test_a_template_that_repeats_a_large_value_is_refused() -> None:
    scope: dict[str, Json] = {**SCOPE, "input": {"big": "x" * 900_000}}
    templates: list[Json] = [{str(n): "${{ input.big }}" for n in range(500)}, "${{ input.big }} " * 500]

    for template in templates:
        with pytest.raises(ExpressionError):
            Template.parse(template, where="with").render(scope)


def test_every_fault_of_a_template_is_told_with_its_path() -> None:
    with pytest.raises(ExpressionError) as caught:
        Template.parse(
            {"a": "${{ x }}", "b": ["", "${{ 1 + }}"], "${{ c }}": 1, "d": "${{ open"}, where="steps[0].with"
        )

    assert {fault.path for fault in caught.value.faults} == {
        "steps[0].with.a",
        "steps[0].with.b[1]",
        "steps[0].with.${{ c }}",
        "steps[0].with.d",
    }


def test_a_value_missing_at_run_time_is_told_with_its_path() -> None:
    with pytest.raises(ExpressionError, match=r"^list\[1\]\.deep: input has no 'x'"):
        render({"list": [1, {"deep": "${{ input.x }}"}]})


def test_whether_a_value_holds_an_expression_is_seen_at_any_depth() -> None:
    assert has_expression({"a": [1, {"b": "x ${{ y"}]})
    assert not has_expression({"${{ key }}": ["$ {{ }}", 1, None]})


@given(st.text(alphabet="input.steps run[]'\"&|!()+-*/<>=,{}$\\0123456789ab\n", max_size=60))
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    try:
        expression = Expression.parse(source)
    except ExpressionError:
        return
    try:
        expression.value(SCOPE)
    except ExpressionError:
        return


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_value_passes_through_an_expression_unchanged(anything: Json) -> None:
    scope = {**SCOPE, "input": {"x": anything}}

    assert Template.parse({"a": "${{ input.x }}"}, where="with").render(scope) == {"a": anything}


def test_a_long_key_above_many_values_costs_no_time() -> None:
    value: Json = {"k" * 400_000: ["${{ 1 }}", *[1] * 200_000]}
    before = time.process_time()

    template = Template.parse(value, where="with")
    rendered = template.render(SCOPE)

    assert rendered == {"k" * 400_000: [1, *[1] * 200_000]}
    assert time.process_time() - before < 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("input.name === 'x'", "there is no '==='; write '=='"),
        ("input.name !== 'x'", "there is no '!=='; write '!='"),
        ("fromJSON('1')", "there is no fromJSON(); it is called fromjson()"),
        ("startsWith('a', 'b')", "it is called startswith()"),
        ("always()", "goes under finally"),
        ("failure()", "goes under on_failure; run_if: any_failed"),
        ("success()", "run_if says otherwise"),
        ("input.name.upper()", "write upper(input.name)"),
        ("needs.a.outputs.x", "steps.ID.result"),
        ("matrix.os", "the combination is item"),
        ("inputs.x", "write input.NAME"),
        ("input.on ? 1 : 2", "write A if CONDITION else B"),
        ("input.name =~ 'Z.*'", "write match(TEXT, 'pattern')"),
        ("$.name", "values are input.NAME"),
        ("input.name & 'x'", "join texts with +"),
        ("concat(input.list, [4])", "two lists with flatten([a, b])"),
        ("asInt('1')", "it is called int()"),
        ("_coalesce_ || 1", "'_coalesce_' is not known"),
        ("?? 1", "is not an expression"),
        ("item", ""),
    ],
)
def test_words_of_other_tools_are_told_with_the_right_one(source: str, message: str) -> None:
    if not message:
        assert Expression.parse(source).is_of_item
        return
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(source)

    assert message in str(caught.value)


def test_item_belongs_to_the_map_around_it() -> None:
    assert not Expression.parse("map(input.list, item + index)").is_of_item
    assert Expression.parse("map(item, item + 1)").is_of_item


@pytest.mark.parametrize(
    "source",
    [
        "map(input.many, map(input.many, map(input.many, item)))",
        "map(input.many, len(split(input.big, 'x')))",
        "filter(input.many, item in input.many)",
        "replace(input.big, 'x', input.big)",
        "format('{0}{0}{0}', input.big)",
        "match(input.big, '(x+)+y')",
        "match('x', 'x{1,400}{1,400}')",
        "fromjson('[' * 9)",
        "join(map(input.many, input.big))",
    ],
)
def test_functions_make_no_more_than_they_may_and_take_no_long_time(source: str) -> None:
    scope: dict[str, Json] = {**SCOPE, "input": {"big": "x" * 600_000, "many": list(range(5000))}}
    before = time.process_time()

    with pytest.raises(ExpressionError):
        Expression.parse(source).value(scope)

    assert time.process_time() - before < 3


@pytest.mark.parametrize(
    "pattern",
    [
        "^a",
        "b$",
        "^a.*b$",
        "a|b",
        "[a-c]+d?",
        r"\d{2,3}",
        "(ab)*c",
        "^$",
        "[^a]",
        r"\w+@\w+\.\w+",
        "(a|ab)(c|bcd)",
        "a{2}",
    ],
)
@given(text=st.text(alphabet="abcd01@. ", max_size=12))
def test_match_finds_what_a_regular_expression_finds(pattern: str, text: str) -> None:
    assert search(pattern, text) is bool(re.search(pattern, text))


DOCS = Path(__file__).parents[3] / "docs" / "workflows.md"
EXAMPLE = re.compile(r"^\| `(\w+)\(.*?` \| .*? \| `(.+?)` → `(.+?)` \|$", re.MULTILINE)


def test_each_function_is_documented_with_an_example_that_is_true() -> None:
    found = EXAMPLE.findall(DOCS.read_text("utf-8"))

    assert {name for name, _, _ in found} == set(FUNCTIONS)
    for name, source, expected in found:
        assert name in source
        scope = {**SCOPE, "now": "2026-01-31T09:00:00Z"}
        assert Expression.parse(source.replace("\\|", "|")).value(scope) == json.loads(expected), source
