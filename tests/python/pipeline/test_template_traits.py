# SPDX-License-Identifier: Apache-2.0
"""What the syntax tree of a chat template reveals."""

from dataclasses import asdict
from typing import Any

import pytest
from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.pipeline.template import Template
from dynamo_llm.runtime.pipeline.template_traits import Traits

start, end = "{% for m in messages %}", "{% endfor %}"


def of(source: str) -> Traits:
    return Template(source).traits


def in_loop(source: str) -> Traits:
    return of(start + source + end)


null = [
    "{% if m.content is none %}{% endif %}",
    "{% if m['content'] is not none %}{% endif %}",
    "{% if m.get('content') == None %}{% endif %}",
    "{% if none != m.content %}{% endif %}",
    "{% if m.content in ['', none] %}{% endif %}",
    "{{ 'x' if m.content is sameas none else 'y' }}",
    "{% set c = m.content %}{% set d = c %}{% if d is none %}{% endif %}",
    "{% set ns = namespace(c='') %}{% set ns.c = m.content %}{% if ns.c is none %}{% endif %}",
    "{% macro f(a, b=1) %}{% if b is none %}{% endif %}{% endmacro %}{{ f(1, b=m.content) }}",
    "{% macro f(msg) %}{{ msg['content'] is none }}{% endmacro %}{{ f(m) }}",
    "{% with c = m.content %}{% if c is none %}{% endif %}{% endwith %}",
    "{% if messages[loop.index0].content is none %}{% endif %}",
    "{% if loop.nextitem.content is none %}{% endif %}",
    "{% if (messages | last).content is none %}{% endif %}",
    "{% if (m.content | default(none)) is none %}{% endif %}",
    "{% set key = 'content' %}{% if m[key] is none %}{% endif %}",
    "{% for c in messages | map(attribute='content') %}{% if c is none %}{% endif %}{% endfor %}",
    "{% set c = [m.role, m.content] %}{% if c[1] is none %}{% endif %}",
    "{% set ns = namespace(c=[]) %}{% set ns.c = ns.c + [m.content] %}{{ ns.c[0] is none }}",
]
no_null = [
    "{{ m.content }}",
    "{% if m.content %}{{ m.content }}{% endif %}",
    "{% if m.tool_calls is none %}{{ m.content }}{% endif %}",
    "{% if m.content == '' %}{% endif %}",
    "{% set c = none %}{% if c is none %}{{ m.content }}{% endif %}",
    "{% if messages[0].content is none %}{% endif %}",
    "{% macro f(content) %}{{ content is none }}{% endmacro %}{{ f(m.role) }}{{ m.content }}",
]


@pytest.mark.parametrize("source", null)
def test_null(source: str) -> None:
    assert in_loop(source).tests_null


@pytest.mark.parametrize("source", no_null)
def test_no_null(source: str) -> None:
    assert not in_loop(source).tests_null


@pytest.mark.parametrize(
    ("source", "is_tested"),
    [
        ("{% if m.content is defined %}{% endif %}", True),
        ("{% if m['content'] is undefined %}{% endif %}", True),
        ("{% if 'content' in m %}{% endif %}", True),
        ("{% if 'content' not in m %}{% endif %}", True),
        ("{{ messages | selectattr('content', 'defined') | list | length }}", True),
        ("{% if m.tool_calls is defined %}{% endif %}", False),
        ("{% if 'tool_calls' in m %}{% endif %}", False),
        ("{% if 'content' in 'content' %}{{ m.content }}{% endif %}", False),
        ("{% if x %}{% set c = m.content %}{% endif %}{% if c is defined %}{{ c }}{% endif %}", False),
    ],
)
def test_presence(source: str, is_tested: bool) -> None:
    assert in_loop(source).tests_presence is is_tested


parts = [
    "{% for p in m.content %}{% endfor %}",
    "{% for p in m['content'] if p.type == 'text' %}{% endfor %}",
    "{% set c = m.get('content') %}{% for p in c %}{% endfor %}",
    "{{ m.content | selectattr('type', 'equalto', 'text') | list }}",
    "{{ m.content | map(attribute='text') | join }}",
    "{{ m.content[0].text }}",
    "{{ m['content'][0]['text'] }}",
    "{{ (m.content | first)['text'] }}",
    "{% for i in range(m.content | length) %}{{ m.content[i].text }}{% endfor %}",
    "{% macro f(content) %}{% for p in content %}{% endfor %}{% endmacro %}{{ f(m.content) }}",
    "{{ f(m.content) }}{% macro f(c) %}{{ g(c) }}{% endmacro %}{% macro g(c) %}{{ c[0].text }}{% endmacro %}",
]
no_parts = [
    "{{ m.content }}",
    "{{ m.content[0] }}{{ m.content[1:] }}",
    "{% for line in m.content.split('x') %}{% endfor %}",
    "{% for call in m.tool_calls %}{{ m.content }}{% endfor %}",
    "{% for tool in tools %}{% for content in tool.content %}{% endfor %}{% endfor %}{{ m.content }}",
]


@pytest.mark.parametrize("source", parts)
def test_parts(source: str) -> None:
    assert in_loop(source).reads_parts
    assert not in_loop(source).tests_type


@pytest.mark.parametrize("source", no_parts)
def test_no_parts(source: str) -> None:
    assert not in_loop(source).reads_parts


@pytest.mark.parametrize("test", ["string", "not string", "mapping", "iterable", "sequence"])
def test_type(test: str) -> None:
    source = f"{{% if m.content is {test} %}}{{% endif %}}{{% for p in m.content %}}{{% endfor %}}"
    assert in_loop(source).tests_type


call = "{% for t in m.tool_calls %}"
objects = [
    "{{ t.function.arguments | tojson }}",
    "{{ t['function'] | tojson }}",
    "{% set t = t.function %}{{ t.arguments | tojson(indent=2) }}",
    "{% for k, v in t.function.arguments | items %}{% endfor %}",
    "{% for k, v in t.function.arguments.items() %}{% endfor %}",
    "{% set a = t.function['arguments'] %}{% for k in a %}{{ a[k] }}{% endfor %}",
    "{{ {'name': t.function.name, 'arguments': t.function.arguments} | tojson }}",
    "{{ m.tool_calls | map(attribute='function') | list | tojson }}",
    "{{ t.function.arguments.city }}",
    "{% set key = 'arguments' %}{{ t.function[key].city }}",
    "{{ m.tool_calls | map(attribute='function') | map(attribute='arguments') | map('tojson') | join }}",
    "{{ m.tool_calls | map(attribute='function.arguments') | map('tojson') | join(',') }}",
    "{% for a in m.tool_calls | map(attribute='function.arguments') %}{{ a.city }}{% endfor %}",
    "{% if t.function.arguments is mapping %}{% endif %}",
    "{% if t.function.arguments is string %}{% else %}{{ t.function.arguments | items }}{% endif %}",
    "{% macro f(c) %}{{ c.arguments | tojson }}{% endmacro %}{{ f(t.function) }}",
    "{{ m | tojson }}",
]
strings = [
    "{{ '<' + t.function.arguments + '>' }}",
    "{{ t['function']['arguments'] }}",
    "{{ t.function.name ~ t.function.arguments }}",
    "{{ t.function.arguments | trim }}",
    "{% set a = t.function.arguments %}{% if a is not string %}{% set a = a | tojson %}{% endif %}{{ a }}",
    "{{ t.function.arguments if t.function.arguments is string else t.function.arguments | tojson }}",
    "{{ t.function.name | tojson }}",
]


@pytest.mark.parametrize("source", objects)
def test_objects(source: str) -> None:
    found = in_loop(call + source + end)
    assert found.reads_calls and found.needs_object


@pytest.mark.parametrize("source", strings)
def test_strings(source: str) -> None:
    found = in_loop(call + source + end)
    assert found.reads_calls and not found.needs_object


@pytest.mark.parametrize(
    ("source", "roles"),
    [
        ("{% if m.role == 'user' %}{% elif m['role'] != 'critic' %}{% endif %}", {"user", "critic"}),
        ("{% if m.role in ['user', 'ipython'] %}{% endif %}", {"user", "ipython"}),
        ("{% set r = m.role %}{% if 'a' == r or r == 'b' %}{% endif %}", {"a", "b"}),
        ("{{ {'user': 'U', 'bot': 'B'}[m.role] }}", {"user", "bot"}),
        ("{% set names = {'human': 'H'} %}{{ names.get(m.role) }}", {"human"}),
        ("{% if m.role not in known %}{% endif %}{% set known = ['x'] %}", {"x"}),
        ("{{ messages | selectattr('role', 'equalto', 'query') | list }}", {"query"}),
        ("{% if m.role | upper == 'FUNCTIONS' %}{% endif %}", {"FUNCTIONS", "functions"}),
        ("{{ '<|' + m.role + '|>' }}{% if x == 'y' %}{% endif %}", set()),
    ],
)
def test_roles(source: str, roles: set[str]) -> None:
    assert in_loop(source).roles == roles


def test_texts() -> None:
    assert in_loop("{{ m.content }}").writes_content
    assert in_loop("{% set x = m.content.strip() %}{{ x ~ '' }}").writes_content
    assert in_loop("{% for p in m.content %}{{ p.text }}{% endfor %}").writes_content
    assert not in_loop("{% if m.content %}{{ m.role }}{% endif %}").writes_content
    assert not of("hello {{ messages | length }}").writes_content
    assert not of("").roles


large: dict[str, str] = {
    "constants": "{{ [" + ",".join(f"'{i}'" for i in range(3000)) + "] }}",
    "a chain": "{% set a0 = ['x'] %}"
    + "".join(f"{{% set a{i + 1} = a{i} + ['{i}'] %}}" for i in range(1000)),
    "a chain from its end": "".join(f"{{% set a{i + 1} = a{i} %}}" for i in reversed(range(1000))),
    "macros of one name": "{% macro m(a) %}{{ m(a) }}{% endmacro %}" * 500 + "{{ m(messages) }}" * 500,
    "roles": start + "".join(f"{{% if m.role == '{i}' %}}{{% endif %}}" for i in range(2000)) + end,
}


@pytest.mark.parametrize("name", large)
def test_large(name: str) -> None:
    """Templates are untrusted: the result is bounded."""
    found = of(large[name])
    assert len(found.roles) <= 2000
    assert all(isinstance(value, bool | set) for value in asdict(found).values())


deep: dict[str, Any] = {
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a sum": "{{ " + " + ".join(["a"] * 20000) + " }}",
    "conditions": "{% if a %}" * 3000 + "{% endif %}" * 3000,
    "loops": "{% for a in b %}" * 500 + "{% endfor %}" * 500,
}


@pytest.mark.parametrize("name", deep)
def test_deep(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="the chat template is not valid"):
        of(deep[name])
